"""Sessions over batches of accepted events, and the table that their rows come to.

Upstream: `log.py` and the fates that `metrics.py` found. Downstream: `run.py`. Latest wins, and
what is gone is gone, as in a sink.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from streamgauge.streams.sessions.sessions import KEY, ROWS, SessionState, Settings, flush, step


class Sessions:
    """The sessions of a log."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = SessionState()
        self._told = [ROWS.to_frame()]

    def add(self, accepted: pl.DataFrame, watermarks: Mapping[int, int]) -> None:
        state = step(self._state, accepted, watermarks, self._settings)
        self._state, rows = flush(state)
        self._told.append(rows)

    def table(self) -> pl.DataFrame:
        """The sessions by user and start; without devices where they are over devices."""
        by_device = self._settings.by_device
        return (
            pl.concat(self._told)
            .unique(KEY, keep="last", maintain_order=True)
            .filter(~pl.col("is_gone"))
            .drop("is_gone", *([] if by_device else ["device_type"]))
            .sort("user_id", *(["device_type"] if by_device else []), "started_at")
        )
