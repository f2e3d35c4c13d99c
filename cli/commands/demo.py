"""`streamgauge demo`: everything at once on one machine."""

import json
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click

from streamgauge.cli import output
from streamgauge.cli.commands.simulate import simulation, world_options
from streamgauge.cli.commands.verify import configuration
from streamgauge.cli.demo import experiment
from streamgauge.cli.demo.figures import Figures, Reader
from streamgauge.cli.demo.moves import Moved
from streamgauge.cli.demo.result import Result, count_keys
from streamgauge.cli.demo.sources import File, Sending, Source, World
from streamgauge.cli.demo.view import View
from streamgauge.cli.errors import FAILED
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.stack import EMBEDDED, Stack
from streamgauge.cli.verify import Report, verify
from streamgauge.cli.verify.errors import CutNotCoveredError
from streamgauge.producers.files import FORMATS

LOOK_SECONDS = 0.5
PATIENCE = 120.0
"""Seconds without any progress: a worker on a busy machine takes long to start."""
SPAN_MS = 6 * 3_600_000


@click.command()
@configured(
    *("kafka", "registry", "postgres", "redis", "archive", "namespace", "dir", "workers"),
    *("definitions", "event_modules", "lateness_ms", "consent_default", "commit_interval"),
    use_running_stack=False,
)
@world_options
@click.option("--events", type=click.IntRange(1), help="So many, then end (default: live).")
@click.option("--from", "path", metavar="FILE", help="Events of a file instead, then end.")
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), default="jsonl", show_default=True
)
@click.option("--keep", is_flag=True, help="Leave the stack running in the end, until Ctrl-C.")
@output.option
def demo(
    settings: Settings,
    path: str | None,
    form: str,
    events: int | None,
    keep: bool,
    as_json: bool,
    **world: Any,
) -> None:
    """Broker, Postgres, Redis, simulated users, a worker and sinks, with live figures.

    With --events or --from it ends by itself, after a check that recomputes every metric from the
    raw events; exits 1 where that finds a difference. --kafka is `embedded` (needs Python alone),
    `local` (a real Kafka, needs Java and Maven) or an address. With --json the last line is one
    object: read = produced + rejected_at_source, and produced = processed + duplicates + late +
    rejected_downstream.

    \b
    Examples:
      streamgauge demo
      streamgauge demo --events 200000 --json
      streamgauge demo --from access.log --format combined --keep
      streamgauge demo --kafka local --workers 2 --events 300000 --rate 3000
    """
    began = time.monotonic()
    if path is not None and events is not None:
        raise click.UsageError("--events are simulated: give it or --from, not both")
    if path not in (None, "-") and not Path(path).is_file():
        raise click.UsageError(f"--from: there is no file {path}")
    source: Source = File(path, form) if path else World(_world(settings, events, world))
    if not settings.namespace and settings.kafka not in (None, EMBEDDED):
        # Elsewhere than on a broker of its own: a namespace that nobody has used.
        settings = settings.model_copy(update={"namespace": f"demo-{secrets.token_hex(4)}"})
    with Stack(settings, settings.dir / "demo", fresh=True) as stack:
        stack.announce()
        title = f"Streamgauge · Kafka {stack.settings.kafka} ({stack.kind})"
        with View(title, source.total) as view:
            if isinstance(source, World):
                experiment.begin(stack.settings)
            finished = _follow(stack, source, view)
            if not finished:  # Ctrl-C
                view.say("stopped")
                return
            report = _verify(stack, source, view)
        result = _result(stack, source, report, time.monotonic() - began)
        look, moved = _last(stack)
        if not as_json:
            click.echo(result.text() if report.ok else f"{report.text()}\n{result.text()}")
            if moved.latest:
                click.echo(moved.text())
            if look is not None:
                click.echo(look.text())
        elif not report.ok:
            click.echo(report.text(), err=True)
        if as_json:
            told = {
                "segments": moved.as_dict(),
                "experiment": None if look is None else look.as_dict(),
            }
            click.echo(json.dumps({**result.as_dict(), **told, **stack.addresses}))
        if keep:
            _wait(stack)
    if not result.verified:
        sys.exit(FAILED)


def _world(settings: Settings, events: int | None, world: dict[str, Any]) -> Any:
    return simulation(settings, events=events, span_ms=SPAN_MS, **world)


def _follow(stack: Stack, source: Source, view: View) -> bool:
    """Show the figures while the source sends; False when Ctrl-C ended it."""
    sending = Sending(source, stack.settings)
    asked = [signal.signal(it, lambda *_: sending.stop.set()) for it in _SIGNALS]
    reader = _reader(stack)
    sending.start()
    try:
        while sending.is_alive():
            stack.check()
            view.update("sending", source.sent.read, reader.figures())
            sending.join(LOOK_SECONDS)
        sending.finish()
        finished = not sending.stop.is_set()
    finally:
        sending.stop.set()
        sending.join()  # before the broker goes
        reader.close()
        for number, handler in zip(_SIGNALS, asked, strict=True):
            signal.signal(number, handler)
    return finished


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _verify(stack: Stack, source: Source, view: View) -> Report:
    """Recompute and compare, with the figures going on meanwhile."""
    archive = Path(stack.addresses["archive"]) if stack.embedded else None
    config = configuration(stack.settings, archive=archive, timeout=PATIENCE)
    reader = _reader(stack)
    looked = 0.0
    figures = Figures()

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal looked, figures
        if time.monotonic() - looked >= LOOK_SECONDS:
            stack.check()
            figures, looked = reader.figures(), time.monotonic()
            far = f": {done:,} of {total:,}" if total else ""
            view.update(stage + far, source.sent.read, figures)

    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return verify(config, progress)
            except CutNotCoveredError:  # the archive writes every now and then
                if time.monotonic() > deadline:
                    raise
                progress("waiting for the archive", 0, 0)
                time.sleep(LOOK_SECONDS)
    finally:
        reader.close()


def _result(stack: Stack, source: Source, report: Report, seconds: float) -> Result:
    reader = _reader(stack)
    rows = reader.rows()
    reader.close()
    return Result.of(
        source.sent,
        report,
        postgres_rows=rows,
        redis_keys=count_keys(stack.settings.need("redis"), stack.settings.namespace),
        seconds=seconds,
    )


def _last(stack: Stack) -> tuple[experiment.Look | None, Moved]:
    """The last look at the simulated world's experiment, and who moved between segments."""
    reader = _reader(stack)
    looks, moved = reader.looks(), reader.moved()
    reader.close()
    return looks[-1] if looks else None, moved


def _reader(stack: Stack) -> Reader:
    found = stack.settings
    return Reader(found.need("kafka"), found.need("postgres"), found.namespace)


def _wait(stack: Stack) -> None:
    click.echo("\n".join(f"{name:10} {it}" for name, it in stack.addresses.items()), err=True)
    click.echo("The stack runs on until Ctrl-C.", err=True)
    stopped = threading.Event()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.wait(LOOK_SECONDS):
        stack.check()
