"""The contract: events and records, their Avro schemas, topics, and how bytes become either.

Everything else builds on this package, and it on nothing of ours. Read `envelope.py` and
`events.py` first, then `topics.py`, `codec.py` and `columnar.py`. The names below need the base
install alone; `columnar`, `encoder` and `consent_columns` need polars (the extra `streams`).

Each name is imported when it is first asked for: whoever needs an error or an id does not wait
for pydantic, fastavro and librdkafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamgauge.schemas.lazy import attributes

if TYPE_CHECKING:
    from streamgauge.schemas.codec import Codec, Decoded
    from streamgauge.schemas.errors import (
        IncompatibleSchema,
        InvalidEvent,
        RegistryError,
        SchemaError,
        StreamgaugeError,
        TopicError,
        UndecodableRecord,
        UnknownSchema,
    )
    from streamgauge.schemas.events import (
        EVENT_TYPES,
        Event,
        load_event_module,
        load_event_schema,
        parse_event,
        register_event,
    )
    from streamgauge.schemas.records import DeadLetter, LateEvent, MetricUpdate, Tick
    from streamgauge.schemas.registry import Registry, open_registry
    from streamgauge.schemas.reject import Reject, dead_letter
    from streamgauge.schemas.topics import TOPICS, Topic, create_topics, qualified

__all__ = [
    "EVENT_TYPES",
    "TOPICS",
    "Codec",
    "DeadLetter",
    "Decoded",
    "Event",
    "IncompatibleSchema",
    "InvalidEvent",
    "LateEvent",
    "MetricUpdate",
    "Registry",
    "RegistryError",
    "Reject",
    "SchemaError",
    "StreamgaugeError",
    "Tick",
    "Topic",
    "TopicError",
    "UndecodableRecord",
    "UnknownSchema",
    "create_topics",
    "dead_letter",
    "load_event_module",
    "load_event_schema",
    "open_registry",
    "parse_event",
    "qualified",
    "register_event",
]

__getattr__ = attributes(
    __name__,
    {
        "codec": ("Codec", "Decoded"),
        "errors": (
            *("IncompatibleSchema", "InvalidEvent", "RegistryError", "SchemaError"),
            *("StreamgaugeError", "TopicError", "UndecodableRecord", "UnknownSchema"),
        ),
        "events": (
            *("EVENT_TYPES", "Event", "load_event_module", "load_event_schema"),
            *("parse_event", "register_event"),
        ),
        "records": ("DeadLetter", "LateEvent", "MetricUpdate", "Tick"),
        "registry": ("Registry", "open_registry"),
        "reject": ("Reject", "dead_letter"),
        "topics": ("TOPICS", "Topic", "create_topics", "qualified"),
    },
)
