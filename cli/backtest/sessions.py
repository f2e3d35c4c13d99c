"""Sessions over batches of accepted events, and the tables that their rows come to.

Upstream: `log.py` and the fates that `metrics.py` found. Downstream: `run.py`. Latest wins, and
what is gone is gone, as in a sink.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from streamgauge.streams.sessions.rows import KEY, ROWS, changed, gone
from streamgauge.streams.sessions.sessions import (
    SessionState,
    Settings,
    Told,
    close,
    flush,
    step,
)
from streamgauge.streams.sessions.spans import arrived


class Sessions:
    """The sessions of a log, of users and of their devices."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tables = {
            "sessions": _Table(by_device=False),
            "device_sessions": _Table(by_device=True),
        }

    def add(self, accepted: pl.DataFrame, watermarks: Mapping[int, int]) -> None:
        settings = self._settings
        found = arrived(accepted, settings.identifiable, settings.conversions)
        for table in self._tables.values():
            run = found.devices if table.by_device else found.users
            state = step(table.state, run, found, watermarks, settings.lateness)
            state, over = close(state, settings.lateness)
            table.state, rest = flush(state, settings.lateness)
            table.take(over)
            table.take(rest)

    def tables(self) -> dict[str, pl.DataFrame]:
        """Sessions by user (and device) and start."""
        return {name: table.rows() for name, table in self._tables.items()}


class _Table:
    def __init__(self, *, by_device: bool) -> None:
        self.by_device = by_device
        self.state = SessionState()
        self._told: list[pl.DataFrame] = []

    def take(self, told: Told) -> None:
        if len(told.sessions.key) or len(told.gone.key):
            left = gone(told, by_device=self.by_device).with_columns(is_gone=True)
            rows = changed(told, by_device=self.by_device).with_columns(is_gone=False)
            self._told.append(pl.concat([left, rows], how="diagonal"))

    def rows(self) -> pl.DataFrame:
        key = [name for name in KEY if self.by_device or name != "device_type"]
        schema = {name: kind for name, kind in ROWS.items() if self.by_device or name != KEY[1]}
        nothing = pl.DataFrame(schema={**schema, "is_gone": pl.Boolean()})
        return (
            pl.concat([nothing, *self._told], how="diagonal")
            .unique(key, keep="last", maintain_order=True)
            .filter(~pl.col("is_gone"))
            .drop("is_gone")
            .sort(key)
        )
