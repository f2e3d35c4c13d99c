"""What the raw topic says, computed again: fates one record at a time, metrics by SQL in DuckDB.

Upstream: raw records in offset order, partition by partition. Downstream: `compare`. Invariants:
memory is bounded by one chunk of rows, the ids that can still be repeated, and the answer; the
clock is never read; the same records in other chunks give the same answer.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

import duckdb
import polars as pl

from streamgauge.cli.verify import translate
from streamgauge.cli.verify.cells import Cell, CellKey, text_of
from streamgauge.cli.verify.exclusions import Exclusions
from streamgauge.cli.verify.fate import Fate, SourcePartition
from streamgauge.schemas.control import of_text
from streamgauge.schemas.control_checks import REASON, problem_of
from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.schemas.metric_fields import field_kind
from streamgauge.schemas.metrics import Grain
from streamgauge.schemas.records import MARKER_TIME, Control

MINUTE_MS = 60_000
FUTURE, AGENT_FAILED = "future", "agent_failed"
_ROWS = 50_000
_TYPES = {"string": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}


class Raw(NamedTuple):
    """A record as it lies in the topic."""

    partition: int
    offset: int
    append_time: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Tick:
    """A decoded tick, maybe with a definition that takes effect there."""

    timestamp: int
    control: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that is no event: a stable reason."""

    reason: str


class Decode(Protocol):
    """One record's value to an event's fields, a tick, or the reason why it is neither."""

    def __call__(self, value: bytes | None) -> Mapping[str, Any] | Tick | Rejected: ...


class Fold(Protocol):
    """Something else that is computed again of the same records, in order of offsets."""

    def tick(self, partition: int, timestamp: int) -> None:
        """Time passes."""

    def control(self, partition: int, offset: int, control: Control) -> None: ...

    def event(self, partition: int, offset: int, event: Mapping[str, Any]) -> None:
        """An accepted one."""


