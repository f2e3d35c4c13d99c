"""Sessions of users and of their devices as a branch of the worker.

    accepted ──> step ──> close ──> final rows, at once
                   └────> flush, a slot at a time, each once in `pace.hold` s ──> open rows

Upstream: `metrics/tasks.py`. Downstream: the topics `sessions` and `device-sessions`, which are the
changelogs too, and whoever asks what became final (`finals`), or for everything as it is, not as
records (`told`). A row is of all events up to its
`emitted_offset`, also where these are of another session of its user: the greatest one of a user's
rows, final ones included, says which events of a replay are known already.

Invariant: rows lie in the partition of `events` that they are of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import polars as pl

from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.session_records import DeviceSession, Session
from streamgauge.schemas.topics import DEVICE_SESSIONS, SESSIONS, Topic
from streamgauge.streams.branch import Accepted, Branch, Horizon
from streamgauge.streams.engine.task import Output
from streamgauge.streams.metrics.keys import distinct
from streamgauge.streams.pace import THROTTLE, Pace
from streamgauge.streams.sessions import rows, snapshots
from streamgauge.streams.sessions.changelog import Changelog
from streamgauge.streams.sessions.sessions import (
    MANY,
    SLOTS,
    SessionState,
    Settings,
    Told,
    close,
    due,
    flush,
    fold,
    latest,
    of_others,
    step,
    taken_up,
    with_open,
    without,
)
from streamgauge.streams.sessions.spans import COLUMNS, Arrived, arrived


class SessionBranch(Branch):
    """Events to sessions."""

    changelogs = (SESSIONS.name, DEVICE_SESSIONS.name)
    columns = COLUMNS

    def __init__(
        self, settings: Settings, registry: Registry, *, throttle: float = THROTTLE
    ) -> None:
        self._settings, self._pace = settings, Pace(throttle)
        self.identity = snapshots.identity(settings)
        self._users = _Sessions(SESSIONS, Session, settings, registry)
        self._devices = _Sessions(DEVICE_SESSIONS, DeviceSession, settings, registry)
        self._both = (self._users, self._devices)
        self._loaded: set[int] = set()
        self._turns = 0
        self._turned_at: float | None = None

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return all(table.settled for table in self._both)

    def process(self, accepted: Accepted) -> None:
        settings = self._settings
        found = arrived(accepted.frame, settings.identifiable, settings.conversions)
        for table in self._both:
            table.process(found, accepted.watermarks)

    def finals(self) -> Told:
        """Sessions of users, of which the last batch showed that they are over, among others that
        changed; of a replay, only where it goes on from a snapshot."""
        return self._users.over

    def flush(self, now: float, horizons: Mapping[int, Horizon]) -> Iterable[Output]:
        self._pace.measure(now, self._users.state.watermarks)
        turn = self._turn(now)
        needed = {p: (horizon.offset, horizon.timestamp) for p, horizon in horizons.items()}
        for table in self._both:
            yield from table.flush(turn | due(table.state, needed))

    def told(self) -> Mapping[str, list[Told]]:
        """What `flush` would write of all slots, by topic."""
        return {table.topic: table.told(set(range(SLOTS))) for table in self._both}

    def commit(self) -> None:
        for table in self._both:
            table.commit()

    def abort(self) -> None:
        self._turned_at = None
        for table in self._both:
            table.abort()

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        table = self._users if changelog == SESSIONS.name else self._devices
        table.changelog.add(keys, values, partition)

    def replay(self, accepted: Accepted) -> None:
        settings = self._settings
        found = arrived(accepted.frame, settings.identifiable, settings.conversions)
        # Where rows are not of one place in the log, nothing is over before all is replayed.
        watermarks = {p: at for p, at in accepted.watermarks.items() if p in self._loaded}
        for table in self._both:
            table.process(found, watermarks, replay=True)

    def restored(self, partitions: set[int]) -> None:
        self._loaded -= partitions
        for table in self._both:
            table.restored()

    def revoke(self, partitions: set[int]) -> None:
        self._loaded -= partitions
        for table in self._both:
            table.revoke(partitions)

    def snapshot(self) -> Callable[[int], bytes]:
        states = [table.stable for table in self._both]
        return lambda partition: snapshots.packed(states, partition)

    def load(self, partition: int, snapshot: memoryview) -> bool:
        states = [table.state for table in self._both]
        loaded = snapshots.unpacked(states, partition, snapshot)
        for table, state in zip(self._both, loaded, strict=True):
            table.state = state
        self._loaded.add(partition)
        return True

    def _turn(self, now: float) -> set[int]:
        """The slots whose turn it is: each once in the time for which rows are held back."""
        every = self._pace.hold / SLOTS
        if self._turned_at is None:
            self._turned_at = now
        count = min(int((now - self._turned_at) / every), SLOTS) if every else SLOTS
        if count:
            self._turned_at = now
        self._turns += count
        return {(self._turns - n) % SLOTS for n in range(count)}


class _Sessions:
    """One of the two tables, with its topic."""

    def __init__(self, topic: Topic, record: type, settings: Settings, registry: Registry) -> None:
        self.topic, self._lateness = topic.name, settings.lateness
        self._by_device = topic is DEVICE_SESSIONS
        self._encoder = Encoder(registry, topic.name, record)
        self.changelog = Changelog(topic.name, registry, by_device=self._by_device)
        self.state = self.stable = SessionState()
        self.over = Told()
        self._told: list[Told] = []
        #: Of a replay: what had been told before it is not known, so it is told after it.
        self._replayed: list[Told] = []
        self._flushed = False

    @property
    def settled(self) -> bool:
        return self.state.settled and not self._replayed

    def process(
        self, found: Arrived, watermarks: Mapping[int, int], *, replay: bool = False
    ) -> None:
        run = found.devices if self._by_device else found.users
        if replay:
            self._restore()
            run = run.take((found.offset > self.changelog.known(run.key)).nonzero()[0])
        state = step(self.state, run, found, watermarks, self._lateness, again=replay)
        self.state, self.over = close(state, self._lateness)
        told = self._replayed if replay else self._told
        told.append(self.over)
        if self.state.waits > MANY:
            self.state, gone = fold(self.state, self._lateness)
            told.append(gone)

    def told(self, slots: set[int]) -> list[Told]:
        """What is to be written now, these slots with it."""
        self.state, told = flush(self.state, self._lateness, slots)
        self._flushed = True
        everything = [*self._replayed, *self._told, told]
        return latest(everything) if self._replayed else everything

    def flush(self, slots: set[int]) -> Iterable[Output]:
        for one in self.told(slots):
            yield from self._outputs(one)

    def commit(self) -> None:
        self.stable, self._told = self.state, []
        if self._flushed:
            self._replayed, self._flushed = [], False

    def abort(self) -> None:
        self.state, self._told, self._flushed = self.stable, [], False

    def restored(self) -> None:
        self._restore()
        self.changelog.clear()

    def revoke(self, partitions: set[int]) -> None:
        same = self.state is self.stable
        self.stable = without(self.stable, partitions)
        self.state = self.stable if same else without(self.state, partitions)
        self._replayed = [of_others(told, partitions) for told in self._replayed]
        self.changelog.revoke(partitions)

    def _restore(self) -> None:
        """What the changelog says is open, once all of it is there."""
        offsets, read = self.changelog.taken()
        self.state = replace(self.state, offsets={**self.state.offsets, **offsets})
        for one in read:
            state, run = taken_up(self.state, one)
            self.state = replace(state, open=with_open(state.open, distinct(run.key), run, 0))

    def _outputs(self, told: Told) -> Iterable[Output]:
        if len(told.gone.key):
            gone = rows.gone(told, by_device=self._by_device)
            yield Output(
                topic=self.topic,
                keys=_keys(gone),
                values=[None] * gone.height,
                partitions=told.gone.rows["partition"].tolist(),
            )
        if len(told.sessions.key):
            changed = rows.changed(told, by_device=self._by_device)
            kept = rows.kept(told)
            yield Output(
                topic=self.topic,
                keys=_keys(changed),
                values=self._encoder.encode(pl.concat([changed, kept], how="horizontal")),
                partitions=told.sessions.rows["partition"].tolist(),
            )


def _keys(table: pl.DataFrame) -> list[bytes]:
    """Of the rows' records: whose session it is, and its start."""
    names = [name for name in rows.KEY if name in table.columns]
    texts = table.select(pl.concat_str(pl.col(names).cast(pl.String).fill_null(""), separator="|"))
    return texts.to_series().cast(pl.Binary).to_list()
