"""examples/consumers: Python and Java read the same from a topic, as a reader should."""

import io
import json
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streamgauge.schemas.codec import header
from streamgauge.schemas.derivation import avro_schema
from streamgauge.schemas.records import MetricUpdate
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import METRICS, config
from tests.registry_server import RegistryServer

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "consumers"
NEW = {"name": "new", "type": "string", "default": ""}
SCHEMA = ROOT / "schemas" / "avsc" / "MetricUpdate.avsc"


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with RegistryServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.url
        server.shutdown()


@pytest.fixture(scope="module")
def topic(kafka: str, registry: str) -> str:
    """Rows of today and of a newer version; replaced, deleted, and never committed ones."""
    schema = avro_schema(MetricUpdate)
    newer = {**schema, "fields": [*schema["fields"], NEW]}
    known = open_registry(registry)
    today = header(known.register("metrics-streamgauge.MetricUpdate", schema))
    tomorrow = header(known.register("metrics-streamgauge.MetricUpdate", newer))

    def row(users: int, new: str | None = None) -> bytes:
        out = io.BytesIO()
        record = {
            "window_start": 1_767_268_800_123,
            "window_size": "1m",
            "dimensions": '{"page":"/é"}',
            "users": users,
            "is_final": True,
            "metrics": ["page_views", "mean"],
            "values": [3.0, 0.1],
        }
        if new is not None:
            record["new"] = new
        fastavro.schemaless_writer(out, fastavro.parse_schema(newer if new else schema), record)
        return (tomorrow if new else today) + out.getvalue()

    name = f"t-consumers-{uuid.uuid4().hex[:8]}.metrics"
    new = NewTopic(name, 2, 1, config=config(METRICS))
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([new])[name].result()
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": name})
    producer.init_transactions()
    for rows, commit in (
        ([("a", row(1)), ("b", row(1)), ("c", row(1))], True),
        ([("a", row(2, "later")), ("b", None), ("d", row(4, "é"))], True),
        ([("a", row(99)), ("e", row(99))], False),
    ):
        producer.begin_transaction()
        for key, value in rows:
            producer.produce(name, key=key, value=value)
        producer.flush()
        producer.commit_transaction() if commit else producer.abort_transaction()
    return name


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the example in Java."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here")
    jars = tmp_path_factory.mktemp("jars")
    command = ["mvn", "-q", "-B", "-f", str(EXAMPLE / "java" / "pom.xml")]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    fetched = subprocess.run(command, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"Maven could not fetch its jars: {fetched.stdout.strip()[-300:]}")
    return ["java", "-cp", f"{jars}/*", str(EXAMPLE / "java" / "MetricsReader.java")]


@pytest.mark.parametrize("language", ["python", "java"])
def test_the_latest_committed_row_of_each_key_is_read(
    language: str, kafka: str, registry: str, topic: str, request: pytest.FixtureRequest
) -> None:
    command = [sys.executable, str(EXAMPLE / "python" / "metrics.py")]
    if language == "java":
        command = request.getfixturevalue("java")
    done = subprocess.run(
        [*command, kafka, registry, topic, str(SCHEMA)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    rows = {
        key: json.loads(row) for key, row in (line.split("\t") for line in done.stdout.splitlines())
    }
    assert {key: row["users"] for key, row in rows.items()} == {"a": 2, "c": 1, "d": 4}
    assert {tuple(row) for row in rows.values()} == {tuple(rows["c"])}  # what ours has, no more
    assert rows["a"]["window_start"] == 1_767_268_800_123
    assert rows["a"]["values"] == [3.0, 0.1]
    assert (rows["a"]["dimensions"], rows["a"]["watermark"]) == ('{"page":"/é"}', None)
