"""The command line as tests run it, and an embedded broker they share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamgauge.cli import main
from streamgauge.cli.stack.embedded import EmbeddedKafka

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded broker: use `namespace` in it."""
    with EmbeddedKafka(tmp_path_factory.mktemp("embedded")) as broker:
        yield broker.bootstrap


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in an empty folder without settings; `exit_code` is asserted."""
    for variable in [name for name in os.environ if name.startswith("STREAMGAUGE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)

    def call(*line: str, exit_code: int = 0, **env: str) -> Result:
        result = CliRunner().invoke(main, line, env=env)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        return result

    return call
