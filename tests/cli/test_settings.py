"""Settings: which source wins, and what a wrong or unknown key is told."""

import json
import os
from pathlib import Path

import click
import pytest

from streamgauge.cli import settings
from streamgauge.cli.settings import Settings, load


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in [name for name in os.environ if name.startswith("STREAMGAUGE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flags_win_over_variables_over_the_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load().commit_interval == 0.1
    Path("streamgauge.toml").write_text("commit_interval = 1\nworkers = 2\nnamespace = 'file'\n")
    monkeypatch.setenv("STREAMGAUGE_WORKERS", "3")
    monkeypatch.setenv("STREAMGAUGE_NAMESPACE", "variable")
    found = load({"namespace": "flag", "kafka": None})
    assert (found.commit_interval, found.workers, found.namespace) == (1, 3, "flag")
    assert found.kafka is None


def test_a_running_stack_gives_the_addresses_nobody_else_gave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = Path(".streamgauge")
    state.mkdir()
    told = {"pid": os.getpid(), "kafka": "here:1", "redis": "redis://here:2/0", "started": 5}
    (state / "stack.json").write_text(json.dumps(told))
    found = load({"redis": "redis://flag:9/0"})
    assert (found.kafka, found.redis) == ("here:1", "redis://flag:9/0")
    assert load(use_running_stack=False).kafka is None
    (state / "stack.json").write_text(json.dumps({**told, "pid": 2**22 + 1}))
    assert load().kafka is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kafak = 'x'", r"unknown setting kafak in streamgauge.toml: did you mean kafka\?"),
        ("zzz = 1", r"unknown setting zzz in streamgauge.toml: there are kafka, registry"),
        ("workers = 0", "workers in streamgauge.toml: Input should be greater than or equal to 1"),
        ("workers = ", "streamgauge.toml: Invalid value"),
    ],
)
def test_a_wrong_file_is_told_the_key(text: str, message: str) -> None:
    Path("streamgauge.toml").write_text(text)
    with pytest.raises(click.UsageError, match=message):
        load()


def test_a_wrong_or_unknown_variable_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMGAUGE_CONSENT_DEFAULT", "maybe")
    with pytest.raises(click.UsageError, match=r"STREAMGAUGE_CONSENT_DEFAULT: .*'granted'"):
        load()
    monkeypatch.delenv("STREAMGAUGE_CONSENT_DEFAULT")
    monkeypatch.setenv("STREAMGAUGE_KAFKAA", "x")
    with pytest.raises(click.UsageError, match=r"KAFKAA: did you mean STREAMGAUGE_KAFKA\?"):
        load()


def test_a_wrong_flag_is_told_by_its_name() -> None:
    with pytest.raises(click.UsageError, match=r"--namespace: a letter, .*, not 'Über'"):
        load({"namespace": "Über"})
    with pytest.raises(click.UsageError, match=r"no settings file missing\.toml"):
        load(config=Path("missing.toml"))


def test_a_missing_address_says_how_to_give_one() -> None:
    with pytest.raises(click.UsageError, match=r"give --kafka, set STREAMGAUGE_KAFKA, .* up`"):
        load().need("kafka")
    assert load({"kafka": "here:1"}).need("kafka") == "here:1"


def test_settings_travel_to_a_child_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = load({"kafka": "here:1", "event_modules": "one, two", "transactional": False})
    assert parent.event_modules == ("one", "two")
    for key, value in parent.environment().items():
        monkeypatch.setenv(key, value)
    assert dict(load()) == dict(parent)


def test_every_setting_has_a_flag_with_a_description() -> None:
    @click.command()
    @settings.configured(*Settings.model_fields)
    def command(**_: object) -> None: ...

    help_text = command.get_help(click.Context(command))
    for name, field in Settings.model_fields.items():
        assert "--" + name.replace("_", "-") in help_text
        assert field.description
