"""`dlq`: letters are filtered, exported with their bytes, and sent back where they came from."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from confluent_kafka import Consumer, TopicPartition

from streamgauge.producers import RecordProducer
from streamgauge.schemas.records import DeadLetter

Run = Callable[..., Result]
NOON = 1_769_860_800_000  # 2026-01-31T12:00Z


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
    return ("--kafka", embedded, "--registry", registry_url, "--namespace", namespace)


def offsets(result: Result) -> set[int]:
    return {json.loads(line)["offset"] for line in result.stdout.splitlines()}


def test_letters_are_listed_by_reason_partition_and_time(run: Run, where: tuple[str, ...]) -> None:
    listed = run("dlq", "list", "--json", *where)
    assert offsets(listed) == {1, 2, 3}
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
    assert len(run("dlq", "export", "-", *where).stdout.splitlines()) == 3


def test_letters_go_back_to_their_partition_unless_it_is_a_dry_run(
    run: Run, where: tuple[str, ...], embedded: str, namespace: str
) -> None:
    dry = json.loads(run("dlq", "replay", "--dry-run", "--json", *where).output)
    assert dry == {"letters": 2, "reasons": {"bad_header": 1, "future": 1}, "sent": False}
    assert "1 letters sent" in run("dlq", "replay", "--reason", "bad_header", *where).output
    reader = Consumer({"bootstrap.servers": embedded, "group.id": namespace})
    reader.assign([TopicPartition(f"{namespace}.events", at, 0) for at in range(4)])
    (message,) = reader.consume(1, timeout=60)
    assert (message.partition(), message.key(), message.value()) == (2, b"ann", b"\x01bytes")
    assert reader.consume(1, timeout=0.2) == []
    reader.close()
