"""What twice as many partitions, keys or events do to our cost of an event: as good as nothing.

Each case is a slope as in race.py. All are run in rounds, and of each size the cheapest run counts:
whatever else the machine does can only add.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.context import Context
from bench.events import USUAL, Shape, Traffic
from bench.measure import Measurement
from bench.race import CPU, Job, measure, slope
from bench.rows import Figure, Row

AGAINST = "times the base"
_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is twice the base's."""

    name: str
    events: int = 1
    partitions: int = 4
    shape: Shape = USUAL

    def sizes(self, smaller: int) -> tuple[Traffic, Traffic]:
        """The two between which the slope is taken."""
        first = Traffic(count=self.events * smaller, partitions=self.partitions, shape=self.shape)
        return first, replace(first, count=2 * first.count)


CASES = (
    Case(name="base"),
    Case(name="events x 2", events=2),
    Case(name="partitions x 2", partitions=8),
    Case(name="keys x 2", shape=Shape(users=2 * USUAL.users, pages=2 * USUAL.pages)),
)


def scaling(context: Context, jobs: Sequence[Job]) -> list[Row]:
    """A row for each case of each job, ours alone; the base is half of the race's smaller size."""
    smaller = context.events // 2
    rows = []
    for job in jobs:
        best, right = _cheapest(context, job, smaller)
        figures = {case: slope(*(best[size] for size in case.sizes(smaller))) for case in CASES}
        base = figures[CASES[0]]
        rows += [
            Row(
                name=f"{job.name}, {case.name}",
                facts={"events": " → ".join(f"{size.count:,}" for size in case.sizes(smaller))},
                figures={
                    CPU: Figure(value=cost, unit="µs"),
                    AGAINST: Figure(value=cost / base, at_most=None if cost is base else 1.1),
                },
                right=right,
            )
            for case, cost in figures.items()
        ]
    return rows


def _cheapest(context: Context, job: Job, smaller: int) -> tuple[dict[Traffic, Measurement], bool]:
    """The cheapest run of each size, and whether all answers were right."""
    ours = job.contenders[0]
    command = ours.prepare()
    best: dict[Traffic, Measurement] = {}
    right = True
    for _ in range(_ROUNDS):
        for traffic in dict.fromkeys(size for case in CASES for size in case.sizes(smaller)):
            cost, wrong = measure(context, job, ours, command, traffic)
            best[traffic] = min(best.get(traffic, cost), cost, key=lambda each: each.cpu_s)
            right &= cost.finished and not wrong
    return best, right
