"""Events of the product, encoded ahead of time: what happens is the simulator's, who and when is
`bench.events`': 200,000 users and an even flow, 5 % of it out of order.

The n-th event is the same in every run, up to its time, which follows from how many there are a
minute. Downstream: `fill` brings a topic to a size, `live.py` sends at a steady rate.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice

from bench import events
from streamgauge.producers.assignment import variant
from streamgauge.producers.records import RecordProducer
from streamgauge.producers.simulator.encoding import EventEncoder
from streamgauge.producers.simulator.experiments import ARMS
from streamgauge.producers.simulator.world import World
from streamgauge.schemas.registry import open_registry

HOURS_MS = 2 * 3_600_000
"""The simulated time that a chunk's contents are taken from: long enough for whole sessions."""

PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class Record:
    """One event, ready to send."""

    key: bytes
    value: bytes
    kind: str
    timestamp: int


def records(
    registry: str, first: int, last: int, per_minute: float = events.PER_MINUTE
) -> Iterator[Record]:
    """The events [first, last), made chunk by chunk in processes of their own."""
    size = events.CHUNK
    numbers = range(first // size, -(-last // size))
    wanted = [
        (number, registry, per_minute, max(first - number * size, 0), last - number * size)
        for number in numbers
    ]
    list(_chunk(0, registry, per_minute, 0, size // 10))  # the schemas get their ids here
    spawn = multiprocessing.get_context("spawn")  # never fork under librdkafka
    with ProcessPoolExecutor(min(PROCESSES, len(wanted)), spawn) as pool:
        for some in pool.map(_made, wanted):
            yield from (Record(key=k, value=v, kind=t, timestamp=at) for k, v, t, at in some)


def fill(kafka: str, registry: str, namespace: str, first: int, last: int) -> None:
    """Append the events [first, last) to the namespace's topic."""
    with RecordProducer(kafka, registry, namespace) as client:
        for record in records(registry, first, last):
            client.send(record.key, record.value)


def _made(wanted: tuple[int, str, float, int, int]) -> list[tuple[bytes, bytes, str, int]]:
    return list(_chunk(*wanted))


def _chunk(
    number: int, registry: str, per_minute: float, begin: int, end: int
) -> Iterator[tuple[bytes, bytes, str, int]]:
    part = events.chunk(number)
    start = events.START + number * HOURS_MS
    world = World(
        seed=number,
        start_ms=start,
        end_ms=start + HOURS_MS,
        events=events.CHUNK,
        users=events.USUAL.users,
        steady=True,
    )
    encode = EventEncoder(open_registry(registry))
    times = events.START + (part.ts - events.START) * events.PER_MINUTE / per_minute
    rows = zip(world.events(), part.user.tolist(), times.astype(int).tolist(), strict=False)
    for event, user, timestamp in islice(rows, begin, end):
        key = f"u{user:07d}"
        event |= {"user_id": key, "timestamp": timestamp}
        if event["event_type"] == "experiment_exposure":  # the same variant again, whoever it is
            event["variant"] = variant(event["experiment_id"], key, ARMS)
        yield key.encode(), encode(event), event["event_type"], timestamp
