"""Exposures as a branch of the worker's first stage: bytes in, bytes out.

Upstream: accepted events and definitions (`streams/branch.py`). Downstream: `exposures` and
`experiment-history`, which are its changelogs, and `experiment-partials`. What is computed is
elsewhere in this folder; here are the state and its stable copy, and throttling, which is all that
the clock is for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.schemas.messages import Messages
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import (
    EXPERIMENT_HISTORY,
    EXPOSURES,
)
from streamgauge.streams.branch import Accepted, Branch, Horizon, Placed
from streamgauge.streams.engine.task import Output
from streamgauge.streams.experiments import exposures, restoring, saving, snapshots
from streamgauge.streams.experiments.in_force import InForce
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.observer import LEFT_OUT, Observer, readable
from streamgauge.streams.experiments.outputs import ExposureOutputs
from streamgauge.streams.experiments.state import State, controlled, pruned, without
from streamgauge.streams.metrics.fate import NONE

log = logging.getLogger(__name__)

PARTIALS_EVERY = 2.0
"""Seconds between two writes of what changed of the figures."""

KNOWN_OBSERVERS = 32


class ExposureBranch(Branch):
    """Exposures, outcomes and covariates of accepted events."""

    changelogs = (EXPERIMENT_HISTORY.name, EXPOSURES.name)

    def __init__(
        self,
        registry: Registry,
        *,
        partitions: int,
        lateness_ms: int,
        consent_default: ConsentDefault = "granted",
    ) -> None:
        """`partitions` of experiment-partials."""
        self.columns = readable()
        self.identity = json.dumps(["experiments", snapshots.FORMAT])
        self._lateness = lateness_ms
        self._identifiable = identifiable_rows(consent_default)
        self._decoders = {name: Decoder(registry, name) for name in self.changelogs}
        self._encode = ExposureOutputs(registry, partitions)
        self._names = Names()
        self._observers: dict[str, Observer] = {}
        self._stable = self._state = State()
        self._rows: dict[tuple[str, int], dict[bytes, bytes | None]] = {}
        self._partials_at = float("-inf")

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return not self._state.changed

    def process(self, accepted: Accepted) -> None:
        self._state = self._advanced(self._state, accepted, replay=False)

    def replay(self, accepted: Accepted) -> None:
        self._restore_changelogs()
        self._state = self._advanced(self._state, accepted, replay=True)

    def _advanced(self, state: State, accepted: Accepted, *, replay: bool) -> State:
        frame = accepted.frame
        if accepted.left_out is not None:
            frame = frame.with_columns(pl.Series(LEFT_OUT, accepted.left_out))
        partition, offset = frame["partition"].to_numpy(), frame["offset"].to_numpy()
        left = np.ones(frame.height, bool)
        for placed in sorted(accepted.controls, key=lambda one: (one.partition, one.offset)):
            before = left & (partition == placed.partition) & (offset < placed.offset)
            left &= ~before
            state = self._observed(state, frame.filter(pl.Series(before)), replay=replay)
            state = self._controlled(state, placed)
        rest = frame if left.all() else frame.filter(pl.Series(left))
        state = self._observed(state, rest, replay=replay)
        last = np.flatnonzero(np.diff(partition, append=-1))
        reached = dict(zip(partition[last].tolist(), offset[last].tolist(), strict=True))
        for placed in accepted.controls:
            reached[placed.partition] = max(reached.get(placed.partition, -1), placed.offset)
        over = {
            (number, one.name)
            for number, watermark in accepted.watermarks.items()
            for one in state.in_force.get(number, InForce()).active
            if one.is_over(watermark, self._lateness)
            and not one.is_over(state.watermarks.get(number, NONE), self._lateness)
        }
        return replace(
            state,
            positions={**state.positions, **reached},
            watermarks={**state.watermarks, **accepted.watermarks},
            changed=state.changed | over,
        )

    def _observed(self, state: State, frame: pl.DataFrame, *, replay: bool) -> State:
        """With events; those of partitions in which the same is in force at once."""
        if not frame.height or not any(one.active for one in state.in_force.values()):
            return state
        partition = frame["partition"].to_numpy()
        groups: dict[str, list[int]] = {}
        there = np.unique(partition).tolist()
        for number in there:
            in_force = state.in_force.get(number)
            if in_force is not None and in_force.active:
                groups.setdefault(in_force.key, []).append(number)
        for key, numbers in groups.items():
            observer = self._observers.get(key)
            if observer is None:
                if len(self._observers) >= KNOWN_OBSERVERS:
                    self._observers.clear()
                observer = Observer(state.in_force[numbers[0]].active, self._names)
                self._observers[key] = observer
            state = exposures.observed(
                state,
                frame,
                observer,
                self._names,
                self._identifiable,
                wanted=None if len(numbers) == len(there) else np.isin(partition, numbers),
                replay=replay,
            )
        return state

    def _controlled(self, state: State, placed: Placed) -> State:
        known = state.in_force.get(placed.partition, InForce())
        in_force, problem = known.with_control(placed.control, placed.offset)
        if problem:
            place = f"events/{placed.partition}/{placed.offset}"
            log.error("a definition at %s was not taken: %s", place, problem)
        if in_force is known:
            return state
        state = saving.ending(state, placed.partition, in_force, self._names)
        return controlled(state, placed.partition, in_force, self._names)

    def flush(self, now: float, horizons: Mapping[int, Horizon]) -> Iterable[Output]:
        told = bool(self._state.all_due)
        state = pruned(self._state, self._lateness)
        places = {p: (horizon.offset, horizon.timestamp) for p, horizon in horizons.items()}
        state, rows = saving.flush(state, places, self._names)
        if rows.exposures:
            yield self._encode.exposures(rows)
        if rows.hours or rows.definitions or rows.forgotten:
            yield self._encode.history(rows)
        if state.changed and (told or now >= self._partials_at + PARTIALS_EVERY):
            self._partials_at = now
            yield self._encode.partials(state, self._names)
            state = replace(state, changed=frozenset())
        self._state = state

    def commit(self) -> None:
        self._stable = self._state

    def abort(self) -> None:
        self._state = self._stable
        self._partials_at = float("-inf")

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        rows = self._rows.setdefault((changelog, partition), {})
        rows.update(zip(keys, values, strict=True))

    def _restore_changelogs(self) -> None:
        """Once all of them is there."""
        rows, self._rows = self._rows, {}
        for partition in sorted({partition for _, partition in rows}):
            shown, history = (
                self._decoded(name, partition, rows.get((name, partition), {}))
                for name in (EXPOSURES.name, EXPERIMENT_HISTORY.name)
            )
            self._state = restoring.restored(self._state, partition, shown, history, self._names)

    def _decoded(
        self, topic: str, partition: int, rows: Mapping[bytes, bytes | None]
    ) -> list[dict[str, Any]]:
        count = len(rows)
        messages = Messages(
            topic,
            list(rows),
            list(rows.values()),
            np.full(count, partition, np.int32),
            np.arange(count, dtype=np.int64),
            np.zeros(count, np.int64),
        )
        return self._decoders[topic].decode(messages).frame.rows(named=True)

    def restored(self, partitions: set[int]) -> None:
        self._restore_changelogs()
        self._state = exposures.restored(self._state, partitions, self._names)

    def revoke(self, partitions: set[int]) -> None:
        same = self._state is self._stable
        self._stable = without(self._stable, partitions)
        self._state = self._stable if same else without(self._state, partitions)
        self._rows = {place: it for place, it in self._rows.items() if place[1] not in partitions}

    def snapshot(self) -> Callable[[int], bytes]:
        state, names = self._stable, list(self._names)
        return lambda partition: snapshots.of_partition(state, partition, names)

    def load(self, partition: int, snapshot: memoryview) -> bool:
        loaded = snapshots.with_partition(self._state, partition, snapshot, self._names)
        if loaded is None:
            return False
        self._state = loaded
        return True
