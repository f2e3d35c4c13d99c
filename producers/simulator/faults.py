"""How events reach the log: most well, some late, twice, out of order or broken.

Upstream: `world.py`'s events in order of time. Downstream: `simulation.py` sends the records
in this order, each keyed by its user. A record's fate is what a correct pipeline makes of it:

    accepted   once, in order or a little out of it (`out_of_order`: held back for seconds)
    duplicate  the very bytes of an accepted record, again, minutes later at most
    late       older than its partition's watermark allows: by a minute to an hour
    broken     an extra record that cannot be used, of a kind in BROKEN

Invariants: nothing is held back for longer than half the lateness, so nothing but `late` is
late. Lateness is exact: the partition's watermark is followed here, as the log will have it
(the simulator must be its only writer, and the topic new, for *only* these to be late).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from random import Random
from typing import Any

from streamgauge.producers.partitioner import partition_of

Event = dict[str, Any]
Encode = Callable[[Event], bytes]

FAR_FUTURE_MS = 4_102_444_800_000
"""The year 2100: a time that no broker's clock has reached."""

LATE_MS = (60_000, 3_600_000)
MOST_DELAY_MS = 120_000
MOST_REPEAT_MS = 300_000


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The share of events that each fault befalls."""

    duplicates: float = 0.01
    late: float = 0.01
    out_of_order: float = 0.02
    broken: float = 0.001

    def __post_init__(self) -> None:
        for name, rate in vars(self).items():
            if not 0 <= rate <= 0.5:
                raise ValueError(f"{name} must be between 0 and 0.5, not {rate}")


@dataclass(slots=True)
class Record:
    """Bytes for the topic, and what must become of them; `kind` is an event type or a defect."""

    key: bytes
    value: bytes
    fate: str
    kind: str
    timestamp: int
    out_of_order: bool = False


def _truncated(random: Random, value: bytes, event: Event, encode: Encode) -> bytes:
    return value[: random.randint(6, len(value) - 1)]


BROKEN: dict[str, tuple[str, Callable[[Random, bytes, Event, Encode], bytes]]] = {
    "no_header": ("bad_header", lambda _r, value, _e, _c: b"\x01" + value[1:]),
    "empty": ("bad_header", lambda _r, _v, _e, _c: b""),
    "json": ("bad_header", lambda _r, _v, event, _c: json.dumps(event).encode()),
    "unknown_schema": ("unknown_schema", lambda _r, value, _e, _c: b"\0\x7f\xff\xff" + value[4:]),
    "truncated": ("undecodable", _truncated),
    "trailing": ("undecodable", lambda _r, value, _e, _c: value + b"\0\0"),
    "no_user": (
        "invalid",
        lambda _r, _v, event, encode: encode({**event, "user_id": None, "anonymous_id": None}),
    ),
    "future": (
        "future",
        lambda _r, _v, event, encode: encode({**event, "timestamp": FAR_FUTURE_MS}),
    ),
}
"""By kind: the reason in the dead letter, and how the record is made from a good one."""


class Faults:
    """Turns events into records."""

    def __init__(
        self, rates: Rates, *, seed: int, encode: Encode, partitions: int, lateness_ms: int
    ) -> None:
        self._rates = rates
        self._random = Random(f"{seed}/faults")
        self._encode = encode
        self._partition = lru_cache(maxsize=65_536)(lambda key: partition_of(key, partitions))
        self._lateness_ms = lateness_ms
        self._delay_ms = min(MOST_DELAY_MS, lateness_ms // 4)
        self._repeat_ms = min(MOST_REPEAT_MS, lateness_ms // 4)
        self._watermarks: dict[int, int] = {}
        self._held: list[tuple[int, int, Record]] = []
        self._order = 0

    def records(self, events: Iterable[Event]) -> Iterator[Record]:
        """All records, in the order to send them."""
        random = self._random
        rates = self._rates
        held = self._held
        for event in events:
            now = event["timestamp"]
            while held and held[0][0] <= now:
                due, _, record = heappop(held)
                yield from self._deliver(record, due)
            key = (event["user_id"] or event["anonymous_id"]).encode()
            chance = random.random()
            if chance < rates.late and (late := self._late(key, event)):
                yield late
                continue
            record = Record(key, self._encode(event), "accepted", event["event_type"], now)
            if random.random() < rates.out_of_order:
                record.out_of_order = True
                self._hold(now + random.randint(1, self._delay_ms), record)
            else:
                yield from self._deliver(record, now)
            if random.random() < rates.broken:
                yield self._broken(record, event)

    def _deliver(self, record: Record, now: int) -> Iterator[Record]:
        yield record
        if record.fate == "accepted":
            partition = self._partition(record.key)
            self._watermarks[partition] = max(self._watermarks.get(partition, 0), record.timestamp)
            if self._random.random() < self._rates.duplicates:
                again = Record(record.key, record.value, "duplicate", record.kind, record.timestamp)
                self._hold(now + self._random.randint(1, self._repeat_ms), again)

    def _hold(self, until: int, record: Record) -> None:
        self._order += 1
        heappush(self._held, (until, self._order, record))

    def _late(self, key: bytes, event: Event) -> Record | None:
        """The event as if it came from far behind; None before its partition knows the time."""
        watermark = self._watermarks.get(self._partition(key))
        if watermark is None:
            return None
        event["timestamp"] = watermark - self._lateness_ms - self._random.randint(*LATE_MS)
        return Record(key, self._encode(event), "late", event["event_type"], event["timestamp"])

    def _broken(self, record: Record, event: Event) -> Record:
        kind = self._random.choice(tuple(BROKEN))
        value = BROKEN[kind][1](self._random, record.value, event, self._encode)
        return Record(record.key, value, "broken", kind, record.timestamp)
