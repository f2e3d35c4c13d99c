"""The demo's two sums, and what becomes of the verdict when one does not come out."""

import json

import pytest

from streamgauge.cli.demo.result import Result
from streamgauge.cli.demo.sources import Sent
from streamgauge.cli.verify import Report


def result(sent: Sent, **counts: object) -> Result:
    report = Report(cut={}, source="events", **counts)  # type: ignore[arg-type]
    return Result.of(sent, report, postgres_rows=7, redis_keys=8, seconds=1.26)


ALL = {"accepted": 90, "duplicates": 4, "late": 3, "rejected": {"bad_header": 2, "future": 1}}


def test_both_sums_come_out_and_are_readable_from_the_fields() -> None:
    found = result(Sent(read=105, produced=100, rejected=5), **ALL)
    assert (found.verified, found.rejected) == (True, 8)
    assert found.read == found.produced + found.rejected_at_source
    assert found.produced == (
        found.processed + found.duplicates + found.late + found.rejected_downstream
    )
    assert json.loads(json.dumps(found.as_dict()))["seconds"] == 1.3
    assert "read 105 = produced 100 + rejected at the source 5" in found.text()
    assert "equal to a recomputation" in found.text()


@pytest.mark.parametrize(
    "sent", [Sent(read=104, produced=100, rejected=5), Sent(read=106, produced=101, rejected=5)]
)
def test_a_sum_that_does_not_come_out_is_not_verified(sent: Sent) -> None:
    assert not result(sent, **ALL).verified


def test_a_difference_is_not_verified() -> None:
    found = result(Sent(read=100, produced=100), **{**ALL, "different": {"redis": 2}})
    assert (found.verified, found.differences) == (False, 2)
    assert "2 DIFFERENCES" in found.text()
