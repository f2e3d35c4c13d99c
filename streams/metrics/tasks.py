"""Both stages of the metrics as tasks of the engine: bytes in, bytes out.

Upstream: the engine, see `streams.engine.task`. Downstream: the topics of `schemas.topics`. What
is computed and written is elsewhere in this folder; here are the state and its stable copy, and
throttling, which is all that the clock is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.schemas.control_checks import problem_of
from streamgauge.schemas.metric_records import MetricRollup
from streamgauge.schemas.metrics import Definitions
from streamgauge.schemas.records import Tick
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import EVENTS, METRIC_PARTIALS, METRIC_ROLLUPS, METRIC_USERS
from streamgauge.streams import packing
from streamgauge.streams.branch import Accepted, Branch, Horizon
from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.task import Batch, Output, Task
from streamgauge.streams.metrics import emission, fate, merge, snapshots, source, updates
from streamgauge.streams.metrics.clock import Clock
from streamgauge.streams.metrics.fate import Fates, Original
from streamgauge.streams.metrics.outputs import MergeOutputs, SourceOutputs
from streamgauge.streams.metrics.plan import Plan
from streamgauge.streams.metrics.sketches import Place, Sketch

USERS_EVERY = 2.0
"""Seconds between two writes of the distinct users of hours and days."""

LONGER_EVERY = 3.0
"""Seconds between two writes of hours and days."""

LATENESS_MS = 3_600_000


class MetricSource(Task):
    """Events to partials, late events and dead letters; what is accepted also to the branches."""

    topic = EVENTS.name
    tail = "input"

    def __init__(
        self,
        definitions: Definitions,
        registry: Registry,
        *,
        partitions: int,
        lateness_ms: int = LATENESS_MS,
        consent_default: ConsentDefault = "granted",
        tick_after_ms: int = 5_000,
        branches: Sequence[Branch] = (),
    ) -> None:
        """`partitions`: of metric-partials, which has as many as every topic of ours."""
        self._tick_after = tick_after_ms
        self._branches = branches
        self.changelogs = (METRIC_USERS.name, *(c for b in branches for c in b.changelogs))
        self._plan = Plan(definitions)
        self.columns = self._plan.columns.union(*(b.columns | {"control"} for b in branches))
        self._settings = source.Settings(
            plan=self._plan,
            lateness=lateness_ms,
            identifiable=identifiable_rows(consent_default),
        )
        self._codec = Codec(registry)
        versions = [grain.version for grain in self._plan.grains]
        others = [branch.identity for branch in branches]
        self.identity = snapshots.identity(versions, lateness_ms, consent_default, others)
        self._encode = SourceOutputs(registry, versions, partitions)
        self._stable = self._state = source.SourceState()
        self._outputs: list[Output] = []
        self._changelog: dict[int, dict[bytes, bytes | None]] = {}
        self._users_at = float("-inf")
        #: Committed records by (partition, fate), one of FATES.
        self.fates: Counter[tuple[int, str]] = Counter()
        self._new_fates: Counter[tuple[int, str]] = Counter()
        self._resumed: dict[int, Horizon] = {}
        """Partitions that are being restored without a snapshot."""

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return self._state.settled and all(branch.settled for branch in self._branches)

    def process(self, batch: Batch) -> None:
        if not batch.frame.height:
            return
        self._state, fates = source.decided(self._state, batch.frame, self._settings)
        if self._branches:
            accepted = Accepted.of(batch.frame, fates)
            for branch in self._branches:
                branch.process(accepted)
                if (left_out := branch.leaves_out(accepted)) is not None:
                    accepted = replace(accepted, left_out=left_out)
            fates = _without(fates, accepted)
            if accepted.controls and (problems := _problems(accepted)):
                self._outputs.append(self._encode.invalid_controls(batch, problems))
        self._state = source.counted(self._state, batch.frame, fates, self._settings, replay=False)
        if (fates.verdict == fate.LATE).any():
            self._outputs.append(self._encode.late_events(batch, fates))
        if (fates.verdict == fate.FUTURE).any():
            self._outputs.append(self._encode.future(batch, fates))
        partition = batch.frame["partition"].to_numpy()
        pairs, counts = np.unique(partition * len(FATES) + fates.verdict, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self._new_fates[pair // len(FATES), FATES[pair % len(FATES)]] += count

    def flush(self, now: float) -> Iterable[Output]:
        due = now >= self._users_at + USERS_EVERY
        self._state, emitted = emission.flush(self._state, self._settings, users_due=due)
        if due:
            self._users_at = now
        yield from self._outputs
        yield self._encode.values(emitted)
        yield self._encode.watermarks(emitted)
        yield self._encode.saved(emitted)
        horizons = {partition: _horizon(clock) for partition, clock in self._state.clocks.items()}
        for branch in self._branches:
            yield from branch.flush(now, horizons)

    def commit(self) -> None:
        self._stable, self._outputs = self._state, []
        for branch in self._branches:
            branch.commit()
        self.fates += self._new_fates
        for (_, fate_of), count in self._new_fates.items():
            telemetry.EVENTS.labels(fate_of).inc(count)
        self._new_fates.clear()

    def abort(self) -> None:
        self._state, self._outputs = self._stable, []
        self._new_fates.clear()
        self._users_at = float("-inf")
        for branch in self._branches:
            branch.abort()

    def metadata(self, partition: int) -> str:
        clock = self._state.clocks.get(partition)
        return clock.metadata(self._plan.numbers) if clock else ""

    def resume_from(self, partition: int, offset: int, metadata: str) -> int:
        self._state = source.resumed(self._state, partition, offset, metadata, self._settings)
        self._resumed[partition] = _horizon(self._state.clocks[partition])
        return self._resumed[partition].offset

    def snapshot(self) -> Callable[[int], bytes]:
        state, settings = self._stable, self._settings
        folded = cache(lambda: emission.folded(state, settings))
        others = [branch.snapshot() for branch in self._branches]

        def of(partition: int) -> bytes:
            mine = snapshots.of_source(folded(), partition, settings)
            return packing.together([mine, *(other(partition) for other in others)])

        return of

    def load(self, partition: int, snapshot: memoryview, at: int, offset: int, text: str) -> bool:
        mine, *others = packing.apart(snapshot)
        loaded = snapshots.with_source(
            self._state, partition, mine, at, (offset, text), self._settings
        )
        if loaded is None:
            return False
        for branch, other in zip(self._branches, others, strict=True):
            if not branch.load(partition, other):
                for each in self._branches:
                    each.revoke({partition})
                return False
        self._state = loaded
        return True

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        if changelog == METRIC_USERS.name:
            self._changelog.setdefault(partition, {}).update(zip(keys, values, strict=True))
        for branch in self._branches:
            if changelog in branch.changelogs:
                branch.restore(changelog, keys, values, partition)

    def replay(self, batch: Batch) -> None:
        self._restore_changelog()
        if not batch.frame.height:
            return
        self._state, fates = source.decided(self._state, batch.frame, self._settings)
        if self._branches:
            accepted = Accepted.of(batch.frame, fates)
            news = accepted.after(self._resumed)
            for branch in self._branches:
                branch.replay(news)
                if (left_out := branch.leaves_out(accepted)) is not None:
                    accepted = replace(accepted, left_out=left_out)
                    news = accepted.after(self._resumed)
            fates = _without(fates, accepted)
        self._state = source.counted(self._state, batch.frame, fates, self._settings, replay=True)

    def restored(self, partitions: set[int]) -> None:
        self._restore_changelog()
        self._state = emission.forgotten(self._state, partitions, self._settings)
        for branch in self._branches:
            branch.restored(partitions)
        for partition in partitions:
            self._resumed.pop(partition, None)

    def revoke(self, partitions: set[int]) -> None:
        same = self._state is self._stable
        self._stable = source.without(self._stable, partitions)
        self._state = self._stable if same else source.without(self._state, partitions)
        for partition in partitions:
            self._changelog.pop(partition, None)
            self._resumed.pop(partition, None)
        for branch in self._branches:
            branch.revoke(partitions)

    def ticks(self, now_ms: int, idle: set[int]) -> Iterable[Output]:
        ticks = source.idle_ticks(self._state, now_ms, self._tick_after)
        for partition, timestamp in ticks.items():
            if partition in idle:
                value = self._codec.encode(EVENTS.name, Tick(timestamp=timestamp))
                yield Output(topic=EVENTS.name, keys=[None], values=[value], partitions=partition)

    def _restore_changelog(self) -> None:
        """Sketches and ids, once all of the changelog is there."""
        if not self._changelog:
            return
        sketches: dict[Place, Sketch] = {}
        originals = []
        for partition, rows in self._changelog.items():
            for value in rows.values():
                if value is None:
                    continue
                row = self._codec.decode(value).record
                if row["event_id"] is not None:
                    original = Original(
                        partition=partition,
                        offset=row["offset"],
                        timestamp=row["timestamp"],
                        event_id=row["event_id"],
                    )
                    originals.append(original)
                elif row["version"] in self._plan.numbers:
                    place = Place(
                        partition,
                        row["window_size"],
                        row["window_start"],
                        row["version"],
                        row["dimensions"],
                    )
                    # Whether its number went out is not known: it goes out again.
                    sketches[place] = Sketch(data=row["sketch"], emitted=False, saved=True)
        self._changelog = {}
        self._state = source.restored(self._state, sketches, originals)


def _without(fates: Fates, accepted: Accepted) -> Fates:
    """With a verdict of their own for events that were left out."""
    if accepted.left_out is None:
        return fates
    verdict = fates.verdict.copy()
    verdict[np.flatnonzero(verdict == fate.ACCEPTED)[accepted.left_out]] = fate.EXCLUDED
    return replace(fates, verdict=verdict)


def _problems(accepted: Accepted) -> dict[tuple[int, int], str]:
    """What is wrong with definitions, by partition and offset."""
    found = ((placed, problem_of(placed.control)) for placed in accepted.controls)
    return {(placed.partition, placed.offset): said for placed, said in found if said}


def _horizon(clock: Clock) -> Horizon:
    offset, timestamp = clock.checkpoints[0]
    return Horizon(offset=offset, timestamp=timestamp)


class MetricMerge(Task):
    """Partials to metrics."""

    topic = METRIC_PARTIALS.name
    changelogs = (METRIC_ROLLUPS.name,)
    relays = True
    tail = "input"

    def __init__(
        self,
        definitions: Definitions,
        registry: Registry,
        *,
        source_partitions: int,
        lateness_ms: int = LATENESS_MS,
    ) -> None:
        """`source_partitions`: of events; all must have reported for a window to be final."""
        self._plan = Plan(definitions)
        self._settings = merge.Settings(
            plan=self._plan, lateness=lateness_ms, sources=source_partitions
        )
        self._codec = Codec(registry)
        self.identity = snapshots.identity(list(self._plan.numbers), lateness_ms, source_partitions)
        self._encode = MergeOutputs(registry)
        self._stable = self._state = merge.MergeState()
        self._changelog: dict[int, dict[bytes, bytes | None]] = {}
        self._loaded: dict[int, tuple[int, str]] = {}
        self._longer_at = float("-inf")

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return self._state.settled

    def process(self, batch: Batch) -> None:
        self._state = merge.step(self._state, batch.frame, self._settings)

    def flush(self, now: float) -> Iterable[Output]:
        due = now >= self._longer_at + LONGER_EVERY
        self._state, rows, rollups = updates.flush(self._state, self._settings, longer_due=due)
        if due:
            self._longer_at = now
        yield self._encode.updates(rows)
        yield self._encode.saved(rollups)

    def commit(self) -> None:
        self._stable = self._state

    def abort(self) -> None:
        self._state = self._stable
        self._longer_at = float("-inf")

    def metadata(self, partition: int) -> str:
        progress = self._state.progress.get(partition)
        return progress.metadata() if progress else ""

    def resume_from(self, partition: int, offset: int, metadata: str) -> int:
        self._state, start = merge.resumed(
            self._state, partition, offset, metadata, self._settings.sources
        )
        return start

    def snapshot(self) -> Callable[[int], bytes]:
        state = self._stable
        return lambda partition: snapshots.of_merge(state, partition)

    def load(self, partition: int, snapshot: memoryview, at: int, offset: int, text: str) -> bool:
        loaded = snapshots.with_merge(
            self._state, partition, snapshot, at, (offset, text), self._settings
        )
        if loaded is None:
            return False
        self._state, self._loaded[partition] = loaded, (offset, text)
        return True

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        self._changelog.setdefault(partition, {}).update(zip(keys, values, strict=True))

    def replay(self, batch: Batch) -> None:
        self._state = merge.step(self._state, batch.frame, self._settings, replay=True)

    def restored(self, partitions: set[int]) -> None:
        for partition, rows in self._changelog.items():
            rollups = [
                MetricRollup(**self._codec.decode(value).record)
                for value in rows.values()
                if value is not None
            ]
            self._state = merge.restored(self._state, partition, rollups, self._plan)
        self._state = snapshots.aligned(self._state, self._loaded, self._settings)
        self._changelog, self._loaded = {}, {}

    def revoke(self, partitions: set[int]) -> None:
        same = self._state is self._stable
        self._stable = merge.without(self._stable, partitions)
        self._state = self._stable if same else merge.without(self._state, partitions)
        for partition in partitions:
            self._changelog.pop(partition, None)
            self._loaded.pop(partition, None)


FATES = ("accepted", "duplicate", "late", "future", "tick", "excluded")
