"""Reads the tables an analyst reads: metrics, dead_letters, late_events, sink_offsets.

Upstream: the Postgres sink's schema. Downstream: `compare`. Invariant: reads only, in one
snapshot for each call.
"""

from collections.abc import Collection, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from streamgauge.cli.verify.cells import Cell, CellKey, canonical
from streamgauge.schemas.view_metrics import ViewMetric

At = tuple[int, int]
"""Partition and offset."""

_METRICS = """
    SELECT metric, window_size, (extract(epoch FROM window_start) * 1000)::bigint, version,
           dimensions::text, value, numerator, denominator, users, is_final
    FROM {schema}.metrics"""


class Tables:
    """The tables of one namespace."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._schema = sql.Identifier(schema)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def metrics(self) -> dict[CellKey, Cell]:
        """Every row of `metrics`."""
        cells = {}
        seen: dict[str, str] = {}  # few sets of dimensions, many rows
        with (
            self._connection.transaction(),
            self._connection.cursor("verify_metrics") as cursor,
        ):
            cursor.itersize = 20_000
            cursor.execute(sql.SQL(_METRICS).format(schema=self._schema))
            for metric, size, start, version, dimensions, *rest in cursor:
                text = seen.get(dimensions)
                if text is None:
                    text = seen[dimensions] = canonical(dimensions)
                cells[CellKey(metric, size, start, version, text)] = Cell(*rest)
        return cells

    def dead_letters(self, topics: Collection[str]) -> dict[At, str]:
        """Reasons by partition and offset."""
        return self._by_offset("dead_letters", "reason", topics)

    def late_events(self, topics: Collection[str]) -> dict[At, str]:
        """Event ids by partition and offset."""
        return self._by_offset("late_events", "event_id", topics)

    def offsets(self, topic: str) -> Mapping[int, int]:
        """How far the sink has written a topic (its unqualified name): next offsets."""
        query = sql.SQL(
            "SELECT partition, coalesce(next_offset, 0) FROM {}.sink_offsets WHERE topic = %s"
        )
        rows = self._connection.execute(query.format(self._schema), [topic]).fetchall()
        return dict(rows)

    def select(self, table: str, columns: LiteralString) -> list[tuple[Any, ...]]:
        """All rows of a table or view; nothing where there is none yet."""
        query = sql.SQL("SELECT {} FROM {}.{}").format(
            sql.SQL(columns), self._schema, sql.Identifier(table)
        )
        try:
            return self._connection.execute(query).fetchall()
        except psycopg.errors.UndefinedTable:
            return []

    def view(self, metric: ViewMetric) -> list[tuple[int, str, float | None]]:
        """A metric's windows (start in ms), dimensions and values; nothing where it has no view."""
        name = sql.Identifier
        dimensions = [sql.SQL("''"), *map(name, metric.dimensions)]
        where = [sql.SQL("{} = {}").format(name(n), text) for n, text in metric.where.items()]
        query = sql.SQL(
            "SELECT (extract(epoch FROM {start}) * 1000)::bigint, concat({dimensions}),"
            " {value}::double precision FROM {schema}.{view} WHERE {where}"
        ).format(
            start=name(metric.start),
            dimensions=sql.SQL(", ").join(dimensions),
            value=name(metric.value),
            schema=self._schema,
            view=name(metric.view),
            where=sql.SQL(" AND ").join([sql.SQL("true"), *where]),
        )
        try:
            return self._connection.execute(query).fetchall()
        except psycopg.errors.UndefinedTable:
            return []

    def _by_offset(self, table: str, column: str, topics: Collection[str]) -> dict[At, str]:
        query = sql.SQL('SELECT partition, "offset", {} FROM {}.{} WHERE topic = ANY(%s)').format(
            sql.Identifier(column), self._schema, sql.Identifier(table)
        )
        rows = self._connection.execute(query, [list(topics)]).fetchall()
        return {(partition, offset): said for partition, offset, said in rows}
