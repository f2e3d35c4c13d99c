"""Frames to records: byte for byte what the codec writes, one at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamgauge.schemas import encoder
from streamgauge.schemas.avro import avro_schema
from streamgauge.schemas.codec import Codec, plain
from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.dtypes import dtype
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.events import PageView
from streamgauge.schemas.records import DeadLetter, MetricUpdate
from streamgauge.schemas.registry import Registry

longs = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
doubles = st.lists(st.none() | st.floats(), max_size=4)
rows = st.fixed_dictionaries(
    {
        "window_start": st.none() | longs,
        "window_size": st.none() | texts,
        "dimensions": st.none() | texts,
        "version": st.none() | texts,
        "users": st.none() | longs,
        "is_final": st.none() | st.booleans(),
        "watermark": st.none() | longs,
        "metrics": st.none() | st.lists(st.none() | texts, max_size=4),
        "values": st.none() | doubles,
        "numerators": st.none() | doubles,
        "denominators": st.none() | doubles,
    }
)


def dtypes(cls: type) -> dict[str, pl.DataType]:
    return {f["name"]: dtype(f["type"]) for f in plain(avro_schema(cls))["fields"]}


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(rows, max_size=5))
def test_rows_are_written_as_the_codec_writes_them(
    registry: Registry, values: list[dict[str, Any]]
) -> None:
    frame = pl.DataFrame(values, schema=dtypes(MetricUpdate))
    codec = Codec(registry)
    expected = [codec.encode("metrics", MetricUpdate(**value)) for value in values]
    assert Encoder(registry, "metrics", MetricUpdate).encode(frame) == expected


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.none() | st.binary(max_size=300), min_size=1, max_size=5))
def test_bytes_of_any_kind_are_no_marks(registry: Registry, payloads: list[Any]) -> None:
    frame = pl.DataFrame({"payload": pl.Series(payloads, dtype=pl.Binary)})
    codec = Codec(registry)
    nothing = dict.fromkeys(f["name"] for f in avro_schema(DeadLetter)["fields"])
    expected = [
        codec.encode("dead-letters", DeadLetter(**nothing | {"payload": payload}))  # type: ignore[arg-type]
        for payload in payloads
    ]
    assert Encoder(registry, "dead-letters", DeadLetter).encode(frame) == expected


def test_rows_that_cannot_be_told_apart_are_never_sent(registry: Registry) -> None:
    frame = pl.DataFrame({"payload": [encoder._CUT]})  # as likely as guessing 16 random bytes
    with pytest.raises(SchemaError, match="1 rows became 2 records"):
        Encoder(registry, "dead-letters", DeadLetter).encode(frame)


def test_what_is_encoded_is_decoded(registry: Registry, message: Any) -> None:
    frame = pl.DataFrame(
        {"window_start": range(1000), "metrics": [["a"]] * 1000, "values": [[1.5]] * 1000}
    )
    values = Encoder(registry, "metrics", MetricUpdate).encode(frame)
    messages = [message(value, (0, i)) for i, value in enumerate(values)]
    decoded = Decoder(registry, "metrics", frame.columns).decode(messages).frame
    assert decoded.select(frame.columns).equals(frame)


def test_columns_may_come_in_any_order_type_and_number_of_chunks(registry: Registry) -> None:
    metrics = Encoder(registry, "metrics", MetricUpdate)
    one = pl.DataFrame({"users": [1, 2], "is_final": [True, False], "window_size": ["1m", "1h"]})
    other = one.select(
        "window_size",
        pl.col("users").cast(pl.UInt8),
        "is_final",
        watermark=pl.lit(None),
    )
    chunked = pl.concat([other[:1], other[1:]], rechunk=False)
    assert chunked.n_chunks() == 2
    assert metrics.encode(chunked) == metrics.encode(one)


def test_a_column_that_no_field_is_for_is_refused(registry: Registry) -> None:
    metrics = Encoder(registry, "metrics", MetricUpdate)
    with pytest.raises(SchemaError, match="no field for the columns user"):
        metrics.encode(pl.DataFrame({"user": [1]}))


def test_a_value_that_does_not_fit_is_refused(registry: Registry) -> None:
    metrics = Encoder(registry, "metrics", MetricUpdate)
    with pytest.raises(pl.exceptions.InvalidOperationError):
        metrics.encode(pl.DataFrame({"users": ["many"]}))


def test_events_are_not_encoded_by_frame(registry: Registry) -> None:
    with pytest.raises(SchemaError, match="encode it by Codec"):
        Encoder(registry, "events", PageView)


def test_record_names_are_those_of_dataclass_fields() -> None:
    assert list(dtypes(MetricUpdate)) == [f.name for f in dataclasses.fields(MetricUpdate)]
