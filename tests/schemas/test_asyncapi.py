"""The AsyncAPI document: valid by AsyncAPI's own schema, complete, and as committed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import fastavro
import jsonschema
import pytest
import yaml

from streamgauge.cli.commands.schemas import as_yaml
from streamgauge.schemas import asyncapi, events
from streamgauge.schemas.asyncapi import document
from streamgauge.schemas.avro import RECORDS
from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.schemas.topics import DAY_MS, TOPICS

ROOT = Path(__file__).parents[2]
# From the npm package @asyncapi/specs (Apache-2.0), without descriptions and examples.
OFFICIAL = Path(__file__).parent / "data" / "asyncapi-3.0.0.json.gz"


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    return document("0.1.0")


def test_it_is_valid(said: dict[str, Any]) -> None:
    official = json.loads(gzip.decompress(OFFICIAL.read_bytes()))
    validator = jsonschema.Draft7Validator(official)
    assert [error.message[:300] for error in validator.iter_errors(said)] == []
    broken = {**said, "channels": {"events": {**said["channels"]["events"], "messages": "none"}}}
    assert list(validator.iter_errors(broken))


def test_every_reference_leads_somewhere(said: dict[str, Any]) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            inner = [ref for item in value.values() for ref in references(item)]
            return [*inner, value["$ref"]] if "$ref" in value else inner
        return (
            [ref for item in value for ref in references(item)] if isinstance(value, list) else []
        )

    found = references(said)
    assert found
    for ref in found:
        target: Any = said
        for part in ref.removeprefix("#/").split("/"):
            target = target[part]


def test_every_topic_says_key_schemas_partitions_retention_and_what_a_repeated_key_means(
    said: dict[str, Any],
) -> None:
    assert list(said["channels"]) == sorted(TOPICS)
    for name, channel in said["channels"].items():
        kafka = channel["bindings"]["kafka"]
        assert kafka["partitions"] == TOPICS[name].partitions
        assert kafka["topicConfiguration"]["cleanup.policy"] == TOPICS[name].cleanup.split(",")
        assert channel["x-key"] == TOPICS[name].key
        assert channel["x-repeated-key"]
        assert channel["messages"]
        assert set(TOPICS[name].records) - {"Event"} <= set(channel["messages"])
        missing = set(TOPICS[name].records) - {"Event", *RECORDS}
        assert not missing, f"{missing} of {name} are no records of schemas/avro.py"
    kept = {
        name: c["bindings"]["kafka"]["topicConfiguration"] for name, c in said["channels"].items()
    }
    assert kept["events"]["retention.ms"] == 7 * DAY_MS
    assert kept["metrics"]["retention.ms"] == -1
    written = said["channels"]["events"]["messages"]
    assert {cls.__name__ for cls in EVENT_TYPES.values()} <= set(written)


def test_payloads_are_the_avro_schemas(said: dict[str, Any]) -> None:
    message = said["components"]["messages"]["metrics.MetricUpdate"]
    assert message["x-subject"] == "metrics-streamgauge.MetricUpdate"
    for one in said["components"]["messages"].values():
        fastavro.parse_schema(one["payload"]["schema"])


def test_namespace_and_partitions_are_told() -> None:
    channel = document("0.1.0", "shop", 12)["channels"]["metrics"]
    assert channel["address"] == "shop.metrics"
    assert channel["bindings"]["kafka"]["partitions"] == 12


def test_the_committed_document_is_that_of_the_topics_and_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    committed = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
    # Types that other tests have declared are not ours.
    built_in = {n: c for n, c in EVENT_TYPES.items() if c.__module__ == events.__name__}
    monkeypatch.setattr(asyncapi, "EVENT_TYPES", built_in)
    ours = document(committed["info"]["version"])
    assert as_yaml(committed) == as_yaml(ours), (
        "run: streamgauge schemas docs --out docs/asyncapi.yaml"
    )
