"""`dlq`: letters are filtered, exported with their bytes, and sent back where they came from."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from confluent_kafka import Consumer, TopicPartition

from streamgauge.producers import RecordProducer
from streamgauge.producers.partitioner import partition_of
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.records import DeadLetter
from streamgauge.schemas.registry import open_registry

Run = Callable[..., Result]
NOON = 1_769_860_800_000  # 2026-01-31T12:00Z
VISIT = json.dumps(
    {"event_type": "shop_visit", "event_id": "e1", "user_id": "ann", "timestamp": NOON}
).encode()


def letter(offset: int, **fields: object) -> DeadLetter:
    given = {
        "topic": "events",
        "partition": 2,
        "offset": offset,
        "schema_id": None,
        "reason": "bad_header",
        "detail": "no magic byte",
        "payload": b"\x01bytes",
        "key": b"ann",
        "failed_at": NOON,
    }
    return DeadLetter(**{**given, **fields})  # type: ignore[arg-type]


@pytest.fixture
def where(embedded: str, registry_url: str, namespace: str) -> tuple[str, ...]:
    with RecordProducer(embedded, registry_url, namespace) as client:
        client.send_dead_letter(letter(1))
        client.send_dead_letter(letter(2, partition=1, reason="future", failed_at=NOON + 60_000))
        client.send_dead_letter(letter(3, topic="file:access.log", reason="bad_line"))
        client.send_dead_letter(
            letter(4, topic="collector:0", partition=0, reason="new_type", payload=VISIT)
        )
    return ("--kafka", embedded, "--registry", registry_url, "--namespace", namespace)


def offsets(result: Result) -> set[int]:
    return {json.loads(line)["offset"] for line in result.stdout.splitlines()}


def test_letters_are_listed_by_reason_partition_and_time(run: Run, where: tuple[str, ...]) -> None:
    listed = run("dlq", "list", "--json", *where)
    assert offsets(listed) == {1, 2, 3, 4}
    assert "1 future" in listed.stderr
    for filters, expected in (
        (("--reason", "bad_header"), {1}),
        (("--partition", "1"), {2}),
        (("--since", "2026-01-31T12:01"), {2}),
        (("--until", "2026-01-31T12:01", "--reason", "bad_line"), {3}),
    ):
        assert offsets(run("dlq", "list", "--json", *filters, *where)) == expected
    assert "no magic byte" in run("dlq", "list", *where).output


def test_letters_are_exported_with_their_bytes(
    run: Run, where: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "letters.jsonl"
    assert "2 letters" in run("dlq", "export", str(file), "--partition", "2", *where).output
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert base64.b64decode(lines[0]["payload"]) == b"\x01bytes"
    assert len(run("dlq", "export", "-", *where).stdout.splitlines()) == 4


def test_letters_go_back_to_their_partition_unless_it_is_a_dry_run(
    run: Run, where: tuple[str, ...], embedded: str, namespace: str
) -> None:
    dry = json.loads(run("dlq", "replay", "--dry-run", "--json", *where).stdout)
    stay = {one["offset"]: one["reason"] for one in dry.pop("stay")}
    assert dry == {"letters": 2, "reasons": {"bad_header": 1, "future": 1}, "sent": False}
    assert stay == {3: "bad_line", 4: "unknown_type"}
    assert "1 letters sent" in run("dlq", "replay", "--reason", "bad_header", *where).output
    reader = Consumer({"bootstrap.servers": embedded, "group.id": namespace})
    reader.assign([TopicPartition(f"{namespace}.events", at, 0) for at in range(4)])
    (message,) = reader.consume(1, timeout=60)
    assert (message.partition(), message.key(), message.value()) == (2, b"ann", b"\x01bytes")
    assert reader.consume(1, timeout=0.2) == []
    reader.close()


def test_what_the_collector_refused_is_sent_once_its_type_is_taken(
    run: Run, where: tuple[str, ...], embedded: str, namespace: str, registry_url: str
) -> None:
    line = ("dlq", "replay", "--reason", "new_type", *where)
    refused = run(*line)
    assert "0 letters sent, 1 stay: 1 unknown_type" in refused.stdout
    assert "collector:0/0/4 stays: unknown_type: event_type: there is no" in refused.stderr
    assert "1 letters sent {'new_type': 1}" in run(*line, "--unknown-events", "custom").output
    reader = Consumer({"bootstrap.servers": embedded, "group.id": namespace})
    reader.assign([TopicPartition(f"{namespace}.events", at, 0) for at in range(4)])
    (message,) = reader.consume(1, timeout=60)
    reader.close()
    assert (message.partition(), message.key()) == (partition_of(b"ann", 4), b"ann")
    event = Codec(open_registry(registry_url)).decode(message.value()).record
    assert (event["event_id"], event["name"]) == ("e1", "shop_visit")
    assert event["received_at"] == NOON
