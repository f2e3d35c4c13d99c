"""`streamgauge anomalies`: what the stream found, its detectors over a file, the alert levels."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from streamgauge.cli import action_table, anomaly_table, output
from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings, configured
from streamgauge.schemas.alerts import load_alerts
from streamgauge.schemas.metrics import builtin, load_definitions
from streamgauge.streams.anomalies.evidence import DETECTORS
from streamgauge.streams.anomalies.flag import Flag
from streamgauge.streams.anomalies.levels import PRESETS, Level, level_of
from streamgauge.streams.anomalies.series import Rates, Series, Verdict
from streamgauge.streams.anomalies.snapshot import restored, saved

COLUMNS = ("start", "end", "detector", "severity", "expected", "observed", "score")
MILLISECONDS = 1e11
"""Epochs from here on are milliseconds: as seconds it would be the year 5138."""

Row = tuple[str, float, float | None]
"""A timestamp as written and in seconds; the value, None for an empty cell."""


@click.group()
def anomalies() -> None:
    """What is not as usual: list it, explain it; detect it in a file; the alert levels.

    \b
    Examples:
      streamgauge anomalies list --active
      streamgauge anomalies explain 3f9a
      streamgauge anomalies ack 3f9a --note "deploy of 14:00"
      streamgauge anomalies actions --active
      streamgauge anomalies undo 3f9a --note "our own monitoring"
      streamgauge anomalies detect --file requests.csv
      streamgauge anomalies detect --file cpu.csv --signal cpu --json
      streamgauge anomalies detect --file today.csv --state cpu.state
      streamgauge anomalies levels --preset shop
      streamgauge anomalies levels --file alerts.yaml
    """


for command in (
    *(anomaly_table.list_, anomaly_table.explain, anomaly_table.ack),
    *(action_table.actions, action_table.undo),
):
    anomalies.add_command(command)


@anomalies.command()
@click.option(
    "--file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A CSV file with the columns timestamp (ISO 8601, or epoch s or ms) and value.",
)
@click.option("--signal", help="Hold the series to the alert level of this signal as well.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="default", show_default=True)
@click.option(
    "--false-alarms",
    type=click.FloatRange(0.001, 10),
    default=len(DETECTORS) * Rates.yellow,
    show_default=True,
    help="At most so many yellow flags a week by chance alone.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Go on from the state in this file, if it is there, and save it here at the end.",
)
@output.option
def detect(
    file: Path,
    signal: str | None,
    preset: str,
    false_alarms: float,
    state: Path | None,
    as_json: bool,
) -> None:
    """Run the detectors over a file in one pass, each point judged by those before it.

    With --json there is a line a point; without, a table of flags. Times without a zone are UTC.
    Rows that are not later than the one before are left out of the series and said to be.
    """
    level = _level(preset, signal) if signal else None
    rates = Rates(yellow=false_alarms / len(DETECTORS))
    series = _loaded(state) if state and state.exists() else Series()
    flags, skipped = dict[tuple[str, float], Flag](), dict[str, int]()
    for text, timestamp, value in _rows(file):
        if value is None:
            verdict = series.wait(timestamp)
        else:
            verdict = series.judge(timestamp, value, rates, level)
        flags |= {(flag.detector, flag.start): flag for flag in verdict.changes}
        if verdict.skipped:
            skipped[verdict.skipped] = skipped.get(verdict.skipped, 0) + 1
        if as_json:
            click.echo(json.dumps(_line(text, value, verdict)))
    if state:
        state.write_text(json.dumps(saved(series)))
    if not as_json:
        output.table(map(_told, flags.values()), COLUMNS, False)
    for reason, count in skipped.items():
        click.echo(f"{file}: {count} rows left out: {reason}", err=True)


@anomalies.command()
@configured("definitions")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="default", show_default=True)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Of this file instead, once it is checked: what is wrong is told with its line.",
)
@output.option
def levels(settings: Settings, preset: str, file: Path | None, as_json: bool) -> None:
    """The thresholds of a preset or file, with how long a value must be beyond them."""
    chosen = PRESETS[preset]
    if file is not None:
        path = settings.definitions
        definitions = load_definitions(path) if path else builtin()
        chosen = {alert.name: level_of(alert) for alert in load_alerts(file, definitions)}
    rows = (
        {"signal": name} | (asdict(level) if as_json else _shown(level))
        for name, level in chosen.items()
    )
    output.table(rows, ("signal", "yellow", "red"), as_json)


def _loaded(state: Path) -> Series:
    try:
        return restored(Series, json.loads(state.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{state}: not a saved state: remove it to begin anew") from error


def _level(preset: str, signal: str) -> Level:
    found = PRESETS[preset].get(signal)
    if found is None:
        raise click.UsageError(
            f"preset {preset} has no signal {signal}: there are {', '.join(PRESETS[preset])}"
        )
    return found


def _shown(level: Level) -> dict[str, str | None]:
    sign = ">" if level.side == "above" else "<"
    limits = {"yellow": level.yellow, "red": level.red}
    return {
        severity: f"{sign} {limit.value:g} {level.unit}".rstrip()
        + (f" for {limit.seconds / 60:g} min" if limit.seconds else "")
        if limit
        else None
        for severity, limit in limits.items()
    }


def _rows(file: Path) -> Iterator[Row]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        if not {"timestamp", "value"} <= set(reader.fieldnames or ()):
            raise CommandError(f"{file}:1: the columns must be named timestamp,value")
        for row in reader:
            text, cell = row["timestamp"] or "", (row["value"] or "").strip()
            try:
                value = float(cell) if cell else math.nan
                yield text, _seconds(text.strip()), value if math.isfinite(value) else None
            except ValueError as error:
                raise CommandError(f"{file}:{reader.line_num}: {error}") from error


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    seconds = number / 1000 if abs(number) >= MILLISECONDS else number
    if not abs(seconds) < MILLISECONDS:
        raise ValueError(f"not a time: {text!r}")
    return seconds


def _line(text: str, value: float | None, verdict: Verdict) -> dict[str, Any]:
    worst = min(verdict.standing, key=lambda flag: flag.severity, default=None)
    line: dict[str, Any] = {
        "timestamp": text,
        "value": value,
        "expected": verdict.expected,
        "score": round(verdict.score, 4),
        "flag": worst is not None,
        "severity": worst and worst.severity,
        "detector": worst and worst.detector,
    }
    if verdict.changes:
        line["changes"] = [_told(flag) for flag in verdict.changes]
    if verdict.skipped:
        line["skipped"] = verdict.skipped
    return line


def _told(flag: Flag) -> dict[str, Any]:
    told = asdict(flag)
    for name in ("start", "end"):
        if told[name] is not None:
            told[name] = datetime.fromtimestamp(told[name], UTC).isoformat()
    for name in ("expected", "observed", "score"):
        told[name] = told[name] if told[name] is None else float(f"{told[name]:.6g}")
    return told
