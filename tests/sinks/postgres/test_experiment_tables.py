"""Records of experiments become rows."""

from typing import Any

import polars as pl
import pytest

from streamgauge.schemas.experiment_records import ExperimentResult, Exposure
from streamgauge.sinks.postgres.experiment_tables import exposure_rows, result_rows
from streamgauge.sinks.postgres.sink import PostgresSink
from streamgauge.sinks.postgres.tables import tables

NOON = 1_767_268_800_000


@pytest.fixture
def frame(message: Any, batch: Any) -> Any:
    """Records of a topic as the sink gets them, at offsets 5, 6, …"""

    def make(topic: str, *records: Any) -> pl.DataFrame:
        messages = [message(topic, 2, 5 + i, record, "k") for i, record in enumerate(records)]
        return batch(PostgresSink("", "s"), messages).frame

    return make


def test_an_exposure_is_a_row_without_what_only_the_worker_reads(frame: Any) -> None:
    told: dict[str, Any] = {"experiment": "e", "user_id": "u\0", "exposed_at": NOON}
    seen = Exposure(**told, variant="a", variants='{"a":1}', sums='{"x":[1,2]}', emitted_offset=7)
    several = Exposure(**told, variant=None, variants="{}", sums="{}", emitted_offset=8)
    rows = exposure_rows(frame("exposures", seen, several)).to_dicts()
    assert rows[0] == {
        "experiment": "e",
        "user_id": "u\ufffd",
        "variant": "a",
        "exposed_at": NOON,
        "variants": '{"a":1}',
        "source_partition": 2,
        "source_offset": 5,
    }
    assert rows[1]["variant"] is None


def test_a_result_is_a_row_with_every_figure(frame: Any) -> None:
    names = {"experiment": "e", "metric": "m", "variant": "v", "as_of": NOON, "analysis": "{}"}
    figures = dict.fromkeys(ExperimentResult.__slots__, None) | names | {"users": 3, "mean": 0.5}
    (row,) = result_rows(frame("experiment-results", ExperimentResult(**figures))).to_dicts()
    assert set(ExperimentResult.__slots__) | {"source_partition", "source_offset"} == row.keys()
    assert (row["as_of"], row["users"], row["mean"], row["srm_p"]) == (NOON, 3, 0.5, None)
    table = tables()["experiment-results"]
    assert set(table.key) <= row.keys()
