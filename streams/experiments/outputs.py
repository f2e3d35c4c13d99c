"""What the first stage of experiments writes, as bytes for the topics.

Upstream: `saving.py` and the tallies of `exposures.py`. Downstream: `tasks.py` hands it to the
engine. Partials go to a partition by the experiment alone, so all that is added up meets in one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.experiment_records import (
    ExperimentHistory,
    ExperimentPartial,
    Exposure,
)
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import EXPERIMENT_HISTORY, EXPERIMENT_PARTIALS, EXPOSURES
from streamgauge.streams.engine.task import Output
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.saving import Rows
from streamgauge.streams.experiments.state import SEVERAL, State
from streamgauge.streams.experiments.tally import Layout

DEFINITIONS = b"definitions"
_EXPOSURES: Mapping[str, Any] = {
    **dict.fromkeys(("experiment", "user_id", "variant"), pl.String),
    "exposed_at": pl.Int64,
    **dict.fromkeys(("variants", "sums"), pl.String),
    "emitted_offset": pl.Int64,
}
_HISTORY: Mapping[str, Any] = {
    "user_id": pl.String,
    "hour": pl.Int64,
    "sums": pl.String,
    "emitted_offset": pl.Int64,
}
_PARTIALS: Mapping[str, Any] = {
    "source_partition": pl.Int64,
    **dict.fromkeys(("experiment", "variant", "metric"), pl.String),
    "users": pl.Int64,
    **dict.fromkeys(("sums", "products", "definition"), pl.String),
    "watermark": pl.Int64,
    "counts": pl.String,
}


class ExposureOutputs:
    """Rows of the first stage."""

    def __init__(self, registry: Registry, partitions: int) -> None:
        """`partitions` of experiment-partials."""
        self._partitions = partitions
        self._exposures = Encoder(registry, EXPOSURES.name, Exposure)
        self._history = Encoder(registry, EXPERIMENT_HISTORY.name, ExperimentHistory)
        self._partials = Encoder(registry, EXPERIMENT_PARTIALS.name, ExperimentPartial)

    def exposures(self, rows: Rows) -> Output:
        fields = [row for _, row in rows.exposures]
        return Output(
            topic=EXPOSURES.name,
            keys=[f"{row['experiment']}|{row['user_id']}".encode() for row in fields],
            values=self._exposures.encode(_frame(fields, _EXPOSURES)),
            partitions=[partition for partition, _ in rows.exposures],
        )

    def history(self, rows: Rows) -> Output:
        """What changed, and tombstones of what no look-back reaches any more."""
        written = [*rows.definitions, *rows.hours]
        fields = [row for _, row in written]
        keys = [DEFINITIONS] * len(rows.definitions)
        keys += [_hour_key(row["user_id"], row["hour"]) for _, row in rows.hours]
        values: list[bytes | None] = [*self._history.encode(_frame(fields, _HISTORY))]
        gone = dict.fromkeys(rows.forgotten)
        return Output(
            topic=EXPERIMENT_HISTORY.name,
            keys=keys + [_hour_key(user, hour) for _, user, hour in gone],
            values=values + [None] * len(gone),
            partitions=[p for p, _ in written] + [p for p, _, _ in gone],
        )

    def partials(self, state: State, names: Names) -> Output:
        """Of the experiments that changed."""
        rows = [row for place in sorted(state.changed) for row in _partials(state, place, names)]
        return Output(
            topic=EXPERIMENT_PARTIALS.name,
            keys=[partial_key(row) for row in rows],
            values=self._partials.encode(_frame(rows, _PARTIALS)),
            partitions=[partition_of(row["experiment"], self._partitions) for row in rows],
        )


def partition_of(experiment: str, partitions: int) -> int:
    """Where all of an experiment meets."""
    return zlib.crc32(experiment.encode()) % partitions


def partial_key(row: Mapping[str, Any]) -> bytes:
    """Of a partial."""
    names = (row["experiment"], row.get("variant") or "", row.get("metric") or "")
    return "|".join([str(row["source_partition"]), *names]).encode()


def _hour_key(user: str, hour: int) -> bytes:
    return f"{user}|{hour}".encode()


def _frame(rows: list[dict[str, Any]], schema: Mapping[str, Any]) -> pl.DataFrame:
    lines = [[row.get(name) for name in schema] for row in rows]
    return pl.DataFrame(lines, schema=schema, orient="row")


def _partials(state: State, place: tuple[int, str], names: Names) -> Iterable[dict[str, Any]]:
    """Values first, then the row that says of which experiment and time they are."""
    partition, name = place
    experiment = state.in_force[partition].experiments.get(name)
    if experiment is None:
        return
    told = {"source_partition": partition, "experiment": name}
    told["watermark"] = state.watermarks.get(partition)
    tallies = state.tallies.get(place, {})
    excluded = tallies.get(SEVERAL)
    layout = Layout.of(experiment.definition)
    for number, tally in sorted(tallies.items()):
        if number == SEVERAL:
            continue
        for metric, places, _, _ in layout.metrics:
            of = tally.only(places)
            yield {
                **told,
                "variant": names[number],
                "metric": metric,
                "users": of.users,
                "sums": json.dumps(of.sums.tolist()),
                "products": json.dumps(of.products.tolist()),
                "counts": of.counts[0].to_json() if of.counts else None,
            }
    if excluded is not None or experiment.state != "stopped":
        told["users"] = excluded.users if excluded is not None else 0
    yield {**told, "definition": experiment.body()}
