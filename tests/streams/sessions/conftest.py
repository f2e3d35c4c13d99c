"""A log of events through the sessions' logic, and the table that its rows come to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.streams.sessions.sessions import KEY, ROWS, SessionState, Settings, flush, step

L = 3_600_000
SCHEMA = {
    "partition": pl.Int32,
    "event_id": pl.String,
    "event_type": pl.String,
    "timestamp": pl.Int64,
    "user_key": pl.String,
    "consent_analytics": pl.Boolean,
    "page_url": pl.String,
    "device_type": pl.String,
    "action": pl.String,
    "name": pl.String,
}

Row = dict[str, Any]


def event(time: int, user: str = "u", **more: Any) -> Row:
    """An event; its id tells its time and user."""
    fields = dict.fromkeys(SCHEMA) | {
        "partition": 0,
        "event_id": f"{time}-{user}",
        "event_type": "page_view",
        "timestamp": time,
        "user_key": user,
        "page_url": f"/{time}?q",
    }
    return fields | more


class Log:
    """Events in the order in which they arrive, and all that was told of their sessions."""

    def __init__(self, *, by_device: bool = False, lateness: int = L) -> None:
        self.settings = Settings(
            lateness=lateness, identifiable=identifiable_rows("granted"), by_device=by_device
        )
        self.state = SessionState()
        self.watermarks: dict[int, int] = {}
        self.table: dict[tuple[Any, ...], Row] = {}
        self.final: set[tuple[Any, ...]] = set()

    def add(self, events: Iterable[Row]) -> "Log":
        """A batch of accepted events."""
        batch = list(events)
        for row in batch:
            self.tick(row["partition"], row["timestamp"])
        frame = pl.DataFrame(batch, schema=SCHEMA)
        self.state = step(self.state, frame, self.watermarks, self.settings)
        return self

    def tick(self, partition: int, time: int) -> None:
        self.watermarks[partition] = max(time, self.watermarks.get(partition, time))

    def passes(self, time: int) -> "Log":
        """Time passes, without events."""
        for partition in self.watermarks:
            self.tick(partition, time)
        self.state = step(self.state, pl.DataFrame(schema=SCHEMA), self.watermarks, self.settings)
        return self

    def flush(self) -> list[Row]:
        self.state, rows = flush(self.state)
        assert rows.schema == ROWS
        told = rows.to_dicts()
        for row in told:
            key = tuple(row[name] for name in KEY)
            assert key not in self.final, "a final row changed"
            if row["is_gone"]:
                del self.table[key]
            else:
                self.table[key] = row
            if row["is_final"]:
                self.final.add(key)
        return told

    def sessions(self) -> list[Row]:
        """The table without what tells how the rows came."""
        rows = (
            {name: it for name, it in row.items() if name not in ("is_final", "is_gone")}
            for row in self.table.values()
        )
        return ordered(rows)


def ordered(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: tuple(str(row[name]) for name in KEY))


def batches(rows: Sequence[Row], sizes: Sequence[int]) -> Iterable[Sequence[Row]]:
    """The rows in batches of these sizes, over and over."""
    at = number = 0
    while at < len(rows):
        size = sizes[number % len(sizes)]
        yield rows[at : at + size]
        at, number = at + size, number + 1
