"""`streamgauge chaos`: thin over `streamgauge.cli.chaos`."""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from streamgauge.cli import output
from streamgauge.cli.chaos.report import Report
from streamgauge.cli.chaos.run import Chaos, run
from streamgauge.cli.chaos.schedule import KINDS, schedule
from streamgauge.cli.errors import FAILED
from streamgauge.cli.settings import Settings, configured

EVENTS = 500_000
RATE = 1500.0


@click.command()
@configured("dir", use_running_stack=False)
@click.option("--events", type=click.IntRange(1000), default=EVENTS, show_default=True)
@click.option("--rate", type=click.FloatRange(1), default=RATE, show_default=True, metavar="N")
@click.option("--seed", type=int, help="Same seed, same faults (default: a random one).")
@click.option("--only", metavar="KIND,KIND", default="", help=f"Of {', '.join(KINDS)}.")
@click.option("--replay/--no-replay", default=True, help="Compare with a replay in the end.")
@click.option("--report", "folder", type=click.Path(path_type=Path), help="Folder of the report.")
@click.option("--keep", is_flag=True, help="Keep the servers' data, not the logs alone.")
@output.option
def chaos(
    settings: Settings,
    events: int,
    rate: float,
    seed: int | None,
    only: str,
    replay: bool,
    folder: Path | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Break everything while events flow, then prove that nothing was lost or doubled.

    Starts a Kafka (needs Java and Maven), a Postgres and a Redis of its own, two workers and both
    sinks; kills, stops, cuts and bounces them by a schedule made from the seed. Exits 1 where an
    invariant is broken; docs/chaos.md says what each fault attacks.

    \b
    Examples:
      streamgauge chaos
      streamgauge chaos --seed 7 --events 60000
      streamgauge chaos --events 15000 --rate 1000 --only kill,bounce,redis-loss
      streamgauge chaos --only commit-loss --report /tmp/chaos --json
    """
    kinds = [kind.strip() for kind in only.split(",") if kind.strip()]
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise click.UsageError(f"--only: no fault {unknown[0]!r}; there are {', '.join(KINDS)}")
    seed = random.randrange(1_000_000) if seed is None else seed
    folder = folder or settings.dir / "chaos" / f"{time.strftime('%Y%m%d-%H%M%S')}-seed-{seed}"
    planned = schedule(seed, events, rate, kinds)
    command = f"streamgauge chaos --events {events} --rate {rate:g} --seed {seed}"
    command += f" --only {','.join(kinds)}" if kinds else ""
    say = _say(as_json)
    say(f"seed {seed}: {len(planned)} faults over {events:,} events at {rate:g}/s")
    report = Report(
        seed=seed,
        command=command,
        parameters={"events": events, "rate": rate, "only": kinds, "replay": replay},
    )
    told = Chaos(
        settings=settings,
        events=events,
        rate=rate,
        seed=seed,
        faults=planned,
        folder=folder.absolute(),
        replay=replay,
        keep=keep,
    )
    try:
        run(told, report, say)
    finally:
        report.write(folder)
        say(f"report: {folder / 'report.md'}")
    click.echo(json.dumps(report.as_dict()) if as_json else report.text())
    if not report.ok:
        sys.exit(FAILED)


def _say(as_json: bool) -> Callable[[str], None]:
    """Progress goes to stderr when stdout is for a program."""
    return lambda line: click.echo(line, err=as_json)
