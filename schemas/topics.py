"""The one registry of topics: name, key, records, partitions, cleanup and retention.

Everything that names a topic takes it from here. Upstream: nothing. Downstream: producers,
worker, sinks, `verify`, the CLI's `topics`.

Invariants: every topic stamps records with LogAppendTime (event time lives in the record, so a
replay of old events is not deleted as it arrives), and all have the same number of partitions,
so that equal keys meet in equally numbered partitions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from streamgauge.schemas.errors import TopicError

logger = logging.getLogger(__name__)

DAY_MS = 86_400_000


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A topic as it is created; `records` are the names of its Avro records."""

    name: str
    key: str
    records: tuple[str, ...]
    description: str
    repeated: str = ""
    """What a second record of the same key means, where the cleanup policy does not say it."""
    cleanup: Literal["delete", "compact", "compact,delete"] = "delete"
    retention_ms: int | None = None
    partitions: int = 4
    history: bool = False
    """Compacted, and yet each record tells something: sinks take all, not the latest of a key."""

    @property
    def compacted(self) -> bool:
        return "compact" in self.cleanup

    @property
    def repeated_key(self) -> str:
        """What a second record of the same key means."""
        if self.repeated:
            return self.repeated
        if self.compacted:
            return (
                "It replaces the one before, as a whole: values are absolute, the latest is the"
                " truth. A record without a value deletes the key."
            )
        return "Both stand, each for itself, in the order of their offsets."


