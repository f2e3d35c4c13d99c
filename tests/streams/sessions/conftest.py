"""A log of events through the sessions' logic, and the table that its rows come to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.streams.sessions.rows import KEY, ROWS, changed, gone
from streamgauge.streams.sessions.sessions import SessionState, Told, close, flush, fold, step
from streamgauge.streams.sessions.spans import COLUMNS, CONVERSIONS, arrived

L = 3_600_000
SCHEMA = {
    "partition": pl.Int32,
    "offset": pl.Int64,
    "event_id": pl.String,
    "event_type": pl.String,
    "timestamp": pl.Int64,
    "user_key": pl.String,
    "consent_analytics": pl.Boolean,
    **dict.fromkeys(sorted(COLUMNS), pl.String),
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
        self.by_device, self.lateness = by_device, lateness
        self.identifiable = identifiable_rows("granted")
        self.state = SessionState()
        self.watermarks: dict[int, int] = {}
        self.offset = 0
        self.table: dict[tuple[Any, ...], Row] = {}
        self.final: set[tuple[Any, ...]] = set()
        self.folded = False

    def add(self, events: Iterable[Row]) -> "Log":
        """A batch of accepted events."""
        batch = []
        for row in events:
            self.tick(row["partition"], row["timestamp"])
            batch.append(row | {"offset": self.offset})
            self.offset += 1
        frame = pl.DataFrame(batch, schema=SCHEMA).sort("partition", "offset")
        found = arrived(frame, self.identifiable, CONVERSIONS)
        run = found.devices if self.by_device else found.users
        self.state = step(self.state, run, found, self.watermarks, self.lateness)
        return self

    def tick(self, partition: int, time: int) -> None:
        self.watermarks[partition] = max(time, self.watermarks.get(partition, time))

    def passes(self, time: int) -> "Log":
        """Time passes, without events."""
        for partition in self.watermarks:
            self.tick(partition, time)
        return self.add([])

    def flush(self, slots: set[int] | None = None) -> list[Row]:
        """Everything that changed, or what is over and what changed in these slots."""
        self.state, over = close(self.state, self.lateness)
        told = self.take(over)
        self.state, rest = flush(self.state, self.lateness, slots)
        return told + self.take(rest)

    def fold(self) -> None:
        """As where many events wait."""
        self.state, over = close(self.state, self.lateness)
        self.take(over)
        self.state, gone = fold(self.state, self.lateness)
        self.take(gone)
        self.folded = True
        assert self.state.waits == 0

    def take(self, told: Told) -> list[Row]:
        """As a sink does."""
        rows = changed(told, by_device=self.by_device)
        assert set(rows.schema.items()) <= set(ROWS.items())
        for row in gone(told, by_device=self.by_device).to_dicts():
            key = self.key(row)
            assert key not in self.final, "a final row changed"
            assert key in self.table or self.folded  # what was folded may be gone before it is told
            self.table.pop(key, None)
        for row in rows.to_dicts():
            key = self.key(row)
            assert key not in self.final, "a final row changed"
            self.table[key] = {"device_type": None} | row
            if row["is_final"]:
                self.final.add(key)
        return rows.to_dicts()

    def key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row.get(name) for name in KEY)

    def sessions(self) -> list[Row]:
        """The table without what tells how the rows came."""
        rows = (
            {name: it for name, it in row.items() if name != "is_final"}
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
