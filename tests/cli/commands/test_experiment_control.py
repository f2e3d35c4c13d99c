"""`streamgauge experiments create|start|stop|list|assign`, on the embedded broker; its results."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from click.testing import Result

from streamgauge.producers.assignment import assign
from streamgauge.schemas.topics import create_topics
from streamgauge.sinks.postgres.migrate import migrate
from streamgauge.sinks.redis.counters import keys

Run = Callable[..., Result]
DEFINITION = """
name: buttons
variants: [{name: control}, {name: green, config: {colour: green}}]
allocation: 50%
metrics:
  - {name: clicks, role: primary, aggregate: mean, events: [button_click]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "buttons.yaml"
    path.write_text(DEFINITION)
    return path


@pytest.fixture
def where(embedded: str, tmp_path: Path) -> tuple[str, ...]:
    """Flags of a namespace of the test's own."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    create_topics({"bootstrap.servers": embedded}, namespace, embedded=True)
    registry = f"file:{tmp_path / 'registry'}"
    return ("--kafka", embedded, "--registry", registry, "--namespace", namespace)


def test_a_wrong_definition_is_refused_and_names_the_line(run: Run, file: Path) -> None:
    file.write_text(DEFINITION.replace("[button_click]", "[button_clik]"))
    output = run("experiments", "create", str(file), "--dry-run", exit_code=1).output
    assert "buttons.yaml:6: metric clicks: unknown event type button_clik" in output
    assert "did you mean button_click?" in output
    missing = run("experiments", "create", "none.yaml", "--dry-run", exit_code=1).output
    assert "none.yaml: cannot be read" in missing


def test_an_experiment_comes_and_goes(run: Run, file: Path, where: tuple[str, ...]) -> None:
    def call(*line: str, exit_code: int = 0) -> str:
        flags = () if line[0] in ("list", "assign") else ("--no-transactional",)
        return run("experiments", *line, *where, *flags, exit_code=exit_code).output

    def listed() -> Any:
        return json.loads(call("list", "--json"))

    assert call("create", str(file)) == "buttons: created\n"
    assert (listed()["state"], listed()["version"], listed()["started_at"]) == ("created", 1, None)
    assert "variant" in call("assign", "buttons", "u-1")
    assert call("start", "buttons") == "buttons: running\n"
    assert "it has begun" in call("start", "buttons", exit_code=1)
    assert "there is no experiment none: there are buttons" in call("stop", "none", exit_code=2)

    file.write_text(DEFINITION.replace("50%", "100%"))
    assert json.loads(call("create", str(file), "--json"))["allocation"] == 1
    users = [f"u-{number}" for number in range(4)]
    given = [json.loads(line) for line in call("assign", "buttons", *users, "--json").splitlines()]
    weights = (("control", 1), ("green", 1))
    assert [one["variant"] for one in given] == [assign("buttons", u, weights) for u in users]
    assert {"colour": "green"} in [one["config"] for one in given]

    file.write_text(DEFINITION.replace("[button_click]", "[link_click]"))
    assert "buttons is running: only" in call("create", str(file), exit_code=1)
    assert call("stop", "buttons", "--reason", "enough") == "buttons: stopped\n"
    assert "stopped already: enough" in call("stop", "buttons", exit_code=1)
    assert "it cannot begin again" in call("start", "buttons", exit_code=1)
    assert "give the new one another name" in call("create", str(file), exit_code=1)
    assert "enough" in call("list")


@pytest.mark.redis
def test_who_is_outside_the_segments_is_told_why(
    run: Run, file: Path, where: tuple[str, ...], redis_url: str
) -> None:
    def given(*line: str) -> list[tuple[Any, ...]]:
        told = run("experiments", "assign", "buttons", *line, "--json", *where).output
        rows = [json.loads(one) for one in told.splitlines()]
        return [(one["user"], one["variant"], one["reason"], one["segments"]) for one in rows]

    file.write_text(DEFINITION.replace("50%", "100%") + "segments: [powre, new]\n")
    output = run("experiments", "create", str(file), *where, "--no-transactional").output
    assert "there is no segment powre yet" in output and "did you mean power?" in output
    assert "segment new" not in output
    file.write_text(file.read_text().replace("powre", "power"))
    assert (
        "note" not in run("experiments", "create", str(file), *where, "--no-transactional").output
    )
    assert given("u-1", "--in", "power") == [("u-1", None, "created", ["power"])]
    run("experiments", "start", "buttons", *where, "--no-transactional")
    variant = assign("buttons", "u-1", (("control", 1), ("green", 1)))
    assert given("u-1", "--in", "power") == [("u-1", variant, "assigned", ["power"])]
    assert given("u-1", "--in", "dormant") == [("u-1", None, "outside_segments", ["dormant"])]
    assert given("u-1", "--exposed") == [("u-1", variant, "exposed_before", [])]

    namespace = where[where.index("--namespace") + 1]
    at = keys(namespace, 0, "user-segments")
    with redis.Redis.from_url(redis_url) as server:  # one partition, so everybody is in it
        server.hset(at.fence, "offset", 0)
        server.sadd(f"{at.prefix}user:u-1", "new", "other")
        server.sadd(f"{keys(namespace, 0, 'exposures').prefix}user:u-2", "buttons")
    found = given("u-1", "u-2", "u-3", "--redis", redis_url)
    assert [one[2:] for one in found] == [
        ("assigned", ["new", "other"]),
        ("exposed_before", []),
        ("outside_segments", []),
    ]
    assert [one[1] is None for one in found] == [False, False, True]
    table = run("experiments", "assign", "buttons", "u-3", "--redis", redis_url, *where).output
    assert "outside_segments" in table


@pytest.fixture
def rows(postgres: str) -> tuple[str, ...]:
    """Flags of a namespace with two looks at an experiment."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    schema = namespace.replace("-", "_")
    migrate(postgres, schema)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE {schema}.experiment_results_all PARTITION OF"
            f" {schema}.experiment_results DEFAULT"
        )
        for hour, low in ((1, -1.0), (2, 0.5)):
            for metric, role, variant in (
                ("clicks", "primary", "control"),
                ("clicks", "primary", "green"),
                ("errors", "guardrail", "green"),
            ):
                connection.execute(
                    f"""INSERT INTO {schema}.experiment_results (experiment, metric, variant, as_of,
                    state, role, is_control, users, mean, lift_absolute, ci_sequential_low,
                    ci_sequential_high, srm_p, users_excluded, verdict, analysis, source_partition,
                    source_offset, source_generation) VALUES ('buttons', %s, %s, %s, 'stopped', %s,
                    %s, 10, 3, 1, %s, 2, 0.0001, 4, %s, '{{"notes": ["few users"]}}', 0, 0, 0)""",
                    [
                        *(metric, variant, f"2026-01-01T0{hour}:00Z", role, variant == "control"),
                        *(low, "ok" if role == "guardrail" else None),
                    ],
                )
    return ("--postgres", postgres, "--namespace", namespace)


def test_results_and_report_say_what_the_tables_say(run: Run, rows: tuple[str, ...]) -> None:
    text = run("experiments", "results", "buttons", *rows).output
    assert "+0.5 to +2" in text and "find out why" in text and "left out: 4" in text
    assert "note: few users" in text
    history = run("experiments", "results", "buttons", "--history", "--json", *rows).output
    assert [json.loads(line)["ci_sequential_low"] for line in history.splitlines()] == (
        [0.5, 0.5, -1.0, -1.0]
    )
    report = run("experiments", "report", "buttons", *rows).output
    assert "# Experiment buttons" in report
    assert "- clicks of green: higher than control, by +0.5 to +2" in report
    assert "- errors of green: ok" in report
    told = json.loads(run("experiments", "report", "buttons", "--json", *rows).output)
    assert (told["event"], told["experiment_id"]) == ("experiment_completed", "buttons")
    assert len(told["results"]) == 3
    output = run("experiments", "results", "none", *rows, exit_code=2).output
    assert "there are no results of none: there are those of buttons" in output
