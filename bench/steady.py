"""B2 at a steady rate, with a state of a million users and the default commit interval.

Every user gets one event, then events come at each rate in turn; what a rate costs is counted once
it has settled. The sender is a thread of this process, outside of the measured tree.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import closing

from bench import oracle
from bench.context import CACHE, Context, say
from bench.events import Chunk, Shape, Traffic, chunk, load, one_each, producer, records
from bench.measure import Lag, Program
from bench.race import CPU, Job, environment
from bench.rows import Figure, Row

USERS = Shape(users=1_000_000)
GOALS = {5_000: 25.0, 20_000: 12.0}
"""Events a second, and the CPU µs an event that they may cost."""
_COMMIT_INTERVAL = 0.1
_SETTLE = 10.0


def steady(context: Context, job: Job) -> list[Row]:
    """A row for each rate, ours alone."""
    ours = job.contenders[0]
    group = context.unique(f"{job.name}-steady")
    source, out = f"{group}-events", f"{group}-out"
    context.create(source)
    context.create(out)
    load(context.kafka.bootstrap, source, context.schema_id, one_each(USERS.users))
    settings = {
        **ours.environment,
        **environment(context, group, source, out),
        "COMMIT_INTERVAL": str(_COMMIT_INTERVAL),
    }
    inner = ours.inner.format(group=group)
    with (
        closing(Lag(context.kafka.bootstrap, group, source, inner)) as lag,
        Program(ours.prepare(), CACHE / "logs" / f"{group}.log", settings) as program,
    ):
        _catch_up(program, lag, context.timeout)
        say(f"{group}: state of {USERS.users:,} users")
        sender = Sender(context, source)
        costs = {rate: _cost(program, sender, rate, context.seconds) for rate in GOALS}
        _catch_up(program, lag, context.timeout)
        time.sleep(3)  # the last transaction's markers
    found, _ = oracle.written(context.kafka.bootstrap, out)
    sent = itertools.chain(one_each(USERS.users), sender.sent())
    right = oracle.wrong(job.answer(sent), found) == 0
    return [
        Row(
            name=f"{rate:,} events/s",
            facts={"commit interval": f"{_COMMIT_INTERVAL:g} s", "users": f"{USERS.users:,}"},
            figures={
                CPU: Figure(value=cost, unit="µs", at_most=GOALS[rate]),
                "peak MB": Figure(value=program.peak_rss >> 20, unit="MB"),
            },
            right=right,
        )
        for rate, cost in costs.items()
    ]


class Sender:
    """Sends events in their order, at the rate that is asked for."""

    def __init__(self, context: Context, topic: str) -> None:
        self._producer = producer(context.kafka.bootstrap)
        self._topic = topic
        self._count = 0
        self._rows = _endless(context.schema_id)

    def run(self, rate: int, seconds: float) -> None:
        """Send for so long, every 10 ms what is due by then."""
        begun, sent = time.monotonic(), 0
        while (since := time.monotonic() - begun) < seconds:
            due = int(rate * since)
            for key, value in itertools.islice(self._rows, due - sent):
                self._producer.produce(self._topic, value, key)
            self._count += due - sent
            sent = due
            self._producer.poll(0)
            time.sleep(0.01)
        self._producer.flush(60)

    def sent(self) -> Iterator[Chunk]:
        """All that was sent."""
        return Traffic(count=self._count, shape=USERS).chunks()


def _cost(program: Program, sender: Sender, rate: int, seconds: float) -> float:
    """CPU µs an event at a rate."""
    thread = threading.Thread(target=sender.run, args=(rate, _SETTLE + seconds + 1))
    thread.start()
    time.sleep(_SETTLE)
    before = program.now()
    time.sleep(seconds)
    after = program.now()
    thread.join()
    cost = (after.cpu_s - before.cpu_s) / (rate * (after.at - before.at)) * 1e6
    say(f"{rate:,}/s: {cost:.2f} µs")
    return cost


def _catch_up(program: Program, lag: Lag, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not (program.first and lag.records() == 0):
        if not program.runs or time.monotonic() > deadline:
            raise RuntimeError("it did not catch up: see its log")
        time.sleep(0.2)


def _endless(schema_id: int) -> Iterator[tuple[bytes, bytes]]:
    for number in itertools.count():
        yield from records(chunk(number, USERS), schema_id)
