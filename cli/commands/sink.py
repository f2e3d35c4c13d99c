"""`streamgauge sink`: writes results to Postgres, Redis or the archive."""

import logging
import sys
from pathlib import Path

import click

from streamgauge.cli.commands.worker import load_event_modules
from streamgauge.cli.settings import Settings, configured

KINDS = ("postgres", "redis", "archive")
SETTINGS = ("kafka", "registry", "postgres", "redis", "archive", "namespace", "event_modules")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@configured(*SETTINGS, "consent_default", "refresh_minutes", "dir")
@click.option(
    "--interval", type=float, metavar="SECONDS", help="Between writes (default: by kind)."
)
@click.option("--batch-rows", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--retention-days", type=click.IntRange(1), help="Postgres: drop older rows.")
@click.option("--migrate/--no-migrate", default=True, help="Postgres: bring tables up to date.")
@click.option("--http-port", type=int, help="Port of /live, /ready and /metrics.")
def sink(
    settings: Settings,
    kind: str,
    interval: float | None,
    batch_rows: int,
    retention_days: int | None,
    migrate: bool,
    http_port: int | None,
) -> None:
    """Write results to a target of this KIND: postgres, redis or archive.

    Rows and position move together, so a crash loses nothing and writes nothing twice; an outage
    of the target pauses this sink and nothing else. The Postgres sink also refreshes the
    materialised views, each once in --refresh-minutes however many sinks there are.

    \b
    Examples:
      streamgauge sink postgres --retention-days 90
      streamgauge sink redis
      streamgauge sink archive --archive /data/archive
    """
    from streamgauge.sinks import runner

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    target = settings.need(kind)
    config = runner.SinkConfig(
        kind=kind,  # type: ignore[arg-type]
        kafka={"bootstrap.servers": settings.need("kafka")},
        registry=settings.need("registry"),
        target=str(Path(target).absolute()) if kind == "archive" else target,
        namespace=settings.namespace,
        interval=interval,
        batch_rows=batch_rows,
        retention_days=retention_days,
        consent_default=settings.consent_default,
        migrate=migrate,
        http_port=http_port,
        refresh_every=settings.refresh_minutes * 60,
    )
    load_event_modules(settings)
    sys.exit(runner.run(config))
