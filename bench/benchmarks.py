"""What is measured: each benchmark with its job, its contenders, its answer and its goal."""

from collections.abc import Callable
from dataclasses import dataclass

import oracle
from contenders import FAUST, KAFKA_STREAMS, STREAMGAUGE, Contender


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A job that several contenders do on the same topic."""

    name: str
    title: str
    contenders: tuple[Contender, ...]  # ours first, the rest on request
    answer: Callable[[int], oracle.Answer]
    goal_us: float


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="b1",
            title="count, sum, max by minute, type and page, merged over partitions",
            contenders=(STREAMGAUGE, KAFKA_STREAMS, FAUST),
            answer=oracle.rollup,
            goal_us=2.5,
        ),
    )
}
