"""`streamgauge status`: what answers, what runs, and how far behind it is."""

import json
import sys
import time
from collections.abc import Callable, Iterator
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

SILENT = 15.0
"""Seconds after which a worker is taken for gone; it says something each second."""


@click.command()
@configured("kafka", "registry", "postgres", "redis", "namespace", "dir")
@output.option
def status(settings: Settings, as_json: bool) -> None:
    """Whether each server answers, how far each group is behind, and how this machine does.

    Of workers and standbys on this machine: whether they are ready, how far restoring has come
    and how many seconds it has left, and how old their checkpoints are.

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
        "workers": list(_workers(settings.status_folder)),
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
    lines += [f"{worker['name']}: {_doing(worker)}" for worker in found["workers"]]
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


def _workers(folder: Path) -> Iterator[dict[str, Any]]:
    """What the workers on this machine said last."""
    for path in sorted(folder.glob("*.json")):
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):  # it has just ended
            continue
        alive = psutil.pid_exists(told["pid"]) and time.time() - told["at"] < SILENT
        yield {**told, "alive": alive}


def _doing(worker: dict[str, Any]) -> str:
    """A line about a worker."""
    if not worker["alive"]:
        return f"has said nothing for {time.time() - worker['at']:.0f} s; was it killed?"
    restore = worker.get("restore") or {"total": 0}
    if worker["ready"]:
        parts = [f"ready, {len(worker['assigned'])} partitions"]
        if restore["total"] or restore["checkpoints"]:
            parts.append(
                f"restored {restore['rows']:,} rows and {restore['checkpoints']} checkpoints"
                f" in {restore['seconds']} s"
            )
        if (age := worker.get("checkpoint_age")) is not None:
            parts.append(f"checkpoints {age:.0f} s old")
        return ", ".join(parts)
    if not restore["total"] or restore["done"] >= restore["total"]:
        return "waits for its partitions"
    left = restore["seconds_left"]
    return (
        f"restoring: {restore['done']:,} of {restore['total']:,}"
        f" ({100 * restore['done'] // restore['total']} %), {restore['rate']:,} a second,"
        f" {'?' if left is None else left} s left"
    )


def _behind(lag: int | None) -> str:
    return "has not started" if lag is None else f"{lag:,} records behind"
