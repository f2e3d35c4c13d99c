"""The tables that sessions come to, from what is told of them batch by batch.

Upstream: the worker's branch of sessions, in `users.py`. Downstream: `run.py`. Latest wins, and
what is gone is gone, as in a sink.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from streamgauge.schemas.topics import DEVICE_SESSIONS, SESSIONS
from streamgauge.streams.sessions.rows import KEY, ROWS, changed, gone
from streamgauge.streams.sessions.sessions import Told

DEVICE = KEY[1]


class SessionTables:
    """The sessions of a log, of users and of their devices."""

    def __init__(self) -> None:
        self._rows: dict[str, list[pl.DataFrame]] = {SESSIONS.name: [], DEVICE_SESSIONS.name: []}

    def take(self, told: Mapping[str, Iterable[Told]]) -> None:
        """What is told after a batch, by topic."""
        for topic, some in told.items():
            by_device = topic == DEVICE_SESSIONS.name
            self._rows[topic] += [
                _rows(one, by_device) for one in some if len(one.sessions.key) or len(one.gone.key)
            ]

    def tables(self) -> dict[str, pl.DataFrame]:
        """Sessions by user (and device) and start."""
        return {
            topic.replace("-", "_"): _latest(rows, by_device=topic == DEVICE_SESSIONS.name)
            for topic, rows in self._rows.items()
        }


def _rows(told: Told, by_device: bool) -> pl.DataFrame:
    left = gone(told, by_device=by_device).with_columns(is_gone=True)
    rows = changed(told, by_device=by_device).with_columns(is_gone=False)
    return pl.concat([left, rows], how="diagonal")


def _latest(rows: list[pl.DataFrame], *, by_device: bool) -> pl.DataFrame:
    key = [name for name in KEY if by_device or name != DEVICE]
    schema = {name: kind for name, kind in ROWS.items() if by_device or name != DEVICE}
    nothing = pl.DataFrame(schema={**schema, "is_gone": pl.Boolean()})
    return (
        pl.concat([nothing, *rows], how="diagonal")
        .unique(key, keep="last", maintain_order=True)
        .filter(~pl.col("is_gone"))
        .drop("is_gone")
        .sort(key)
    )
