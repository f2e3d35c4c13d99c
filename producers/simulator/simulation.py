"""Runs a simulated world against Kafka and keeps its truth.

Upstream: the CLI and tests, with a `Simulation`. Downstream: `World` → `Faults` →
`RecordProducer`.

Two ways to spend time. By default the events lie in the past, spread over `span_ms` that ends
about now, and are sent as fast as `rate` allows; event time never overtakes the clock, or the
worker would call them future. Live, event time is now: `rate` events happen each second.

Invariants: the same seed, start and parameters give the same records in the same order. The
truth is written however the run ends, and counts what was handed to the client.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from streamgauge.producers.errors import QueueFull, Undelivered
from streamgauge.producers.records import RecordProducer
from streamgauge.producers.simulator.anomalies import default_anomalies
from streamgauge.producers.simulator.encoding import EventEncoder
from streamgauge.producers.simulator.faults import Faults, Rates, Record
from streamgauge.producers.simulator.truth import Truth
from streamgauge.producers.simulator.world import EVENTS_PER_SESSION, World
from streamgauge.schemas.envelope import now_ms

HOUR_MS = 3_600_000

CHECK_S = 0.02
"""The longest sleep between looks at the clock."""

LOOK_S = 0.05
"""Between calls of `progress` and `pause_when`."""

FLUSH_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What to simulate; `events` counts records of all fates, None means until stopped."""

    events: int | None = None
    seed: int = 1
    users: int | None = None
    """The population; by default as many as make so many sessions in the span by habit."""
    span_ms: int = 6 * HOUR_MS
    start_ms: int | None = None
    live: bool = False
    rate: float = 0.0
    """Records a second; 0 is as fast as possible."""
    lateness_ms: int = HOUR_MS
    rates: Rates = field(default_factory=Rates)
    anomalies: bool = True

    def __post_init__(self) -> None:
        if self.live and self.rate <= 0:
            raise ValueError("a live simulation needs a rate of events a second")
        if not self.live and self.events is None:
            raise ValueError("say how many events, or simulate live")
        if self.events is not None and self.events < 1:
            raise ValueError("events must be at least 1")
        if self.span_ms < 1000 or self.lateness_ms < 1000:
            raise ValueError("span_ms and lateness_ms must be at least a second")

    def world(self, now: int) -> World:
        """The world, with its span laid into time."""
        if self.live or self.events is None:
            start = self.start_ms or now
            span = HOUR_MS if self.events is None else int(self.events / self.rate * 1000)
            target = self.rate * span / 1000
        else:
            start = self.start_ms or now - self.span_ms
            # Sessions come by chance: aim short of the end, so as not to wait for it.
            margin = min(0.03 + (EVENTS_PER_SESSION / self.events) ** 0.5 / 2, 0.5)
            span = int(self.span_ms * (1 - margin))
            target = self.events
        end = start + max(span, 1000)
        return World(
            seed=self.seed,
            start_ms=start,
            end_ms=end,
            events=target,
            users=self.users,
            steady=self.live,
            anomalies=default_anomalies(start, end, target) if self.anomalies else [],
        )


def simulate(
    client: RecordProducer,
    simulation: Simulation,
    *,
    truth_file: Path | None = None,
    progress: Callable[[Truth], None] | None = None,
    pause_when: Callable[[], bool] | None = None,
    stop: threading.Event | None = None,
    partitions: int | None = None,
) -> Truth:
    """Send the simulation's records and return what was sent, acknowledged by Kafka.

    `progress` and `pause_when` are called at most every 50 ms; while the latter says so,
    nothing is sent. SIGTERM, SIGINT and `stop` end the run early and in order. Raises
    Undelivered when Kafka did not acknowledge everything in the end.
    """
    stop = stop or threading.Event()
    partitions = partitions or client.partitions()
    world = simulation.world(now_ms())
    faults = Faults(
        simulation.rates,
        seed=simulation.seed,
        encode=EventEncoder(client.registry),
        partitions=partitions,
        lateness_ms=simulation.lateness_ms,
    )
    truth = Truth(
        parameters={
            **asdict(simulation),
            "users": world.users,
            "start_ms": world.start_ms,
            "end_ms": world.end_ms,
            "partitions": partitions,
        },
        anomalies=list(world.anomalies),
    )
    before = client.stats
    began = time.monotonic()
    records = islice(faults.records(world.events()), simulation.events)
    try:
        with _stopped_by_signals(stop):
            for record in _paced(records, simulation, progress, pause_when, stop, truth):
                if _sent(client, record, stop):
                    truth.count(record)
        outstanding = client.flush(FLUSH_S)
        truth.complete = not outstanding and not stop.is_set()
        if outstanding:
            raise Undelivered(outstanding)
    finally:
        after = client.stats
        truth.acknowledged = after.acknowledged - before.acknowledged
        truth.failed = after.failed - before.failed
        truth.seconds = round(time.monotonic() - began, 3)
        if truth_file:
            truth.write(truth_file)
    if progress:
        progress(truth)
    return truth


def _sent(client: RecordProducer, record: Record, stop: threading.Event) -> bool:
    """Hands the record over, however long Kafka is away, unless the run is to stop."""
    while True:
        try:
            client.send(record.key, record.value)
            return True
        except QueueFull:
            if stop.is_set():
                return False


def _paced(
    records: Iterator[Record],
    simulation: Simulation,
    progress: Callable[[Truth], None] | None,
    pause_when: Callable[[], bool] | None,
    stop: threading.Event,
    truth: Truth,
) -> Iterator[Record]:
    """The records, each when its time has come."""
    limit = 0.0 if simulation.live else simulation.rate
    chunk = max(1, min(200, int(limit * CHECK_S))) if limit else 200
    due = looked = time.monotonic()
    now = now_ms()
    for number, record in enumerate(records):
        while record.timestamp > now and record.timestamp > (now := now_ms()):
            if stop.wait(min(max((record.timestamp - now) / 1000, 0.005), CHECK_S)):
                return
        if number % chunk == 0:
            if limit:
                stop.wait(max(0.0, due - time.monotonic()))
                # After a stall the rate is kept, what was missed is not made good.
                due = max(due, time.monotonic() - 1.0) + chunk / limit
            if time.monotonic() - looked >= LOOK_S:
                looked = time.monotonic()
                if progress:
                    progress(truth)
                while pause_when and pause_when() and not stop.wait(CHECK_S):
                    due = time.monotonic()
        if stop.is_set():
            return
        yield record


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)
