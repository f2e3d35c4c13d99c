"""How far the merge of one partition of `metric-partials` has come, and where to read again.

Invariant: rows before the first needed mark are of minutes that are folded, or of users that the
changelog holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from streamgauge.streams.metrics.fate import NONE


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a partition of `metric-partials` has come."""

    watermarks: Mapping[int, int] = field(default_factory=dict)
    """By source partition."""
    since: Mapping[str, int] = field(default_factory=dict)
    """When versions began, in the source partition where they began last."""
    folded: int = NONE
    """F: minutes before it are in their hours and days."""
    fold_offset: int = 0
    """The next offset when F advanced last."""
    marks: tuple[tuple[int, int], ...] = ()
    """(first offset of a batch, F until which it is needed), both increasing."""
    offset: int = 0
    """The next one."""
    sent: int = NONE
    """The least watermark at the last flush."""

    def least(self, sources: int) -> int:
        return min(self.watermarks.values()) if len(self.watermarks) >= sources else NONE

    def metadata(self) -> str:
        """To keep with the committed offset."""
        needed = [offset for offset, until in self.marks if until >= self.folded]
        content = {
            "from": needed[0] if needed else None,
            "folded": None if self.folded == NONE else self.folded,
            "fold_offset": self.fold_offset,
            "watermarks": dict(self.watermarks),
            "since": dict(self.since),
        }
        return json.dumps(content, separators=(",", ":"))

    @staticmethod
    def resumed(offset: int, metadata: str, sources: int) -> tuple[Progress, int]:
        """And the offset to read again from."""
        if not metadata:
            return Progress(offset=offset), offset
        content = json.loads(metadata)
        progress = Progress(
            watermarks={int(p): wm for p, wm in content["watermarks"].items()},
            since=content["since"],
            folded=NONE if content["folded"] is None else content["folded"],
            fold_offset=content["fold_offset"],
            offset=offset,
        )
        progress = replace(progress, sent=progress.least(sources))
        return progress, offset if content["from"] is None else content["from"]
