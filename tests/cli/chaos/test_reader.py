"""What the concurrent reader finds: torn, aborted and doubled rows, and nothing in a good log."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamgauge.cli.chaos.reader import Checks
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.metric_records import MetricPartial
from streamgauge.schemas.records import MetricUpdate
from streamgauge.schemas.registry import open_registry


class Told:
    """Rows as a reader of two partitions sees them."""

    def __init__(self, folder: Path) -> None:
        self.codec = Codec(open_registry(f"file:{folder}"))
        self.checks = Checks(2, self.codec)

    def see(self, topic: str, key: str, value: bytes, partition: int = 0) -> None:
        row: Any = SimpleNamespace(key=key.encode, value=lambda: value, partition=lambda: partition)
        self.checks.see(topic, row)

    def watermark(self, watermark: int, *partitions: int) -> None:
        nothing = dict.fromkeys(MetricPartial.__dataclass_fields__)
        row = MetricPartial(**{**nothing, "source_partition": 3, "watermark": watermark})
        value = self.codec.encode("metric-partials", row)
        for partition in partitions:
            self.see("metric-partials", "3|watermark", value, partition)

    def metric(self, clicks: int, *, watermark: int = 1, final: bool = False) -> None:
        row = MetricUpdate(
            window_start=0,
            window_size="1m",
            dimensions="{}",
            version="v",
            users=None,
            is_final=final,
            watermark=watermark,
            metrics=("clicks",),
            values=(float(clicks),),
            numerators=(float(clicks),),
            denominators=(1.0,),
        )
        self.see("metrics", "1m|0|v|{}", self.codec.encode("metrics", row))

    def broken(self) -> list[str]:
        self.checks.finish()
        return [what[:2] for what in self.checks.broken]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def test_a_good_log_has_nothing_wrong(told: Told) -> None:
    told.watermark(10, 0, 1)
    told.watermark(10, 1, 0)
    told.watermark(20, 0)
    told.watermark(20, 1)
    told.metric(1)
    told.metric(2, watermark=2)
    told.metric(2, watermark=2, final=True)
    told.see("late-events", "events/0/7", b"")
    told.see("late-events", "events/0/9", b"")
    told.see("dead-letters", "events/0/9", b"")
    told.see("dead-letters", "events/0/8", b"")
    assert told.broken() == []
    assert told.checks.watermarks == 3


def test_a_transaction_seen_in_part_is_found(told: Told) -> None:
    told.watermark(10, 0, 1)
    told.watermark(20, 0)
    assert told.broken() == ["I3"]


def test_an_aborted_row_that_is_seen_is_found(told: Told) -> None:
    told.watermark(10, 0, 1)
    told.watermark(15, 0)
    told.watermark(20, 0, 1)
    assert "I3" in told.broken()


def test_time_that_goes_back_is_found(told: Told) -> None:
    told.watermark(20, 0, 1)
    told.watermark(10, 0, 1)
    told.metric(1, watermark=5)
    told.metric(1, watermark=4)
    assert told.broken() == ["I2", "I2"]


def test_a_count_that_falls_and_a_final_window_that_opens_are_found(told: Told) -> None:
    told.metric(2, final=True)
    told.metric(1)
    assert told.broken() == ["I2", "I2"]


def test_what_comes_twice_or_out_of_order_is_found(told: Told) -> None:
    for offset in (7, 9, 9, 8):
        told.see("late-events", f"events/0/{offset}", b"")
    assert told.broken() == ["I1", "I2"]
