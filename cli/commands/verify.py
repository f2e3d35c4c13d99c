"""`streamgauge verify`: thin over `streamgauge.cli.verify`."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from streamgauge.cli import output
from streamgauge.cli.errors import FAILED
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.verify import VerifyConfig, compare_namespaces
from streamgauge.cli.verify import verify as recompute

ADDRESSES = ("kafka", "registry", "postgres", "redis", "archive", "namespace", "dir")


@click.command()
@configured(
    *ADDRESSES,
    "definitions",
    "alerts",
    "segments",
    "event_modules",
    "lateness_ms",
    "consent_default",
)
@click.option("--from-archive", is_flag=True, help="Read raw events from the archive.")
@click.option("--events-topic", help="Read raw events from this topic (its full name).")
@click.option("--closed-only", is_flag=True, help="Compare closed windows only.")
@click.option("--against", metavar="NAMESPACE", help="Compare with another namespace's rows.")
@click.option("--timeout", type=float, default=60.0, show_default=True, metavar="SECONDS")
@output.option
def verify(
    settings: Settings,
    from_archive: bool,
    events_topic: str | None,
    closed_only: bool,
    against: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Recompute every metric from the raw events with independent code, and compare.

    Compares topics, Postgres and Redis key by key: counts and sums equal, sketches within their
    bound. Exits 1 and shows the differing keys where they differ.

    \b
    Examples:
      streamgauge verify
      streamgauge verify --from-archive --json
      streamgauge verify --namespace replay --events-topic events
      streamgauge verify --namespace one --against two
    """
    archive = Path(settings.need("archive")) if from_archive else None
    config = configuration(settings, archive=archive, timeout=timeout)
    config = replace(config, events_topic=events_topic, closed_only=closed_only)
    if against is not None:
        report = compare_namespaces(config, replace(config, namespace=against))
    else:
        report = recompute(config)
    click.echo(report.to_json() if as_json else report.text())
    if not report.ok:
        sys.exit(FAILED)


def configuration(settings: Settings, *, archive: Path | None, timeout: float) -> VerifyConfig:
    """What to verify, by the settings."""
    return VerifyConfig(
        kafka={"bootstrap.servers": settings.need("kafka")},
        registry=settings.need("registry"),
        namespace=settings.namespace,
        postgres=settings.postgres,
        redis=settings.redis,
        archive=archive,
        lateness_ms=settings.lateness_ms,
        consent_default=settings.consent_default,
        definitions=settings.definitions,
        alerts=settings.alerts,
        segments=settings.segments,
        event_modules=settings.event_modules,
        timeout=timeout,
    )
