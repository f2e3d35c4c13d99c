"""A namespace whose tables hold what a test put there."""

import uuid
from dataclasses import dataclass

import psycopg

from streamgauge.sinks.postgres.migrate import migrate


@dataclass(frozen=True, kw_only=True)
class Filled:
    """Where the rows are."""

    namespace: str
    schema: str


def filled(postgres: str, rows: str) -> Filled:
    """A new namespace with all tables, after these statements."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    schema = namespace.replace("-", "_")
    migrate(postgres, schema)
    with psycopg.connect(postgres) as connection:
        connection.execute(f"SET search_path TO {schema}".encode())
        connection.execute(rows.encode())
    return Filled(namespace=namespace, schema=schema)
