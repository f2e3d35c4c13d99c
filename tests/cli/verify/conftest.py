"""A finished run without a worker: raw events in Kafka, and every target as it ought to be.

What ought to be is taken from the recomputation itself, so these tests are about reading,
waiting and comparing; that the recomputation is right is tested by hand-drawn examples.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.types.json import Jsonb

from streamgauge.cli.verify import VerifyConfig
from streamgauge.cli.verify.cells import Cell, CellKey
from streamgauge.cli.verify.decode import EventDecoder
from streamgauge.cli.verify.recompute import Raw, Recomputation
from streamgauge.cli.verify.translate import columns
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.events import CourseInteraction, PageView
from streamgauge.schemas.metrics import load_definitions
from streamgauge.schemas.records import DeadLetter, LateEvent, MetricUpdate, Tick
from streamgauge.schemas.registry import open_registry
from streamgauge.sinks.postgres.migrate import migrate

T0 = 1_760_000_400_000
PARTITIONS = 2
DEFINITIONS = """
extends: none
metrics:
  - {name: views, events: [page_view], aggregate: count, by: [[], [page]]}
  - {name: users, aggregate: distinct_users, by: [[]]}
  - {name: seconds, events: [course_interaction], aggregate: mean, field: duration}
"""


@dataclass(kw_only=True)
class World:
    """One namespace of real servers; methods plant things in it."""

    config: VerifyConfig
    codec: Codec
    producer: Producer
    offsets: dict[int, int]
    raw: list[Raw] = field(default_factory=list)

    def produce(self, partition: int, *values: bytes) -> None:
        for value in values:
            self.producer.produce(self.config.events, value, partition=partition)
        self.producer.flush()
        self.offsets[partition] += len(values)

    def event(self, partition: int, event: Any) -> None:
        self.produce(partition, self.codec.encode("events", event))

    def put(self, topic: str, key: str, record: Any) -> None:
        value = record if record is None else self.codec.encode(topic, record)
        self.producer.produce(self.config.topic(topic), value, key, partition=0)
        self.producer.flush()

    def commit(self, offsets: dict[int, int] | None = None) -> None:
        """As if the worker had come this far."""
        conf = {**self.config.kafka, "group.id": self.config.worker_group}
        consumer = Consumer({**conf, "enable.auto.commit": False})
        positions = [
            TopicPartition(self.config.events, partition, offset)
            for partition, offset in (offsets or self.offsets).items()
        ]
        consumer.commit(offsets=positions, asynchronous=False)
        consumer.close()

    def execute(self, query: str, *parameters: Any) -> None:
        with psycopg.connect(self.config.postgres, autocommit=True) as connection:
            connection.execute(query.replace("{}", f'"{self.config.postgres_schema}"'), parameters)

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.config.redis)

    def redis_key(self, key: CellKey) -> str:
        prefix = self.config.redis_prefix
        return f"{prefix}{{metrics-0}}:{key.metric}:{key.window_size}:{key.window_start}"

    def finish(self, raw: list[Raw]) -> dict[CellKey, Cell]:
        """Write every target from a recomputation of these records; the cells in it."""
        grains = load_definitions(self.config.definitions).grains()
        decoder = EventDecoder(open_registry(self.config.registry), columns(grains))
        oracle = Recomputation(
            grains, decoder, lateness_ms=self.config.lateness_ms, consent_denied=False
        )
        oracle.expect(range(PARTITIONS))
        oracle.add(raw)
        cells = oracle.cells()
        self.write_rows(cells)
        for (partition, offset), reason in oracle.dead_letters.items():
            self.dead_letter(partition, offset, reason)
        for (partition, offset), event_id in oracle.late_events.items():
            self.late_event(partition, offset, event_id)
        self.commit()
        self.sink_passed(10**9)
        return cells

    def sink_passed(self, offset: int) -> None:
        """As if the sinks had come this far."""
        for partition in range(PARTITIONS):
            fence = f"{self.config.redis_prefix}{{metrics-{partition}}}:fence"
            self.redis().hset(fence, "offset", str(offset))
        self.execute(
            "INSERT INTO {}.sink_offsets SELECT t, 0, 1, 0, %s, '', '', ''"
            " FROM unnest(%s::text[]) t ON CONFLICT (topic, partition)"
            " DO UPDATE SET next_offset = excluded.next_offset",
            *(offset, ["metrics", "dead-letters", "late-events"]),
        )

    def write_rows(self, cells: dict[CellKey, Cell]) -> None:
        rows: dict[CellKey, dict[str, Cell]] = {}
        for key, cell in cells.items():
            rows.setdefault(key._replace(metric=""), {})[key.metric] = cell
        for key, row in rows.items():
            self.row(key, row)
        for key, cell in cells.items():
            self.table_row(key, cell)
            self.redis().hset(self.redis_key(key), key.dimensions, repr(cell.value))

    def row(self, key: CellKey, row: dict[str, Cell]) -> None:
        any_cell = next(iter(row.values()))
        update = MetricUpdate(
            window_start=key.window_start,
            window_size=key.window_size,
            dimensions=key.dimensions,
            version=key.version,
            users=any_cell.users,
            is_final=any_cell.is_final,
            watermark=T0,
            metrics=tuple(row),
            values=tuple(cell.value for cell in row.values()),
            numerators=tuple(cell.numerator for cell in row.values()),
            denominators=tuple(cell.denominator for cell in row.values()),
        )
        self.put("metrics", "|".join(map(str, key[1:])), update)

    def table_row(self, key: CellKey, cell: Cell) -> None:
        self.execute(
            "INSERT INTO {}.metrics VALUES (to_timestamp(%s / 1000.0), %s, %s, %s, %s, %s, %s, %s,"
            " %s, %s, 0, 0, 0)",
            key.window_start,
            key.window_size,
            key.metric,
            Jsonb(json.loads(key.dimensions)),
            key.version,
            cell.value,
            cell.numerator,
            cell.denominator,
            cell.users,
            cell.is_final,
        )

    def dead_letter(self, partition: int, offset: int, reason: str) -> None:
        letter = DeadLetter(
            topic="events",
            partition=partition,
            offset=offset,
            schema_id=None,
            reason=reason,
            detail="",
            payload=b"",
            key=None,
            failed_at=T0,
        )
        self.put("dead-letters", f"events/{partition}/{offset}", letter)
        self.execute(
            'INSERT INTO {}.dead_letters (topic, partition, "offset", reason, source_partition,'
            " source_offset, source_generation) VALUES ('events', %s, %s, %s, 0, 0, 0)",
            *(partition, offset, reason),
        )

    def late_event(self, partition: int, offset: int, event_id: str) -> None:
        late = LateEvent(
            topic="events",
            partition=partition,
            offset=offset,
            event_id=event_id,
            event_type="page_view",
            user_id="u1",
            timestamp=T0,
            watermark=T0,
            schema_id=1,
            payload=b"",
        )
        self.put("late-events", f"events/{partition}/{offset}", late)
        self.execute(
            'INSERT INTO {}.late_events (topic, partition, "offset", event_id, source_partition,'
            " source_offset, source_generation) VALUES ('events', %s, %s, %s, 0, 0, 0)",
            *(partition, offset, event_id),
        )


@pytest.fixture
def empty_world(
    kafka: str, postgres: str, redis_url: str, registry_url: str, namespace: str, tmp_path: Any
) -> Iterator[World]:
    """Topics and tables, nothing in them."""
    definitions = tmp_path / "metrics.yaml"
    definitions.write_text(DEFINITIONS)
    config = VerifyConfig(
        kafka={"bootstrap.servers": kafka},
        registry=registry_url,
        namespace=namespace,
        postgres=postgres,
        redis=redis_url,
        definitions=definitions,
        timeout=1.0,
    )
    topics = ("events", "metrics", "dead-letters", "late-events")
    new = [
        NewTopic(config.topic(t), PARTITIONS, 1, config={"message.timestamp.type": "LogAppendTime"})
        for t in topics
    ]
    admin = AdminClient({"bootstrap.servers": kafka})
    for done in admin.create_topics(new).values():
        done.result()
    migrate(postgres, config.postgres_schema)
    codec = Codec(open_registry(registry_url))
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0})
    w = World(
        config=config, codec=codec, producer=producer, offsets=dict.fromkeys(range(PARTITIONS), 0)
    )
    w.execute("CREATE TABLE {}.metrics_all PARTITION OF {}.metrics DEFAULT")
    yield w
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA "{config.postgres_schema}" CASCADE')


@pytest.fixture
def world(empty_world: World) -> Iterator[World]:
    """Nine records in two partitions, every target right, two minutes closed."""
    w = empty_world
    raw = w.raw

    def send(partition: int, value: bytes) -> None:
        raw.append(Raw(partition, w.offsets[partition], 2 * T0, value))
        w.produce(partition, value)

    def view(n: int, at: int, page: str = "/a") -> bytes:
        event = PageView(event_id=f"v{n}", user_id=f"u{n}", timestamp=at, page_url=page)
        return w.codec.encode("events", event)

    course = CourseInteraction(event_id="c1", user_id="u1", timestamp=T0, duration=1.5)
    for partition in range(PARTITIONS):
        send(partition, view(2 * partition, T0))
        send(partition, view(2 * partition + 1, T0 + 60_000, "/b"))
    send(0, view(0, T0))  # a duplicate
    send(0, w.codec.encode("events", course))
    send(0, b"broken")
    for partition in range(PARTITIONS):
        send(partition, w.codec.encode("events", Tick(timestamp=T0 + 3_720_000)))
    send(1, view(9, T0 - 60_000))  # late
    w.finish(raw)
    yield w


@pytest.fixture
def closed_only(world: World) -> World:
    """The same, verified for closed windows only."""
    world.config = replace(world.config, closed_only=True)
    return world
