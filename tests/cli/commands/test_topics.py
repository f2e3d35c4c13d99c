"""`topics` and `state`: what is on the broker, decoded, followed and purged."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from confluent_kafka import Producer

from streamgauge.producers import Client
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.records import Tick
from streamgauge.schemas.registry import open_registry

Run = Callable[..., Result]


def rows(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.output.splitlines()]


def test_what_is_in_a_topic_is_shown_decoded_or_with_the_reason(
    run: Run, embedded: str, registry_url: str, namespace: str
) -> None:
    where = ("--kafka", embedded, "--namespace", namespace)
    with Client(embedded, registry_url, namespace) as client:
        client.track("search", user_id="ann", query="kafka")
        client.flush()
    tick = Codec(open_registry(registry_url)).encode("events", Tick(timestamp=5))
    producer = Producer({"bootstrap.servers": embedded})
    topic = f"{namespace}.events"
    producer.produce(topic, b"\x01junk", key=b"\xff", partition=0)
    producer.produce(topic, None, key=b"gone", partition=0)
    producer.produce(topic, tick, partition=0)
    producer.flush(60)

    shown = rows(run("topics", "tail", "events", *where, "--registry", registry_url))
    by_record = {row.get("record"): row for row in shown}
    assert by_record["streamgauge.Search"]["key"] == "ann"
    assert by_record["streamgauge.Search"]["value"]["query"] == "kafka"  # type: ignore[index]
    assert by_record["streamgauge.Tick"]["value"] == {"timestamp": 5}
    (junk,) = [row for row in shown if "undecodable" in row]
    assert (junk["key"], junk["value"]) == ("ff", b"\x01junk".hex())
    assert [row["key"] for row in shown if row.get("tombstone")] == ["gone"]
    last = ("--last", "1", "--partition", "0")
    (only,) = rows(run("topics", "tail", "events", *where, "--registry", registry_url, *last))
    assert only["record"] == "streamgauge.Tick"

    listed = {row["topic"]: row for row in rows(run("topics", "list", "--json", *where))}
    assert listed[topic]["offsets"] == 4
    assert listed[f"{namespace}.metrics"]["partitions"] == 0
    position, *_ = rows(run("state", "worker", "--json", *where))
    assert (position["committed"], position["group"]) == (None, f"{namespace}.streamgauge-worker")


@pytest.mark.kafka
def test_topics_are_created_and_purged(run: Run, kafka: str, namespace: str) -> None:
    where = ("--kafka", kafka, "--namespace", namespace)
    created = rows(run("topics", "create", "--partitions", "2", "--json", *where))
    assert {row["partitions"] for row in created} == {2}
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(f"{namespace}.events", b"event", partition=1)
    producer.flush(60)
    assert "is empty" in run("topics", "purge", "events", "--yes", *where).output
    listed = {row["topic"]: row for row in rows(run("topics", "list", "--json", *where))}
    assert listed[f"{namespace}.events"]["offsets"] == 0
    refused = run("topics", "purge", "metrics", "--yes", *where, exit_code=1)
    assert "compacted" in refused.output
    missing = ("topics", "purge", "events", "--yes", "--kafka", kafka, "--namespace", "t-none")
    assert "is --namespace right?" in run(*missing, exit_code=1).output
