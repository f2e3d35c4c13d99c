"""Profiles as they go over their topics: who is written when, and what a restart gives back.

    flush      every user has a turn in each 5 seconds (60 while the worker catches up, `pace.py`);
               at it, the profile is written if it changed
    at once    if a session ended, or a replay would not bring an event again (the horizon)
    new day    everybody seen in the last 90 days is written again, little by little

A record is as of the day of the partition's watermark, but no more than 90 days after the user's
last event: so once everything is written, records depend on the log alone.

Upstream: `users.py`, which goes through a batch round by round. Downstream: the topics
`user-profiles` (which is the changelog too), `daily-analytics`, `user-links`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.messages import Messages
from streamgauge.schemas.profile_fields import PROFILE_FIELDS
from streamgauge.schemas.profile_records import UserDay, UserLink, UserProfile
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import DAILY_ANALYTICS, USER_LINKS, USER_PROFILES
from streamgauge.streams import packing
from streamgauge.streams.branch import Accepted, Horizon
from streamgauge.streams.engine.task import Output
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import combine, firsts, of_strings
from streamgauge.streams.metrics.runs import Run, Runs
from streamgauge.streams.pace import THROTTLE, Pace
from streamgauge.streams.profiles import digest, figures, links, outputs, parts, profiles, tags
from streamgauge.streams.profiles.digest import Digest
from streamgauge.streams.profiles.links import NO_LINKS
from streamgauge.streams.profiles.pending import (
    AT_ONCE,
    NOTHING,
    PENDING,
    Pending,
    joined,
    urgent_of,
)
from streamgauge.streams.profiles.profiles import Finals, State
from streamgauge.streams.profiles.rows import DAY_MS
from streamgauge.streams.profiles.tags import Names

Array = np.ndarray

TURNS = 10
RENEWED_DAYS = 90
SWEEP, SWEEP_IDLE = 500, 20_000
"""Users written again at a flush because a day has begun: with and without new events."""
DAYS_KEPT = 4
FORMAT = "3"
PIECE = 16_384
"""Users whose records are made at once: more do not stay in the processor's cache on the way."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The working state, never changed in place."""

    profiles: State = field(default_factory=State)
    links: Runs = NO_LINKS
    new_links: tuple[pl.DataFrame, ...] = ()
    pending: Pending = field(default_factory=Pending)
    """Whose record is behind: partition, first offset, earliest time, first day that changed."""
    offsets: Mapping[int, int] = field(default_factory=dict)
    """Of the last event of each partition that is in."""
    watermarks: Mapping[int, int] = field(default_factory=dict)
    swept: Mapping[int, int] = field(default_factory=dict)
    """By partition: the day for which everybody was, or is being, written again."""
    sweep: tuple[tuple[int, Array], ...] = ()
    """Who is still to be written for it, by partition."""
    pruned: int = 0


