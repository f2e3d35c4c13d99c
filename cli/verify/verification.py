"""Proves that each target says what the raw topic says, once worker and sinks have passed the cut.

    cut ── wait for the worker ── recompute ── compare ─┬─ equal: done
            ▲                                           └─ wait, look again, until nothing improves
            └── the topic grew: take in what is new ◄───┘

Upstream: the CLI. Downstream: Kafka, Postgres, Redis, the archive, all read only. Invariants: a
target is only compared with what lies before the cut that the worker has passed; on a topic that
keeps growing only windows that were closed at the cut are compared, for nothing changes them.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from streamgauge.cli.verify import compare, redis, translate
from streamgauge.cli.verify.archive import Archive, Range
from streamgauge.cli.verify.cells import Cell, CellKey
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.decode import EventDecoder
from streamgauge.cli.verify.errors import CutNotCoveredError, NotReachedError
from streamgauge.cli.verify.log import Log, Offsets
from streamgauge.cli.verify.postgres import Tables
from streamgauge.cli.verify.recompute import AGENT_FAILED, Raw, Recomputation
from streamgauge.cli.verify.redis import Counters
from streamgauge.cli.verify.report import Comparison, Difference, Report
from streamgauge.cli.verify.topics import Topics
from streamgauge.schemas import topics
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.loading import load_event_module
from streamgauge.schemas.metrics import builtin, load_definitions
from streamgauge.schemas.registry import open_registry

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and of how much."""

_METRICS = topics.METRICS.name
_OUTPUTS = (_METRICS, topics.DEAD_LETTERS.name, topics.LATE_EVENTS.name)
_PAUSE = 0.5


def verify(config: VerifyConfig, progress: Progress | None = None) -> Report:
    """Recompute everything up to the cut and compare every target that the config names."""
    with ExitStack() as stack:
        return _Verification(config, progress or _silent, stack).run()


def compare_namespaces(a: VerifyConfig, b: VerifyConfig) -> Report:
    """Whether the metrics of two namespaces are the very same rows, in topic and Postgres.

    Each config names its own Kafka and Postgres; a replay into a fresh namespace must be equal.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        first, second = (_Targets(config, stack) for config in (a, b))
        comparisons = [_same(_METRICS, first.metrics(), second.metrics())]
        if a.postgres and b.postgres:
            rows = (side.tables.metrics() for side in (first, second) if side.tables)
            comparisons.append(_same(f"postgres.{_METRICS}", *rows))
    return _filled(
        Report(cut={}, source=f"namespaces {a.namespace or 'default'} and {b.namespace}"),
        comparisons,
        shown=a.shown,
        seconds=time.monotonic() - started,
    )


class _Targets:
    """Where the namespace's results lie."""

    def __init__(self, config: VerifyConfig, stack: ExitStack) -> None:
        self.config = config
        self.log = Log(config.kafka, patience=config.timeout)
        stack.callback(self.log.close)
        self.registry = open_registry(config.registry)
        self.topics = Topics(self.log, Codec(self.registry))
        self.tables: Tables | None = None
        self.counters: Counters | None = None
        if config.postgres:
            self.tables = Tables(config.postgres, config.postgres_schema)
            stack.callback(self.tables.close)
        if config.redis:
            self.counters = Counters(config.redis, config.redis_prefix)
            stack.callback(self.counters.close)
        self.misnamed: list[Difference] = []

    def metrics(self) -> dict[CellKey, Cell]:
        cells, self.misnamed = self.topics.metrics(self.config.topic(_METRICS))
        return cells


