"""The second stage of experiments as a task of the engine: bytes in, bytes out.

Upstream: `experiment-partials`. Downstream: `experiment-results`; and the end of an experiment, or
a raised allocation, to `control` and `events`. What is computed is in `results.py` and `gates.py`;
here are the state and its stable copy, and throttling, which is all that the clock is for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

import polars as pl

from streamgauge.schemas import control as controls
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.experiment_records import ExperimentPartial, ExperimentResult
from streamgauge.schemas.experiments import Experiment
from streamgauge.schemas.records import MARKER_TIME, Tick
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import (
    CONTROL,
    EVENTS,
    EXPERIMENT_PARTIALS,
    EXPERIMENT_RESULTS,
)
from streamgauge.streams.engine.task import Batch, Output, Task
from streamgauge.streams.experiments.outputs import partition_of
from streamgauge.streams.experiments.results import Look, Merged

log = logging.getLogger(__name__)

RESULTS_EVERY = 10.0
"""Seconds between two looks at what experiments say."""


class ExperimentResults(Task):
    """Partials to results, to the end of an experiment whose days are over or whose guardrail is
    breached, and to the next step of an allocation."""

    topic = EXPERIMENT_PARTIALS.name
    tail = "input"

    def __init__(
        self,
        registry: Registry,
        *,
        partitions: int,
        lateness_ms: int = 3_600_000,
        may_stop: bool = True,
    ) -> None:
        """`partitions` of every topic; `may_stop`: whether the log of events is its own."""
        self._partitions, self._may_stop = partitions, may_stop
        self._lateness = lateness_ms
        self._codec = Codec(registry)
        self._encoder = Encoder(registry, EXPERIMENT_RESULTS.name, ExperimentResult)
        self._stable = self._state = Merged()
        self._looked_at = float("-inf")

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return not self._state.changed

    def process(self, batch: Batch) -> None:
        names = [each.name for each in fields(ExperimentPartial)]
        if batch.frame.height:
            self._state = self._state.with_rows(batch.frame.select(names).iter_rows(named=True))

    replay = process

    def flush(self, now: float) -> Iterable[Output]:
        state = self._state
        if not state.changed or now < self._looked_at + RESULTS_EVERY:
            return
        self._looked_at = now
        looks = [look for name in sorted(state.changed) if (look := state.look(name))]
        self._state = replace(state, changed=frozenset())
        told = [(look, look.results()) for look in looks]
        rows = [row for _, of in told for row in of]
        if rows:
            keys = [f"{row['experiment']}|{row['metric']}|{row['variant']}" for row in rows]
            yield Output(
                topic=EXPERIMENT_RESULTS.name,
                keys=[key.encode() for key in keys],
                values=self._encoder.encode(pl.DataFrame(rows, infer_schema_length=None)),
                partitions=[partition_of(row["experiment"], self._partitions) for row in rows],
            )
        for look, of in told:
            if self._may_stop:
                yield from self._decided(look, of)

    def _decided(self, look: Look, rows: list[dict[str, Any]]) -> Iterable[Output]:
        """An end, or a raised allocation, as the command line writes it; twice changes nothing."""
        reason = look.ending(self._partitions, self._lateness)
        if reason is not None:
            log.warning("experiment %s is stopped: %s", look.experiment.name, reason)
            yield from self._published(look.experiment.stopped(look.as_of, reason))
        elif (opened := look.opened(rows)) is not None:
            share = opened.allocation_at(look.as_of)
            log.info("experiment %s: the allocation rises to %g", opened.name, share)
            yield from self._published(opened)

    def _published(self, experiment: Experiment) -> Iterable[Output]:
        control = experiment.control()
        value = self._codec.encode(CONTROL.name, control)
        yield Output(topic=CONTROL.name, keys=[controls.key(control)], values=[value])
        tick = Tick(timestamp=MARKER_TIME, control=controls.text(control))
        marker = self._codec.encode(EVENTS.name, tick)
        yield Output(
            topic=EVENTS.name,
            keys=[None] * self._partitions,
            values=[marker] * self._partitions,
            partitions=list(range(self._partitions)),
        )

    def commit(self) -> None:
        self._stable = self._state

    def abort(self) -> None:
        self._state = self._stable
        self._looked_at = float("-inf")

    def resume_from(self, partition: int, offset: int, metadata: str) -> int:
        """All of it: compacted, it is a few rows an experiment."""
        return 0

    def revoke(self, partitions: set[int]) -> None:
        def gone(state: Merged) -> Merged:
            names = (n for n in state.rows if partition_of(n, self._partitions) in partitions)
            return state.without(names)

        self._stable, self._state = gone(self._stable), gone(self._state)