class Profiles:
    """The profiles of a worker's partitions."""

    changelogs = (USER_PROFILES.name, USER_LINKS.name)
    columns = digest.COLUMNS
    identity = f"profiles {FORMAT}"

    def __init__(
        self, registry: Registry, *, throttle: float = THROTTLE, lateness_ms: int = 3_600_000
    ) -> None:
        self._pace = Pace(throttle)
        self._days_kept = DAYS_KEPT + math.ceil(lateness_ms / DAY_MS)
        self._names = Names()
        self._stable = self._state = Kept()
        self._turn = -1
        self._idle = True
        self._encoders = {
            topic.name: Encoder(registry, topic.name, record)
            for topic, record in (
                (USER_PROFILES, UserProfile),
                (DAILY_ANALYTICS, UserDay),
                (USER_LINKS, UserLink),
            )
        }
        self._decoders = {name: Decoder(registry, name) for name in self.changelogs}
        self._through = Runs(dtypes=(np.int64,))  # offsets of restored records, until restored

    @property
    def settled(self) -> bool:
        state = self._state
        return not (state.pending or state.sweep or state.new_links)

    # -- a batch ---------------------------------------------------------------------------

    def digest(self, frame: pl.DataFrame, rounds: Array | None = None) -> Digest:
        """What a batch says, by round; of users who may be known. Read once, whatever follows.

        During a replay only what their records do not have."""
        if len(self._through):
            which, (through,) = self._through.find(digest.keys(frame))
            new = np.ones(frame.height, bool)
            new[which] = frame["offset"].to_numpy()[which] > through
            frame, rounds = frame.filter(pl.Series(new)), None if rounds is None else rounds[new]
        return digest.of_events(frame, self._names, rounds)

    def step(self, part: Digest) -> None:
        """The events of one round."""
        if not len(part.key):
            return
        pending = Run(
            key=part.key,
            columns=(
                part.rows["partition"],
                part.offset,
                part.rows["first_seen"],
                part.rows["first_seen"] // DAY_MS,
            ),
        )
        self._state = replace(
            self._state,
            profiles=profiles.step(self._state.profiles, part, self._names),
            pending=self._state.pending.with_run(pending),
        )
        self._idle = False

    def sessions(self, finals: Finals) -> None:
        """The sessions that were over in one round. Those that are counted already are not."""
        if not len(finals.key):
            return
        state, keys, day = profiles.with_sessions(self._state.profiles, finals, self._names)
        if not len(keys):
            return
        selected = profiles.select(state, keys, with_tags=False)
        never = np.full(len(keys), NONE)
        columns = (selected.rows["partition"], np.full(len(keys), AT_ONCE), never, day)
        pending = self._state.pending.with_run(Run(key=keys, columns=columns))
        self._state = replace(self._state, profiles=state, pending=pending)

    def passed(self, accepted: Accepted) -> None:
        """The batch is through: `accepted` is all of it, of everybody."""
        state, frame = self._state, accepted.frame
        offsets = dict(state.offsets)
        if frame.height:
            partition, offset = frame["partition"].to_numpy(), frame["offset"].to_numpy()
            last = np.append(firsts(partition)[1:], True)
            offsets |= zip(partition[last].tolist(), offset[last].tolist(), strict=True)
        known = {p: at for p, at in accepted.watermarks.items() if at != NONE}
        state = replace(state, offsets=offsets, watermarks={**state.watermarks, **known})
        self._state = self._pruned(state)

    def linked(self, frame: pl.DataFrame) -> None:
        """The `identify` events among these, of users who may be known."""
        found, new = links.of_events(self._state.links, frame)
        if len(new):
            self._state = replace(self._state, links=found, new_links=(*self._state.new_links, new))

    def figures(
        self, keys: Array, at: Array, wanted: Collection[str] = PROFILE_FIELDS
    ) -> pl.DataFrame:
        """Fields of these users (keys sorted, each once), each at its moment; who is unknown
        has no row. With the columns `partition`, `user_key` and `minute` before them."""
        with_tags = not figures.OF_TAGS.isdisjoint(wanted)
        selected = profiles.select(self._state.profiles, keys, with_tags=with_tags)
        moment = at[np.searchsorted(keys, selected.key)]
        frame = figures.columns(selected, moment, self._names, wanted)
        partition = selected.rows["partition"].copy()
        place = {"partition": partition, "user_key": selected.users, "minute": moment}
        return pl.DataFrame(place).hstack(frame)

    def keys_of(self, partition: int) -> Array:
        """Everybody of a partition, sorted."""
        return profiles.keys_of(self._state.profiles, partition)

    def table(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Profiles, days and links as they will be once everything is written."""
        state = self._state
        everyone = [self.keys_of(partition) for partition in state.watermarks]
        keys = np.sort(np.concatenate(everyone)) if everyone else np.zeros(0, np.uint64)
        selected = profiles.select(state.profiles, keys)
        rows = outputs.table(selected, self._day(selected.rows) * DAY_MS, self._names)
        days, _ = outputs.days(selected, np.zeros(len(keys)), self._names)
        return rows, days, links.table(state.links)

    # -- writing ---------------------------------------------------------------------------

    def flush(self, now: float, horizons: Mapping[int, Horizon]) -> Iterator[Output]:
        """Records of those whose turn it is."""
        self._begin_sweep()
        due = self._due(now, horizons)
        if len(due.key):
            yield from self._records(due, days=True)
        again = self._to_sweep(due.key)
        if len(again.key):
            yield from self._records(again, days=False)
        self._idle = True
        if self._state.new_links:
            new = pl.concat(self._state.new_links)
            self._state = replace(self._state, new_links=())
            yield Output(
                topic=USER_LINKS.name,
                keys=links.keys(new),
                values=self._encoders[USER_LINKS.name].encode(new.drop("partition")),
                partitions=new["partition"].to_list(),
            )

    def _due(self, now: float, horizons: Mapping[int, Horizon]) -> Run:
        """Whose record is to be written now."""
        state, hold = self._state, self._pace.hold
        self._pace.measure(now, state.watermarks)
        if self._pace.hold != hold:
            self._turn = -1  # turns are others: everybody's is now
        hold = self._pace.hold
        turn = int(now / hold * TURNS) if hold else self._turn + TURNS
        behind = state.pending
        if not behind or (turn == self._turn and not behind.has_urgent(horizons)):
            return NOTHING
        pending = joined(behind.runs)
        since = max(turn - self._turn, 0) if self._turn >= 0 else TURNS
        its_turn = (turn - (pending.key % np.uint64(TURNS)).astype(np.int64)) % TURNS < since
        self._turn = turn
        due = its_turn | urgent_of(pending, horizons)
        rest = pending.take((~due).nonzero()[0])
        self._state = replace(state, pending=Pending().with_run(rest))
        return pending.take(due.nonzero()[0])

    def _records(self, due: Run, *, days: bool) -> Iterator[Output]:
        for first in range(0, len(due.key), PIECE):
            piece = slice(first, first + PIECE)
            some = Run(key=due.key[piece], columns=tuple(one[piece] for one in due.columns))
            yield from self._records_of(some, days=days)

    def _records_of(self, due: Run, *, days: bool) -> Iterator[Output]:
        selected = profiles.select(self._state.profiles, due.key)
        rows = selected.rows
        partition = rows["partition"]
        offsets = _spread(self._state.offsets, partition, -1)
        at = self._day(rows) * DAY_MS
        frame = outputs.record(selected, at, self._names, offsets)
        yield Output(
            topic=USER_PROFILES.name,
            keys=selected.users.cast(pl.Binary).to_list(),
            values=self._encoders[USER_PROFILES.name].encode(frame),
            partitions=partition.tolist(),
        )
        if not days:
            return
        since = due.columns[3][np.searchsorted(due.key, selected.key)]
        table, owner = outputs.days(selected, since, self._names)
        yield Output(
            topic=DAILY_ANALYTICS.name,
            keys=outputs.day_keys(table),
            values=self._encoders[DAILY_ANALYTICS.name].encode(table),
            partitions=partition[owner].tolist(),
        )

    def _day(self, rows: Array) -> Array:
        """The day as of which each one's record is."""
        now = _spread(self._state.watermarks, rows["partition"], 0) // DAY_MS
        day: Array = np.minimum(now, rows["last_day"] + RENEWED_DAYS)
        return day

    # -- new days --------------------------------------------------------------------------

    def _begin_sweep(self) -> None:
        """Who is to be written again, in partitions where a day has begun."""
        state = self._state
        days = {partition: at // DAY_MS for partition, at in state.watermarks.items()}
        begun = {p: day for p, day in days.items() if day > state.swept.get(p, -1)}
        if not begun:
            return
        sweep = [(p, keys) for p, keys in state.sweep if p not in begun]
        for partition in begun.keys() & state.swept.keys():  # elsewhere nobody was written before
            since = state.swept[partition] - RENEWED_DAYS + 1
            sweep.append((partition, profiles.keys_of(state.profiles, partition, since)))
        self._state = replace(state, sweep=tuple(sweep), swept={**state.swept, **begun})

    def _to_sweep(self, written: Array) -> Run:
        """The next of them."""
        if not self._state.sweep:
            return NOTHING
        left, taken = SWEEP_IDLE if self._idle else SWEEP, []
        rest = []
        for partition, keys in self._state.sweep:
            taken.append(keys[:left])
            if len(keys) > left:
                rest.append((partition, keys[left:]))
            left = max(left - len(keys), 0)
        self._state = replace(self._state, sweep=tuple(rest))
        # Who waits for a turn is written then: a record without the days would seem to be all.
        waiting = [run.key for run in self._state.pending.runs]
        key = np.setdiff1d(np.concatenate(taken), np.concatenate([written, *waiting]))
        return Run(key=key, columns=tuple(np.zeros(len(key), dtype) for dtype in PENDING))

    def _pruned(self, state: Kept) -> Kept:
        """Without the days that nothing changes any more."""
        if not state.watermarks:
            return state
        before = min(state.watermarks.values()) // DAY_MS - self._days_kept
        if before <= state.pruned:
            return state
        kept = tags.without_days(state.profiles.tags, self._names, before)
        return replace(state, profiles=replace(state.profiles, tags=kept), pruned=before)

    # -- the branch's life -----------------------------------------------------------------

    def commit(self) -> None:
        self._stable = self._state

    def abort(self) -> None:
        self._state, self._turn = self._stable, -1

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        """Rows of a changelog, in order: the last one of a key is the truth."""
        last = dict(zip(keys, values, strict=True))
        count = len(last)
        messages = Messages(
            topic=changelog,
            keys=list(last),
            values=list(last.values()),
            partitions=np.full(count, partition, np.int32),
            offsets=np.arange(count),
            times=np.zeros(count, np.int64),
        )
        frame = self._decoders[changelog].decode(messages).frame
        state = self._state
        if changelog == USER_LINKS.name:
            known = links.restored(state.links, frame, partition)
            self._state = replace(state, links=known)
            return
        part = outputs.restored(frame, partition)
        known_profiles = parts.taken(state.profiles, part, self._names)
        self._through = self._through.add(parts.keys(part), frame["emitted_offset"].to_numpy())
        offsets = frame["emitted_offset"].to_numpy()
        offset = int(offsets.max(initial=state.offsets.get(partition, -1)))
        rows = part.rows
        old = rows["told"][rows["told"] < rows["last_day"] + RENEWED_DAYS]
        swept = dict(state.swept)
        if len(old):
            swept[partition] = min(int(old.min()), swept.get(partition, int(old.min())))
        self._state = replace(
            state,
            profiles=known_profiles,
            offsets={**state.offsets, partition: offset},
            swept=swept,
        )

    def restored(self, partitions: set[int]) -> None:
        """Everything of these partitions is there."""
        self._through = Runs(dtypes=(np.int64,))
        self._stable = self._state

    def revoke(self, partitions: set[int]) -> None:
        same = self._state is self._stable
        self._stable = self._without(self._stable, partitions)
        self._state = self._stable if same else self._without(self._state, partitions)

    def _without(self, state: Kept, gone: set[int]) -> Kept:
        def left(values: Mapping[int, int]) -> dict[int, int]:
            return {p: value for p, value in values.items() if p not in gone}

        pending = joined(state.pending.runs)
        others = (~np.isin(pending.columns[0], sorted(gone))).nonzero()[0]
        return replace(
            state,
            profiles=parts.without(state.profiles, gone, self._names),
            links=links.without(state.links, gone),
            new_links=tuple(
                new.filter(~pl.col("partition").is_in(gone)) for new in state.new_links
            ),
            pending=Pending().with_run(pending.take(others)),
            offsets=left(state.offsets),
            watermarks=left(state.watermarks),
            swept=left(state.swept),
            sweep=tuple((p, keys) for p, keys in state.sweep if p not in gone),
        )

    def snapshot(self) -> Callable[[int], bytes]:
        """The stable state, to be written by partition in another thread."""
        stable, names = self._stable, self._names

        def of(partition: int) -> bytes:
            mine = [
                run.take((run.columns[0] == partition).nonzero()[0]) for run in stable.pending.runs
            ]
            pending = joined(mine)
            selected = profiles.select(stable.profiles, pending.key, with_tags=False)
            _, offset, time, day = pending.columns
            who = {"user": selected.users, "offset": offset, "time": time, "day": day}
            frames = {
                "pending": pl.DataFrame(who),
                "links": links.table(stable.links, partition),
            }
            swept = stable.swept.get(partition, -1)
            sweep = any(p == partition for p, _ in stable.sweep)
            head = {
                "offset": stable.offsets.get(partition, -1),
                "watermark": stable.watermarks.get(partition),
                "swept": swept - sweep,  # whoever is left is written with everybody
            }
            part = parts.of_partition(stable.profiles, partition, names)
            return packing.together([packing.packed(frames, head), part.to_bytes()])

        return of

    def load(self, partition: int, snapshot: memoryview) -> bool:
        """Take up a snapshot instead of the changelogs' rows."""
        first, profiles_ = packing.apart(snapshot)
        frames, head = packing.unpacked(first)
        part = parts.Part.of_bytes(profiles_)
        users, *said = frames["pending"].get_columns()
        place = np.full(len(users), partition, np.int32)
        columns = (place, *(column.to_numpy() for column in said))
        run = Run(key=combine(of_strings(users), place), columns=columns)
        pending = run.take(np.argsort(run.key))
        state = self._state
        watermark, swept = head["watermark"], head["swept"]
        self._state = replace(
            state,
            profiles=parts.taken(state.profiles, part, self._names),
            links=links.restored(state.links, frames["links"], partition),
            pending=state.pending.with_run(pending),
            offsets={**state.offsets, partition: head["offset"]},
            watermarks=state.watermarks
            if watermark is None
            else {**state.watermarks, partition: watermark},
            swept={**state.swept, partition: swept} if swept >= 0 else state.swept,
        )
        return True


def _spread(values: Mapping[int, int], partition: Array, nothing: int) -> Array:
    """The value of each one's partition."""
    table = np.full(max([*values, int(partition.max(initial=0))]) + 1, nothing, np.int64)
    for number, value in values.items():
        table[number] = value
    return table[partition]
