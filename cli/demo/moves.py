"""People who moved between segments, and why: what the demo says of them in the end.

Upstream: the table `user_segments`. Downstream: `demo.py`, as text and as JSON.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streamgauge.cli import output
from streamgauge.cli.commands.segments import told

COUNTS = "SELECT count(*), count(left_at) FROM {schema}.user_segments"
# The latest of each kind, so that what is shown is not one segment over and over.
LATEST = """
    SELECT * FROM (
        SELECT DISTINCT ON (segment, enters) at, user_id, segment, enters, reason
        FROM {schema}.user_segments,
            LATERAL (VALUES (entered_at, true, reason_in), (left_at, false, reason_out))
                AS move (at, enters, reason)
        WHERE at IS NOT NULL ORDER BY segment, enters, at DESC, user_id
    ) AS latest ORDER BY at DESC, segment, enters LIMIT %s"""
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How many entered and left a segment, and the latest who did."""

    entered: int
    left: int
    latest: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(
        cls,
        entered: int,
        left: int,
        latest: Iterable[tuple[datetime, str, str, bool, dict[str, Any]]],
    ) -> "Moved":
        """Of the rows of both queries."""
        return cls(
            entered=entered,
            left=left,
            latest=tuple(
                {
                    "at": at.isoformat(),
                    "user_id": user,
                    "move": "enters" if enters else "leaves",
                    "segment": segment,
                    "reason": reason,
                }
                for at, user, segment, enters, reason in latest
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        return {"entered": self.entered, "left": self.left, "latest": list(self.latest)}

    def text(self) -> str:
        """The figures, and one line a move."""
        lines = [
            [
                f"  {move['at'][:16].replace('T', ' ')}",
                move["user_id"],
                move["move"],
                move["segment"],
                f"because {told(move['reason'])}",
            ]
            for move in self.latest
        ]
        first = (
            f"segments: {self.entered:,} times somebody entered one, {self.left:,} times somebody"
            " left one; the latest of each kind (UTC):"
        )
        return f"{first}\n{output.aligned(lines)}"
