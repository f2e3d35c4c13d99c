"""Time in one source partition, and from where to read again after a restart.

    offset   R ..................... committed
    wm       < W - L - 1 min ....... W
             |--- read again ---->|

Everything before R is older than W - L - 1 min: it is in no open minute, and its ids need not be
known, for whatever repeats them is late (an id that comes again with another timestamp is kept
apart, see `source.py`). R is one of the checkpoints that are taken between batches.

Invariants: a checkpoint's watermark is that of all records before its offset; versions of grains
that began later than the partition say since when.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from streamgauge.schemas.metrics import WINDOW_MS
from streamgauge.streams.metrics.fate import NONE

MINUTE_MS = WINDOW_MS["1m"]


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A source partition's time."""

    watermark: int = NONE
    appended: int = NONE
    """LogAppendTime of the last record."""
    checkpoints: tuple[tuple[int, int], ...]
    """(offset, watermark before it), oldest first; the first is where reading began."""
    since: Mapping[str, int] = field(default_factory=dict)
    """Event time at which versions of grains began, if not with the partition."""
    sent: int = NONE
    """The watermark that was written last."""
    saved: int = NONE
    """The watermark at which the sketches were written last."""
    pruned: int = NONE
    """The watermark at which closed windows were dropped last."""

    def advanced(self, offset: int, watermark: int, appended: int, lateness: int) -> Clock:
        """After a batch that begins at `offset`."""
        checkpoints = self.checkpoints
        if self.watermark >= checkpoints[-1][1] + max(lateness // 128, 1):
            checkpoints = (*checkpoints, (offset, self.watermark))
        return replace(
            self,
            watermark=watermark,
            appended=max(self.appended, appended),
            checkpoints=checkpoints,
        )

    def thinned(self, lateness: int) -> Clock:
        """Without the checkpoints that nobody will go back to, and beginnings long ago."""
        closed = self.watermark - lateness
        first = 0
        while (
            first + 1 < len(self.checkpoints)
            and self.checkpoints[first + 1][1] < closed - MINUTE_MS
        ):
            first += 1
        recent = {v: begun for v, begun in self.since.items() if begun > closed - WINDOW_MS["1d"]}
        return replace(self, checkpoints=self.checkpoints[first:], since=recent)

    def metadata(self, versions: Iterable[str]) -> str:
        """To keep with the committed offset; of a thinned clock."""
        offset, before = self.checkpoints[0]
        begun: dict[str, str] = {}
        for version in versions:
            since = str(self.since.get(version, ""))
            begun[since] = begun.get(since, "") + version
        content = {
            "from": offset,
            "before": None if before == NONE else before,
            "watermark": None if self.watermark == NONE else self.watermark,
            "begun": begun,
        }
        return json.dumps(content, separators=(",", ":"))

    @staticmethod
    def resumed(offset: int, metadata: str, versions: Iterable[str]) -> Clock:
        """At the offset to read again from; versions that are not in the metadata begin now."""
        if not metadata:
            return Clock(checkpoints=((offset, NONE),))
        content = json.loads(metadata)
        since = {
            joined[place : place + 8]: int(begun) if begun else NONE
            for begun, joined in content["begun"].items()
            for place in range(0, len(joined), 8)
        }
        now = content["watermark"] if content["watermark"] is not None else NONE
        before = content["before"] if content["before"] is not None else NONE
        return Clock(
            watermark=before,
            checkpoints=((content["from"], before),),
            since={v: begun for v in versions if (begun := since.get(v, now)) != NONE},
            saved=before,
        )
