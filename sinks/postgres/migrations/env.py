"""Alembic's entry: runs the revisions in the schema that the caller names, never a search_path."""

from alembic import context
from psycopg import sql
from sqlalchemy import text

schema: str = context.config.attributes["schema"]
connection = context.config.attributes["connection"]

connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {sql.Identifier(schema).as_string()}"))
connection.commit()
context.configure(
    connection=connection,
    version_table="alembic_version",
    version_table_schema=schema,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
