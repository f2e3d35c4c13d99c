"""Migrations: every step up and down, by several at once, with a comment on everything."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from streamgauge.sinks.errors import Fatal, Retryable
from streamgauge.sinks.postgres import migrate as module
from streamgauge.sinks.postgres.migrate import downgrade, migrate
from streamgauge.sinks.sink import Log

pytestmark = pytest.mark.postgres


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(module.MIGRATIONS))
    return [s.revision for s in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def tables(pg: Any) -> set[str]:
    with psycopg.connect(pg.dsn) as connection:
        query = """
            SELECT relname FROM pg_class
            WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p')"""
        return {name for (name,) in connection.execute(query, [pg.schema])}


@pytest.fixture
def filled(pg: Any) -> Any:
    """A schema with rows in it, for migrations meet data."""
    sink = pg.sink()
    sink.open({("metrics", 0): Log()})
    sink.write(pg.batch(0, 0, ("a", 1.0)))
    sink.close()
    return pg


def test_every_revision_goes_down_and_up_again(filled: Any) -> None:
    present = tables(filled)
    for revision in ["base", *revisions()][-2::-1]:
        downgrade(filled.dsn, filled.schema, revision)
        migrate(filled.dsn, filled.schema, "+1")
        downgrade(filled.dsn, filled.schema, revision)
    assert tables(filled) == {"alembic_version"}
    migrate(filled.dsn, filled.schema)
    assert tables(filled) == {name for name in present if not name.startswith("metrics_")}


def test_migrating_what_is_migrated_changes_nothing(filled: Any) -> None:
    migrate(filled.dsn, filled.schema)
    assert filled.contents() == {"a": 1.0}


def test_many_may_migrate_at_once(postgres: str, namespace: str) -> None:
    schema = namespace.replace("-", "_")
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate, postgres, schema) for _ in range(4)]:
            done.result()
    with psycopg.connect(postgres) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


def test_schemas_do_not_meet_and_may_have_odd_names(postgres: str) -> None:
    migrate(postgres, 'Odd "name"')
    with psycopg.connect(postgres) as connection:
        assert connection.execute('SELECT count(*) FROM "Odd ""name""".metrics').fetchone() == (0,)
        connection.execute('DROP SCHEMA "Odd ""name""" CASCADE')


def test_every_table_and_column_has_a_comment(filled: Any) -> None:
    query = """
        SELECT c.relname, a.attname, col_description(c.oid, coalesce(a.attnum, 0))
        FROM pg_class c LEFT JOIN pg_attribute a
            ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'p')
        UNION ALL
        SELECT relname, NULL, obj_description(oid, 'pg_class') FROM pg_class
        WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p')"""
    with psycopg.connect(filled.dsn) as connection:
        rows = connection.execute(query, [filled.schema, filled.schema]).fetchall()
    assert len(rows) > 60
    assert [(table, column) for table, column, comment in rows if not comment] == []


def test_the_indexes_of_the_performance_logs_are_those_that_were_asked_for(pg: Any) -> None:
    query = "SELECT indexdef FROM pg_indexes WHERE schemaname = %s AND tablename = %s"
    with psycopg.connect(pg.dsn) as connection:
        found = [d for (d,) in connection.execute(query, [pg.schema, "performance_logs"])]
    assert any("(method_name, created_at)" in d for d in found)
    assert any("(user_id, created_at) WHERE (user_id IS NOT NULL)" in d for d in found)


def test_no_server_is_an_outage() -> None:
    with pytest.raises(Retryable, match="Postgres"):
        migrate("postgresql://127.0.0.1:1/x", "s")


def test_a_schema_that_may_not_be_made_is_told(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS nobody_special")
        connection.execute("CREATE ROLE nobody_special LOGIN")
    with pytest.raises(Fatal, match="Grant it"):
        migrate(postgres.replace("postgres@", "nobody_special@"), "forbidden")


def test_revisions_form_one_line() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(module.MIGRATIONS)))
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1
