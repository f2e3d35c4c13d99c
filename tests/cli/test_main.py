"""The command line's frame: quick help, named errors, exit codes, completion."""

import subprocess
import sys
from collections.abc import Callable

import click
import psycopg
import pytest
from click.testing import Result
from confluent_kafka import KafkaError, KafkaException
from redis.exceptions import ConnectionError as RedisConnectionError

from streamgauge.cli import ALIASES, COMMANDS, main
from streamgauge.cli.errors import CommandError, UnreachableError, explain
from streamgauge.schemas.errors import SchemaError

Run = Callable[..., Result]


def test_help_lists_every_command_without_loading_what_they_need() -> None:
    heavy = "{'polars', 'faust', 'confluent_kafka', 'duckdb', 'psycopg'}"
    script = (
        "import sys; from streamgauge.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print('loaded', {heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "loaded set()" in done.stdout
    for name in [*COMMANDS, *ALIASES]:
        assert f"  {name} " in done.stdout


def families() -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    context = click.Context(main)
    for name in [*COMMANDS, *ALIASES]:
        command = main.get_command(context, name)
        assert command is not None
        found[name,] = command
        if isinstance(command, click.Group):
            found |= {(name, part): one for part, one in command.commands.items()}
    return found


def test_every_command_has_help_and_every_family_an_example(run: Run) -> None:
    for line, command in families().items():
        assert command.help, line
        output = run(*line, "--help").output
        if len(line) == 1:
            assert "Example" in output, line


def test_an_unknown_command_or_flag_is_wrong_usage(run: Run) -> None:
    assert "No such command 'veryfy'" in run("veryfy", exit_code=2).output
    assert "Did you mean --json?" in run("status", "--jsn", exit_code=2).output


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (SchemaError("wrong"), CommandError, "wrong"),
        (KafkaException(KafkaError(KafkaError._TRANSPORT)), UnreachableError, "--kafka"),
        (psycopg.OperationalError("refused"), UnreachableError, "--postgres"),
        (RedisConnectionError("refused"), UnreachableError, "--redis"),
        (CommandError("said"), CommandError, "said"),
    ],
)
def test_expected_errors_are_told_with_their_fix(
    error: Exception, expected: type[CommandError], text: str
) -> None:
    found = explain(error)
    assert type(found) is expected
    assert text in found.message


def test_a_bug_shows_its_traceback() -> None:
    assert explain(KeyError("bug")) is None


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(run: Run, shell: str) -> None:
    result: Result = run("completion", shell)
    assert "_STREAMGAUGE_COMPLETE" in result.output
