"""The command line: `streamgauge COMMAND`.

Downstream: `commands/`, loaded only when used, so that `--help` and completion are quick.
Exit codes: 0 done, 1 failed or a difference found, 2 wrong usage or setting, 3 a server does not
answer, 4 something is not installed (`errors.py`); 130 ended by Ctrl-C.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    import click
except ImportError:
    raise SystemExit("the command line needs `pip install 'streamgauge[all]'`") from None

from streamgauge.cli.errors import explain

COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("demo:demo", "Everything at once on one machine, with live figures and a check."),
    "up": ("up:up", "A stack left running for your own events."),
    "status": ("status:status", "What runs, and how far behind it is."),
    "test": ("test:test", "Trace one probe event from producer to topic, Postgres and Redis."),
    "worker": ("worker:worker", "Compute metrics from events."),
    "standby": ("worker:standby", "Keep checkpoints of the workers' state ready for a takeover."),
    "sink": ("sink:sink", "Write results to Postgres, Redis or the Parquet archive."),
    "collect": ("collect:collect", "Take events over HTTP, from SDKs and browsers."),
    "simulate": ("simulate:simulate", "Produce the events of a simulated world of users."),
    "produce": ("produce:produce", "Produce events from JSON lines or a web access log."),
    "backtest": ("backtest:backtest", "Every table from a file of events, without Kafka."),
    "verify": ("verify:verify", "Recompute every metric independently and compare."),
    "chaos": ("chaos:chaos", "Faults on a scratch stack, and proof that nothing came of them."),
    "topics": ("topics:topics", "List, create, tail and purge topics."),
    "schemas": ("schemas:schemas", "List, show, check and register event schemas."),
    "metrics": ("metrics:metrics", "List, show, validate and query metrics."),
    "users": ("users:users", "What is known of a user, and what happened when."),
    "segments": ("segments:segments", "Who is in which segment, why, and by which rules."),
    "experiments": ("experiments:experiments", "Run experiments, analyse and plan them."),
    "anomalies": ("anomalies:anomalies", "Detect anomalies in a series; list the alert levels."),
    "state": ("state:state", "Committed offsets and lag by partition; checkpoints of state."),
    "dlq": ("dlq:dlq", "List, export and replay dead letters."),
    "kafka": ("kafka:kafka", "Start and stop a real Kafka on this machine."),
    "refresh": ("users:refresh", "Refresh the materialised views of users, behind readers' backs."),
    "completion": ("completion:completion", "Shell completion for bash, zsh and fish."),
}
# Names people already know.
ALIASES: Mapping[str, tuple[str, str]] = {
    "start": ("up:up", "The same as `up`."),
    "process-events": ("worker:process_events", "The same as `worker --until-end`."),
    "analyze-users": ("users:analyze_users", "The same as `users show`."),
    "simulate-data": ("simulate:simulate_data", "The same as `simulate --events N`."),
}


class Commands(click.Group):
    """The group of all commands, each imported when it is run or asked for its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *ALIASES]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        where, _ = COMMANDS.get(name) or ALIASES.get(name) or (None, "")
        if where is None:
            return None
        module, _, attribute = where.partition(":")
        loaded = importlib.import_module(f"streamgauge.cli.commands.{module}")
        command: click.Command = getattr(loaded, attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in (("Commands", COMMANDS), ("Aliases", ALIASES)):
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            expected = explain(error)
            if expected is None:
                raise
            raise expected from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="streamgauge")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (./streamgauge.toml, or STREAMGAUGE_CONFIG).",
)
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Product analytics on Kafka: typed events in, Postgres and Redis out, exactly once.

    \b
    Examples:
      streamgauge demo                         live figures within a minute
      streamgauge demo --events 200000 --json  ends by itself, with a check
      streamgauge up                           a stack for your own events
      streamgauge produce --file access.log --format combined

    Every setting is a flag, a STREAMGAUGE_* variable or a key of streamgauge.toml. Exit codes:
    0 done, 1 failed or a difference found, 2 wrong usage or setting, 3 a server does not answer,
    4 something is not installed.
    """
    ctx.obj = config
