"""The figures of the live view, read from where an analyst would read them: Postgres.

Upstream: the tables of the Postgres sink and the lag of each group. Downstream: `view.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from streamgauge.cli.commands.segments import told
from streamgauge.cli.demo import moves
from streamgauge.cli.demo.experiment import LOOKS, Look, looks_of
from streamgauge.cli.demo.moves import Moved
from streamgauge.cli.settings import schema_name
from streamgauge.cli.stack.lag import GROUPS, Broker

MINUTES = 60
PAGES = 8
MOVES = 6
FLAGS = 6

# Counts and sums of hours add up; users do not, so the newest day's are shown.
_TOTALS = """
    SELECT metric, sum(numerator), sum(denominator) FROM {schema}.metrics
    WHERE window_size = '1h' AND dimensions = '{{}}'
      AND metric IN ('events', 'page_views', 'click_through_rate')
    GROUP BY metric"""
_USERS = """
    SELECT value FROM {schema}.metrics
    WHERE metric = 'active_users' AND window_size = '1d' AND dimensions = '{{}}'
    ORDER BY window_start DESC LIMIT 1"""
_PAGES = """
    SELECT dimensions->>'page', sum(numerator) FROM {schema}.metrics
    WHERE metric = 'page_views' AND window_size = '1h' AND dimensions ? 'page'
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %s"""
_MINUTES = """
    SELECT numerator FROM {schema}.metrics
    WHERE metric = 'events' AND window_size = '1m' AND dimensions = '{{}}'
    ORDER BY window_start DESC LIMIT %s"""
_MOVES = """
    SELECT user_id, segment, left_at IS NULL, coalesce(reason_out, reason_in)
    FROM {schema}.user_segments ORDER BY greatest(entered_at, left_at) DESC, user_id, segment
    LIMIT %s"""
_FLAGS = """
    SELECT severity, series, detector, observed, expected, to_char(started_at, 'HH24:MI'),
           to_char(ended_at, 'HH24:MI'), count(*) OVER (),
           count(*) FILTER (WHERE NOT is_final) OVER ()
    FROM {schema}.anomalies ORDER BY severity, started_at DESC, series, detector LIMIT %s"""
_SESSIONS = """
    SELECT count(*) FILTER (WHERE NOT is_final), count(*) FILTER (WHERE is_final),
           coalesce(avg(duration_seconds) / 60, 0)
    FROM {schema}.sessions"""
_COUNTS = """
    SELECT (SELECT count(*) FROM {schema}.late_events),
           (SELECT count(*) FROM {schema}.dead_letters)"""


@dataclass(frozen=True, kw_only=True)
class Flagged:
    """An anomaly, and how many there are."""

    severity: str
    series: str
    detector: str
    observed: float | None
    expected: float | None
    begun: str
    cleared: str | None
    all: int
    lasting: int

    def text(self) -> str:
        """What was flagged, and from when to when."""
        figures = [f"{one:.3g}" for one in (self.observed, self.expected) if one is not None]
        until = f"cleared {self.cleared}" if self.cleared else "lasts"
        said = " for ".join(figures)
        return f"{self.series} {self.detector}: {said}, {self.begun}, {until}"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the tables say now."""

    events: int = 0
    page_views: int = 0
    active_users: int = 0
    click_through_rate: float | None = None
    late: int = 0
    rejected: int = 0
    open_sessions: int = 0
    closed_sessions: int = 0
    session_minutes: float = 0.0
    """Their mean length."""
    pages: Sequence[tuple[str, int]] = ()
    flags: Sequence[Flagged] = ()
    """Anomalies, red ones first."""
    per_minute: Sequence[int] = ()
    """Events of the latest minutes of event time, oldest first."""
    moves: Sequence[tuple[str, str, bool, str]] = ()
    """Who, which segment, whether into it, and why; the latest first."""
    looks: Sequence[Look] = ()
    """At the experiment, from the first."""
    lags: Mapping[str, int] = field(default_factory=dict)


class Reader:
    """Reads the figures of one namespace; everything is 0 until the sinks have begun."""

    def __init__(self, kafka: str, postgres: str, namespace: str) -> None:
        self._broker = Broker(kafka)
        self._connection = psycopg.connect(postgres, autocommit=True)
        self._namespace = namespace
        self._schema = sql.Identifier(schema_name(namespace))

    def close(self) -> None:
        self._connection.close()

    def lags(self) -> dict[str, int]:
        """Records behind, by group."""
        return {
            name: sum(at.lag for at in self._broker.positions(self._namespace, name))
            for name in GROUPS
        }

    def figures(self) -> Figures:
        """All of them, each of the moment it is read."""
        lags = self.lags()
        try:
            totals = {name: (top, bottom) for name, top, bottom in self._rows(_TOTALS)}
            ((late, rejected),) = self._rows(_COUNTS)
            ((going, over, minutes),) = self._rows(_SESSIONS)
            clicks, shown = totals.get("click_through_rate", (0, 0))
            return Figures(
                events=int(totals.get("events", (0, 1))[0]),
                page_views=int(totals.get("page_views", (0, 1))[0]),
                active_users=int(next((row[0] for row in self._rows(_USERS)), 0)),
                click_through_rate=clicks / shown if shown else None,
                late=late,
                rejected=rejected,
                open_sessions=going,
                closed_sessions=over,
                session_minutes=minutes,
                pages=[(page, int(count)) for page, count in self._rows(_PAGES, PAGES)],
                per_minute=[int(row[0]) for row in self._rows(_MINUTES, MINUTES)][::-1],
                moves=[
                    (user, segment, enters, told(reason))
                    for user, segment, enters, reason in self._rows(_MOVES, MOVES)
                ],
                flags=[_flagged(row) for row in self._rows(_FLAGS, FLAGS)],
                looks=self.looks(),
                lags=lags,
            )
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return Figures(lags=lags)  # the sink has not made its tables yet

    def looks(self) -> list[Look]:
        """What the experiment said, from the first time on."""
        return looks_of(self._rows(LOOKS))

    def moved(self) -> Moved:
        """Who entered and left segments."""
        ((entered, left),) = self._rows(moves.COUNTS)
        return Moved.of(entered, left, self._rows(moves.LATEST, moves.SHOWN))

    def rows(self) -> int:
        """How many rows the table `metrics` holds."""
        ((count,),) = self._rows("SELECT count(*) FROM {schema}.metrics")
        return int(count)

    def _rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        statement = sql.SQL(query).format(schema=self._schema)
        return self._connection.execute(statement, parameters or None).fetchall()


def _flagged(row: tuple[Any, ...]) -> Flagged:
    names = ("severity", "series", "detector", "observed", "expected", "begun", "cleared")
    return Flagged(**dict(zip((*names, "all", "lasting"), row, strict=True)))
