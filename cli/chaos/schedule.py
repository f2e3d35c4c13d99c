"""Which fault happens when: made from a seed, before anything runs.

Upstream: the command's flags. Downstream: `run`, which carries it out on two tracks: kills, and
everything else one after the other. A fault's place is a number of events sent, not a time, so a
slow machine meets it at the same place in the stream. Invariant: the same arguments give the same
schedule; of a kind that is asked for there is at least one fault, however short the run.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

WORKERS = ("worker-0", "worker-1")
SINKS = ("sink-postgres", "sink-redis")
COMMIT_POINTS = ("mid_batch", "before_flush", "after_flush", "after_send_offsets", "after_commit")
RESTORE_POINT = "during_restore"
SINK_POINTS = ("sink_before_write", "sink_before_commit", "sink_after_commit")
TRANSACTION_REQUESTS = (
    *("END_TXN", "END_TXN"),  # the commit itself, more often than what leads to it
    *("TXN_OFFSET_COMMIT", "ADD_OFFSETS_TO_TXN", "ADD_PARTITIONS_TO_TXN"),
)

Made: TypeAlias = dict[str, Any]
"""A fault's fields, but for its kind and place."""

FULL_SECONDS = 333.0
"""How long the full run sends: 500,000 events at 1,500/s."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: what, to whom, for how long, once `at` events have been sent."""

    at: int
    kind: str
    target: str
    how: str
    seconds: float = 0.0
    times: int = 1

    @property
    def is_kill(self) -> bool:
        """Kills have a track of their own: they take no time, and hit during other faults."""
        return self.kind == "kill"

    def __str__(self) -> str:
        for_seconds = f" for {self.seconds:g} s" if self.seconds else ""
        often = f", {self.times} times" if self.times > 1 else ""
        return f"{self.kind} {self.target}: {self.how}{for_seconds}{often}"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """`count` faults in a full run, each taking `room` seconds of it, its recovery included."""

    count: int
    room: float
    make: Callable[[Random, int, float], Made]


def schedule(seed: int, events: int, rate: float, only: Collection[str] = ()) -> list[Fault]:
    """The faults of a run, in the order of their places."""
    random = Random(f"streamgauge chaos {seed}")
    share = min(1.0, events / rate / FULL_SECONDS)
    kinds = [kind for kind in KINDS if not only or kind in only]
    found = {kind: list(_of(kind, random, share)) for kind in kinds}
    kills = found.pop("kill", [])
    others = [made for some in found.values() for made in some]
    random.shuffle(others)
    placed = [*zip(_evenly(random, len(kills), events), kills, strict=True)]
    placed += zip(_by_room(others, events), others, strict=True)
    faults = [Fault(at=at, kind=kind, **made) for at, (kind, made) in placed]
    return sorted(faults, key=lambda fault: fault.at)


def _of(kind: str, random: Random, share: float) -> Iterator[tuple[str, Made]]:
    for number in range(max(1, round(KINDS[kind].count * share))):
        yield kind, KINDS[kind].make(random, number, share)


def _evenly(random: Random, count: int, events: int) -> list[int]:
    """Places all over the run, a random one in each of `count` equal parts."""
    begin, length = 0.04 * events, 0.93 * events
    return [int(begin + length * (n + random.random() * 0.9) / count) for n in range(count)]


def _by_room(others: list[tuple[str, Made]], events: int) -> list[int]:
    """Places that leave each fault the room that its kind takes."""
    rooms = [KINDS[kind].room for kind, _ in others]
    begin, length = 0.03 * events, 0.94 * events
    return [int(begin + length * sum(rooms[:n]) / sum(rooms)) for n in range(len(rooms))]


def _kill(random: Random, number: int, share: float) -> Made:
    # Every other one at a point; workers more often, for they have more to lose.
    target = random.choice(WORKERS * 2 + SINKS)
    if number % 2:
        return {"target": target, "how": "any moment"}
    if target in SINKS:
        point, times = random.choice(SINK_POINTS), random.randint(1, 4)
    elif random.random() < 0.25:
        point, times = RESTORE_POINT, 1
    else:
        point, times = random.choice(COMMIT_POINTS), random.randint(1, 5)
    return {"target": target, "how": point, "times": times}


def _bounce(random: Random, number: int, share: float) -> Made:
    return {"target": "kafka", "how": "SIGKILL" if number % 2 else "SIGTERM"}


def _stop(random: Random, number: int, share: float) -> Made:
    # The sinks' zombies need somebody who takes over, so they go with the workers'.
    also = ("", *SINKS)[number % 3]
    target = f"{WORKERS[number % 2]} {also}".strip()
    return {"target": target, "how": "SIGSTOP", "seconds": 20.0 if share > 0.2 else 12.0}


def _commit_loss(random: Random, number: int, share: float) -> Made:
    how = ("delay", "drop", "drop and close")[number % 3]
    return {
        "target": random.choice(TRANSACTION_REQUESTS) if number else "END_TXN",
        "how": how,
        "seconds": round(random.uniform(1, 8), 1) if how == "delay" else 0.0,
        "times": 1 if how == "drop" else random.randint(1, 3),
    }


def _rebalance(random: Random, number: int, share: float) -> Made:
    seconds = 60.0 if share > 0.5 else 20.0
    return {"target": "workers", "how": "join or leave every 5 s", "seconds": seconds}


def _network(random: Random, number: int, share: float) -> Made:
    target = ("kafka", "kafka", "postgres", "redis")[number % 4]
    if number % 2:
        how, seconds = f"latency {random.uniform(0.02, 0.2):.2f} s", random.uniform(4, 8)
    else:
        how = random.choice(("partition, healed", "partition, bytes lost"))
        seconds = random.uniform(3, 12)
    return {"target": target, "how": how, "seconds": round(seconds, 1)}


def _outage(target: str) -> Callable[[Random, int, float], Made]:
    def make(random: Random, number: int, share: float) -> Made:
        return {"target": target, "how": "SIGKILL", "seconds": round(random.uniform(1, 5), 1)}

    return make


def _redis_loss(random: Random, number: int, share: float) -> Made:
    return {"target": "redis", "how": "SIGKILL, all data lost", "seconds": 1.0}


KINDS = {
    "kill": _Kind(count=30, room=0, make=_kill),
    "bounce": _Kind(count=5, room=10, make=_bounce),
    "stop": _Kind(count=3, room=32, make=_stop),
    "commit-loss": _Kind(count=6, room=8, make=_commit_loss),
    "rebalance": _Kind(count=1, room=65, make=_rebalance),
    "network": _Kind(count=4, room=12, make=_network),
    "postgres": _Kind(count=2, room=6, make=_outage("postgres")),
    "redis": _Kind(count=2, room=5, make=_outage("redis")),
    "redis-loss": _Kind(count=1, room=5, make=_redis_loss),
}
