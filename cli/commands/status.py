"""`streamgauge status`: what answers, what runs, and how far behind it is."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import psutil
import psycopg
from redis import Redis

from streamgauge.cli import output
from streamgauge.cli.errors import UNREACHABLE, explain
from streamgauge.cli.settings import Settings, configured, running_stack
from streamgauge.cli.stack.lag import GROUPS, Broker
from streamgauge.schemas.registry import open_registry


@click.command()
@configured("kafka", "registry", "postgres", "redis", "namespace", "dir")
@output.option
def status(settings: Settings, as_json: bool) -> None:
    """Whether each server answers, how far each group is behind, and this host's load.

    Exits 3 where a server does not answer.

    \b
    Examples:
      streamgauge status
      streamgauge status --json
    """
    broker = Broker(settings.need("kafka"), timeout=5)
    servers = {
        "kafka": _ask(broker.cluster),
        "registry": _ask(
            lambda: f"{len(open_registry(settings.need('registry')).subjects())} subjects"
        ),
        "postgres": _ask(lambda: _postgres(settings.need("postgres"))),
        "redis": _ask(lambda: _redis(settings.need("redis"))),
    }
    lags = {} if "error" in servers["kafka"] else _lags(broker, settings.namespace)
    found: dict[str, Any] = {
        "ok": not any("error" in server for server in servers.values()),
        "servers": servers,
        "lag": lags,
        "host": {
            "cpu_percent": psutil.cpu_percent(0.1),
            "memory_percent": psutil.virtual_memory().percent,
            "disk_percent": psutil.disk_usage(str(Path.cwd())).percent,
        },
        "stack": running_stack(settings.dir).get("dir"),
    }
    lines = [
        f"{name:15}{server.get('says') or 'NO ANSWER: ' + server['error']}"
        for name, server in servers.items()
    ]
    lines += [f"{name:15}{_behind(lag)}" for name, lag in lags.items()]
    lines += [
        f"{'host':15}"
        + ", ".join(f"{key.split('_')[0]} {it:.0f} %" for key, it in found["host"].items())
    ]
    output.write(found, as_json, "\n".join(lines))
    if not found["ok"]:
        sys.exit(UNREACHABLE)


def _ask(question: Callable[[], str]) -> dict[str, str]:
    try:
        return {"says": question()}
    except Exception as error:
        expected = explain(error)
        if expected is None:
            raise
        return {"error": expected.message}


def _postgres(dsn: str) -> str:
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        return f"Postgres {connection.info.parameter_status('server_version')}"


def _redis(url: str) -> str:
    with Redis.from_url(url, socket_timeout=5) as client:
        return f"Redis {client.info('server')['redis_version']}, {client.dbsize()} keys"


def _lags(broker: Broker, namespace: str) -> dict[str, int | None]:
    """Records behind, by group; None for one that has never committed."""
    found: dict[str, int | None] = {}
    for name in GROUPS:
        positions = broker.positions(namespace, name)
        started = any(position.committed is not None for position in positions)
        found[name] = sum(position.lag for position in positions) if started else None
    return found


def _behind(lag: int | None) -> str:
    return "has not started" if lag is None else f"{lag:,} records behind"
