"""`streamgauge produce`: the events of a file."""

from pathlib import Path

import click

from streamgauge.cli import output
from streamgauge.cli.commands.simulate import connected
from streamgauge.cli.commands.worker import load_event_modules
from streamgauge.cli.progress import bar
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.brake import Brake
from streamgauge.producers import RecordProducer
from streamgauge.producers.files import FORMATS, FileReport, produce_file
from streamgauge.schemas.unknown import KEPT, UnknownTypes

SHOWN = 20


@click.command()
@configured(
    *("kafka", "registry", "namespace", "event_modules", "unknown_events", "transactional", "dir")
)
@click.option(
    "--file", "path", required=True, metavar="FILE", help="The file, - for standard input."
)
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), default="jsonl", show_default=True
)
@output.option
def produce(settings: Settings, path: str, form: str, as_json: bool) -> None:
    """Produce the events of a FILE: JSON lines, or a web access log in combined format.

    A bad line is reported with its number and reason, kept as a dead letter, and does not stop
    the rest. Producing a file twice counts its events once.

    \b
    Examples:
      streamgauge produce --file events.jsonl
      zcat events.gz | streamgauge produce --file -
      streamgauge produce --file access.log.gz --format combined --json
    """
    load_event_modules(settings)
    with connected(settings) as (client, brake):
        report = send_file(client, path, form, brake, settings.unknown_types)
    for line in report.rejects[:SHOWN]:
        click.echo(f"line {line.line}: {line.reason}: {line.detail}", err=True)
    if report.rejected > SHOWN:
        click.echo(f"… and {report.rejected - SHOWN:,} more: streamgauge dlq list", err=True)
    told = {
        "read": report.read,
        "produced": report.produced,
        "rejected": report.rejected,
        "seconds": report.seconds,
    }
    text = f"{report.read:,} read, {report.produced:,} produced, {report.rejected:,} rejected"
    output.write(told, as_json, text)


def send_file(
    client: RecordProducer,
    path: str,
    form: str,
    brake: Brake | None = None,
    unknown: UnknownTypes = KEPT,
) -> FileReport:
    """Produce the file, no faster than the readers allow."""
    name = "stdin" if path == "-" else Path(path).name
    with bar(name, None) as advance:

        def progress(report: FileReport) -> None:
            advance(report.read)
            if brake is not None:
                brake.wait()

        return produce_file(client, path, form, unknown=unknown, progress=progress)
