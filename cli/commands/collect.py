"""`streamgauge collect`: events over HTTP."""

import ipaddress
import logging
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import click

from streamgauge.cli.commands.worker import load_event_modules
from streamgauge.cli.errors import CommandError, MissingRequirementError
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.supervisor import Child, Supervisor, streamgauge


class _Networks(click.ParamType):
    name = "networks"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(ipaddress.ip_network(one.strip()) for one in value.split(",") if one)
        except ValueError as error:
            self.fail(f"{error}: give networks like 10.0.0.0/8,192.168.1.1", param, ctx)


class _Texts(click.ParamType):
    name = "texts"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(one.strip() for one in value.split(",") if one.strip())


@click.command()
@configured("kafka", "registry", "namespace", "event_modules", "unknown_events", "dir")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for all addresses.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--write-keys",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML file of write keys; without it everybody may send.",
)
@click.option(
    "--origins",
    type=_Texts(),
    default="*",
    show_default=True,
    metavar="ORIGIN,…",
    help="Without write keys: pages that may send from a browser.",
)
@click.option(
    "--spool",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep events in this folder while Kafka is away; without it they are answered 503.",
)
@click.option("--spool-mb", type=click.IntRange(1), default=1024, show_default=True)
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--process", type=click.IntRange(0, 63), default=0, hidden=True)
@click.option("--shared", is_flag=True, hidden=True, help="Others listen on this port too.")
@click.option("--rate", type=float, default=0, help="Events a second of a write key (0: any).")
@click.option(
    "--client-rate",
    type=float,
    default=200,
    show_default=True,
    help="Events a second of one address, from browsers (0: any).",
)
@click.option("--max-body-kb", type=click.IntRange(1), default=1024, show_default=True)
@click.option("--max-batch", type=click.IntRange(1), default=2000, show_default=True)
@click.option(
    "--max-inflight-mb",
    type=click.IntRange(1),
    default=24,
    show_default=True,
    help="Of requests that are not answered yet: more are answered 503.",
)
@click.option("--max-connections", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--ack-timeout", type=float, default=5.0, show_default=True, metavar="SECONDS")
@click.option("--request-timeout", type=float, default=30.0, show_default=True, metavar="SECONDS")
@click.option("--drain", type=float, default=0.0, metavar="SECONDS", help="After SIGTERM.")
@click.option(
    "--trusted-proxies",
    type=_Networks(),
    default="",
    metavar="NETWORK,…",
    help="Whose X-Forwarded-For is believed.",
)
@click.option("--country-header", help="In which a proxy says the country: CF-IPCountry.")
@click.option("--openapi/--no-openapi", default=True, help="Whether /openapi.json is there.")
def collect(settings: Settings, processes: int, **flags: Any) -> None:
    """Take events over HTTP: POST /v1/events and /v1/batch.

    An event is answered `ok` once Kafka has it on all in-sync replicas, or the spool on disk; a
    wrong one is answered `drop` with the reason, and is a dead letter. /tracker.js is the script
    for web pages.

    \b
    Examples:
      streamgauge collect
      streamgauge collect --host 0.0.0.0 --write-keys keys.toml --spool /var/lib/streamgauge/spool
      streamgauge collect --processes 4 --trusted-proxies 10.0.0.0/8 --no-openapi
      curl http://127.0.0.1:8000/v1/events -H 'Content-Type: application/json' \\
        -d '{"event_type":"search","user_id":"u1","query":"x","timestamp":1767225600000}'
    """
    settings.need("kafka"), settings.need("registry")
    if processes > 1:
        _run_processes(settings, processes, flags)
    else:
        sys.exit(_run(settings, **flags))


def _run(settings: Settings, **flags: Any) -> int:
    try:
        from streamgauge.serving.collector.server import run
        from streamgauge.serving.collector.settings import CollectorConfig, Limits
    except ImportError as error:
        raise MissingRequirementError(
            f"{error.name} is missing: pip install 'streamgauge[cli,serving]'"
        ) from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    load_event_modules(settings)
    config = CollectorConfig(
        kafka=settings.need("kafka"),
        registry=settings.need("registry"),
        namespace=settings.namespace,
        host=flags["host"],
        port=flags["port"],
        write_keys=flags["write_keys"],
        origins=flags["origins"],
        spool=flags["spool"],
        spool_bytes=flags["spool_mb"] << 20,
        process=flags["process"],
        shared=flags["shared"],
        unknown=settings.unknown_types,
        limits=Limits(
            body_bytes=flags["max_body_kb"] << 10,
            inflated_bytes=flags["max_body_kb"] << 12,
            batch_events=flags["max_batch"],
            inflight_bytes=flags["max_inflight_mb"] << 20,
            request_seconds=flags["request_timeout"],
            connections=flags["max_connections"],
            rate=flags["rate"],
            client_rate=flags["client_rate"],
        ),
        ack_seconds=flags["ack_timeout"],
        trusted_proxies=flags["trusted_proxies"],
        country_header=flags["country_header"],
        openapi=flags["openapi"],
        drain_seconds=flags["drain"],
    )
    return run(config)


def _run_processes(settings: Settings, processes: int, flags: dict[str, Any]) -> None:
    if not flags["port"]:
        raise click.UsageError("several processes share one port: give --port")
    given = arguments(flags)
    logs = settings.dir / "logs"
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with tempfile.TemporaryDirectory(prefix="streamgauge-metrics-") as metrics:
        group = Supervisor(
            [
                Child(
                    name=f"collect-{number}",
                    command=streamgauge("collect", "--shared", "--process", str(number), *given),
                    log=logs / f"collect-{number}.log",
                    env=settings.environment() | {"PROMETHEUS_MULTIPROC_DIR": metrics},
                )
                for number in range(processes)
            ]
        )
        group.start()
        click.echo(f"{processes} processes on port {flags['port']}, logs in {logs}", err=True)
        while not stopped.wait(0.2):
            if group.failing:
                group.stop()
                raise CommandError(f"{group.failing.name} keeps failing: see {group.failing.log}")
        group.stop()


def arguments(flags: dict[str, Any]) -> list[str]:
    """The command line of the flags, for a process of several."""
    given = []
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        if name in ("process", "shared") or value is None:
            continue
        if name == "openapi":
            given.append(flag if value else "--no-openapi")
        elif isinstance(value, tuple):
            given += [flag, ",".join(map(str, value))]
        else:
            given += [flag, str(value)]
    return given
