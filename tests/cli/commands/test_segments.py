"""`segments`: rules listed and refused, and memberships explained."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import Result

from streamgauge.sinks.postgres.migrate import migrate

Run = Callable[..., Result]

RULES = """
segments:
  - name: keen
    description: Comes often.
    enter: active_days_7 >= 3
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    return file


def test_rules_are_listed_with_those_of_a_file(run: Run, rules: Path) -> None:
    lines = run("segments", "list", "--json", "--segments", str(rules)).output.splitlines()
    rows = {row["name"]: row for row in map(json.loads, lines)}
    assert rows["keen"]["enter"] == "active_days_7 >= 3"
    assert rows["keen"]["leave"] == "not (active_days_7 >= 3)"
    assert {"new", "at-risk", "dormant"} < rows.keys()
    assert rows["new"]["members"] is None
    assert "keen" not in run("segments", "list").output


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("activ_days_7 >= 3", "column 1: unknown field activ_days_7"),
        ("activ_days_7 >= 3", "did you mean active_days_7?"),
        ("active_days_7 >= 'a'", "column 18: a string cannot be compared with a number"),
        ("active_days_7 >=", "column 17: not a condition"),
    ],
)
def test_wrong_rules_are_refused_with_their_place(
    run: Run, rules: Path, wrong: str, said: str
) -> None:
    rules.write_text(RULES.replace("active_days_7 >= 3", wrong))
    output = run("segments", "apply", "--file", str(rules), exit_code=1).output
    assert "rules.yaml:5: segment keen: enter" in output
    assert said in output


def test_apply_takes_a_file_or_the_built_in_rules(run: Run, rules: Path) -> None:
    assert "either --file" in run("segments", "apply", exit_code=2).output
    both = ("--file", str(rules), "--builtin")
    assert "either --file" in run("segments", "apply", *both, exit_code=2).output
    assert "--kafka" in run("segments", "apply", "--file", str(rules), exit_code=2).output


def test_a_rule_is_tried_on_a_file(run: Run, rules: Path, tmp_path: Path) -> None:
    """ann comes on three days, bob on one: on the third ann enters, and leaves a week later."""
    day, start = 86_400_000, 1_760_054_400_000
    visits = [("ann", 0), ("ann", 1), ("bob", 1), ("ann", 2), ("cid", 20)]
    events = tmp_path / "events.jsonl"
    events.write_text(
        "".join(
            json.dumps({"event_type": "search", "user_id": user, "timestamp": start + at * day})
            + "\n"
            for user, at in visits
        )
    )
    flags = ("--file", str(events), "--segments", str(rules), "--json")
    told = json.loads(run("segments", "test", "keen", *flags).output)
    counts = {name: told[name] for name in ("events", "users", "members", "entered", "left")}
    assert counts == {"events": 5, "users": 3, "members": 0, "entered": 1, "left": 1}
    enters, leaves = told["moves"]
    assert (enters["user_id"], enters["move"], enters["at"]) == (
        *("ann", "enters"),
        "2025-10-12T00:01:00+00:00",  # at the end of the minute
    )
    assert (leaves["move"], leaves["at"]) == ("leaves", "2025-10-17T00:00:00+00:00")
    assert leaves["reason"] == {"active_days_7": 2}
    leave = ("--leave", "days_since_last >= 10")
    kept = json.loads(run("segments", "test", "active_days_7 >= 3", *leave, *flags).output)
    assert [move["at"][:10] for move in kept["moves"]] == ["2025-10-12", "2025-10-22"]
    text = run("segments", "test", "keen", *flags[:-1]).output
    assert "0 of 3 users" in text
    assert "active_days_7 = 2" in text
    assert "did you mean keen?" in run("segments", "test", "kean", *flags, exit_code=2).output
    wrong = run("segments", "test", "evnts > 1", *flags, exit_code=1).output
    assert "column 1: unknown field evnts" in wrong


@pytest.mark.postgres
def test_memberships_are_explained_by_the_values_behind_them(
    run: Run, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    schema = namespace.replace("-", "_")
    migrate(postgres, schema)
    stays = [
        ("ann", "keen", "2026-01-31T10:00Z", None, '{"active_days_7": 3}', None),
        ("ann", "new", "2026-01-01T10:00Z", "2026-01-08T10:00Z", '{"days_since_first": 0}', "{}"),
        ("bob", "keen", "2026-01-31T10:00Z", None, '{"active_days_7": 4}', None),
    ]
    with psycopg.connect(postgres) as connection:
        for stay in stays:
            connection.execute(
                f"INSERT INTO {schema}.user_segments (user_id, segment, entered_at, left_at,"
                " reason_in, reason_out, source_partition, source_offset, source_generation)"
                " VALUES (%s, %s, %s, %s, %s, %s, 0, 0, 0)",
                stay,
            )
    monkeypatch.setenv("STREAMGAUGE_POSTGRES", postgres)
    monkeypatch.setenv("STREAMGAUGE_NAMESPACE", namespace)
    (row,) = map(json.loads, run("segments", "explain", "ann", "--json").output.splitlines())
    assert row["segment"] == "keen"
    assert row["reason_in"] == {"active_days_7": 3}
    text = run("segments", "explain", "ann", "--history").output
    assert "active_days_7 = 3" in text
    assert "2026-01-08" in text
    assert "no segment" in run("segments", "explain", "cid").output
    lines = run("segments", "list", "--json").output.splitlines()
    members = {row["name"]: row["members"] for row in map(json.loads, lines)}
    assert members["new"] == 0
    with psycopg.connect(postgres) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")
