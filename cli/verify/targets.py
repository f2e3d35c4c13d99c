"""Everything that is compared, opened by one config: topics, Postgres, Redis.

Upstream: what the recomputation expects. Downstream: `compare`, target by target. Invariants: only
what lies before the cut and can be recomputed is compared: other definitions' rows are left alone,
and so are open windows when closed ones are asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from streamgauge.cli.verify import (
    anomalies,
    compare,
    experiment_targets,
    flag_targets,
    profile_targets,
    redis,
    segment_targets,
    session_targets,
    view_targets,
)
from streamgauge.cli.verify.anomalies import Minutes
from streamgauge.cli.verify.cells import Cell, CellKey
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.exclusions import Exclusions
from streamgauge.cli.verify.experiments import Experiments
from streamgauge.cli.verify.log import Log, Offsets
from streamgauge.cli.verify.postgres import Tables
from streamgauge.cli.verify.redis import Counters
from streamgauge.cli.verify.report import Comparison, Difference
from streamgauge.cli.verify.series_flags import SeriesFlags, Watch
from streamgauge.cli.verify.sessions import Sessions
from streamgauge.cli.verify.topics import Topics
from streamgauge.cli.verify.users import Users
from streamgauge.cli.verify.waiting import Waiting
from streamgauge.schemas import topics
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry

METRICS = topics.METRICS.name
_SAID = {topics.DEAD_LETTERS.name: "reason", topics.LATE_EVENTS.name: "event_id"}
"""What must be equal of a row about a record."""

At = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What every target must say, and of what."""

    cells: Mapping[CellKey, Cell]
    dead_letters: Mapping[At, str]
    late_events: Mapping[At, str]
    cut: Offsets
    watermark: int
    versions: frozenset[str]
    series: frozenset[str]
    is_compared: Callable[[int], bool]  # by the end of a window
    experiments: Experiments | None = None  # None: events keep coming
    users: Users | None = None  # likewise
    minutes: Minutes | None = None
    sessions: Sessions | None = None
    exclusions: Exclusions | None = None

    def kept(self, cells: Mapping[CellKey, Cell]) -> dict[CellKey, Cell]:
        """The cells that can be compared."""
        return {
            key: cell
            for key, cell in cells.items()
            if key.version in self.versions and self.is_compared(key.window_end)
        }

    def before_cut(self, rows: Mapping[At, str]) -> dict[At, str]:
        """The rows about records before the cut."""
        return {at: said for at, said in rows.items() if at[1] < self.cut.get(at[0], 0)}


