"""`streamgauge schemas`: event types and records, as classes and as the registry has them."""

import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import yaml

from streamgauge.cli import output
from streamgauge.cli.commands.worker import load_event_modules
from streamgauge.cli.errors import FAILED
from streamgauge.cli.settings import Settings, configured
from streamgauge.schemas.asyncapi import document
from streamgauge.schemas.avro import RECORDS, drift
from streamgauge.schemas.compatibility import backward_problems
from streamgauge.schemas.derivation import avro_schema, subject
from streamgauge.schemas.difference import differences
from streamgauge.schemas.errors import IncompatibleSchema
from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.schemas.loading import load_event_module
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import TOPICS


@click.group()
def schemas() -> None:
    """List, show, compare, check and register the schemas of events and records.

    \b
    Examples:
      streamgauge schemas list
      streamgauge schemas show page_view
      streamgauge schemas check checkout.avsc
      streamgauge schemas diff checkout.avsc
      streamgauge schemas register --event-modules shop.events
      streamgauge schemas docs --out asyncapi.yaml
    """


FILES = click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False))


def _load(settings: Settings, files: tuple[str, ...] = ()) -> None:
    load_event_modules(settings)
    for file in files:
        load_event_module(file)


def _subjects() -> dict[str, tuple[str, type]]:
    """Topic and class by name: event types by theirs, other records by their class."""
    found: dict[str, tuple[str, type]] = {
        name: ("events", cls) for name, cls in sorted(EVENT_TYPES.items())
    }
    for topic in TOPICS.values():
        for name in topic.records:
            if name in RECORDS:
                found[name] = (topic.name, RECORDS[name])
    return found


@schemas.command("list")
@configured("event_modules")
@output.option
def list_(settings: Settings, as_json: bool) -> None:
    """Every event type and record, with its subject."""
    _load(settings)
    rows = (
        {
            "name": name,
            "topic": topic,
            "subject": subject(topic, cls),
            "fields": len(avro_schema(cls)["fields"]),
        }
        for name, (topic, cls) in _subjects().items()
    )
    output.table(rows, ("name", "topic", "subject", "fields"), as_json)


@schemas.command()
@configured("event_modules")
@click.argument("name")
def show(settings: Settings, name: str) -> None:
    """Print the Avro schema of an event type or record."""
    _load(settings)
    known = _subjects()
    if name not in known:
        raise click.UsageError(f"there is no {name}: there are {', '.join(known)}")
    click.echo(json.dumps(avro_schema(known[name][1]), indent=2))


@schemas.command()
@configured("registry", "event_modules", "dir")
@FILES
@output.option
def check(settings: Settings, files: tuple[str, ...], as_json: bool) -> None:
    """Whether every schema can be registered: it must read what the registered one wrote.

    FILES (.avsc or .py) are event types to check beside those that are known. Also whether the
    committed .avsc files are those of the classes. Exits 1 where not, and names the fields.
    """
    _load(settings, files)
    registry = open_registry(settings.need("registry"))
    rows = []
    for name, (topic, cls) in _subjects().items():
        latest = registry.latest(subject(topic, cls))
        problems = backward_problems(avro_schema(cls), latest[1]) if latest else []
        said = "not registered" if latest is None else "; ".join(problems) or "compatible"
        rows.append({"name": name, "ok": not problems, "result": said})
    rows += [{"name": file, "ok": False, "result": "differs from its class"} for file in drift()]
    rows.sort(key=lambda row: not row["ok"])  # what is wrong at the end, where it is seen
    output.table(rows, ("name", "ok", "result"), as_json)
    if not all(row["ok"] for row in rows):
        sys.exit(FAILED)


@schemas.command()
@configured("registry", "event_modules", "dir")
@FILES
@output.option
def register(settings: Settings, files: tuple[str, ...], as_json: bool) -> None:
    """Register every schema, after the compatibility check: all of them, or none.

    FILES (.avsc or .py) are event types to register beside those that are known.
    """
    _load(settings, files)
    registry = open_registry(settings.need("registry"))
    for topic, cls in _subjects().values():
        latest = registry.latest(subject(topic, cls))
        problems = backward_problems(avro_schema(cls), latest[1]) if latest else []
        if problems:
            raise IncompatibleSchema(subject(topic, cls), problems)
    rows = [
        {
            "name": name,
            "subject": subject(topic, cls),
            "id": registry.register(subject(topic, cls), avro_schema(cls)),
        }
        for name, (topic, cls) in _subjects().items()
    ]
    output.table(rows, ("name", "subject", "id"), as_json)


@schemas.command()
@configured("registry", "event_modules", "dir")
@FILES
@output.option
def diff(settings: Settings, files: tuple[str, ...], as_json: bool) -> None:
    """What changes, field by field, from the registered schemas to these.

    FILES (.avsc or .py) are event types to compare beside those that are known. `breaks` says why
    a change cannot be registered.
    """
    _load(settings, files)
    registry = open_registry(settings.need("registry"))
    rows: list[dict[str, Any]] = []
    for name, (topic, cls) in _subjects().items():
        latest = registry.latest(subject(topic, cls))
        if latest is None:
            new = {"field": None, "change": "not registered", "before": None, "after": None}
            rows.append({"name": name, **new, "breaks": None})
            continue
        changes = differences(avro_schema(cls), latest[1])
        rows += [{"name": name, **asdict(change)} for change in changes]
    if not rows and not as_json:
        click.echo("All schemas are as registered.")
        return
    output.table(rows, ("name", "field", "change", "before", "after", "breaks"), as_json)


@schemas.command()
@configured("namespace", "event_modules")
@click.option("--partitions", type=click.IntRange(1), help="Partitions, where not the default.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@output.option
def docs(settings: Settings, partitions: int | None, out: Path | None, as_json: bool) -> None:
    """An AsyncAPI 3 document of every topic: key, schemas, partitions, retention.

    For teams that write events or read the outputs; in YAML, or in JSON.
    """
    _load(settings)
    said = document(version("streamgauge"), settings.namespace, partitions)
    text = json.dumps(said, indent=2) + "\n" if as_json else as_yaml(said)
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)


class _Plain(yaml.SafeDumper):
    """Equal parts are written out each time."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_yaml(value: Any) -> str:
    """As docs/asyncapi.yaml has it."""
    return yaml.dump(value, Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True)
