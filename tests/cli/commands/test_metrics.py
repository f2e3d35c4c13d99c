"""`metrics`: the catalogue, the check of a file, and reading from Postgres."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import Result

from streamgauge.sinks.postgres.migrate import migrate

Run = Callable[..., Result]


def test_the_catalogue_is_listed_and_shown(run: Run) -> None:
    lines = run("metrics", "list", "--json").output.splitlines()
    rows = {row["name"]: row for row in map(json.loads, lines)}
    assert "page" in rows["page_views"]["by"]
    shown = json.loads(run("metrics", "show", "page_views").output)
    assert shown["aggregate"] == "count"
    assert len(shown["versions"]["page"]) == 8
    assert "active_users" in run("metrics", "show", "nothing", exit_code=2).output


def test_a_wrong_file_is_refused_with_its_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "metrics.yaml"
    file.write_text("metrics:\n  - name: signups\n    events: [sign_up]\n    aggregate: cuont\n")
    output = run("metrics", "validate", str(file), exit_code=1).output
    assert "metrics.yaml:4" in output
    file.write_text(
        "metrics:\n  - name: searches_all\n    events: [search]\n    aggregate: count\n"
    )
    assert "searches_all" in run("metrics", "validate", str(file), "--json").output
    assert "searches_all" in run("metrics", "list", "--definitions", str(file)).output


@pytest.mark.postgres
def test_values_are_queried_by_window_dimensions_and_time(run: Run, postgres: str) -> None:
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    schema = namespace.replace("-", "_")
    migrate(postgres, schema)
    rows = [
        ("2026-01-31T10:00Z", "{}", 7),
        ("2026-01-31T10:00Z", '{"page": "/a"}', 4),
        ("2026-01-31T10:00Z", '{"page": "/b"}', 3),
        ("2026-01-31T11:00Z", '{"page": "/a"}', 5),
    ]
    with psycopg.connect(postgres) as connection:
        connection.execute(
            f"CREATE TABLE {schema}.day PARTITION OF {schema}.metrics"
            " FOR VALUES FROM ('2026-01-31') TO ('2026-02-01')"
        )
        for start, dimensions, value in rows:
            connection.execute(
                f"INSERT INTO {schema}.metrics VALUES"
                " (%s, '1h', 'page_views', %s, 'v', %s, %s, 1, null, true, 0, 0, 0)",
                (start, dimensions, value, value),
            )
    where = ("--postgres", postgres, "--namespace", namespace)

    def query(*flags: str) -> list[float]:
        output = run("metrics", "query", "page_views", "--json", *where, *flags).output
        return [json.loads(line)["value"] for line in output.splitlines()]

    assert query() == [5, 7, 4, 3]
    assert query("--by", "") == [7]
    assert query("--by", "page", "--until", "2026-01-31T11:00Z") == [4, 3]
    assert query("--where", "page=/a", "--since", "2026-01-31T11:00Z") == [5]
    assert query("--window", "1d") == []
    text = run("metrics", "query", "page_views", *where, "--limit", "1").output
    assert "page=/a" in text
    assert "KEY=VALUE" in run("metrics", "query", "x", "--where", "a", *where, exit_code=2).output
