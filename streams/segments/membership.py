"""Who is in which segment, as a part of a branch: state, what is to be written, and a restart.

Upstream: the branch of users (`streams/users.py`), which says when whom to look at and with what
profile. Downstream: the topics `user-segments`, which is the changelog as well, and
`segment-counts`. Nothing is held back here: a move is written in the transaction in which it
happened, so what is restored is the state at the committed offset.

Rules are in force partition by partition. A partition begins with those that its first worker was
started with; afterwards only a control changes them, at its place in the log, and they are kept
with the memberships: a worker that is started with other rules says so and goes on with these.

Invariants: `round` and `change` touch the working state only; a wrong control changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import polars as pl

from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.records import Control
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.segments import Rules, rules_of
from streamgauge.schemas.topics import USER_SEGMENTS
from streamgauge.streams import packing
from streamgauge.streams.engine.task import Output
from streamgauge.streams.metrics.runs import Run
from streamgauge.streams.segments.evaluation import Count, changed, evaluate, fields_of
from streamgauge.streams.segments.moves import Moves
from streamgauge.streams.segments.outputs import SegmentOutputs, known
from streamgauge.streams.segments.state import (
    SegmentState,
    masks_of,
    stays_of,
    with_partition,
    without,
)

log = logging.getLogger(__name__)


class Membership:
    """The memberships of the users of some source partitions."""

    changelogs = (USER_SEGMENTS.name,)

    def __init__(self, registry: Registry, rules: Rules) -> None:
        """`rules`: of partitions in which none are in force yet."""
        self._start = rules
        self._encode = SegmentOutputs(registry)
        self._stable = self._state = SegmentState()
        self._moves: list[Moves] = []
        self._counts: list[Count] = []
        self._rules: dict[int, Rules] = {}  # to be written
        self._changelog: dict[int, dict[bytes, bytes | None]] = {}

    def fields(self, control: Control | None = None) -> list[str]:
        """The profile fields that rules in force read, and those of a control."""
        rules = [self._start, *self._state.rules.values()]
        if control is not None:
            with suppress(SchemaError):  # `change` says what is wrong
                rules.append(rules_of(control))
        return fields_of(rules)

    def round(
        self,
        profiles: pl.DataFrame,
        hours: Sequence[tuple[int, int]] = (),
        *,
        quiet: bool = False,
    ) -> None:
        """Look at these users; see `evaluation.evaluate`.

        `quiet`: it has been written already, by who committed it.
        """
        there = set(profiles["partition"].unique().to_list())
        self._begin(there)
        # Nobody is counted where nobody is known yet.
        hours = [(partition, hour) for partition, hour in hours if partition in there]
        self._state, moves, counts = evaluate(self._state, profiles, hours)
        if not quiet:
            self._moves.append(moves)
            self._counts += counts

    def change(
        self, control: Control, partition: int, profiles: pl.DataFrame, *, quiet: bool = False
    ) -> None:
        """Put a control's rules in force; `profiles`: everybody of the partition, at that place."""
        self._begin({partition})
        try:
            rules = rules_of(control)
        except SchemaError as error:
            log.error("rules v%d stay out: %s", control.version, error)
            return
        rules = next((one for one in self._state.rules.values() if one == rules), rules)
        self._state, moves = changed(self._state, profiles, partition, rules)
        if not quiet:
            self._moves.append(moves)
            self._rules[partition] = rules

    @property
    def told(self) -> tuple[Moves, list[Count]]:
        """What will be written with the next commit."""
        return Moves.together(self._moves).sorted(), self._counts

    def flush(self) -> Iterable[Output]:
        moves, counts = self.told
        if self._rules:
            yield self._encode.rules(self._rules)
        if len(moves):
            yield self._encode.moves(moves)
        if counts:
            yield self._encode.counts(counts)

    def commit(self) -> None:
        self._stable = self._state
        self._clear()

    def abort(self) -> None:
        self._state = self._stable
        self._clear()

    def restore(self, keys: list[bytes], values: list[bytes | None], partition: int) -> None:
        self._changelog.setdefault(partition, {}).update(zip(keys, values, strict=True))

    def restored(self) -> None:
        """All rows of the changelog have been handed over."""
        for partition, rows in self._changelog.items():
            there = {key: value for key, value in rows.items() if value is not None}
            self._state = self._encode.restored(self._state, partition, there)
        self._changelog = {}
        for partition, rules in self._state.rules.items():
            if rules.segments != self._start.segments:
                log.warning(
                    "partition %d goes on with the rules of segments in force there (v%d), not with"
                    " those of this worker: put them in force by `streamgauge segments apply`",
                    *(partition, rules.version),
                )
        self._stable = self._state

    def revoke(self, partitions: set[int]) -> None:
        same = self._state is self._stable
        self._stable = without(self._stable, partitions)
        self._state = self._stable if same else without(self._state, partitions)
        for partition in partitions:
            self._changelog.pop(partition, None)

    def snapshot(self) -> Callable[[int], bytes]:
        """The stable state, by partition."""
        state = self._stable
        return lambda partition: _packed(state, partition)

    def load(self, partition: int, snapshot: memoryview) -> None:
        """Take up a partition's snapshot."""
        self._state = _unpacked(self._state, partition, snapshot)

    def _begin(self, partitions: set[int]) -> None:
        for partition in partitions - self._state.rules.keys():
            rules = {**self._state.rules, partition: self._start}
            self._state = replace(self._state, rules=rules)
            self._rules[partition] = self._start

    def _clear(self) -> None:
        self._moves, self._counts, self._rules = [], [], {}


def _packed(state: SegmentState, partition: int) -> bytes:
    runs = {"masks": masks_of(state, partition), "stays": stays_of(state, partition)}
    frames = {
        name: pl.DataFrame({"key": run.key, "value": run.columns[1]}) for name, run in runs.items()
    }
    rules = state.rules.get(partition)
    return packing.packed(frames, [rules and rules.body(), rules and rules.version])


def _unpacked(state: SegmentState, partition: int, snapshot: memoryview) -> SegmentState:
    frames, (body, version) = packing.unpacked(snapshot)
    if body is None:
        return state
    masks, stays = _run(frames["masks"], partition), _run(frames["stays"], partition)
    return with_partition(
        state,
        partition,
        known(state, body, version),
        masks,
        state.stays.add(stays.key, *stays.columns),
    )


def _run(frame: pl.DataFrame, partition: int) -> Run:
    place = np.full(frame.height, partition, np.int32)
    return Run(key=frame["key"].to_numpy(), columns=(place, frame["value"].to_numpy()))
