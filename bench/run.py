"""make bench ARGS="--only b1 --events 2000000 --peers kstreams,faust": what an event costs.

Starts a real Kafka of its own, fills a topic, runs each contender over it, checks its answer,
then doubles the topic and runs all again: the slope between the two is the figure, so that
start-up and prefetch do not blur it. Prints a table, keeps it in bench/RESULTS.md.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import events
import oracle
import psutil
from benchmarks import BENCHMARKS, Benchmark
from confluent_kafka.admin import AdminClient, NewTopic
from contenders import CACHE, HERE, Contender
from measure import Measurement, run

from streamgauge.cli.stack.kafka import LocalKafka
from streamgauge.schemas.registry import open_registry

PARTITIONS = 4


@dataclass(frozen=True, kw_only=True)
class Result:
    """A contender on one benchmark: the runs, and whether each answer was right."""

    benchmark: str
    contender: Contender
    runs: Sequence[Measurement]
    wrong_keys: int

    @property
    def cpu_us(self) -> float:
        """The slope between the two sizes; one run alone gives its mean."""
        first, last = self.runs[0], self.runs[-1]
        if first is last:
            return first.cpu_us
        return (last.cpu_s - first.cpu_s) / (last.events - first.events) * 1e6

    def to_dict(self) -> dict[str, object]:
        return {
            "benchmark": self.benchmark,
            "contender": self.contender.name,
            "guarantee": self.contender.guarantee,
            "cpu_us_per_event": round(self.cpu_us, 2),
            "events_per_s": round(self.runs[-1].rate),
            "output_rows_per_event": round(self.runs[-1].output_rows / self.runs[-1].events, 4),
            "peak_rss_mb": max(each.peak_rss_mb for each in self.runs),
            "right": self.wrong_keys == 0 and all(each.finished for each in self.runs),
            "wrong_keys": self.wrong_keys,
            "runs": [asdict(each) for each in self.runs],
        }


class Bench:
    """One broker and the topics on it."""

    def __init__(self, bootstrap: str, folder: Path, timeout: float) -> None:
        self._bootstrap = bootstrap
        self._folder = folder
        self._timeout = timeout
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._loaded: dict[str, int] = {}
        self._registry = f"file:{folder / 'registry'}"
        schema = json.loads(events.SCHEMA)
        self._schema_id = open_registry(self._registry).register("bench.Event", schema)

    def fill(self, topic: str, count: int) -> None:
        """Bring a topic of events to a size."""
        if topic not in self._loaded:
            self._create(topic)
        first = self._loaded.get(topic, 0)
        if first < count:
            started = time.monotonic()
            events.load(self._bootstrap, topic, self._schema_id, first, count)
            _say(f"{topic}: {count:,} events ({time.monotonic() - started:.0f} s)")
        self._loaded[topic] = count

    def measure(
        self, benchmark: Benchmark, contender: Contender, count: int
    ) -> tuple[Measurement, int]:
        """One run: its cost, and how many keys of its answer are wrong."""
        command = contender.prepare()
        source = f"{benchmark.name}-{contender.name}" if contender.share < 1 else benchmark.name
        source += "-events"
        self.fill(source, count)
        name = f"{benchmark.name}-{contender.name}-{count}"
        group, out = contender.group.format(group=name), contender.out.format(group=name)
        self._create(out)
        cost = run(
            command,
            bootstrap=self._bootstrap,
            group=group,
            source=source,
            inner=contender.inner.format(group=name),
            log=CACHE / "logs" / f"{name}.log",
            timeout=self._timeout,
            environment={
                **os.environ,
                **(contender.environment or {}),
                "GROUP": name,
                "SOURCE": source,
                "OUT": out,
                "KAFKA": self._bootstrap,
                "REGISTRY": self._registry,
                "STATE": str(self._folder / name),
                "SCHEMA": str(HERE / "event.avsc"),
            },
        )
        found, rows = oracle.written(self._bootstrap, out)
        wrong = oracle.wrong(benchmark.answer(count), found)
        cost = replace(cost, output_rows=rows)
        _say(
            f"{name}: {cost.cpu_us:.2f} µs, {cost.rate:,.0f}/s, {wrong} wrong keys"
            + ("" if cost.finished else ", did not finish")
        )
        return cost, wrong

    def _create(self, topic: str) -> None:
        settings = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}
        new = NewTopic(topic, PARTITIONS, 1, config=settings)
        for done in self._admin.create_topics([new]).values():
            done.result()


def main() -> int:
    """Measure what the arguments ask for; 1 when an answer is wrong."""
    args = _arguments()
    results = []
    load = os.getloadavg()[0]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as folder,
        LocalKafka(Path(folder) / "kafka") as broker,
    ):
        bench = Bench(broker.bootstrap, Path(folder), args.timeout)
        for name in args.only:
            results += _compare(bench, BENCHMARKS[name], args)
    table = _table(results)
    print(json.dumps([each.to_dict() for each in results]) if args.json else table)
    if not args.no_results:
        (HERE / "RESULTS.md").write_text(_document(table, results, load))
    return int(any(not each.to_dict()["right"] for each in results))


def _compare(bench: Bench, benchmark: Benchmark, args: argparse.Namespace) -> list[Result]:
    chosen = [c for c in benchmark.contenders if c.name in ("streamgauge", *args.peers)]
    chosen = [c for c in chosen if c.name not in args.without]
    sizes = [args.events, 2 * args.events] if args.slope else [args.events]
    runs: dict[str, list[Measurement]] = {c.name: [] for c in chosen}
    wrong = dict.fromkeys(runs, 0)
    for size in sizes:
        for contender in chosen:
            cost, differing = bench.measure(benchmark, contender, int(size * contender.share))
            runs[contender.name].append(cost)
            wrong[contender.name] += differing
    return [
        Result(
            benchmark=benchmark.name,
            contender=each,
            runs=runs[each.name],
            wrong_keys=wrong[each.name],
        )
        for each in chosen
    ]


def _table(results: Sequence[Result]) -> str:
    lines = [
        "| benchmark | contender | CPU µs an event | events/s | rows out an event | peak MB "
        "| events | answer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        row = each.to_dict()
        answer = "right" if row["right"] else f"WRONG ({row['wrong_keys']} keys)"
        sizes = " → ".join(f"{run.events:,}" for run in each.runs)
        lines.append(
            f"| {each.benchmark} | {each.contender.name}, {each.contender.guarantee} "
            f"| {each.cpu_us:.2f} | {row['events_per_s']:,} | {row['output_rows_per_event']} "
            f"| {row['peak_rss_mb']:,} | {sizes} | {answer} |"
        )
    return "\n".join(lines)


def _document(table: str, results: Sequence[Result], load: float) -> str:
    titles = "\n".join(
        f"- {b.name}: {b.title}; goal ≤ {b.goal_us} µs"
        for b in BENCHMARKS.values()
        if any(each.benchmark == b.name for each in results)
    )
    memory = psutil.virtual_memory().total >> 30
    return (
        "# Benchmark results\n\n"
        f"`make bench`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory} GB, "
        f"{platform.system()}, Python {platform.python_version()}, Apache Kafka on the same "
        f"machine, load average {load:.1f} before.\n"
        "CPU is user + system of the contender's whole process tree, from its first record to "
        "the commit of the last; the broker is left out. With two sizes the figure is the slope "
        f"between them. Commit interval 1 s.\n\n{titles}\n\n{table}\n"
    )


def _arguments() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=names, default=list(BENCHMARKS), help="b1,…")
    parser.add_argument("--events", type=int, default=2_000_000, help="the smaller size")
    parser.add_argument("--peers", type=names, default=["kstreams", "faust"])
    parser.add_argument("--without", type=names, default=[], help="leave these out")
    parser.add_argument("--no-slope", dest="slope", action="store_false", help="one size only")
    parser.add_argument("--timeout", type=float, default=900, help="seconds a run")
    parser.add_argument("--no-results", action="store_true", help="leave RESULTS.md as it is")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.only) - set(BENCHMARKS):
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return args


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
