"""`streamgauge schemas`: event types and records, as classes and as the registry has them."""

import json
import sys

import click

from streamgauge.cli import output
from streamgauge.cli.commands.worker import load_event_modules
from streamgauge.cli.errors import FAILED
from streamgauge.cli.settings import Settings, configured
from streamgauge.schemas.avro import RECORDS, drift
from streamgauge.schemas.compatibility import backward_problems
from streamgauge.schemas.derivation import avro_schema, subject
from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import TOPICS


@click.group()
def schemas() -> None:
    """List, show, check and register the schemas of events and records.

    \b
    Examples:
      streamgauge schemas list
      streamgauge schemas show page_view
      streamgauge schemas check --event-modules shop.events
      streamgauge schemas register
    """


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
    load_event_modules(settings)
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
    load_event_modules(settings)
    known = _subjects()
    if name not in known:
        raise click.UsageError(f"there is no {name}: there are {', '.join(known)}")
    click.echo(json.dumps(avro_schema(known[name][1]), indent=2))


@schemas.command()
@configured("registry", "event_modules", "dir")
@output.option
def check(settings: Settings, as_json: bool) -> None:
    """Whether every schema can be registered: it must read what the registered one wrote.

    Also whether the committed .avsc files are those of the classes. Exits 1 where not.
    """
    load_event_modules(settings)
    registry = open_registry(settings.need("registry"))
    rows = []
    for name, (topic, cls) in _subjects().items():
        latest = registry.latest(subject(topic, cls))
        problems = backward_problems(avro_schema(cls), latest[1]) if latest else []
        said = "not registered" if latest is None else "; ".join(problems) or "compatible"
        rows.append({"name": name, "ok": not problems, "result": said})
    rows += [{"name": file, "ok": False, "result": "differs from its class"} for file in drift()]
    output.table(rows, ("name", "ok", "result"), as_json)
    if not all(row["ok"] for row in rows):
        sys.exit(FAILED)


@schemas.command()
@configured("registry", "event_modules", "dir")
@output.option
def register(settings: Settings, as_json: bool) -> None:
    """Register every schema, after the compatibility check."""
    load_event_modules(settings)
    registry = open_registry(settings.need("registry"))
    rows = [
        {
            "name": name,
            "subject": subject(topic, cls),
            "id": registry.register(subject(topic, cls), avro_schema(cls)),
        }
        for name, (topic, cls) in _subjects().items()
    ]
    output.table(rows, ("name", "subject", "id"), as_json)
