"""The watch over the metrics as a task of the engine: points in, flags out.

    anomaly-points ──> board ──> whole minutes ──> watched series ──> anomalies
                                                        └──> anomaly-state (changelog)

Upstream: `points.py` of every source partition. Downstream: the topic `anomalies`. What is
computed is in `board.py` and `watched.py`; here are the state and its stable copy. The changelog
has the memory of each series, written when it had something to say and every two hours of its
time, for it is large; the points of each minute since then; and how far the board is.

Invariants: a flag's words follow from `anomaly-points` alone; none is written twice, for offsets,
words and memory are of one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from streamgauge.schemas.alerts import Alert
from streamgauge.schemas.anomaly_records import Anomaly, AnomalyState
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.metrics import Definitions
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import ANOMALIES, ANOMALY_POINTS, ANOMALY_STATE
from streamgauge.schemas.watched import COUNTED, watched
from streamgauge.streams import packing
from streamgauge.streams.anomalies import outputs
from streamgauge.streams.anomalies.board import MINUTE_MS, Board, Span, Whole
from streamgauge.streams.anomalies.levels import Level, level_of
from streamgauge.streams.anomalies.series import Rates
from streamgauge.streams.anomalies.watched import Memory, Point, Settings, Watched
from streamgauge.streams.engine.task import Batch, Output, Task
from streamgauge.streams.metrics import snapshots
from streamgauge.streams.metrics.plan import Plan

FORMAT = 1
SAVED_EVERY_MS = 120 * MINUTE_MS
SAVED_EVERY_S = 10.0
MOST = 2_000
"""Series that a partition watches; further ones are left alone."""
PROGRESS = b"progress"

Place = tuple[str, str]
"""Name of a series among the metrics, and its dimensions."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """How the series of a name are watched."""

    version: str
    zeros: bool
    detected: bool
    levels: Mapping[str, Level]


class AnomalyWatch(Task):
    """Points to flags."""

    topic = ANOMALY_POINTS.name
    changelogs = (ANOMALY_STATE.name,)
    tail = "input"

    def __init__(
        self,
        definitions: Definitions,
        alerts: Sequence[Alert],
        registry: Registry,
        *,
        source_partitions: int,
        rates: Rates | None = None,
    ) -> None:
        """`source_partitions`: of events; all must have passed a minute for it to be judged."""
        self._plan = Plan(watched(definitions, alerts))
        self._sources = source_partitions
        self._rates = rates or Rates()
        self._named = _named(definitions, alerts, self._plan)
        self._codec = Codec(registry)
        self._anomalies = Encoder(registry, ANOMALIES.name, Anomaly)
        self._states = Encoder(registry, ANOMALY_STATE.name, AnomalyState)
        told = [alert.model_dump() for alert in alerts]
        self.identity = snapshots.identity(
            list(self._plan.numbers), FORMAT, told, asdict(self._rates), source_partitions
        )
        self._stable: dict[int, Board] = {}
        self._boards: dict[int, Board] = {}
        self._series: dict[int, dict[Place, Watched]] = {}
        self._new: list[tuple[int, Place]] = []
        """Series that came up since the last commit."""
        self._touched: list[Watched] = []
        """Series that were fed or saved since the last commit."""
        self._gone: list[tuple[int, Settings, bytes]] = []
        """Series that are watched no more, and whose flags and memory are to end."""
        self._changelog: dict[int, dict[bytes, bytes | None]] = {}
        self._loaded: set[int] = set()
        self._saved_at = float("-inf")

    # -- work ------------------------------------------------------------------------------------

    def process(self, batch: Batch) -> None:
        for (partition,), frame in batch.frame.group_by("partition", maintain_order=True):
            number = int(partition)  # type: ignore[call-overload]
            self._boards[number] = self._boards.get(number, Board()).added(frame)

    replay = process

    def flush(self, now: float) -> Iterable[Output]:
        words: list[dict[str, Any]] = []
        memory: list[tuple[int, bytes, tuple[Any, ...] | None]] = []
        for partition, settings, kept in self._gone:
            words += Memory.of(kept).end(settings)
            memory.append((partition, _key(settings), None))
        moved = set()
        for partition, board in sorted(self._boards.items()):
            before = self._stable.get(partition, Board())
            if board is before:
                continue
            moved.add(partition)
            board, whole = board.whole(self._plan, self._sources)
            for each in whole:
                words += self._fed(partition, each)
                points = _by_minute(each)
                board = replace(board, kept=(*board.kept, *points))
                memory += [
                    (partition, _points_key(*place), (None, place[1], _json(values)))
                    for place, values in points.items()
                ]
            self._boards[partition] = board
            if board.spans != before.spans or whole:
                memory.append((partition, PROGRESS, (None, None, _progress(board))))
        for partition, watch in self._due(now, {word["series"] for word in words}):
            row = (watch.settings.name, watch.memory.next, watch.save())
            memory.append((partition, _key(watch.settings), row))
            self._touched.append(watch)
            moved.add(partition)
        for partition in moved & set(self._boards):
            board = self._boards[partition].pruned()
            needed = self._needed(partition)
            old = [place for place in board.kept if needed is None or place[1] < needed]
            memory += [(partition, _points_key(*place), None) for place in old]
            left = tuple(place for place in board.kept if place not in set(old))
            self._boards[partition] = replace(board, kept=left)
        yield from self._outputs(words, memory)

    def _due(self, now: float, told: set[str]) -> Iterable[tuple[int, Watched]]:
        """Series whose memory is to be written: what was told must outlive its definition."""
        due = now >= self._saved_at + SAVED_EVERY_S
        if due:
            self._saved_at = now
        if due or told:
            for partition, watches in self._series.items():
                for watch in watches.values():
                    behind = watch.memory.next - watch.kept_next
                    # Since when it is held to which levels is to be known soon.
                    is_first = bool(watch.settings.levels) and not watch.kept
                    is_due = due and (is_first or behind >= SAVED_EVERY_MS)
                    if watch.settings.name in told or is_due:
                        yield partition, watch

    def _fed(self, partition: int, whole: Whole) -> list[dict[str, Any]]:
        """Whole minutes to their series."""
        words = []
        watches = self._series.setdefault(partition, {})
        for minute, dimensions, name, value in whole.values:
            watch = watches.get((name, dimensions))
            if watch is None:
                if len(watches) >= MOST:
                    continue
                settings = self._settings(name, dimensions)
                if settings is None:
                    continue
                watch = watches[name, dimensions] = Watched(settings)
                self._new.append((partition, (name, dimensions)))
            words += watch.feed(minute, value)
        for (name, _), watch in watches.items():
            if self._named[name].version == whole.version:
                words += watch.advance(whole.end)
                self._touched.append(watch)
        return words

    def _settings(self, name: str, dimensions: str) -> Settings | None:
        named = self._named.get(name)
        if named is None:
            return None
        return Settings(
            metric=name,
            dimensions=dimensions,
            zeros=named.zeros,
            detected=named.detected,
            levels=named.levels if dimensions == "{}" else {},
            rates=self._rates,
        )

    def _needed(self, partition: int) -> int | None:
        """The first minute of which the memory of some series lacks the points."""
        watches = self._series.get(partition, {}).values()
        kept = (watch.memory.next if watch.fresh else watch.kept_next for watch in watches)
        return min(kept, default=None)

    def _outputs(
        self,
        words: list[dict[str, Any]],
        memory: list[tuple[int, bytes, tuple[Any, ...] | None]],
    ) -> Iterable[Output]:
        if words:
            yield outputs.anomalies(words, self._anomalies)
        if memory:
            rows = [row for *_, row in memory if row is not None]
            told = iter(self._states.encode(outputs.states(rows)))
            yield Output(
                topic=ANOMALY_STATE.name,
                keys=[key for _, key, _ in memory],
                values=[None if row is None else next(told) for *_, row in memory],
                partitions=[partition for partition, *_ in memory],
            )

    def commit(self) -> None:
        self._stable = dict(self._boards)
        for watch in self._touched:
            watch.commit()
        self._new, self._touched, self._gone = [], [], []

    def abort(self) -> None:
        self._boards = dict(self._stable)
        for partition, place in self._new:
            self._series.get(partition, {}).pop(place, None)
        for watch in self._touched:
            watch.abort()
        self._new, self._touched = [], []
        self._saved_at = float("-inf")

    # -- partitions come and go ------------------------------------------------------------------

    def metadata(self, partition: int) -> str:
        board = self._boards.get(partition, Board())
        return json.dumps({"from": board.first})

    def resume_from(self, partition: int, offset: int, metadata: str) -> int:
        self._boards[partition] = Board()
        first = json.loads(metadata)["from"] if metadata else None
        return offset if first is None else first

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        self._changelog.setdefault(partition, {}).update(zip(keys, values, strict=True))

    def restored(self, partitions: set[int]) -> None:
        """Points that were read again go to the series that they are of; nothing is said."""
        for partition in partitions:
            if partition in self._changelog:
                self._recalled(partition, self._changelog.pop(partition))
            if partition in self._loaded:
                board, whole = self._boards[partition].whole(self._plan, self._sources)
                for each in whole:
                    self._fed(partition, each)
                    board = replace(board, kept=(*board.kept, *_by_minute(each)))
                self._boards[partition] = board
        self._loaded -= partitions
        gone = self._gone
        self.commit()
        self._gone = gone

    def _recalled(self, partition: int, rows: Mapping[bytes, bytes | None]) -> None:
        found = {
            key: self._codec.decode(value).record
            for key, value in rows.items()
            if value is not None
        }
        if PROGRESS not in found:
            return
        spans, taken = _of_progress(found.pop(PROGRESS)["state"])
        saved: dict[Place, tuple[bytes, int]] = {}
        points: dict[Place, list[Point]] = {}
        kept = []
        for key, row in found.items():
            if row["series"] is not None:
                name, dimensions = json.loads(key)
                saved[name, dimensions] = (row["state"], row["next_minute"])
                continue
            _, version, minute = key.decode().split("|")
            kept.append((version, int(minute)))
            for dimensions, name, value in json.loads(row["state"]):
                points.setdefault((name, dimensions), []).append((int(minute), value))
        watches = self._series.setdefault(partition, {})
        for name, dimensions in sorted({*saved, *points}):
            packed, upto = saved.get((name, dimensions), (b"", 0))
            since = [one for one in sorted(points.get((name, dimensions), ())) if one[0] >= upto]
            if not packed and not since:
                continue
            named = self._named.get(name)
            until = taken.get(named.version, 0) if named else 0
            watch = Watched.of(
                self._settings(name, dimensions) or _unwatched(name, dimensions),
                packed,
                upto or since[0][0],
                since,
                max(until or max(taken.values()), upto),
            )
            if named is None:
                self._gone.append((partition, watch.settings, watch.memory.packed()))
            else:
                watches[name, dimensions] = watch
        board = self._boards[partition]
        floor = min((taken.get(v, 0) for v in spans if v in self._plan.numbers), default=0)
        left = {minute: row for minute, row in board.rows.items() if minute >= floor}
        self._boards[partition] = replace(
            board, rows=left, spans=spans, taken=taken, kept=tuple(sorted(kept))
        )

    def revoke(self, partitions: set[int]) -> None:
        for partition in partitions:
            self._boards.pop(partition, None)
            self._stable.pop(partition, None)
            self._series.pop(partition, None)
            self._changelog.pop(partition, None)
            self._loaded.discard(partition)
        self._new = [new for new in self._new if new[0] not in partitions]
        self._gone = [gone for gone in self._gone if gone[0] not in partitions]

    def snapshot(self) -> Callable[[int], bytes]:
        boards = self._stable
        series = {
            partition: [
                (place, watch.kept, watch.kept_next, watch.since, watch.until)
                for place, watch in watches.items()
            ]
            for partition, watches in self._series.items()
        }

        def of(partition: int) -> bytes:
            board = boards[partition]
            lines = [
                (minute, *key, parts)
                for minute, rows in board.rows.items()
                for key, parts in rows.items()
            ]
            frames = {
                "rows": pl.DataFrame(lines, schema=_ROWS, orient="row"),
                "kept": pl.DataFrame(
                    {"kept": [kept for _, kept, *_ in series.get(partition, [])]},
                    schema={"kept": pl.Binary},
                ),
            }
            others = [(place, *rest) for place, _, *rest in series.get(partition, [])]
            progress = _progress(board).decode()
            return packing.packed(frames, [progress, board.marks, board.kept, others])

        return of

    def load(self, partition: int, snapshot: memoryview, at: int, offset: int, text: str) -> bool:
        frames, (progress, marks, taken_in, series) = packing.unpacked(snapshot)
        spans, taken = _of_progress(progress.encode())
        rows: dict[int, dict[tuple[str, str, int], bytes]] = {}
        for minute, version, dimensions, source, parts in frames["rows"].iter_rows():
            rows.setdefault(minute, {})[version, dimensions, source] = parts
        board = Board(
            rows=rows,
            spans=spans,
            taken=taken,
            marks=tuple(map(tuple, marks)),
            kept=tuple(map(tuple, taken_in)),
        )
        watches = {}
        for kept, ((name, dimensions), upto, since, until) in zip(
            frames["kept"]["kept"], series, strict=True
        ):
            settings = self._settings(name, dimensions)
            if settings is None:
                return False
            points = tuple((minute, value) for minute, value in since)
            watches[name, dimensions] = Watched.of(settings, kept, upto, points, until)
        self._boards[partition] = board
        self._series[partition] = watches
        self._loaded.add(partition)
        return True


_ROWS: Mapping[str, Any] = {
    "minute": pl.Int64,
    "version": pl.String,
    "dimensions": pl.String,
    "source": pl.Int64,
    "parts": pl.Binary,
}


def _named(definitions: Definitions, alerts: Sequence[Alert], plan: Plan) -> dict[str, Named]:
    marked = {definition.name for definition in definitions.metrics if definition.watched}
    levels: dict[str, dict[str, Level]] = {}
    for alert in alerts:
        if alert.metric is not None:
            levels.setdefault(alert.metric, {})[alert.name] = level_of(alert)
    return {
        name: Named(
            version=grain.version,
            zeros=metric.aggregate in COUNTED,
            detected=metric.name in marked,
            levels=levels.get(name, {}),
        )
        for grain in plan.grains
        for metric in grain.metrics
        for name in metric.series
    }


def _unwatched(name: str, dimensions: str) -> Settings:
    """Of a series that is watched no more."""
    return Settings(metric=name, dimensions=dimensions, zeros=False, detected=True, levels={})


def _by_minute(whole: Whole) -> dict[tuple[str, int], list[tuple[str, str, float]]]:
    """Values by version and minute."""
    found: dict[tuple[str, int], list[tuple[str, str, float]]] = {}
    for minute, dimensions, name, value in whole.values:
        found.setdefault((whole.version, minute), []).append((dimensions, name, value))
    return found


def _points_key(version: str, minute: int) -> bytes:
    return f"points|{version}|{minute}".encode()


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _key(settings: Settings) -> bytes:
    return json.dumps([settings.metric, settings.dimensions], ensure_ascii=False).encode()


def _progress(board: Board) -> bytes:
    return json.dumps([board.spans, board.taken], separators=(",", ":")).encode()


def _of_progress(
    text: bytes,
) -> tuple[dict[str, dict[int, Span]], dict[str, int]]:
    spans, taken = json.loads(text)
    return {
        version: {int(source): Span(*span) for source, span in of.items()}
        for version, of in spans.items()
    }, taken
