"""What is known of users over batches of a log: sessions, profiles, who was in which segment.

Upstream: `log.py` and the fates that `metrics.py` found. Downstream: `run.py`. The worker's own
branch (`streams/users.py`), which holds nothing back here; what it would write to topics is kept
as rows.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from streamgauge.cli.backtest.sessions import SessionTables
from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.segments import Rules
from streamgauge.streams.branch import Accepted
from streamgauge.streams.metrics.fate import Fates
from streamgauge.streams.profiles.feed import Profiles
from streamgauge.streams.segments.evaluation import Count
from streamgauge.streams.segments.membership import Membership
from streamgauge.streams.segments.moves import Moves
from streamgauge.streams.segments.outputs import told
from streamgauge.streams.sessions.branch import SessionBranch
from streamgauge.streams.sessions.sessions import Settings
from streamgauge.streams.users import Users

STAY = ("user_id", "segment", "entered_at")
COUNTS: dict[str, Any] = {
    "segment": pl.String,
    "at": pl.Int64,
    "members": pl.Int64,
    "source_partition": pl.Int32,
}


class People:
    """The users of a log."""

    columns: frozenset[str] = SessionBranch.columns | Profiles.columns

    def __init__(
        self,
        rules: Rules,
        *,
        lateness: int,
        consent_default: ConsentDefault,
        conversions: tuple[str, ...],
    ) -> None:
        registry = open_registry("mock://backtest")
        settings = Settings(
            lateness=lateness,
            identifiable=identifiable_rows(consent_default),
            conversions=conversions,
        )
        self._profiles = Profiles(registry, throttle=0, lateness_ms=lateness)
        self._segments = Membership(registry, rules)
        self._sessions = SessionBranch(settings, registry)
        self._users = Users(settings, self._sessions, self._profiles, self._segments)
        self._told = SessionTables()
        self._moves: list[Moves] = []
        self._counts: list[Count] = []

    def add(self, batch: pl.DataFrame, fates: Fates) -> None:
        """With a batch of records."""
        nothing = batch.with_columns(control=pl.lit(None, pl.String))
        self._users.process(Accepted.of(nothing, fates))
        moves, counts = self._segments.told
        self._moves.append(moves)
        self._counts += counts
        self._told.take(self._sessions.told())
        self._users.commit()

    def tables(self) -> dict[str, pl.DataFrame]:
        """As the sink would have them."""
        profiles, days, _ = self._profiles.table()
        counts = [(c.segment, c.hour, c.members, c.partition) for c in self._counts]
        return {
            **self._told.tables(),
            "user_profiles": profiles,
            "daily_analytics": days,
            "user_segments": stays(Moves.together(self._moves)),
            "segment_counts": pl.DataFrame(counts, schema=COUNTS, orient="row").sort(
                "segment", "at", "source_partition"
            ),
        }


def stays(moves: Moves) -> pl.DataFrame:
    """One row a stay, by user, segment and time."""
    return (
        told(moves)
        .with_columns(pl.col("reason_in").forward_fill().over(STAY))
        .unique(STAY, keep="last", maintain_order=True)
        .sort(STAY)
    )
