"""What is known of users, as one branch: sessions, then profiles, then segments.

    accepted ─┬─> sessions ──> final sessions ─┐
              └────────────────────────────────┴─> rounds ──> profiles ──> who moves

How a batch goes, round by round, is said in `rounds.py`: events and final sessions of a minute of
the partition's watermark are in the profiles before the minute's end is looked at. A control of
segments cuts the batch at its place in the log.

After a restart from the changelogs, sessions and profiles apply what their rows do not have, and
memberships are as they were committed. After one from a snapshot all three are as of one place in
the log and go on from there, without writing again what has been written.

Upstream: `metrics/tasks.py`. Downstream: the topics of the three. Invariants: what a user goes
through depends on the log alone; who denied analytics is not in any of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.segments import Rules
from streamgauge.streams import packing
from streamgauge.streams.branch import Accepted, Branch, Horizon, Placed
from streamgauge.streams.engine.task import Output
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.profiles.feed import Profiles
from streamgauge.streams.profiles.profiles import Finals
from streamgauge.streams.rounds import MINUTE_MS, Items, Round, Waiting, minutes, rounds
from streamgauge.streams.segments.membership import Membership
from streamgauge.streams.sessions.branch import SessionBranch
from streamgauge.streams.sessions.sessions import Settings
from streamgauge.streams.sessions.spans import user_keys
from streamgauge.streams.sessions.splitting import closes

Array = np.ndarray

SEGMENTS = "segments"
"""The kind of control that changes rules of segments."""


@dataclass(frozen=True, kw_only=True)
class Time:
    """How far partitions are, and whom to look at when their minute is over."""

    watermarks: Mapping[int, int] = field(default_factory=dict)
    waiting: Waiting = field(default_factory=Waiting)

    def without(self, partitions: set[int]) -> Time:
        return Time(
            watermarks={p: at for p, at in self.watermarks.items() if p not in partitions},
            waiting=self.waiting.apart(partitions)[1],
        )


def users(
    registry: Registry, *, lateness_ms: int, consent_default: ConsentDefault, rules: Rules
) -> Users:
    """The branch of a worker; `rules`: of partitions in which none are in force yet."""
    settings = Settings(lateness=lateness_ms, identifiable=identifiable_rows(consent_default))
    return Users(
        settings,
        SessionBranch(settings, registry),
        Profiles(registry, lateness_ms=lateness_ms),
        Membership(registry, rules),
    )


class Users(Branch):
    """Sessions, profiles and segments of the users of a worker's partitions."""

    def __init__(
        self, settings: Settings, sessions: SessionBranch, profiles: Profiles, segments: Membership
    ) -> None:
        self._settings = settings
        self._sessions, self._profiles, self._segments = sessions, profiles, segments
        self.changelogs = (*sessions.changelogs, *profiles.changelogs, *segments.changelogs)
        self.columns = sessions.columns | profiles.columns
        self.identity = json.dumps([sessions.identity, profiles.identity])
        self._stable = self._time = Time()
        self._loaded: set[int] = set()

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return self._sessions.settled and self._profiles.settled

    def process(self, accepted: Accepted) -> None:
        self._sessions.process(accepted)
        self._go(accepted, quiet=False)

    def flush(self, now: float, horizons: Mapping[int, Horizon]) -> Iterable[Output]:
        yield from self._sessions.flush(now, horizons)
        yield from self._profiles.flush(now, horizons)
        yield from self._segments.flush()

    def commit(self) -> None:
        self._stable = self._time
        self._sessions.commit()
        self._profiles.commit()
        self._segments.commit()

    def abort(self) -> None:
        self._time = self._stable
        self._sessions.abort()
        self._profiles.abort()
        self._segments.abort()

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        if changelog in self._sessions.changelogs:
            self._sessions.restore(changelog, keys, values, partition)
        elif changelog in self._profiles.changelogs:
            self._profiles.restore(changelog, keys, values, partition)
        else:
            self._segments.restore(keys, values, partition)

    def replay(self, accepted: Accepted) -> None:
        loaded = self._loaded & accepted.watermarks.keys()
        if others := accepted.watermarks.keys() - loaded:
            self._catch_up(accepted.of_partitions(others) if loaded else accepted)
        if loaded:
            mine = accepted.of_partitions(loaded) if others else accepted
            self._sessions.replay(mine)
            self._go(mine, quiet=True)

    def restored(self, partitions: set[int]) -> None:
        self._sessions.restored(partitions)
        self._profiles.restored(partitions)
        self._segments.restored()
        self._loaded -= partitions

    def revoke(self, partitions: set[int]) -> None:
        self._loaded -= partitions
        same = self._time is self._stable
        self._stable = self._stable.without(partitions)
        self._time = self._stable if same else self._time.without(partitions)
        self._sessions.revoke(partitions)
        self._profiles.revoke(partitions)
        self._segments.revoke(partitions)

    def snapshot(self) -> Callable[[int], bytes]:
        time = self._stable
        others = [each.snapshot() for each in (self._sessions, self._profiles, self._segments)]

        def of(partition: int) -> bytes:
            parts = [_packed(time, partition), *(other(partition) for other in others)]
            return packing.together(parts)

        return of

    def load(self, partition: int, snapshot: memoryview) -> bool:
        time, sessions, profiles, segments = packing.apart(snapshot)
        self._time = _unpacked(self._time, partition, time)
        self._sessions.load(partition, sessions)
        self._profiles.load(partition, profiles)
        self._segments.load(partition, segments)
        self._loaded.add(partition)
        return True

    # -- a batch -----------------------------------------------------------------------------

    def _go(self, accepted: Accepted, *, quiet: bool) -> None:
        """Through a batch that the sessions have seen, piece by piece."""
        frame, watermark = self._known(accepted)
        finals = self._finals()
        self._begin(accepted)
        after = {p: at for p, at in accepted.watermarks.items() if at != NONE}
        changes = sorted(
            (placed for placed in accepted.controls if placed.control.kind == SEGMENTS),
            key=lambda placed: (placed.partition, placed.offset),
        )
        for placed in changes:
            frame, watermark, finals = self._up_to(placed, frame, watermark, finals, quiet)
            everybody = self._profiles.keys_of(placed.partition)
            at = self._time.watermarks.get(placed.partition, NONE)
            looked = self._profiles.figures(
                everybody, np.full(len(everybody), at), self._segments.fields(placed.control)
            )
            self._segments.change(placed.control, placed.partition, looked, quiet=quiet)
        self._piece(frame, watermark, finals, after, quiet)
        self._profiles.linked(frame)
        self._profiles.passed(accepted)

    def _up_to(
        self,
        placed: Placed,
        frame: pl.DataFrame,
        watermark: Array,
        finals: _Over,
        quiet: bool,
    ) -> tuple[pl.DataFrame, Array, _Over]:
        """Go through what lies before a control in its partition; returns what is left."""
        partition, offset = frame["partition"].to_numpy(), frame["offset"].to_numpy()
        mine = (partition == placed.partition) & (offset < placed.offset)
        some = pl.Series(mine)
        over = (finals.items.partition == placed.partition) & (finals.at <= placed.watermark)
        if placed.watermark != NONE:
            after = {placed.partition: placed.watermark}
            self._piece(frame.filter(some), watermark[mine], finals.take(over), after, quiet)
        self._profiles.linked(frame.filter(some))
        return frame.filter(~some), watermark[~mine], finals.take(~over)

    def _piece(
        self,
        frame: pl.DataFrame,
        watermark: Array,
        finals: _Over,
        after: Mapping[int, int],
        quiet: bool,
    ) -> None:
        """Round by round."""
        found = self._rounds(frame, watermark, finals.items, after)
        number = np.zeros(frame.height, np.int64)
        for place, one in enumerate(found):
            number[one.events] = place
        digest = self._profiles.digest(frame, number)
        parts = {int(part.round[0]): part for part in digest.parts()}
        for place, one in enumerate(found):
            if place in parts:
                self._profiles.step(parts[place])
            self._profiles.sessions(finals.take(one.finals).sessions)
            if len(one.looked.user):
                users = one.looked.take(np.argsort(one.looked.user))
                self._look(users.user, users.minute + MINUTE_MS, (), quiet)
            for partition, hour in one.hours:
                everybody = self._profiles.keys_of(partition)
                at = np.full(len(everybody), hour)
                self._look(everybody, at, ((partition, hour),), quiet)

    def _look(
        self, keys: Array, at: Array, hours: tuple[tuple[int, int], ...], quiet: bool
    ) -> None:
        """Let these users, each at its own moment, enter and leave segments."""
        profiles = self._profiles.figures(keys, at, self._segments.fields())
        self._segments.round(profiles, hours, quiet=quiet)

    def _catch_up(self, accepted: Accepted) -> None:
        """What rows of changelogs do not have; nobody is looked at, that was done."""
        self._sessions.replay(accepted)
        frame, watermark = self._known(accepted)
        after = {p: at for p, at in accepted.watermarks.items() if at != NONE}
        self._begin(accepted)
        self._rounds(frame, watermark, Items.none(), after)
        for part in self._profiles.digest(frame).parts():
            self._profiles.step(part)
        self._profiles.linked(frame)
        self._profiles.passed(accepted)

    def _rounds(
        self, frame: pl.DataFrame, watermark: Array, finals: Items, after: Mapping[int, int]
    ) -> tuple[Round, ...]:
        """The rounds of a piece, and time goes on."""
        partition = frame["partition"].to_numpy()
        events = Items(
            partition=partition,
            user=user_keys(frame["user_key"], partition),
            minute=minutes(frame["timestamp"].to_numpy(), watermark),
        )
        before = self._time.watermarks
        found = rounds(events, finals, self._time.waiting, before, after)
        self._time = Time(watermarks={**before, **after}, waiting=found.waiting)
        return found.rounds

    def _begin(self, accepted: Accepted) -> None:
        """From the first watermark of a partition on, full hours are looked at."""
        began = {p: at for p, at in accepted.began.items() if at != NONE}
        watermarks = {**began, **self._time.watermarks}
        self._time = replace(self._time, watermarks=watermarks)

    def _known(self, accepted: Accepted) -> tuple[pl.DataFrame, Array]:
        """Events that count for their users, and the watermarks before them."""
        wanted = accepted.frame.select(self._settings.identifiable).to_series()
        if wanted.all():
            return accepted.frame, accepted.watermark
        return accepted.frame.filter(wanted), accepted.watermark[wanted.to_numpy()]

    def _finals(self) -> _Over:
        """The sessions that are over, and when they came to be."""
        told = self._sessions.finals()
        over = told.sessions.take(told.is_final.nonzero()[0])
        rows = over.rows
        start, end = rows["start"], rows["end"]
        at = closes(start, end) + self._settings.lateness
        items = Items(
            partition=rows["partition"], user=over.key, minute=at // MINUTE_MS * MINUTE_MS
        )
        sessions = Finals(
            key=over.key,
            start=start,
            duration=end - start,
            bounce=rows["events"] == 1,
            binge=rows["binged"] > 0,
        )
        return _Over(items=items, at=at, sessions=sessions)


