"""`streamgauge up`: a stack left running until Ctrl-C."""

import signal
import threading

import click

from streamgauge.cli import output
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.stack import Stack


@click.command()
@configured(
    *("kafka", "registry", "postgres", "redis", "archive", "namespace", "dir", "workers"),
    *(
        "definitions",
        "alerts",
        "event_modules",
        "lateness_ms",
        "consent_default",
        "commit_interval",
    ),
    use_running_stack=False,
)
@output.option
def up(settings: Settings, as_json: bool) -> None:
    """A whole stack for your own events, until Ctrl-C; prints its addresses.

    --kafka is `embedded` (nothing to install, keeps nothing over a restart), `local` (a real
    Kafka on this machine, needs Java and Maven) or an address. Other commands run in this folder
    find the stack by themselves.

    \b
    Examples:
      streamgauge up
      streamgauge up --kafka local --workers 2
      streamgauge up --json | head -1
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Stack(settings, settings.dir / "stack") as stack:
        stack.announce()
        lines = [f"{name:10} {address}" for name, address in stack.addresses.items() if address]
        output.write(stack.addresses, as_json, "\n".join(lines))
        if not as_json:
            click.echo("Try: streamgauge test. Ctrl-C stops everything.")
        while not stopped.wait(0.5):
            stack.check()
