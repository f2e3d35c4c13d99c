"""`streamgauge worker`: one or several worker processes, its alias `process-events`, `standby`."""

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.supervisor import Child, Supervisor, streamgauge
from streamgauge.schemas import work
from streamgauge.schemas.loading import load_event_module

if TYPE_CHECKING:
    from streamgauge.streams import worker as streams

SETTINGS = (
    "kafka",
    "registry",
    "namespace",
    "definitions",
    "alerts",
    "event_modules",
    "lateness_ms",
    "consent_default",
    "commit_interval",
    "transactional",
    "checkpoints",
    "checkpoint_interval",
    "dir",
)


@click.command()
@configured(*SETTINGS)
@click.option("--id", "worker_id", default="0", show_default=True, help="Stable id of the worker.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, help="Worker processes.")
@click.option("--batch-size", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--until-end", is_flag=True, help="Stop at the end of the topic as it is now.")
@click.option(
    "--agents", default="", help="Only these agents or classes of work, in a group apart."
)
@click.option("--events-topic", help="Read this topic instead (its full name).")
@click.option("--http-port", type=int, help="Port of /live, /ready and /metrics.")
@click.option("--tick-after", type=float, default=5.0, show_default=True, metavar="SECONDS")
def worker(settings: Settings, processes: int, worker_id: str, **flags: Any) -> None:
    """Compute metrics from events, exactly once.

    Give every worker a stable --id: a restart then ends the transaction that a crash left open.
    State is kept in checkpoints on this machine too, so that a restart reads only what came since.

    --agents takes agents (source, merge, results, anomalies) or classes of work (realtime,
    analytics, ml, reports, maintenance, compliance, monitoring). All of realtime is what a worker
    runs without it; a subset has a consumer group of its own, begins where that group stands, and
    is not delayed by other work. Do not run an agent in two groups.

    \b
    Examples:
      streamgauge worker
      streamgauge worker --processes 2 --commit-interval 1
      streamgauge worker --agents source & streamgauge worker --agents merge
      streamgauge worker --until-end --namespace replay --events-topic events
      streamgauge worker --definitions metrics.yaml --event-modules shop.events
    """
    if processes == 1:
        sys.exit(run(settings, worker_id, **flags))
    _run_processes(settings, processes, worker_id, flags)


@click.command("process-events")
@configured(*SETTINGS)
@click.option("--batch-size", type=click.IntRange(1), default=20_000, show_default=True)
def process_events(settings: Settings, batch_size: int) -> None:
    """Process what the topic holds now, then stop: `worker --until-end`.

    \b
    Example:
      streamgauge process-events --batch-size 10000
    """
    sys.exit(run(settings, "0", batch_size=batch_size, until_end=True))


@click.command()
@configured(*SETTINGS)
@click.option("--agents", default="", help="Of the worker that it stands by for.")
@click.option("--events-topic", help="Read this topic instead (its full name).")
def standby(settings: Settings, **flags: Any) -> None:
    """Keep checkpoints of the workers' state on this machine, ready for a worker to take over.

    It follows the group without being in it: run it on another machine than the workers, with the
    settings that they have. A worker that is started here then reads only what came since.

    \b
    Examples:
      streamgauge standby
      streamgauge standby --checkpoint-interval 10 --checkpoints /var/lib/streamgauge
    """
    from streamgauge.streams import worker as streams

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    streams.stand_by(_config(settings, "standby", **flags), stop)


def run(settings: Settings, worker_id: str, **flags: Any) -> int:
    """Run one worker in this process until it is told to stop; returns its exit code."""
    from streamgauge.streams import worker as streams

    return streams.run(_config(settings, worker_id, **flags))


def _config(
    settings: Settings, worker_id: str, *, agents: str = "", **flags: Any
) -> "streams.WorkerConfig":
    from streamgauge.streams import worker as streams

    return streams.WorkerConfig(
        kafka=settings.need("kafka"),
        registry=settings.need("registry"),
        namespace=settings.namespace,
        worker_id=worker_id,
        commit_interval=settings.commit_interval,
        lateness_ms=settings.lateness_ms,
        consent_default=settings.consent_default,
        definitions=settings.definitions,
        alerts=settings.alerts,
        segments=settings.segments,
        event_modules=load_event_modules(settings),
        transactional=settings.transactional,
        agents=work.chosen(part for part in agents.split(",") if part),
        checkpoints=settings.checkpoint_folder,
        checkpoint_interval=settings.checkpoint_interval,
        status=settings.status_folder,
        **flags,
    )


def load_event_modules(settings: Settings) -> tuple[str, ...]:
    """Make the user's event types known; their modules are looked for in the working folder too."""
    if settings.event_modules and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for module in settings.event_modules:
        load_event_module(module)
    return settings.event_modules


def arguments(worker_id: str, flags: dict[str, Any]) -> list[str]:
    """The command line of one worker; its settings travel by the environment."""
    line = ["worker", "--id", worker_id]
    for name, value in flags.items():
        if value is True:
            line.append("--" + name.replace("_", "-"))
        elif value is not None and value is not False and value != "":
            line += ["--" + name.replace("_", "-"), str(value)]
    return line


def _run_processes(
    settings: Settings, processes: int, worker_id: str, flags: dict[str, Any]
) -> None:
    settings.need("kafka"), settings.need("registry")
    work.chosen(part for part in flags["agents"].split(",") if part)  # wrong names fail here
    if flags["http_port"]:
        raise click.UsageError("--http-port is one worker's: start them one by one")
    logs = settings.dir / "logs"
    children = [
        Child(
            name=f"worker-{worker_id}-{number}",
            command=streamgauge(*arguments(f"{worker_id}-{number}", flags)),
            log=logs / f"worker-{worker_id}-{number}.log",
            env=settings.environment(),
        )
        for number in range(processes)
    ]
    click.echo(f"{processes} workers, logs in {logs}", err=True)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    group = Supervisor(children)
    group.start()
    while not stopped.wait(0.2) and not group.done:
        if group.failing:
            group.stop()
            raise CommandError(f"{group.failing.name} keeps failing: see {group.failing.log}")
    group.stop()