class Recomputation:
    """The fold over the raw topic; feed it with `add`, then ask."""

    def __init__(
        self,
        grains: Sequence[Grain],
        decode: Decode,
        *,
        lateness_ms: int,
        consent_denied: bool,
        folds: Sequence[Fold] = (),
        watched: Sequence[Grain] = (),
        settle_ms: int = 0,
        exclusions: Exclusions | None = None,
    ) -> None:
        self._exclusions = exclusions
        self._watched, self._settle_ms = watched, min(settle_ms, lateness_ms)
        self._folds = folds
        self.counts: Counter[str] = Counter()  # read, ticks, and one for each fate
        self.dead_letters: dict[tuple[int, int], str] = {}  # at partition and offset: the reason
        self.late_events: dict[tuple[int, int], str] = {}  # the event's id
        self.failed: frozenset[tuple[int, int]] = frozenset()  # records an agent raised at
        self._partitions: dict[int, SourcePartition] = {}
        self._lateness_ms = lateness_ms
        self._consent_denied = consent_denied
        self._decode = decode
        self._grains = grains
        kinds = {name: _kind(name) for name in translate.columns((*grains, *watched))}
        kinds |= {"timestamp": "int", "event_type": "string"}
        self._fields = tuple(kinds)
        # The last columns are made here.
        kinds |= {"user_key": "string", "source_partition": "int", "watermark_before": "int"}
        self._schema = {name: _TYPES.get(kind, pl.Int64) for name, kind in kinds.items()}
        self._rows: list[tuple[Any, ...]] = []
        # In a file, so that memory does not grow with the topic; it goes with this object.
        self._folder = TemporaryDirectory(prefix="streamgauge-verify-")
        self._tables = duckdb.connect(f"{self._folder.name}/events.duckdb")
        types = translate.duck_types(kinds)
        columns = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
        self._tables.execute(f"CREATE TABLE events ({columns})")

    def close(self) -> None:
        """Let go of the rows."""
        self._tables.close()
        self._folder.cleanup()

    def expect(self, partitions: Iterable[int]) -> None:
        """These partitions exist, whether or not anything lies in them."""
        for partition in partitions:
            self._partitions.setdefault(partition, SourcePartition(self._lateness_ms))

    def add(self, records: Iterable[Raw]) -> None:
        """The next records of their partitions."""
        for record in records:
            self._add(record)
        if len(self._rows) >= _ROWS:
            self._store()

    def closed(self, window_end: int) -> bool:
        """Whether every source partition has passed a window for good."""
        return all(partition.closed(window_end) for partition in self._partitions.values())

    @property
    def watermark(self) -> int:
        """The furthest watermark of all, 0 before any event."""
        return max((p.watermark or 0 for p in self._partitions.values()), default=0)

    def rejected(self) -> dict[str, int]:
        """Dead letters by reason."""
        return dict(Counter(self.dead_letters.values()))

    def cells(self) -> dict[CellKey, Cell]:
        """Every cell that the metrics must hold now."""
        self._store()
        cells: dict[CellKey, Cell] = {}
        for grain in self._grains:
            for window_size in grain.windows:
                self._grain(grain, window_size, cells)
        return cells

    def points(self) -> dict[tuple[int, CellKey], Cell]:
        """Of the watched grains: minutes that are done, by source partition, of the events that
        came before the partition's watermark was `settle_ms` past the minute's end."""
        self._store()
        found: dict[tuple[int, CellKey], Cell] = {}
        for number in self._partitions:
            prompt = (
                f"(SELECT * FROM events WHERE source_partition = {number} AND (watermark_before IS"
                f" NULL OR watermark_before < timestamp - timestamp % {MINUTE_MS} + {MINUTE_MS} +"
                f" {self._settle_ms}))"
            )
            for grain in self._watched:
                cells: dict[CellKey, Cell] = {}
                self._grain(grain, "1m", cells, prompt)
                done = self.done(number)
                found |= {(number, k): cell for k, cell in cells.items() if k.window_end <= done}
        return found

    def done(self, partition: int) -> int:
        """The end of the last minute that a source partition is done with."""
        watermark = self._partitions[partition].watermark
        return 0 if watermark is None else watermark - self._settle_ms

    def _add(self, record: Raw) -> None:
        self.counts["read"] += 1
        event = self._decode(record.value)
        at = (record.partition, record.offset)
        partition = self._partitions[record.partition]
        if at in self.failed:
            self.dead_letters[at] = AGENT_FAILED
            return
        if isinstance(event, Tick):
            self.counts["ticks"] += 1
            if event.timestamp != MARKER_TIME:
                now = min(event.timestamp, record.append_time)  # its writer's clock may err
                partition.tick(now)
                for fold in self._folds:
                    fold.tick(record.partition, now)
            if event.control is not None and self._folds:
                marked = of_text(event.control)
                if problem_of(marked) is not None:
                    self.dead_letters[at] = REASON
                for fold in self._folds:
                    fold.control(record.partition, record.offset, marked)
            return
        if isinstance(event, Rejected):
            self.dead_letters[at] = event.reason
            return
        before = partition.watermark
        fate = partition.event(event["event_id"], event["timestamp"], record.append_time)
        if fate is Fate.FUTURE:
            self.dead_letters[at] = FUTURE
            return
        self.counts[fate.value] += 1
        if fate is Fate.LATE:
            self.late_events[at] = event["event_id"]
        elif fate is Fate.ACCEPTED:
            if self._exclusions is not None and self._exclusions.has(record.partition, event):
                self.counts["excluded"] += 1
            else:
                self._rows.append((*self._row(event), record.partition, before))
            for fold in self._folds:
                fold.event(record.partition, record.offset, event)

    def _row(self, event: Mapping[str, Any]) -> tuple[Any, ...]:
        consent = event.get("consent_analytics")
        denied = self._consent_denied if consent is None else not consent
        if denied:
            return (*map(event.get, self._fields), None)
        user = event.get("user_id")
        return (*map(event.get, self._fields), event.get("anonymous_id") if user is None else user)

    def _store(self) -> None:
        if not self._rows:
            return
        columns = zip(self._schema.items(), zip(*self._rows, strict=True), strict=True)
        rows = _Rows(pl.DataFrame([pl.Series(name, v, dtype=kind) for (name, kind), v in columns]))
        self._tables.register("rows", rows)
        self._tables.execute("INSERT INTO events SELECT * FROM rows")
        self._tables.unregister("rows")
        self._rows = []

    def _grain(
        self,
        grain: Grain,
        window_size: str,
        cells: dict[CellKey, Cell],
        events: str = "events",
    ) -> None:
        query = translate.query(grain, window_size)
        cursor = self._tables.execute(query.sql.replace(" FROM events ", f" FROM {events} ", 1))
        while rows := cursor.fetchmany(20_000):
            for row in rows:
                dimensions = dict(zip(grain.dimensions, row[1:], strict=False))
                key = CellKey("", window_size, row[0], grain.version, text_of(dimensions))
                final = self.closed(key.window_end)
                users = None if query.users is None else row[query.users]
                for series in query.series:
                    if not row[series.present]:
                        continue
                    top = row[series.numerator] / series.scale
                    bottom = 1 if series.denominator is None else row[series.denominator]
                    bottom = bottom / series.under
                    cells[key._replace(metric=series.name)] = Cell(
                        top / bottom, top, bottom, users, final, series.bound
                    )


class _Rows:
    """A frame as DuckDB takes it, without pyarrow in between."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def _kind(field: str) -> str:
    kinds = (field_kind(cls, field) for cls in EVENT_TYPES.values())
    return next((kind for kind in kinds if kind is not None), "string")
