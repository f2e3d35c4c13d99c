"""`streamgauge collect`: its flags; the collector itself is tested in tests/serving."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from streamgauge.cli.commands import collect
from streamgauge.serving.collector import server
from streamgauge.serving.collector.settings import CollectorConfig

Run = Callable[..., Result]
ADDRESSES = ("--kafka", "k:1", "--registry", "file:r")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[CollectorConfig]:
    configs: list[CollectorConfig] = []
    monkeypatch.setattr(server, "run", lambda config: configs.append(config) or 0)
    return configs


def test_flags_become_the_collectors_settings(
    run: Run, started: list[CollectorConfig], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.touch()
    run("collect", *ADDRESSES, "--write-keys", str(keys), "--max-body-kb", "10", "--spool-mb", "2",
        "--trusted-proxies", "10.0.0.0/8,192.0.2.1", "--origins", "https://a, https://b",
        "--unknown-events", "custom", "--no-openapi")  # fmt: skip
    (config,) = started
    assert (config.kafka, config.registry, config.write_keys) == ("k:1", "file:r", keys)
    assert (config.limits.body_bytes, config.limits.inflated_bytes) == (10_240, 40_960)
    assert config.spool is None and config.spool_bytes == 2 << 20
    assert [str(each) for each in config.trusted_proxies] == ["10.0.0.0/8", "192.0.2.1/32"]
    assert config.origins == ("https://a", "https://b")
    assert config.unknown.mode("anything") == "custom"
    assert not config.openapi and not config.shared


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--trusted-proxies", "10.0.0.0/99"), "give networks like"),
        (("--write-keys", "nowhere.toml"), "does not exist"),
        (("--processes", "2", "--port", "0"), "give --port"),
        (("--max-batch", "0"), "--max-batch"),
    ],
)
def test_wrong_flags_are_told(
    run: Run, started: list[CollectorConfig], flags: tuple[str, ...], said: str
) -> None:
    assert said in run("collect", *ADDRESSES, *flags, exit_code=2).output
    assert started == []


def test_one_of_several_processes_gets_the_flags_of_all(
    run: Run, started: list[CollectorConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: tuple[Any, ...] = ("--port", "8123", "--trusted-proxies", "10.0.0.0/8", "--no-openapi")
    flags += ("--spool", "s", "--rate", "7", "--country-header", "CF-IPCountry")
    given: list[list[str]] = []

    def processes(settings: Any, count: int, told: dict[str, Any]) -> None:
        given.append(collect.arguments(told))

    monkeypatch.setattr(collect, "_run_processes", processes)
    run("collect", *ADDRESSES, "--processes", "2", *flags)
    run("collect", *ADDRESSES, "--shared", "--process", "1", *given[0])
    run("collect", *ADDRESSES, *flags)
    several, alone = started
    assert several.shared and several.process == 1
    assert several.limits == alone.limits and several.spool == alone.spool == Path("s")
    assert several.trusted_proxies == alone.trusted_proxies and not several.openapi
    assert (several.port, several.country_header) == (8123, "CF-IPCountry")
