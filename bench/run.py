"""make bench ARGS="--only b1,b2 --events 500000 --peers flink,kstreams": what things cost.

Starts a real Kafka of its own, runs the benchmarks that are asked for (benchmarks.py), prints their
tables and keeps them in bench/results.json, bench/RESULTS.md and bench/plots. What a run is to say
about its figures goes to bench/notes/NAME.md; `--render` puts it into RESULTS.md.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench import report
from bench.benchmarks import BENCHMARKS, Benchmark
from bench.contenders import PEERS
from bench.context import CACHE, Context, say


def main() -> int:
    """Measure what the arguments ask for; 1 when something failed or an answer is wrong."""
    args = _arguments()
    if args.render:
        report.save(report.load())
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # by way of what stops servers
    measured: report.Results = {}
    failed = False
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as folder:
        context = Context(
            folder=Path(folder),
            events=args.events,
            peers=frozenset(args.peers),
            slope=args.slope,
            timeout=args.timeout,
            seconds=args.seconds,
        )
        try:
            for name in args.only:
                say(f"{name}: {BENCHMARKS[name].title}")
                try:
                    measured[name] = _measured(BENCHMARKS[name], context)
                except Exception:  # the other benchmarks are still worth their time
                    failed = True
                    traceback.print_exc()
                    continue
                if not args.no_results:
                    known = report.load() | measured
                    report.save({each: known[each] for each in BENCHMARKS if each in known})
        finally:
            context.close()
    if args.json:
        print(json.dumps(measured, ensure_ascii=False))
    else:
        for name, result in measured.items():
            print(f"\n{name}: {result['title']}\n\n{report.table(result['rows'])}")
        print(f"\n{report.goals(measured)}")
    wrong = any(row["right"] is False for each in measured.values() for row in each["rows"])
    return int(failed or wrong)


def _measured(benchmark: Benchmark, context: Context) -> dict[str, object]:
    """A benchmark's entry in results.json."""
    load = os.getloadavg()[0]  # before it starts
    memory = psutil.virtual_memory().total >> 30
    machine = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory} GB, {platform.system()}, "
        f"Python {platform.python_version()}, load average {load:.1f} before."
    )
    rows = benchmark.run(context)
    return {
        "title": benchmark.title,
        "method": benchmark.method,
        "machine": machine,
        "plot": benchmark.plot,
        "rows": [row.to_dict() for row in rows],
    }


def _arguments() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=names, default=list(BENCHMARKS), help="b1,…")
    parser.add_argument("--events", type=int, default=2_000_000, help="the smaller size")
    parser.add_argument("--peers", type=names, default=list(PEERS), help='"" for none')
    parser.add_argument("--no-slope", dest="slope", action="store_false", help="one size only")
    parser.add_argument("--timeout", type=float, default=900, help="seconds a run")
    parser.add_argument("--seconds", type=float, default=40, help="a steady rate is held")
    parser.add_argument("--no-results", action="store_true", help="leave RESULTS.md as it is")
    parser.add_argument("--render", action="store_true", help="RESULTS.md anew, with the notes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for given, known in ((args.only, BENCHMARKS), (args.peers, PEERS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