class Targets:
    """Where a namespace's results lie."""

    def __init__(self, config: VerifyConfig, stack: ExitStack) -> None:
        self._config = config
        self.log = Log(config.kafka, patience=config.timeout)
        stack.callback(self.log.close)
        self.registry = open_registry(config.registry)
        self._topics = Topics(self.log, Codec(self.registry))
        self.tables: Tables | None = None
        self._counters: Counters | None = None
        if config.postgres:
            self.tables = Tables(config.postgres, config.postgres_schema)
            stack.callback(self.tables.close)
        if config.redis:
            self._counters = Counters(config.redis, config.redis_prefix)
            stack.callback(self._counters.close)

    def metrics(self) -> tuple[dict[CellKey, Cell], list[Difference]]:
        """The cells of the topic, and rows under a key that is not theirs."""
        return self._topics.metrics(self._config.topic(METRICS))

    def reasons(self) -> dict[At, str]:
        """Why records of the raw topic are dead letters, as the worker says."""
        return self._about(topics.DEAD_LETTERS.name)[0]

    def await_sinks(self, waiting: Waiting) -> None:
        """Until the sinks have taken over all that the worker has written."""
        for name in (
            METRICS,
            *_SAID,
            *experiment_targets.TABLES,
            *segment_targets.TABLES,
            *session_targets.TABLES,
            *profile_targets.TABLES,
            topics.ANOMALIES.name,
            topics.ACTIONS.name,
        ):
            topic = self._config.topic(name)
            if not self.log.exists(topic):
                continue
            end = self.log.bounds(topic)[1]
            if self.tables:
                waiting.reader("the Postgres sink", topic, end, partial(self.tables.offsets, name))
            if self._counters and name in (METRICS, *segment_targets.SETS, *profile_targets.HASHES):
                offsets = partial(self._counters.offsets, end, name)
                waiting.reader("the Redis sink", topic, end, offsets)

    def compare(self, expected: Expected) -> Iterator[Comparison]:
        """Each target beside what is expected of it."""
        cells = expected.kept(expected.cells)
        yield from self._compare_topics(expected, cells)
        if self.tables:
            yield from self._compare_tables(self.tables, expected, cells)
        if self._counters:
            found = {
                name: value
                for name, value in self._counters.metrics().items()
                if name.metric in expected.series and expected.is_compared(name.window_end)
            }
            watermark = expected.watermark
            yield compare.values("redis", cells, found, partial(redis.expired, watermark))
        codec = Codec(self.registry)
        if expected.minutes:
            yield from self._compare_minutes(expected.minutes, codec)
        if self.tables and expected.experiments:  # no events come any more
            yield from anomalies.compare_anomalies(self._config, self.log, codec, self.tables)
        if expected.experiments and expected.exclusions:
            yield from anomalies.compare_actions(
                expected.exclusions, self._config, self.log, codec, self.tables
            )
        if expected.experiments:
            yield from experiment_targets.compare_experiments(
                expected.experiments,
                *(self._config, self.log, codec, self.tables, self._counters),
            )
        if expected.sessions:
            yield from session_targets.compare_sessions(
                expected.sessions,
                *(self._config, self.log, codec, self.tables),
                closed_only=expected.users is None,
            )
        if expected.users:
            yield from profile_targets.compare_profiles(
                expected.users, self._config, self.log, codec, self.tables, self._counters
            )
            yield from segment_targets.compare_segments(
                expected.users.membership,
                *(self._config, self.log, codec, self.tables, self._counters),
            )
        if expected.users and expected.sessions and self.tables and self._knows_users():
            yield view_targets.compare_views(
                expected.sessions.rows(by_device=False).values(),
                *(expected.users, profile_targets.profiles_of(expected.users), self.tables),
            )

    def _compare_minutes(self, minutes: Minutes, codec: Codec) -> Iterator[Comparison]:
        """Watched minutes, and the flags that follow from them and from events of users."""
        config, log = self._config, self.log
        rows = flag_targets.read_flags(config, log, codec)  # before the points they are of
        points = anomalies.read_points(minutes.grains, config, log, codec)
        if points is not None:
            yield anomalies.compare_points(minutes, points)
        if rows is None or points is None:
            return
        sources = frozenset(log.bounds(config.events)[1])
        watch = Watch(
            grains=minutes.grains,
            alerts=minutes.alerts,
            detected=minutes.detected,
            sources=sources,
            memories=flag_targets.read_memories(config, log, codec),
        )
        yield flag_targets.compare_flags(
            rows,
            SeriesFlags.of(points, watch),
            minutes.users,
            done=min(minutes.done.get(source, 0) for source in sources),
            is_whole=log.is_whole(config.topic(topics.ANOMALIES.name)),
        )

    def _knows_users(self) -> bool:
        """Whether there is a worker that keeps them."""
        names = (*session_targets.TABLES, *profile_targets.TABLES, *segment_targets.TABLES)
        return all(self.log.exists(self._config.topic(name)) for name in names)

    def _compare_topics(
        self, expected: Expected, cells: Mapping[CellKey, Cell]
    ) -> Iterator[Comparison]:
        found, misnamed = self.metrics()
        metrics = compare.cells(METRICS, cells, expected.kept(found))
        yield self._as_far_as_kept(replace(metrics, differences=[*misnamed, *metrics.differences]))
        for name, said in zip(_SAID, (expected.dead_letters, expected.late_events), strict=True):
            rows, twice = self._about(name)
            yield self._as_far_as_kept(
                compare.records(name, said, expected.before_cut(rows), twice)
            )

    def _compare_tables(
        self, tables: Tables, expected: Expected, cells: Mapping[CellKey, Cell]
    ) -> Iterator[Comparison]:
        yield compare.cells(f"postgres.{METRICS}", cells, expected.kept(tables.metrics()))
        for name, said, rows in (
            ("dead_letters", expected.dead_letters, tables.dead_letters(self._config.sources)),
            ("late_events", expected.late_events, tables.late_events(self._config.sources)),
        ):
            yield compare.records(f"postgres.{name}", said, expected.before_cut(rows))

    def _about(self, name: str) -> tuple[dict[At, str], int]:
        topic = self._config.topic(name)
        return self._topics.by_offset(topic, self._config.sources, _SAID[name])

    def _as_far_as_kept(self, comparison: Comparison) -> Comparison:
        """A topic whose first records the broker has deleted cannot hold every row."""
        topic = self._config.topic(comparison.target)
        if not self.log.exists(topic) or self.log.is_whole(topic):
            return comparison
        return compare.without_missing(comparison)
