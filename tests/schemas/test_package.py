"""What the package offers, and with how little it can be imported."""

from __future__ import annotations

import subprocess
import sys

import streamgauge.schemas

WITHOUT = ("polars", "numpy", "yaml", "faust", "datasketches", "httpx", "authlib")

SCRIPT = f"""
import sys
for name in {WITHOUT!r}:
    sys.modules[name] = None
from streamgauge.schemas import *
import streamgauge.schemas.avro
registry = open_registry("file:" + sys.argv[1])
event = parse_event({{"event_type": "search", "user_id": "u", "timestamp": 5, "query": "q"}})
codec = Codec(registry)
print(codec.decode(codec.encode("events", event)).record["query"])
"""


def test_the_base_install_is_enough_for_events_registry_and_codec(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == ("q\n", "")


def test_public_names_are_these() -> None:
    assert streamgauge.schemas.__all__ == [
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
    assert all(hasattr(streamgauge.schemas, name) for name in streamgauge.schemas.__all__)
