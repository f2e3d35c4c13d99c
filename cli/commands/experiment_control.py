"""`streamgauge experiments create|start|stop|list|assign`: experiments as they come and go.

Upstream: people's files, the control topic. Downstream: the control topic and its markers in
`events`. Invariant: what is wrong is refused here, before anything is written.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from streamgauge.cli import output
from streamgauge.cli.commands import segments
from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings, configured
from streamgauge.producers.assignment import decide
from streamgauge.producers.targeting import Known, RedisTargeting
from streamgauge.schemas import control
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.experiments import KIND, Experiment, load_experiment, of_body
from streamgauge.schemas.metric_file import DefinitionError, suggest
from streamgauge.schemas.registry import open_registry

WHERE = ("kafka", "registry", "namespace", "transactional", "dir")


@click.command()
@configured(*WHERE, "segments")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--start", "is_started", is_flag=True, help="Start it at once.")
@click.option("--dry-run", is_flag=True, help="Check only; needs no Kafka.")
@output.option
def create(settings: Settings, file: Path, is_started: bool, dry_run: bool, as_json: bool) -> None:
    """Define an experiment by a FILE (YAML or JSON).

    From here on the events that its metrics need are collected for CUPED: create it some days
    before it starts. Given again before the start it replaces the definition; while it runs only
    allocation, schedule, gates, descriptions and configs may change.

    \b
    Examples:
      streamgauge experiments create feed-ranking.yaml
      streamgauge experiments create feed-ranking.yaml --start
      streamgauge experiments create feed-ranking.yaml --dry-run --json
    """
    definition = load_experiment(file)
    if dry_run:
        output.write({"name": definition.name, "written": False}, as_json, f"{file} is correct")
        return
    known = _known(settings).get(definition.name)
    if known is None:
        new = Experiment(definition=definition, version=1)
    elif known.state == "stopped":
        raise CommandError(f"{known.name} has been stopped: give the new one another name")
    else:
        new = replace(known, definition=definition, version=known.version + 1)
        if known.state == "running" and new.meaning != known.meaning:
            raise CommandError(
                f"{known.name} is running: only allocation, schedule, gates, descriptions and "
                f"configs may change; stop it (streamgauge experiments stop {known.name}), and "
                "give the new one another name"
            )
    _note_segments(settings, definition.segments)
    if is_started and new.state == "created":
        new = replace(new, state="running", started_at=_now())
    _publish(settings, new)
    _tell(new, as_json)


@click.command()
@configured(*WHERE)
@click.argument("name")
@output.option
def start(settings: Settings, name: str, as_json: bool) -> None:
    """Begin: exposures count from here on, in each partition of the log.

    \b
    Example:
      streamgauge experiments start feed-ranking
    """
    known = _named(settings, name)
    if known.state != "created":
        raise CommandError(
            f"{name} is {known.state}: "
            + ("it has begun" if known.state == "running" else "it cannot begin again")
        )
    new = replace(known, state="running", started_at=_now(), version=known.version + 1)
    _publish(settings, new)
    _tell(new, as_json)


@click.command()
@configured(*WHERE)
@click.argument("name")
@click.option("--reason", default="stopped by hand", show_default=True, help="For the report.")
@output.option
def stop(settings: Settings, name: str, reason: str, as_json: bool) -> None:
    """End an experiment for good; its results stay as they are.

    \b
    Example:
      streamgauge experiments stop feed-ranking --reason "decided: treatment"
    """
    known = _named(settings, name)
    if known.state == "stopped":
        raise CommandError(f"{name} has been stopped already: {known.reason}")
    new = known.stopped(_now(), reason)
    _publish(settings, new)
    _tell(new, as_json)


@click.command("list")
@configured("kafka", "registry", "namespace", "dir")
@output.option
def list_(settings: Settings, as_json: bool) -> None:
    """Every experiment, with its state.

    \b
    Example:
      streamgauge experiments list --json
    """
    now = _now()
    rows = [_row(one, now) for _, one in sorted(_known(settings).items())]
    columns = ("name", "state", "variants", "allocation", "started_at", "ends_at", "reason")
    output.table(rows if as_json else map(_texts, rows), columns, as_json)


@click.command()
@configured("kafka", "registry", "redis", "namespace", "dir")
@click.argument("name")
@click.argument("users", nargs=-1, required=True)
@click.option(
    "--in", "given", multiple=True, metavar="SEGMENT", help="Segment that USERS are in; repeatable."
)
@click.option("--exposed", is_flag=True, help="As if USERS had been exposed before.")
@output.option
def assign(
    settings: Settings,
    name: str,
    users: tuple[str, ...],
    given: tuple[str, ...],
    exposed: bool,
    as_json: bool,
) -> None:
    """Which variant USERS get now, as the SDK and the tracker compute it, and why.

    Where the experiment is for certain segments, the users' own are looked up in Redis, and so is
    who was exposed; or say them by --in.

    \b
    Examples:
      streamgauge experiments assign feed-ranking u-17 u-18
      streamgauge experiments assign feed-ranking u-17 --in power
    """
    known = _named(settings, name)
    definition = known.definition
    share = known.allocation_at(_now()) if known.state == "running" else 0.0
    configs = {variant.name: variant.config for variant in definition.variants}
    look_up = None
    if definition.segments and not given and not exposed:
        look_up = RedisTargeting(settings.need("redis"), settings.namespace, timeout_s=10)
    rows = []
    for user in users:
        found = look_up.of(user) if look_up else Known(frozenset(given), frozenset())
        variant, reason = decide(
            name,
            user,
            definition.weights.items(),
            share,
            segments=definition.segments,
            user_segments=found.segments,
            exposed=known.state == "running" and (exposed or name in found.experiments),
        )
        if known.state != "running":
            reason = known.state
        config = None if variant is None else configs[variant]
        told = config if as_json or config is None else json.dumps(config)
        theirs = sorted(found.segments) if as_json else " ".join(sorted(found.segments))
        row = {"user": user, "variant": variant, "reason": reason, "segments": theirs}
        rows.append({**row, "config": told})
    shown = ("user", "variant", "reason", *(("segments",) if definition.segments else ()))
    output.table(rows, (*shown, "config"), as_json)


def _note_segments(settings: Settings, wanted: Sequence[str]) -> None:
    """Nobody is in a segment that there is not; but it may be defined later."""
    if not wanted:
        return
    there = [one.name for one in segments.known(settings).segments]
    for name in wanted:
        if name not in there:
            told = f"there is no segment {name} yet, so nobody is assigned by it"
            click.echo(f"note: segments: {told}: {suggest(name, there)}", err=True)


def _known(settings: Settings) -> dict[str, Experiment]:
    """By name; what somebody else wrote in a form of their own is left out, and said to be."""
    codec = Codec(open_registry(settings.need("registry")))
    kafka = {"bootstrap.servers": settings.need("kafka")}
    found = control.latest(kafka, settings.namespace, codec, KIND)
    known = {}
    for name, one in found.items():
        if one.body is None:
            continue
        try:
            known[name] = replace(of_body(name, one.body), version=one.version)
        except DefinitionError as error:
            click.echo(f"left out, as workers do: {error}", err=True)
    return known


def _named(settings: Settings, name: str) -> Experiment:
    known = _known(settings)
    if name not in known:
        there = ", ".join(sorted(known)) or "none yet"
        raise click.UsageError(f"there is no experiment {name}: there are {there}")
    return known[name]


def _publish(settings: Settings, experiment: Experiment) -> None:
    control.publish(
        {"bootstrap.servers": settings.need("kafka")},
        settings.namespace,
        Codec(open_registry(settings.need("registry"))),
        experiment.control(),
        transactional=settings.transactional,
    )


def _tell(experiment: Experiment, as_json: bool) -> None:
    row = _row(experiment, _now())
    output.write(row, as_json, f"{experiment.name}: {experiment.state}")


def _row(experiment: Experiment, now: int) -> dict[str, Any]:
    definition = experiment.definition
    return {
        "name": experiment.name,
        "state": experiment.state,
        "version": experiment.version,
        "variants": {variant.name: variant.weight for variant in definition.variants},
        "control": definition.control_name,
        "allocation": experiment.allocation_at(now),
        "segments": list(definition.segments),
        "metrics": [metric.name for metric in definition.metrics],
        "started_at": _text(experiment.started_at),
        "ends_at": _text(experiment.end),
        "stopped_at": _text(experiment.stopped_at),
        "reason": experiment.reason,
    }


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    variants = " ".join(f"{name}={weight:g}" for name, weight in row["variants"].items())
    return {**row, "variants": variants, "allocation": f"{row['allocation']:.0%}"}


def _text(time_ms: int | None) -> str | None:
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


def _now() -> int:
    return int(time.time() * 1000)