class _Verification:
    """One run of `verify`."""

    def __init__(self, config: VerifyConfig, progress: Progress, stack: ExitStack) -> None:
        for module in config.event_modules:
            load_event_module(module)
        definitions = load_definitions(config.definitions) if config.definitions else builtin()
        grains = definitions.grains()
        self._config = config
        self._progress = progress
        self._targets = _Targets(config, stack)
        self._log = self._targets.log
        self._archive = Archive(config.archive, config.namespace) if config.archive else None
        self._oracle = Recomputation(
            grains,
            EventDecoder(self._targets.registry, translate.columns(grains)),
            lateness_ms=config.lateness_ms,
            consent_denied=config.consent_default == "denied",
        )
        stack.callback(self._oracle.close)
        self._versions = {grain.version for grain in grains}
        self._series = {series.name for series in definitions.series()}
        self._read: dict[int, int] = {}  # partition → first offset not read yet
        self._closed_only = config.closed_only
        self._notes: list[str] = []

    def run(self) -> Report:
        started = time.monotonic()
        self._advance(dict(self._config.cut or self._ends()))
        cells = self._oracle.cells()
        comparisons = list(self._compare(cells))
        best, improved = _different(comparisons), time.monotonic()
        while best and time.monotonic() - improved < self._config.timeout:
            self._progress("settling", best, best)
            time.sleep(_PAUSE)
            if self._grow():
                cells = self._oracle.cells()
            comparisons = list(self._compare(cells))
            if (different := _different(comparisons)) < best:
                best, improved = different, time.monotonic()
        oracle = self._oracle
        report = Report(
            cut=self._read,
            source=f"archive {self._config.archive}" if self._archive else self._config.events,
            read=oracle.counts["read"],
            ticks=oracle.counts["ticks"],
            accepted=oracle.counts["accepted"],
            duplicates=oracle.counts["duplicate"],
            late=oracle.counts["late"],
            rejected=oracle.rejected(),
            closed_only=self._closed_only,
            notes=tuple(self._notes),
        )
        return _filled(
            report, comparisons, shown=self._config.shown, seconds=time.monotonic() - started
        )

    # -- up to the cut -----------------------------------------------------------------------

    def _ends(self) -> dict[int, int]:
        return self._log.bounds(self._config.events)[1]

    def _advance(self, cut: Mapping[int, int]) -> None:
        """Wait until the worker has passed the cut, then take in the records before it."""
        config, oracle = self._config, self._oracle
        self._await_worker(config.events, cut)
        partials = config.topic(topics.METRIC_PARTIALS.name)
        if self._log.exists(partials):
            self._await_worker(partials, self._log.bounds(partials)[1])
        reasons, _ = self._targets.topics.by_offset(
            config.topic(topics.DEAD_LETTERS.name), config.sources, "reason"
        )
        oracle.failed = frozenset(at for at, why in reasons.items() if why == AGENT_FAILED)
        oracle.expect(cut)
        total, done = sum(cut.values()) - sum(self._read.values()), 0
        for chunk in self._raw(cut):
            oracle.add(chunk)
            done += len(chunk)
            self._progress("recomputing", done, total)
        self._read = dict(cut)
        self._await_tables()

    def _raw(self, cut: Mapping[int, int]) -> Iterator[list[Raw]]:
        if self._archive and not self._read:
            for hole in self._archive.uncovered(cut):
                self._require_empty(hole)
            yield from self._archive.read(cut)
            return
        starts, _ = self._log.bounds(self._config.events)
        begin = {p: self._read.get(p, 0) for p in cut}
        if gone := [p for p, offset in begin.items() if cut[p] > offset < starts.get(p, 0)]:
            raise CutNotCoveredError(
                f"{self._config.events} no longer holds its first records (partitions "
                f"{', '.join(map(str, gone))}): verify against the archive instead (--archive)"
            )
        for chunk in self._log.read(self._config.events, begin, cut):
            yield [
                Raw(m.partition(), m.offset(), m.timestamp()[1], m.value())  # type: ignore[arg-type]
                for m in chunk
            ]

    def _require_empty(self, hole: Range) -> None:
        """What the archive does not hold must be nothing but markers of transactions."""
        topic, (partition, first, end) = self._config.events, hole
        held_from = self._log.bounds(topic)[0][partition]
        if first >= held_from and not self._log.remaining(
            topic, {partition: first}, {partition: end}
        ):
            return
        raise CutNotCoveredError(
            f"the archive has no file for {topic}/{partition} offsets {first} to {end - 1}: "
            "let its sink catch up (streamgauge sink archive), or give an earlier cut"
        )

    def _await_worker(self, topic: str, cut: Mapping[int, int]) -> None:
        group = self._config.worker_group
        self._await(
            f"the worker (group {group})",
            topic,
            cut,
            lambda: self._log.committed(group, topic),
        )

    def _await_tables(self) -> None:
        """Wait until the Postgres sink has taken over all that the worker wrote."""
        tables = self._targets.tables
        for name in _OUTPUTS if tables else ():
            topic = self._config.topic(name)
            if tables and self._log.exists(topic):
                positions = partial(tables.offsets, name)
                self._await("the Postgres sink", topic, self._log.bounds(topic)[1], positions)

    def _await(
        self, who: str, topic: str, cut: Mapping[int, int], positions: Callable[[], Offsets]
    ) -> None:
        """Wait until somebody has read a topic up to the cut; give up when they stand still."""
        total = sum(cut.values())
        least, moved = total + 1, time.monotonic()
        while True:
            at = positions()
            behind = sum(max(0, end - at.get(p, 0)) for p, end in cut.items())
            if behind < least:
                least, moved = behind, time.monotonic()
            # The tail may be markers of transactions, which nobody ever commits.
            if behind <= 1_000 and self._log.remaining(topic, at, cut) == 0:
                return
            if time.monotonic() - moved > self._config.timeout:
                raise NotReachedError(
                    f"{who} is {behind:,} records of {topic} before the cut and has not moved "
                    f"for {self._config.timeout:.0f} s: is it running?"
                )
            self._progress(f"waiting for {who} on {topic}", total - behind, total)
            time.sleep(_PAUSE / 2)

    def _grow(self) -> bool:
        """Take in what has come since; more events than ticks mean that the topic is live."""
        if self._config.cut or self._closed_only:
            return False
        ends = self._ends()
        if ends == self._read:
            return False
        events = self._oracle.counts["read"] - self._oracle.counts["ticks"]
        self._advance(ends)
        if self._oracle.counts["read"] - self._oracle.counts["ticks"] > events:
            self._closed_only = True
            self._notes.append("events keep coming: open windows were not compared")
        return True

    # -- targets -----------------------------------------------------------------------------

    def _compare(self, expected: Mapping[CellKey, Cell]) -> Iterator[Comparison]:
        config, targets = self._config, self._targets
        expected = self._kept(expected)
        found = self._kept(targets.metrics())
        metrics = compare.cells(_METRICS, expected, found)
        metrics = replace(metrics, differences=[*targets.misnamed, *metrics.differences])
        yield self._as_far_as_kept(metrics)
        dead, late = self._oracle.dead_letters, self._oracle.late_events
        for topic, field, said in (
            (topics.DEAD_LETTERS.name, "reason", dead),
            (topics.LATE_EVENTS.name, "event_id", late),
        ):
            rows, twice = targets.topics.by_offset(config.topic(topic), config.sources, field)
            records = compare.records(topic, said, self._before_cut(rows), twice)
            yield self._as_far_as_kept(records)
        if targets.tables:
            rows_found = self._kept(targets.tables.metrics())
            yield compare.cells(f"postgres.{_METRICS}", expected, rows_found)
            for name, said, rows in (
                ("dead_letters", dead, targets.tables.dead_letters(config.sources)),
                ("late_events", late, targets.tables.late_events(config.sources)),
            ):
                yield compare.records(f"postgres.{name}", said, self._before_cut(rows))
        if targets.counters:
            values = {
                name: value
                for name, value in targets.counters.metrics().items()
                if name[0] in self._series and self._keeps(CellKey(*name[:3], "", name[3]))
            }
            watermark = self._oracle.watermark
            yield compare.values(
                "redis",
                expected,
                values,
                lambda key: redis.expired(key.window_size, key.window_start, watermark),
            )

    def _as_far_as_kept(self, comparison: Comparison) -> Comparison:
        """A topic whose first records the broker has deleted cannot hold every row."""
        topic = self._config.topic(comparison.target)
        if not self._log.exists(topic) or self._log.is_whole(topic):
            return comparison
        return compare.without_missing(comparison)

    def _kept(self, cells: Mapping[CellKey, Cell]) -> dict[CellKey, Cell]:
        """Cells that can be compared: of these definitions, and closed when that is asked for."""
        return {
            key: cell
            for key, cell in cells.items()
            if key.version in self._versions and self._keeps(key)
        }

    def _keeps(self, key: CellKey) -> bool:
        return not self._closed_only or self._oracle.closed(key.window_end)

    def _before_cut(self, rows: Mapping[tuple[int, int], str]) -> dict[tuple[int, int], str]:
        return {at: said for at, said in rows.items() if at[1] < self._read.get(at[0], 0)}


def _same(target: str, a: Mapping[CellKey, Cell], b: Mapping[CellKey, Cell]) -> Comparison:
    differences = [
        Difference(target=target, key=str(key), expected=str(a.get(key)), found=str(b.get(key)))
        for key in a.keys() | b.keys()
        if a.get(key) != b.get(key)
    ]
    return Comparison(target=target, keys=len(a), differences=differences)


def _different(comparisons: list[Comparison]) -> int:
    return sum(len(each.differences) for each in comparisons)


def _filled(report: Report, comparisons: list[Comparison], *, shown: int, seconds: float) -> Report:
    differences = [each for one in comparisons for each in one.differences]
    return replace(
        report,
        keys={each.target: each.keys for each in comparisons},
        excused={each.target: each.excused for each in comparisons},
        different={each.target: len(each.differences) for each in comparisons},
        differences=tuple(differences[:shown]),
        seconds=round(seconds, 3),
    )


def _silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""
