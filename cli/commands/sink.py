"""`streamgauge sink`: results to Postgres, Redis or the archive, and to webhooks."""

import logging
import sys
from pathlib import Path

import click

from streamgauge.cli.commands.worker import load_event_modules
from streamgauge.cli.settings import Settings, configured

KINDS = ("postgres", "redis", "archive", "webhook")
SETTINGS = ("kafka", "registry", "postgres", "redis", "archive", "namespace", "event_modules")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@configured(*SETTINGS, "alerts", "definitions", "consent_default", "refresh_minutes", "dir")
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
    """Write results to a target of this KIND: postgres, redis, archive or webhook.

    Rows and position move together, so a crash loses nothing and writes nothing twice; an outage
    of the target pauses this sink and nothing else. The Postgres sink also refreshes the
    materialised views, each once in --refresh-minutes however many sinks there are. Webhooks are
    those of the alert file (--alerts); each is told at least once, with a key to know it by.

    \b
    Examples:
      streamgauge sink postgres --retention-days 90
      streamgauge sink redis
      streamgauge sink archive --archive /data/archive
      streamgauge sink webhook --alerts alerts.yaml
    """
    from streamgauge.sinks import runner

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    config = runner.SinkConfig(
        kind=kind,  # type: ignore[arg-type]
        kafka={"bootstrap.servers": settings.need("kafka")},
        registry=settings.need("registry"),
        target=_target(settings, kind),
        namespace=settings.namespace,
        interval=interval,
        batch_rows=batch_rows,
        retention_days=retention_days,
        consent_default=settings.consent_default,
        migrate=migrate,
        http_port=http_port,
        refresh_every=settings.refresh_minutes * 60,
        definitions=str(settings.definitions) if settings.definitions else None,
    )
    load_event_modules(settings)
    sys.exit(runner.run(config))


def _target(settings: Settings, kind: str) -> str:
    if kind != "webhook":
        target = settings.need(kind)
        return str(Path(target).absolute()) if kind == "archive" else target
    if settings.alerts is None:
        raise click.UsageError(
            "webhooks are defined in the alert file, and there is none: give --alerts, or set "
            "STREAMGAUGE_ALERTS (docs/webhooks.md)"
        )
    return str(settings.alerts)
