"""What is measured. To add a benchmark, write a function of a `Context` that gives rows, and list
it here: run.py does the rest (`--only`, the table, results.json, RESULTS.md, the plot).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import oracle
from bench.answers import answers
from bench.collector.benchmarks import collector
from bench.contenders import faust, flink, kafka_streams, quix, streamgauge
from bench.context import Context
from bench.pipeline import benchmarks as pipeline
from bench.pipeline.restore import restore
from bench.pipeline.tables import tables
from bench.race import CPU, Job, race
from bench.rows import Row
from bench.scaling import AGAINST, scaling
from bench.sdk import sdk
from bench.steady import steady
from bench.users import users


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One section of RESULTS.md; bench/notes/NAME.md is rendered below its table."""

    name: str
    title: str
    method: str
    """How it is measured, in a sentence or two."""
    run: Callable[[Context], Sequence[Row]]
    plot: str | None = None
    """The figure of each row that is drawn."""


ROLLUP = Job(
    name="b1",
    answer=oracle.rollup,
    goal_us=2.5,
    contenders=(
        streamgauge("rollup.py", emits="keys that changed, at each commit (1 s)"),
        kafka_streams("Rollup"),
        flink("Rollup", emits="each key once, when its window closes", until_done=True),
        quix("rollup.py"),
        faust("rollup.py"),
    ),
)

PROFILE = Job(
    name="b2",
    answer=oracle.profile,
    goal_us=4,
    contenders=(
        streamgauge("profile.py", emits="users that changed, at each commit (1 s)"),
        kafka_streams("Profile"),
        flink("Profile", emits="every event", EMIT="event"),
        flink(
            "Profile",
            variant="throttled",
            emits="users that changed, once a second by a timer",
            EMIT="second",
        ),
        quix("profile.py"),
        faust("profile.py"),
    ),
)

_RACE = (
    "CPU is user + system of the contender's whole process tree, from its first record to the "
    "commit of the last; the broker is left out. With two sizes the figure is the slope between "
    "them. Commit interval, or checkpoint, 1 s. Kafka Streams and Flink have two threads or slots, "
    "the rest one process. Quix Streams gets a tenth of the events, Faust a hundredth, or it would "
    "take too long."
)

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="b1",
            title="count, sum, max by minute, type and page, merged over partitions",
            method=_RACE,
            run=lambda context: race(context, ROLLUP),
            plot=CPU,
        ),
        Benchmark(
            name="b2",
            title="events, sum, last time and last page of each user, changelogged",
            method=_RACE,
            run=lambda context: race(context, PROFILE),
            plot=CPU,
        ),
        Benchmark(
            name="b2-steady",
            title="b2 at a steady rate",
            method="CPU of the process tree per event sent, while each rate is held.",
            run=lambda context: steady(context, PROFILE),
        ),
        Benchmark(
            name="scaling",
            title="b1 and b2 with twice the partitions, keys or events",
            method="Slopes as above, the cheaper of two runs of each size.",
            run=lambda context: scaling(context, (ROLLUP, PROFILE)),
            plot=AGAINST,
        ),
        Benchmark(
            name="b3",
            title="the product's whole catalogue, and the rows it writes",
            method="One worker, exactly once. Replay: slope of two sizes, commit interval 1 s. "
            "Steady: CPU of the worker's process per event sent, default commit interval, a Redis "
            "sink beside it; at the lower rate a Postgres sink too. Rows are per event.",
            run=pipeline.pipeline,
        ),
        Benchmark(
            name="b4",
            title="event produced → visible in Redis",
            method="From the call that sends an event to the first look (every 10 ms) at which the "
            "counter of its type in Redis counts it, for every event after a warm-up of 6 s. "
            "Worker, Redis sink, broker, Redis and the sender share the machine.",
            run=pipeline.latency,
        ),
        Benchmark(
            name="b5",
            title="the state of a million users restored",
            method="B2's worker started again: from its assignment to `restored; reading`.",
            run=restore,
        ),
        Benchmark(
            name="b6",
            title="the collector",
            method="One process, acks=all, answers after the acknowledgement. Events/s a core: by "
            "the CPU of its whole process. At a rate, latency counts from when a request was due. "
            "Collector, clients and broker share the machine.",
            run=collector,
        ),
        Benchmark(
            name="b7",
            title="the SDK: what track() takes of its caller's time",
            method="Each call is timed; CPU is that of the whole process, with the sender's thread "
            "(validation, encoding) and librdkafka's. The first 1,000 events are left out. Import: "
            "the median of 11 fresh processes.",
            run=sdk,
        ),
        Benchmark(
            name="b8",
            title="the Postgres sink catches up",
            method="From the sink's assignment until its positions are at the end; one record is a "
            "row for each of five metrics, half of the rows are new. Postgres waits for the disk.",
            run=tables,
        ),
        Benchmark(
            name="b9",
            title="b3's replay by one worker and by two",
            method="Slopes between two sizes. The broker runs on the same cores: its share is of "
            "all CPU that workers and broker took.",
            run=pipeline.scale,
        ),
        Benchmark(
            name="b10",
            title="memory of a worker, in the runs of b3",
            method="Resident memory of the worker's process, the most by the kernel's account.",
            run=pipeline.memory,
        ),
        Benchmark(
            name="b11",
            title="what is known of users: CPU and memory",
            method="The worker's branch over generated events, records encoded, without Kafka; "
            "a flush each 20,000, by a clock of 80,000 events/s, or when catching up by the CPU "
            "time. CPU over the second half; memory is the process's, without what it had before.",
            run=users,
        ),
        Benchmark(
            name="b12",
            title="what is known of one user, of a million in Postgres",
            method="50 users at random, and one with 5,000 sessions and stays 50 times. Queries: "
            "over an open connection. Command: in this process, its connection included. New "
            "process: the best of 5, with Python's start and imports. Right: no plan reads a table "
            "from end to end.",
            run=answers,
        ),
    )
}
