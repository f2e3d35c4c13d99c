"""Events that policies leave out, and rows of `actions` that do not follow from their flags."""

import json
from typing import Any

import pytest

from streamgauge.cli.verify.exclusions import Exclusions
from streamgauge.cli.verify.recompute import Raw, Recomputation
from streamgauge.schemas.exclusions import Undone
from streamgauge.schemas.metrics import load_definitions

MINUTE = 60_000
T0 = 1_760_000_400_000
FLAG = {"started_at": T0, "ended_at": T0 + MINUTE, "severity": "yellow"}
ROW = {
    "action": "exclude",
    "user_id": "u",
    "partition": 0,
    "anomaly_id": "a1",
    "excluded_from": T0 + 2 * MINUTE,
    "excluded_until": T0 + 5 * MINUTE,
    "undone_at": None,
}


def exclusions(*rows: dict[str, Any]) -> Exclusions:
    found = Exclusions(lateness_ms=3_600_000, consent_denied=False)
    found.believe(rows)
    return found


def test_events_of_a_span_are_counted_as_excluded_and_in_no_metric() -> None:
    oracle = Recomputation(
        load_definitions("extends: none\nmetrics: [{name: all, aggregate: count}]").grains(),
        json.loads,
        lateness_ms=3_600_000,
        consent_denied=False,
        exclusions=exclusions(ROW),
    )
    oracle.expect([0, 1])
    lines = [
        (0, 2 * MINUTE - 1, "u", None),
        (0, 2 * MINUTE, "u", None),  # out
        (0, 3 * MINUTE, "v", None),
        (1, 3 * MINUTE, "u", None),  # another user of this name
        (0, 3 * MINUTE, "u", False),  # nobody's
        (0, 5 * MINUTE - 1, "u", None),  # out
        (0, 5 * MINUTE, "u", None),
    ]
    for offset, (partition, at, user, consent) in enumerate(lines):
        event = {"event_id": str(offset), "event_type": "search", "user_id": user}
        event |= {"timestamp": T0 + at, "consent_analytics": consent}
        oracle.add([Raw(partition, offset, T0 + at, json.dumps(event).encode())])
    assert (oracle.counts["accepted"], oracle.counts["excluded"]) == (7, 2)
    assert sum(c.value for k, c in oracle.cells().items() if k.window_size == "1d") == 5
    oracle.close()


@pytest.mark.parametrize(
    ("row", "flag", "undone_at"),
    [
        (ROW, FLAG, None),
        (ROW, None, None),  # told of every action without a flag, elsewhere
        (ROW | {"action": "throttle", "excluded_from": None}, FLAG, None),
        (ROW | {"excluded_until": None}, FLAG | {"ended_at": None}, None),
        (ROW | {"excluded_from": T0 + 4 * MINUTE}, FLAG | {"severity": "red"}, None),
        (ROW | {"excluded_until": T0 + 3 * MINUTE + 1, "undone_at": 7}, FLAG, 3),
        (ROW, FLAG, 5),  # undone when it was over
        (ROW, FLAG, 1),  # before it began
    ],
)
def test_a_row_that_follows_is_right(row: Any, flag: Any, undone_at: int | None) -> None:
    assert not list(told(row, flag, undone_at))


@pytest.mark.parametrize(
    ("row", "flag", "undone_at", "expected"),
    [
        (ROW | {"excluded_from": T0}, FLAG, None, f"from {T0 + 2 * MINUTE}"),
        (ROW | {"excluded_from": T0 + 3 * MINUTE}, FLAG, None, f"from {T0 + 2 * MINUTE}"),
        (ROW | {"excluded_until": None}, FLAG, None, f"until {T0 + 5 * MINUTE}, not undone"),
        (ROW, FLAG | {"ended_at": None}, None, "until None, not undone"),
        (ROW | {"undone_at": 7}, FLAG, None, f"until {T0 + 5 * MINUTE}, not undone"),
        (ROW, FLAG, 3, f"until {T0 + 3 * MINUTE + 1}, undone"),
    ],
)
def test_one_that_does_not_is_told(
    row: Any, flag: Any, undone_at: int | None, expected: str
) -> None:
    [(said, _)] = told(row, flag, undone_at)
    assert said.startswith(expected)


def told(row: Any, flag: Any, undone_at: int | None) -> list[tuple[str, str]]:
    """`undone_at`: the minute of the watermark at the marker."""
    found = exclusions(row)
    if undone_at is not None:
        found.tick(0, T0 + undone_at * MINUTE)
        undone = Undone(undone_at=7, undone_by="ada").control("a1")
        found.control(0, 9, undone)
    return list(found.problems(row, flag))