EVENTS = Topic(
    name="events",
    key="user_id, or anonymous_id",
    records=("Event", "Tick"),
    repeated="Another event of the same user, in order. The same event_id again counts once.",
    retention_ms=7 * DAY_MS,
    description="Every event, of all types, and the ticks of idle partitions.",
)
CONTROL = Topic(
    name="control",
    key="kind/name",
    records=("Control",),
    cleanup="compact",
    description="Definitions that change while workers run; latest wins.",
)
DEAD_LETTERS = Topic(
    name="dead-letters",
    key="topic/partition/offset",
    records=("DeadLetter",),
    repeated="The same record failed again; it is one dead letter.",
    retention_ms=30 * DAY_MS,
    description="Records that could not be used, with the reason and the original bytes.",
)
LATE_EVENTS = Topic(
    name="late-events",
    key="topic/partition/offset",
    records=("LateEvent",),
    repeated="The same event was read again; it is one late event.",
    retention_ms=30 * DAY_MS,
    description="Events behind the watermark by more than the allowed lateness.",
)
METRIC_PARTIALS = Topic(
    name="metric-partials",
    key="source partition and metric key",
    records=("MetricPartial",),
    cleanup="compact,delete",
    retention_ms=3 * DAY_MS,
    description="Minutes of each source partition in absolute values, to be merged.",
)
METRICS = Topic(
    name="metrics",
    key="window_size|window_start|version|dimensions",
    records=("MetricUpdate",),
    cleanup="compact",
    description="The metrics: one row per window, grain and dimensions, latest wins.",
)
METRIC_USERS = Topic(
    name="metric-users",
    key="the sketch's key",
    records=("UserSketch",),
    cleanup="compact",
    description="Changelog of the user sketches of hours and days, per source partition.",
)
METRIC_ROLLUPS = Topic(
    name="metric-rollups",
    key="the roll-up's key",
    records=("MetricRollup",),
    cleanup="compact",
    description="Changelog of the hours and days that the merge adds up.",
)
USER_SEGMENTS = Topic(
    name="user-segments",
    key="user|segment",
    records=("UserSegment", "SegmentRules"),
    cleanup="compact",
    history=True,
    description="Who enters and leaves which segment, with the reason; the last stay of each.",
)
SEGMENT_COUNTS = Topic(
    name="segment-counts",
    key="segment|hour|source partition",
    records=("SegmentCount",),
    cleanup="compact,delete",
    retention_ms=30 * DAY_MS,
    description="How many are in each segment at each full hour, by source partition.",
)
EXPOSURES = Topic(
    name="exposures",
    key="experiment|user",
    records=("Exposure",),
    cleanup="compact",
    description="Each user's first exposure to each experiment.",
)
EXPERIMENT_HISTORY = Topic(
    name="experiment-history",
    key="user|hour",
    records=("ExperimentHistory",),
    cleanup="compact",
    description="Changelog of what users did by hour, for the covariates of experiments.",
)
EXPERIMENT_PARTIALS = Topic(
    name="experiment-partials",
    key="source partition|experiment|variant|metric",
    records=("ExperimentPartial",),
    cleanup="compact",
    description="What each source partition adds to the figures of experiments.",
)
EXPERIMENT_RESULTS = Topic(
    name="experiment-results",
    key="experiment|metric|variant",
    records=("ExperimentResult",),
    cleanup="compact",
    description="The figures of experiments as they stand: lifts, intervals, verdicts.",
)
SESSIONS = Topic(
    name="sessions",
    key="user_id|started_at",
    records=("Session",),
    cleanup="compact",
    description="Sessions of users over all devices, as they stand; also their changelog.",
)
DEVICE_SESSIONS = Topic(
    name="device-sessions",
    key="user_id|device_type|started_at",
    records=("DeviceSession",),
    cleanup="compact",
    description="Sessions of users on each type of device, as they stand; also their changelog.",
)
ANOMALY_POINTS = Topic(
    name="anomaly-points",
    key="source partition|window_start|version|dimensions",
    records=("AnomalyPoint",),
    cleanup="compact,delete",
    retention_ms=3 * DAY_MS,
    description="Minutes of the watched metrics, by source partition, as soon as they settle.",
)
ANOMALIES = Topic(
    name="anomalies",
    key="series|detector|started_at",
    records=("Anomaly",),
    cleanup="compact",
    description="Flags: what is not as usual, from when to when; latest wins.",
)
ACTIONS = Topic(
    name="actions",
    key="action|user_id|anomaly_id",
    records=("Action",),
    cleanup="compact",
    description="What is done about users by policy, for the collector; latest wins.",
)
ANOMALY_USERS = Topic(
    name="anomaly-users",
    key="user|detector",
    records=("AnomalyState",),
    cleanup="compact",
    description="Changelog of the flags of users that stand.",
)
ANOMALY_STATE = Topic(
    name="anomaly-state",
    key="series, points of a minute, or progress",
    records=("AnomalyState",),
    cleanup="compact",
    description="Changelog of the detectors' memory of each series.",
)
USER_PROFILES = Topic(
    name="user-profiles",
    key="user_id",
    records=("UserProfile",),
    cleanup="compact",
    description="Profiles of users, at most one record in 5 seconds each; also their changelog.",
)
DAILY_ANALYTICS = Topic(
    name="daily-analytics",
    key="user_id|number of the day",
    records=("UserDay",),
    cleanup="compact",
    description="What each user did on each day.",
)
USER_LINKS = Topic(
    name="user-links",
    key="anonymous_id|user_id",
    records=("UserLink",),
    cleanup="compact",
    description="Which anonymous_id is which user_id, from identify events; also its changelog.",
)

TOPICS: Mapping[str, Topic] = {
    topic.name: topic
    for topic in (
        EVENTS,
        CONTROL,
        DEAD_LETTERS,
        LATE_EVENTS,
        METRIC_PARTIALS,
        METRICS,
        METRIC_USERS,
        METRIC_ROLLUPS,
        SESSIONS,
        DEVICE_SESSIONS,
        USER_PROFILES,
        DAILY_ANALYTICS,
        USER_LINKS,
        USER_SEGMENTS,
        SEGMENT_COUNTS,
        EXPOSURES,
        EXPERIMENT_HISTORY,
        EXPERIMENT_PARTIALS,
        EXPERIMENT_RESULTS,
        ANOMALY_POINTS,
        ANOMALIES,
        ACTIONS,
        ANOMALY_STATE,
        ANOMALY_USERS,
    )
}


def qualified(namespace: str, name: str) -> str:
    """The topic's (or group's) name on the broker: `metrics` or `<namespace>.metrics`."""
    return f"{namespace}.{name}" if namespace else name