@dataclass(frozen=True, kw_only=True)
class _Over:
    """Sessions that are over, with the watermark that closed them."""

    items: Items
    at: Array
    sessions: Finals

    def take(self, index: Array) -> _Over:
        found = self.sessions
        return _Over(
            items=self.items.take(index),
            at=self.at[index],
            sessions=replace(
                found,
                key=found.key[index],
                start=found.start[index],
                duration=found.duration[index],
                bounce=found.bounce[index],
                binge=found.binge[index],
            ),
        )


def _packed(time: Time, partition: int) -> bytes:
    mine = time.waiting.apart({partition})[0].items
    waiting = pl.DataFrame({"user": mine.user, "minute": mine.minute})
    return packing.packed({"waiting": waiting}, time.watermarks.get(partition))


def _unpacked(time: Time, partition: int, part: memoryview) -> Time:
    frames, watermark = packing.unpacked(part)
    table = frames["waiting"]
    waiting = Items(
        partition=np.full(table.height, partition, np.int32),
        user=table["user"].to_numpy(),
        minute=table["minute"].to_numpy(),
    )
    known = {} if watermark is None else {partition: watermark}
    watermarks = {**time.watermarks, **known}
    return Time(watermarks=watermarks, waiting=time.waiting.joined_by(waiting))
