"""How revisions write SQL: plain statements, `{schema}` for the schema they run in.

Rules for revisions: additive (columns nullable or with a default); every table and column gets a
COMMENT; an index on a table that may hold rows is made CONCURRENTLY, in
`op.get_context().autocommit_block()` (of a partitioned table: on each partition, then on the
parent with ONLY and attached); every downgrade works on a schema with rows in it.
"""

from __future__ import annotations

from alembic import op
from psycopg import sql


def execute(statements: str) -> None:
    """Run statements, with the schema's quoted name in place of `{schema}`."""
    schema = op.get_context().opts["version_table_schema"]
    text = statements.replace("{schema}", sql.Identifier(schema).as_string())
    # psycopg itself: it takes several statements at once when there are no parameters.
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(text)
