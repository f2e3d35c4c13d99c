"""Sessions become rows, and tombstones say which rows are no more."""

import polars as pl

from streamgauge.sinks.postgres.session_tables import (
    SESSION_COLUMNS,
    device_session_keys,
    device_session_rows,
    session_keys,
    session_rows,
)


def tombstones(*keys: bytes) -> pl.DataFrame:
    place = {"partition": [2] * len(keys), "offset": list(range(len(keys)))}
    return pl.DataFrame({**place, "key": list(keys)})


def test_a_user_may_have_a_bar_in_the_name() -> None:
    rows = session_keys(tombstones(b"a|1|5", b"\nb|7")).rows()
    assert rows == [("a|1", 5, 2, 0), ("\nb", 7, 2, 1)]
    rows = device_session_keys(tombstones(b"a|1||5", b"b|tv|-7")).rows()
    assert rows == [("a|1", "", 5, 2, 0), ("b", "tv", -7, 2, 1)]


def test_no_device_is_the_empty_one_and_text_has_no_nul() -> None:
    said = dict.fromkeys(SESSION_COLUMNS) | {"user_id": "a\0", "entry_page": "/\0"}
    frame = pl.DataFrame(
        [said | {"started_at": 5, "ended_at": 6, "partition": 1, "offset": 9, "device_type": None}],
        schema_overrides={"device_type": pl.String},
    )
    (row,) = device_session_rows(frame).to_dicts()
    assert (row["user_id"], row["entry_page"], row["device_type"]) == ("a\ufffd", "/\ufffd", "")
    assert (row["source_partition"], row["source_offset"]) == (1, 9)
    assert "device_type" not in session_rows(frame).columns
