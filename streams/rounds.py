"""A batch of accepted events in rounds, so that what depends on time sees users minute by minute.

A minute here is one of the source partition's watermark: an event belongs to the minute of
max(watermark before it, its own timestamp), which is the watermark after it.

    watermark   ──┬─────────┬─────────┬────────>
                10:58     10:59     11:00
                  │ events  │ events  └ everybody is looked at
                  │         └ whoever had an event in the minute before is looked at
                  └ a final session counts in the minute in which the watermark closed it

Users do not depend on each other, so a round holds the k-th minute of every user, not one minute
of all: a batch over thousands of minutes takes as many rounds as its busiest user has minutes.
Full hours are barriers, since everybody is looked at there. How to go through a batch:

    finals = sessions.process(accepted)      # whole batch: closing is a function of the log
    for round in rounds(...):
        profiles.step(rows[round.rows], finals[round.finals])
        look at the users of round.looked, each at its own M, then at everybody at round.hours

M is the end of the minute: what is looked at is a user after all events of the minutes before M.
Who had events in the last minute of a batch is looked at when the watermark reaches its end: they
are `Rounds.waiting`, to be given with the batch in which it does. Until then they gather in
`Waiting`: a batch costs what is in it, not what its minute had before.

Upstream: `branch.Accepted`, final sessions. Downstream: `users.py`. Invariants: what a user goes
through, in which order and at which M, depends on the log alone, not on batches; of a user a round
has one minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import firsts, once, ordering_by

Array = np.ndarray

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
_PARTS = 64


@dataclass(frozen=True, kw_only=True)
class Items:
    """Events, final sessions or waiting users, in the log's order."""

    partition: Array
    user: Array
    """A key of each user."""
    minute: Array
    """The start of the minute, ms."""

    @staticmethod
    def none() -> Items:
        return Items(
            partition=np.zeros(0, np.int32),
            user=np.zeros(0, np.uint64),
            minute=np.zeros(0, np.int64),
        )

    def take(self, index: Array) -> Items:
        return Items(
            partition=self.partition[index], user=self.user[index], minute=self.minute[index]
        )


def minutes(timestamp: Array, watermark: Array) -> Array:
    """The minute of each event, by the watermark before it."""
    return np.maximum(timestamp, watermark) // MINUTE_MS * MINUTE_MS


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Users whose minute is not over, as they came; never changed in place."""

    parts: tuple[Items, ...] = ()

    @property
    def items(self) -> Items:
        """Each user once: of a partition all have one minute, its watermark's."""
        return _once(_joined(*self.parts)) if self.parts else Items.none()

    def joined_by(self, items: Items) -> Waiting:
        if not len(items.user):
            return self
        parts = self.parts if len(self.parts) < _PARTS else (self.items,)
        return Waiting(parts=(*parts, items))

    def apart(self, partitions: set[int]) -> tuple[Waiting, Waiting]:
        """Those of these partitions, and the others."""
        if not partitions or not self.parts:
            return Waiting(), self
        items = self.items
        mine = np.isin(items.partition, sorted(partitions))
        some, others = items.take(mine), items.take(~mine)
        return Waiting().joined_by(some), Waiting().joined_by(others)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What comes next; places are those in the items."""

    events: Array
    finals: Array
    looked: Items
    """Users of these events (and those that waited) whose minute is over, each once; they are
    looked at at the minute's end. Those whose end is one of `hours` are not in it."""
    hours: tuple[tuple[int, int], ...]
    """(partition, full hour): after the above, everybody of the partition is looked at."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The rounds of a batch, and who is to be looked at later."""

    rounds: tuple[Round, ...]
    waiting: Waiting


def rounds(
    events: Items,
    finals: Items,
    waiting: Waiting,
    before: Mapping[int, int],
    after: Mapping[int, int],
) -> Rounds:
    """All of a batch; `before` and `after` are watermarks of the partitions in it, or at first the
    first one."""
    ended = {p for p, at in after.items() if at // MINUTE_MS > before[p] // MINUTE_MS}
    over, waiting = waiting.apart(ended)
    every = _joined(events, finals, over.items)
    hour = every.minute // HOUR_MS
    base = {p: before[p] // HOUR_MS for p in after}
    last = {p: after[p] // HOUR_MS for p in after}
    stage = hour - _spread(base, every.partition)
    order = _in_time(every, len(events.user), len(finals.user))
    generation = _generation(order, stage, every)
    ends = every.minute + MINUTE_MS
    passed = ends <= _spread(after, every.partition)
    is_event = np.ones(len(stage), bool)
    is_event[len(events.user) : len(events.user) + len(finals.user)] = False
    to_look = is_event & passed & (ends % HOUR_MS != 0)

    found = []
    stages = max([last[p] - base[p] for p in last], default=-1) + 1
    by_stage = np.lexsort((generation, stage))
    starts = np.searchsorted(stage[by_stage], np.arange(stages + 1))
    for number in range(stages):
        mine = by_stage[starts[number] : starts[number + 1]]
        hours = tuple(
            (p, int(base[p] + number + 1) * HOUR_MS)
            for p in sorted(last)
            if base[p] + number + 1 <= last[p]
        )
        parts = list(_parts(mine, generation[mine]))
        if not parts and hours:
            parts = [mine]
        for at, part in enumerate(parts):
            part = np.sort(part)
            looked = every.take(part[to_look[part]])
            found.append(
                Round(
                    events=part[part < len(events.user)],
                    finals=_between(part, len(events.user), len(finals.user)),
                    looked=_once(looked),
                    hours=hours if at == len(parts) - 1 else (),
                )
            )
    later = _once(every.take(is_event & ~passed))
    return Rounds(rounds=tuple(found), waiting=waiting.joined_by(later))


def _joined(*items: Items) -> Items:
    return Items(
        partition=np.concatenate([one.partition for one in items]),
        user=np.concatenate([one.user for one in items]),
        minute=np.concatenate([one.minute for one in items]),
    )


def _spread(values: Mapping[int, int], partition: Array) -> Array:
    """The value of each one's partition."""
    table = np.full(max(values, default=0) + 1, NONE)
    for number, value in values.items():
        table[number] = value
    return table[partition]


def _in_time(items: Items, events: int, finals: int) -> Array:
    """By user and minute. So many events come first, then final sessions; who waited is behind, but
    of a minute before: put in front, nearly all of a user is in order."""
    waited = events + finals
    back = np.arange(len(items.user))
    back = np.concatenate([back[waited:], back[:waited]])
    return back[ordering_by(items.user[back], items.minute[back])]


def _generation(order: Array, stage: Array, items: Items) -> Array:
    """The number of the minute among its user's in the stage."""
    generation = np.empty(len(order), np.int64)
    user, minute = items.user[order], items.minute[order]
    is_new = firsts(user) | firsts(stage[order])
    steps = (firsts(minute) | is_new).cumsum()
    begun = np.maximum.accumulate(np.where(is_new, steps, 0))
    generation[order] = steps - begun
    return generation


def _parts(rows: Array, number: Array) -> Iterator[Array]:
    """Rows sorted by number, cut where it changes."""
    if len(rows):
        yield from np.split(rows, firsts(number).nonzero()[0][1:])


def _between(part: Array, start: int, count: int) -> Array:
    return part[(part >= start) & (part < start + count)] - start


def _once(items: Items) -> Items:
    """Each user once: within a round, and of those that wait, users have one minute."""
    return items.take(np.sort(once(items.user)))