def config(topic: Topic) -> dict[str, str]:
    """Broker settings of a topic, for AdminClient."""
    settings = {
        "cleanup.policy": topic.cleanup,
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(topic.retention_ms if topic.retention_ms is not None else -1),
    }
    if topic.compacted:
        # Compaction skips the active segment: small segments keep the restore short.
        settings |= {
            "min.cleanable.dirty.ratio": "0.1",
            "segment.bytes": str(64 << 20),
            "segment.ms": str(DAY_MS // 4),
            "delete.retention.ms": str(DAY_MS),
        }
    return settings


def create_topics(
    kafka_conf: Mapping[str, Any],
    namespace: str = "",
    partitions: int | None = None,
    replication: int = 1,
    *,
    embedded: bool = False,
    timeout: float = 30.0,
) -> dict[str, int]:
    """Create what is missing; returns the number of partitions by qualified name.

    What exists already is left as it is, or a TopicError says what is wrong with it.
    `embedded`: librdkafka's mock cluster, where topics come into being when asked for, with its
    own number of partitions.
    """
    wanted = {qualified(namespace, topic.name): topic for topic in TOPICS.values()}
    conf: dict[str, Any] = {**kafka_conf, "logger": logger}
    admin = AdminClient(conf)
    try:
        if embedded:
            for name in wanted:
                admin.list_topics(name, timeout=timeout)
        found = _partitions(admin, wanted, timeout)
        missing = [name for name in wanted if name not in found]
        count = partitions or max(found.values(), default=EVENTS.partitions)
        absent = {name: wanted[name] for name in missing}
        created = _create(admin, absent, count, replication, timeout)
        found |= _await_created(admin, missing, timeout)
        if not embedded:
            _check_time(admin, [name for name in wanted if name not in created], timeout)
    except KafkaException as error:
        where = kafka_conf.get("bootstrap.servers")
        raise TopicError(f"topics could not be created at {where}: {error}") from error
    unequal = {name: have for name, have in found.items() if have != count}
    if unequal and not embedded:
        raise TopicError(
            f"all topics must have the same number of partitions ({count}), but "
            + ", ".join(f"{name} has {have}" for name, have in sorted(unequal.items()))
            + ". Use another namespace, ask for that number, or delete the topics"
        )
    return found


def _partitions(admin: AdminClient, names: Iterable[str], timeout: float) -> dict[str, int]:
    known = admin.list_topics(timeout=timeout).topics
    return {
        name: len(known[name].partitions)
        for name in names
        if name in known and known[name].error is None
    }


def _create(
    admin: AdminClient, topics: Mapping[str, Topic], count: int, replication: int, timeout: float
) -> set[str]:
    """Returns those that nobody else has created meanwhile."""
    if not topics:
        return set()
    new = [NewTopic(name, count, replication, config=config(t)) for name, t in topics.items()]
    created = set()
    for name, future in admin.create_topics(new, operation_timeout=timeout).items():
        try:
            future.result()
            created.add(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody was faster
                raise
    return created


def _await_created(admin: AdminClient, names: list[str], timeout: float) -> dict[str, int]:
    """A topic is created when all brokers say so; they learn of it one after the other."""
    deadline = time.monotonic() + timeout
    while True:
        found = _partitions(admin, names, timeout)
        if len(found) == len(names):
            return found
        if time.monotonic() > deadline:
            raise TopicError(
                f"created, but not to be seen after {timeout:g} s: "
                + ", ".join(name for name in names if name not in found)
            )
        time.sleep(0.05)


def _check_time(admin: AdminClient, names: list[str], timeout: float) -> None:
    """With the producer's own time, a replay of old events would be deleted as it arrives."""
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    if not asked:
        return
    for resource, future in admin.describe_configs(asked, request_timeout=timeout).items():
        stamp = future.result()["message.timestamp.type"].value
        if stamp != "LogAppendTime":
            raise TopicError(
                f"the topic {resource.name} has message.timestamp.type={stamp}; set it to"
                f" LogAppendTime (kafka-configs.sh --alter --topic {resource.name}"
                " --add-config message.timestamp.type=LogAppendTime)"
            )
