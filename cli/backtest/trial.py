"""One rule tried on a file: who would have been in the segment.

Upstream: `streamgauge segments test`. The same logic as a backtest, without tables to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from streamgauge.cli.backtest.run import Backtest, compute, read
from streamgauge.cli.settings import Settings
from streamgauge.schemas.metrics import load_definitions
from streamgauge.schemas.segments import Rules

NO_METRICS = "extends: none\nmetrics: [{name: events, aggregate: count, windows: [1d]}]"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of it."""

    events: int
    users: int
    members: int
    """In the end."""
    entered: int
    left: int
    moves: list[dict[str, Any]]
    """In order of time."""


def tried(
    rules: Rules, settings: Settings, path: str, form: str, progress: Callable[[int], None]
) -> Trial:
    """The moves that these rules cause, over the events of a file in order of time."""
    asked = Backtest(
        path=path,
        form=form,
        definitions=load_definitions(NO_METRICS),
        lateness=settings.lateness_ms,
        consent_default=settings.consent_default,
        partitions=1,
        order="time",
        arrived_at=0,
        conversions=(),
        rules=rules,
        unknown=settings.unknown_types,
    )
    result = compute(asked, read(asked, progress), lambda _: None)
    stays = list(result.tables["user_segments"].iter_rows(named=True))
    left = sum(stay["left_at"] is not None for stay in stays)
    return Trial(
        events=result.accepted,
        users=result.tables["user_profiles"].height,
        members=len(stays) - left,
        entered=len(stays),
        left=left,
        moves=sorted(_moves(stays), key=lambda move: (move["at"], move["user_id"])),
    )


def _moves(stays: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for stay in stays:
        who = {"user_id": stay["user_id"], "segment": stay["segment"]}
        yield {"at": stay["entered_at"], **who, "move": "enters", "reason": stay["reason_in"]}
        if stay["left_at"] is not None:
            yield {"at": stay["left_at"], **who, "move": "leaves", "reason": stay["reason_out"]}
