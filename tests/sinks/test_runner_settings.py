"""A sink's settings."""

from pathlib import Path
from typing import Any

import pytest

from streamgauge.sinks import runner
from streamgauge.sinks.archive.sink import ArchiveSink
from streamgauge.sinks.errors import Fatal
from streamgauge.sinks.postgres.sink import PostgresSink
from streamgauge.sinks.redis.sink import RedisSink
from streamgauge.sinks.runner import SinkConfig, consumer_conf, group, make_sink, schema_name


def config(**fields: Any) -> SinkConfig:
    return SinkConfig(
        **{"kind": "redis", "kafka": {"bootstrap.servers": "b"}, "registry": "mock://r"}
        | {"target": "redis://x"}
        | fields
    )


@pytest.mark.parametrize(
    ("kind", "target", "sink"),
    [
        ("postgres", "postgresql://x", PostgresSink),
        ("redis", "redis://x", RedisSink),
        ("archive", "a", ArchiveSink),
    ],
)
def test_each_kind_has_its_sink(kind: str, target: str, sink: type) -> None:
    assert isinstance(make_sink(config(kind=kind, target=target)), sink)


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(Fatal, match="postgres, redis, archive or webhook"):
        make_sink(config(kind="oracle"))


def test_names_follow_the_namespace() -> None:
    assert group(config()) == "streamgauge-sink-redis"
    assert group(config(namespace="a-b")) == "a-b.streamgauge-sink-redis"
    assert (schema_name(""), schema_name("a-b")) == ("streamgauge", "a_b")


def test_settings_may_tune_but_not_undo() -> None:
    conf = consumer_conf(
        config(kafka={"bootstrap.servers": "b", "fetch.queue.backoff.ms": 9, "group.id": "x"})
    )
    assert conf["fetch.queue.backoff.ms"] == 9
    assert conf["group.id"] == "streamgauge-sink-redis"
    assert conf["isolation.level"] == "read_committed"
    assert conf["enable.auto.commit"] is False


def test_the_archive_knows_its_namespace(tmp_path: Path) -> None:
    sink = make_sink(config(kind="archive", target=str(tmp_path), namespace="ns"))
    assert isinstance(sink, ArchiveSink)
    assert sink._folder == tmp_path / "ns"


def test_views_are_refreshed_beside_the_postgres_sink_only_and_if_asked() -> None:
    for fields in ({"kind": "redis", "refresh_every": 1.0}, {"kind": "postgres"}):
        with runner._refreshing(config(**fields)) as schedule:
            assert schedule is None
    nowhere = {"kind": "postgres", "target": "postgresql://127.0.0.1:1/x"}
    with runner._refreshing(config(**nowhere, refresh_every=3600.0)) as schedule:
        assert schedule is not None
