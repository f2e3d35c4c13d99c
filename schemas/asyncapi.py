"""An AsyncAPI 3 document of every topic, for teams that write to one or read from them.

Upstream: `topics.py`, the event types, the records. Downstream: `streamgauge schemas docs`, and
docs/asyncapi.yaml, which a test compares with it. Invariant: everything in it is derived; where
it is wrong, the topic or the class is.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from streamgauge.schemas.avro import RECORDS
from streamgauge.schemas.derivation import avro_schema, full_name, subject
from streamgauge.schemas.envelope import EVENT_TYPES
from streamgauge.schemas.topics import EVENTS, TOPICS, Topic, config, qualified

AVRO = "application/vnd.apache.avro+json;version=1.9.0"
KAFKA = "0.5.0"
DAY_MS = 86_400_000

ABOUT = """\
Records are Avro in Confluent's wire format (a zero byte, four bytes of schema id, one datum);
subjects are named by TopicRecordName and stay BACKWARD compatible. Read with
isolation.level=read_committed. Times are milliseconds since the epoch, UTC.
"""


def document(version: str, namespace: str = "", partitions: int | None = None) -> dict[str, Any]:
    """The document; `version` is the package's."""
    topics = [TOPICS[name] for name in sorted(TOPICS)]
    records = {topic.name: dict(_records(topic)) for topic in topics}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:streamgauge:topics",
        "info": {
            "title": "Streamgauge's topics",
            "version": version,
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/vnd.apache.avro",
        "channels": {
            topic.name: _channel(topic, records[topic.name], namespace, partitions)
            for topic in topics
        },
        "operations": _operations(topics, records),
        "components": {
            "messages": {
                f"{topic.name}.{cls.__name__}": _message(cls, topic)
                for topic in topics
                for cls in records[topic.name].values()
            },
        },
    }


def _records(topic: Topic) -> Iterable[tuple[str, type]]:
    """A topic's classes by record name; `Event` stands for every event type."""
    for name in topic.records:
        if topic is EVENTS and name == "Event":
            for cls in sorted(EVENT_TYPES.values(), key=lambda cls: cls.__name__):
                yield cls.__name__, cls
        elif name in RECORDS:
            yield name, RECORDS[name]


def _channel(
    topic: Topic, records: Mapping[str, type], namespace: str, partitions: int | None
) -> dict[str, Any]:
    settings = config(topic)
    retention = int(settings["retention.ms"])
    kept = "for ever" if retention < 0 else f"{retention / DAY_MS:g} days"
    if topic.compacted:
        kept = "the latest of each key" + ("" if retention < 0 else f", {kept}")
    return {
        "address": qualified(namespace, topic.name),
        "title": topic.name,
        "description": (
            f"{topic.description}\n\nKey: {topic.key}. A second record of the same key:"
            f" {topic.repeated_key} Kept: {kept}.\n"
        ),
        "messages": {
            name: {"$ref": f"#/components/messages/{topic.name}.{name}"} for name in records
        },
        "bindings": {
            "kafka": {
                "partitions": partitions or topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": topic.cleanup.split(","),
                    "retention.ms": retention,
                },
                "bindingVersion": KAFKA,
            }
        },
        "x-key": topic.key,
        "x-repeated-key": topic.repeated_key,
    }


def _operations(
    topics: Iterable[Topic], records: Mapping[str, Mapping[str, type]]
) -> dict[str, Any]:
    """What the reader of the document may do: write events, read everything."""
    events = [f"#/channels/{EVENTS.name}/messages/{cls.__name__}" for cls in EVENT_TYPES.values()]
    write = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{EVENTS.name}"},
        "summary": "Produce an event, by the SDK, the collector or any Kafka client.",
        "messages": [{"$ref": ref} for ref in sorted(events)],
    }
    read = {
        f"read-{topic.name}": {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{topic.name}"},
            "summary": topic.description,
        }
        for topic in topics
        if records[topic.name]
    }
    return {"produce-event": write, **read}


def _message(cls: type, topic: Topic) -> dict[str, Any]:
    key = {"type": "string", "description": topic.key}
    message = {
        "name": full_name(cls),
        "title": cls.__name__,
        "contentType": "application/vnd.apache.avro",
        "payload": {"schemaFormat": AVRO, "schema": avro_schema(cls)},
        "bindings": {
            "kafka": {
                "key": key,
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "TopicRecordNameStrategy",
                "bindingVersion": KAFKA,
            }
        },
        "x-subject": subject(topic.name, cls),
    }
    about = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    if about and not about.startswith(f"{cls.__name__}("):  # a dataclass without one
        message["summary"] = textwrap.shorten(about.split("\n\n")[0], 200)
        message["description"] = about
    return message
