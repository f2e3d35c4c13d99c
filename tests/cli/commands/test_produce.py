"""`produce` and `simulate`: files and worlds onto the embedded broker."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from streamgauge.cli.stack.lag import Broker

Run = Callable[..., Result]
LINE = '8.8.8.8 - - [17/May/2026:10:05:0{} +0000] "GET /{} HTTP/1.1" 200 10 "-" "agent"\n'


@pytest.fixture
def where(embedded: str, registry_url: str, namespace: str) -> tuple[str, ...]:
    return ("--kafka", embedded, "--registry", registry_url, "--namespace", namespace)


def test_a_files_lines_are_produced_and_bad_ones_reported(
    run: Run, where: tuple[str, ...], tmp_path: Path, embedded: str, namespace: str
) -> None:
    file = tmp_path / "access.log"
    bad = "".join(f"no line {number}\n" for number in range(25))
    file.write_text(LINE.format(1, "a") + bad + LINE.format(2, "b"))
    done = run("produce", "--file", str(file), "--format", "combined", "--json", *where)
    told = json.loads(done.stdout)
    assert (told["read"], told["produced"], told["rejected"]) == (27, 2, 25)
    assert "line 2: bad_line" in done.stderr
    assert "… and 5 more: streamgauge dlq list" in done.stderr
    assert sum(Broker(embedded).ends([f"{namespace}.events"]).values()) == 2
    assert sum(Broker(embedded).ends([f"{namespace}.dead-letters"]).values()) == 25


def test_events_of_no_known_type_are_what_the_setting_says(
    run: Run, where: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"event_type": "cart", "user_id": "u", "timestamp": 1700000000000}\n')
    line = ("produce", "--file", str(file), "--json", *where)
    assert json.loads(run(*line).stdout)["rejected"] == 1
    told = run(*line, STREAMGAUGE_UNKNOWN_EVENTS="cart=custom").stdout
    assert json.loads(told)["produced"] == 1
    wrong = run(*line, "--unknown-events", "cart=keep", exit_code=2)
    assert "one of custom, dead-letter, reject" in wrong.output


def test_a_file_that_is_not_there_is_told(run: Run, where: tuple[str, ...]) -> None:
    assert "nothing.log" in run("produce", "--file", "nothing.log", *where, exit_code=1).output


def test_a_world_is_simulated_and_its_truth_kept(
    run: Run, where: tuple[str, ...], tmp_path: Path, embedded: str, namespace: str
) -> None:
    truth = tmp_path / "truth.json"
    flags = ("--events", "500", "--seed", "3", "--truth", str(truth), "--json")
    told = json.loads(run("simulate", *flags, *where).stdout)
    assert (told["records"], told["acknowledged"]) == (500, 500)
    assert json.loads(truth.read_text())["totals"]["records"] == 500
    assert sum(Broker(embedded).ends([f"{namespace}.events"]).values()) == 500
    assert "300 records" in run("simulate-data", "--simulate-count", "300", *where).output


def test_on_the_embedded_broker_nobody_outruns_the_readers(
    run: Run, where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Braked:
        def __init__(self, kafka: str, namespace: str) -> None:
            self.conf = {"bootstrap.servers": kafka}
            asked.append(namespace)

        def __enter__(self) -> "Braked":
            return self

        def __exit__(self, *_: object) -> None: ...

        @property
        def on(self) -> bool:
            asked.append("on")
            return asked.count("on") < 3

        def wait(self) -> None:
            asked.append("wait")

    monkeypatch.setattr("streamgauge.cli.commands.simulate.Brake", Braked)
    run("simulate", "--events", "2000", "--rate", "4000", "--no-transactional", *where)
    assert asked.count("on") >= 3


def test_a_wrong_rate_is_wrong_usage(run: Run, where: tuple[str, ...]) -> None:
    output = run("simulate", "--events", "10", "--late", "0.9", *where, exit_code=2).output
    assert "late must be between 0 and 0.5" in output
