"""`streamgauge backtest`: every table from a file, without Kafka."""

import time
from pathlib import Path
from typing import Any

import click

from streamgauge.cli import output
from streamgauge.cli.backtest.run import Backtest, Result, compute, read
from streamgauge.cli.backtest.tables import write
from streamgauge.cli.commands.worker import load_event_modules
from streamgauge.cli.errors import CommandError
from streamgauge.cli.progress import bar
from streamgauge.cli.settings import Settings, configured
from streamgauge.producers.files import FORMATS
from streamgauge.schemas.envelope import now_ms, to_millis
from streamgauge.schemas.metrics import builtin, load_definitions
from streamgauge.schemas.segments import builtin as builtin_rules
from streamgauge.schemas.segments import load_rules
from streamgauge.schemas.topics import EVENTS
from streamgauge.streams.sessions.spans import CONVERSIONS

SHOWN = 20


class Moment(click.ParamType):
    """A time, in ms."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(to_millis(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@configured(
    "definitions", "segments", "lateness_ms", "consent_default", "event_modules", "unknown_events"
)
@click.option(
    "--file", "path", required=True, metavar="FILE", help="The file, - for standard input."
)
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), default="jsonl", show_default=True
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder."
)
@click.option("--csv", "as_csv", is_flag=True, help="CSV, with times in ISO 8601, not Parquet.")
@click.option(
    "--order",
    type=click.Choice(["time", "file"]),
    default="time",
    show_default=True,
    help="Events arrive when they happen, or as the lines lie: then some may be late.",
)
@click.option(
    "--arrived-at", type=Moment(), help="With --order file, when the file arrived (default: now)."
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1024),
    default=EVENTS.partitions,
    show_default=True,
    help="Of the topic that the events would be in.",
)
@click.option(
    "--conversion",
    "conversions",
    multiple=True,
    metavar="TYPE[:ACTION]",
    default=CONVERSIONS,
    show_default=True,
    help="What sessions count as a conversion.",
)
@output.option
def backtest(
    settings: Settings, path: str, out: Path, as_csv: bool, as_json: bool, **asked: Any
) -> None:
    """Compute every table from the events of a FILE, without Kafka.

    Runs the worker's own logic and writes metrics, sessions, device_sessions, user_profiles,
    daily_analytics, user_segments, segment_counts, late_events and dead_letters: to try definitions
    before they go live, and to test them in your own CI.

    \b
    Examples:
      streamgauge backtest --file events.jsonl --out tables
      streamgauge backtest --file access.log.gz --format combined --out tables --csv
      streamgauge backtest --file events.jsonl --out tables --definitions metrics.yaml --json
    """
    load_event_modules(settings)
    began = time.monotonic()
    what = Backtest(
        path=path,
        definitions=load_definitions(settings.definitions) if settings.definitions else builtin(),
        rules=load_rules(settings.segments) if settings.segments else builtin_rules(),
        lateness=settings.lateness_ms,
        consent_default=settings.consent_default,
        unknown=settings.unknown_types,
        **{**asked, "arrived_at": asked["arrived_at"] or now_ms()},
    )
    with bar("lines read", None) as advance:
        lines = read(what, advance)
    with bar("events computed", lines.events.height) as advance:
        result = compute(what, lines, advance)
    try:
        write(result.tables, out, as_csv=as_csv)
    except OSError as error:
        raise CommandError(f"cannot write to {out}: {error}") from error
    tell(result, out, round(time.monotonic() - began, 3), as_json)


def tell(result: Result, out: Path, seconds: float, as_json: bool) -> None:
    """The counts, and the first of the rejected lines."""
    rejected = result.tables["dead_letters"].head(SHOWN)
    for line, reason, detail in rejected.select("line", "reason", "detail").rows():
        click.echo(f"line {line}: {reason}: {detail}", err=True)
    if result.rejected > SHOWN:
        click.echo(f"… and {result.rejected - SHOWN:,} more in dead_letters", err=True)
    rows = {name: table.height for name, table in result.tables.items()}
    counts = {
        "read": result.read,
        "accepted": result.accepted,
        "duplicates": result.duplicates,
        "late": result.late,
        "rejected": result.rejected,
    }
    text = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    text += "".join(f"\n{name}: {height:,} rows" for name, height in rows.items())
    told = {**counts, "tables": rows, "out": str(out), "seconds": seconds}
    output.write(told, as_json, f"{text}\nin {out}")
