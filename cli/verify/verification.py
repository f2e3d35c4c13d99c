"""Proves that each target says what the raw topic says, once worker and sinks have passed the cut.

    cut ── wait for the worker ── recompute ── compare ─┬─ equal: done
            ▲                                           └─ wait, look again, until nothing improves
            └── the topic grew: take in what is new ◄───┘

Upstream: the CLI. Downstream: Kafka, Postgres, Redis, the archive, all read only. Invariants: a
target is only compared with what lies before the cut that the worker has passed; on a topic that
goes on after the cut only windows that were closed there are compared, for nothing changes them.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from streamgauge.cli.verify import translate
from streamgauge.cli.verify.anomalies import Minutes
from streamgauge.cli.verify.archive import Archive, Range
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.decode import EventDecoder
from streamgauge.cli.verify.errors import CutNotCoveredError
from streamgauge.cli.verify.exclusions import Exclusions, rows_of
from streamgauge.cli.verify.experiments import Experiments
from streamgauge.cli.verify.recompute import AGENT_FAILED, Raw, Recomputation
from streamgauge.cli.verify.report import Comparison, Report
from streamgauge.cli.verify.sessions import Sessions
from streamgauge.cli.verify.targets import Expected, Targets
from streamgauge.cli.verify.user_flags import UserFlags
from streamgauge.cli.verify.users import Users
from streamgauge.cli.verify.waiting import Progress, Waiting
from streamgauge.schemas import alerts, segments, topics
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.loading import load_event_module
from streamgauge.schemas.metrics import builtin, load_definitions
from streamgauge.schemas.segments import load_rules
from streamgauge.schemas.watched import SETTLE_MS, watched

_PAUSE = 0.5


def verify(config: VerifyConfig, progress: Progress | None = None) -> Report:
    """Recompute everything up to the cut and compare every target that the config names."""
    with ExitStack() as stack:
        return _Verification(config, progress or _silent, stack).run()


class _Verification:
    """One run of `verify`."""

    def __init__(self, config: VerifyConfig, progress: Progress, stack: ExitStack) -> None:
        for module in config.event_modules:
            load_event_module(module)
        definitions = load_definitions(config.definitions) if config.definitions else builtin()
        grains = definitions.grains()
        self._config = config
        self._progress = progress
        self._targets = Targets(config, stack)
        self._log = self._targets.log
        self._waiting = Waiting(self._log, config.timeout, progress)
        denied = config.consent_default == "denied"
        self._exclusions = Exclusions(lateness_ms=config.lateness_ms, consent_denied=denied)
        self._experiments = Experiments(consent_denied=denied, exclusions=self._exclusions)
        rules = load_rules(config.segments) if config.segments else segments.builtin()
        self._users = Users(rules, lateness_ms=config.lateness_ms, consent_denied=denied)
        self._sessions = Sessions(lateness_ms=config.lateness_ms, consent_denied=denied)
        self._flags = UserFlags(lateness_ms=config.lateness_ms, consent_denied=denied)
        self._alerts = alerts.chosen(config.alerts, definitions)
        self._watched = watched(definitions, self._alerts).grains()
        self._detected = frozenset(one.name for one in definitions.metrics if one.watched)
        everything = (*grains, *self._watched)
        self._oracle = Recomputation(
            grains,
            EventDecoder(self._targets.registry, translate.columns(everything)),
            lateness_ms=config.lateness_ms,
            consent_denied=denied,
            folds=(self._exclusions, self._experiments, self._users, self._sessions, self._flags),
            watched=self._watched,
            settle_ms=SETTLE_MS,
            exclusions=self._exclusions,
        )
        stack.callback(self._oracle.close)
        self._versions = frozenset(grain.version for grain in grains)
        self._series = frozenset(series.name for series in definitions.series())
        self._read: dict[int, int] = {}  # partition → first offset not read yet
        self._closed_only = config.closed_only
        self._notes: list[str] = []

    def run(self) -> Report:
        """Recompute, compare, and look again until equal or nothing improves."""
        started = time.monotonic()
        ends = self._ends()
        cut = dict(self._config.cut or ends)
        if any(end > cut.get(partition, 0) for partition, end in ends.items()):
            self._leave_out_open_windows("the topic goes on after the cut")
        self._advance(cut)
        expected = self._expected()
        comparisons = list(self._targets.compare(expected))
        best, improved = _different(comparisons), time.monotonic()
        while best and time.monotonic() - improved < self._config.timeout:
            self._progress("settling", best, best)
            time.sleep(_PAUSE)
            if self._grow():
                expected = self._expected()
            comparisons = list(self._targets.compare(expected))
            if (different := _different(comparisons)) < best:
                best, improved = different, time.monotonic()
        return self._report().filled(
            comparisons, shown=self._config.shown, seconds=time.monotonic() - started
        )

    def _report(self) -> Report:
        counts, archive = self._oracle.counts, self._config.archive
        return Report(
            cut=self._read,
            source=f"archive {archive}" if archive else self._config.events,
            read=counts["read"],
            ticks=counts["ticks"],
            accepted=counts["accepted"],
            duplicates=counts["duplicate"],
            late=counts["late"],
            excluded=counts["excluded"],
            rejected=self._oracle.rejected(),
            closed_only=self._closed_only,
            notes=tuple(self._notes),
        )

    def _expected(self) -> Expected:
        oracle = self._oracle
        self._users.finish()
        return Expected(
            cells=oracle.cells(),
            dead_letters=oracle.dead_letters,
            late_events=oracle.late_events,
            cut=self._read,
            watermark=oracle.watermark,
            versions=self._versions,
            series=self._series,
            is_compared=oracle.closed if self._closed_only else _always,
            experiments=None if self._closed_only else self._experiments,
            users=None if self._closed_only else self._users,
            exclusions=self._exclusions,
            sessions=self._sessions,
            minutes=Minutes(
                points=oracle.points(),
                done={partition: oracle.done(partition) for partition in self._read},
                grains=self._watched,
                alerts=self._alerts,
                detected=self._detected,
                users=self._flags,
            ),
        )

    def _ends(self) -> dict[int, int]:
        return self._log.bounds(self._config.events)[1]

    def _advance(self, cut: Mapping[int, int]) -> None:
        """Take in the records before the cut, once the worker has passed it, then the sinks."""
        config, oracle, waiting = self._config, self._oracle, self._waiting
        waiting.group(config.worker_group, config.events, cut)
        partials = config.topic(topics.METRIC_PARTIALS.name)
        if self._log.exists(partials):
            waiting.group(config.worker_group, partials, self._log.bounds(partials)[1])
        points = config.topic(topics.ANOMALY_POINTS.name)
        if self._log.exists(points):
            waiting.group(config.worker_group, points, self._log.bounds(points)[1])
        failed = (at for at, why in self._targets.reasons().items() if why == AGENT_FAILED)
        oracle.failed = frozenset(failed)
        self._exclusions.believe(rows_of(config, self._log, Codec(self._targets.registry)))
        oracle.expect(cut)
        total, done = sum(cut.values()) - sum(self._read.values()), 0
        for chunk in self._raw(cut):
            oracle.add(chunk)
            done += len(chunk)
            self._progress("recomputing", done, total)
        self._read = dict(cut)
        self._targets.await_sinks(waiting)

    def _raw(self, cut: Mapping[int, int]) -> Iterator[list[Raw]]:
        if self._config.archive and not self._read:
            yield from self._archived(Archive(self._config.archive, self._config.namespace), cut)
            return
        topic = self._config.events
        starts, _ = self._log.bounds(topic)
        begin = {p: self._read.get(p, 0) for p in cut}
        if gone := [p for p, offset in begin.items() if cut[p] > offset < starts.get(p, 0)]:
            raise CutNotCoveredError(
                f"{topic} no longer holds its first records (partitions "
                f"{', '.join(map(str, gone))}): verify against the archive (--from-archive)"
            )
        for chunk in self._log.read(topic, begin, cut):
            yield [
                Raw(m.partition(), m.offset(), m.timestamp()[1], m.value())  # type: ignore[arg-type]
                for m in chunk
            ]

    def _archived(self, archive: Archive, cut: Mapping[int, int]) -> Iterator[list[Raw]]:
        self._waiting.reader("the archive's sink", self._config.events, cut, archive.ends)
        for hole in archive.uncovered(cut):
            self._require_empty(hole)
        yield from archive.read(cut)

    def _require_empty(self, hole: Range) -> None:
        """What the archive does not hold must be nothing but markers of transactions."""
        topic, (partition, first, end) = self._config.events, hole
        is_held = self._log.bounds(topic)[0][partition] <= first
        if is_held and not self._log.remaining(topic, {partition: first}, {partition: end}):
            return
        raise CutNotCoveredError(
            f"the archive has no file for {topic}/{partition} offsets {first} to {end - 1}: it was "
            "removed, or the topic's retention was quicker than the archive's sink"
        )

    def _grow(self) -> bool:
        """Take in what has come since; when it is more than ticks, the topic is live."""
        if self._config.cut or self._closed_only:
            return False
        ends = self._ends()
        if ends == self._read:
            return False
        events = self._oracle.counts["read"] - self._oracle.counts["ticks"]
        self._advance(ends)
        if self._oracle.counts["read"] - self._oracle.counts["ticks"] > events:
            self._leave_out_open_windows("events keep coming")
        return True

    def _leave_out_open_windows(self, why: str) -> None:
        if not self._closed_only:
            self._closed_only = True
            self._notes.append(f"{why}: open windows were not compared")


def _different(comparisons: list[Comparison]) -> int:
    return sum(len(each.differences) for each in comparisons)


def _always(window_end: int) -> bool:
    """All windows are compared."""
    return True


def _silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""
