"""The Redis sink beyond what every sink does."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from streamgauge.cli.stack.process import free_port, listens
from streamgauge.cli.stack.redis import LocalRedis
from streamgauge.sinks.errors import Fatal, Retryable, Rewound
from streamgauge.sinks.redis.sink import RedisSink
from streamgauge.sinks.sink import Log

pytestmark = pytest.mark.redis

DAY = 86_400_000
NOON = 1_767_268_800_000
ALL = {("metrics", 0): Log()}


@pytest.fixture
def opened(hot: Any) -> Any:
    sink = hot.sink()
    sink.open(ALL)
    yield sink
    sink.close()


@pytest.fixture
def write(hot: Any, message: Any, batch: Any, update: Any) -> Any:
    """One row at the next offset."""
    offsets = iter(range(10_000))

    def put(sink: Any, name: str, value: float, **fields: Any) -> None:
        row = update(name, value, **fields)
        key = f"{row.window_size}|{row.window_start}|v|{row.dimensions}"
        sink.write(batch(sink, [message("metrics", 0, next(offsets), row, key)]))

    return put


def test_the_layout_is_the_one_readers_know(hot: Any, opened: Any, write: Any) -> None:
    write(opened, "a", 1.5)
    key = f"{hot.namespace}:{{metrics-0}}:page_views:1m:{NOON}"
    assert hot.client.hgetall(key) == {'{"page":"a"}': "1.5"}
    fence = hot.client.hgetall(f"{hot.namespace}:{{metrics-0}}:fence")
    assert fence["offset"] == "1"
    assert fence["watermark"] == str(NOON)


def test_counters_go_as_the_watermark_passes_them(hot: Any, opened: Any, write: Any) -> None:
    write(opened, "minute", 1.0)
    write(opened, "hour", 1.0, window_size="1h", watermark=NOON + 7_200_000 - 1)
    assert set(hot.contents()) == {"minute", "hour"}
    write(opened, "new", 1.0, window_start=NOON + 7_200_000, watermark=NOON + 7_200_000)
    assert set(hot.contents()) == {"hour", "new"}


def test_what_the_watermark_has_passed_is_not_written(hot: Any, opened: Any, write: Any) -> None:
    write(opened, "old", 1.0, watermark=NOON + DAY)
    write(opened, "older", 1.0, watermark=NOON)  # the watermark does not go back either
    assert hot.contents() == {}


def test_a_replay_of_last_year_is_not_dropped_as_it_arrives(
    hot: Any, opened: Any, write: Any
) -> None:
    then = NOON - 365 * DAY
    write(opened, "then", 1.0, window_start=then, watermark=then)
    assert hot.contents() == {"then": 1.0}


def test_a_ttl_frees_the_memory_where_the_sink_is_gone(hot: Any, opened: Any, write: Any) -> None:
    write(opened, "a", 1.0, watermark=NOON + 60_000)
    left = hot.client.pttl(f"{hot.namespace}:{{metrics-0}}:page_views:1m:{NOON}")
    assert 7_140_000 + DAY - 60_000 < left <= 7_140_000 + DAY


def test_many_fields_of_one_hash_go_in_one_write(
    hot: Any, opened: Any, message: Any, batch: Any, update: Any
) -> None:
    messages = [message("metrics", 0, i, update(f"n{i}", float(i)), str(i)) for i in range(9000)]
    opened.write(batch(opened, messages))
    assert hot.contents() == {f"n{i}": float(i) for i in range(9000)}


def test_a_tombstone_deletes_the_field_of_every_metric(
    hot: Any, opened: Any, message: Any, batch: Any, write: Any
) -> None:
    lists = {"metrics": ("views", "time"), "values": (1.0, 2.0)}
    write(opened, "a", 0, **lists, numerators=(1.0, 2.0), denominators=(1.0, 1.0))
    key = f'1m|{NOON}|v|{{"page":"a"}}'
    opened.write(batch(opened, [message("metrics", 0, 1, None, key)]))
    assert list(hot.client.scan_iter(f"{hot.namespace}:{{metrics-0}}:*1m*")) == []


def test_a_replica_promoted_with_older_data_is_noticed_and_read_again(
    hot: Any, opened: Any
) -> None:
    # 0 | 1 |  the replica had got 0 alone
    opened.write(hot.batch(0, 0, ("a", 1.0)))
    raw = redis.Redis.from_url(hot.url)
    replica = {key: raw.dump(key) for key in raw.scan_iter(f"{hot.namespace}:*")}
    opened.write(hot.batch(0, 1, ("a", 2.0)))
    for key, dumped in replica.items():
        raw.restore(key, 0, dumped, replace=True)
    with pytest.raises(Rewound):
        opened.write(hot.batch(0, 2, ("b", 3.0)))
    assert opened.open(ALL) == {("metrics", 0): 1}
    opened.write(hot.batch(0, 1, ("a", 2.0), ("b", 3.0)))
    assert hot.contents() == {"a": 2.0, "b": 3.0}


def test_what_an_old_topic_said_is_void(hot: Any, opened: Any) -> None:
    opened.write(hot.batch(0, 0, ("a", 1.0)))
    opened.open({("metrics", 0): Log(cluster_id="c", topic_id="new")})
    assert hot.contents() == {}


def test_an_evicting_server_is_told_once(
    redis_url: str, hot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = hot.client
    before = client.config_get("maxmemory-policy")["maxmemory-policy"]
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        sink = hot.sink()
        sink.open(ALL)
        sink.open(ALL)
    finally:
        client.config_set("maxmemory-policy", before)
    assert caplog.text.count("set noeviction") == 1


def test_no_server_is_an_outage() -> None:
    with pytest.raises(Retryable, match="Redis"):
        RedisSink("redis://127.0.0.1:1/0").open(ALL)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalRedis]:
    with LocalRedis(tmp_path / "redis", durable=False) as server:
        yield server


def test_a_full_server_is_an_outage_and_a_wrong_password_is_none(
    server: LocalRedis, hot: Any
) -> None:
    hot.url = server.url
    sink = hot.sink()
    sink.open(ALL)
    hot.client.config_set("maxmemory", "1")
    with pytest.raises(Retryable, match="memory"):
        sink.write(hot.batch(0, 0, ("a", 1.0)))
    hot.client.config_set("maxmemory", "0")
    sink.write(hot.batch(0, 0, ("a", 1.0)))
    assert hot.contents() == {"a": 1.0}
    admin = hot.client
    admin.config_set("requirepass", "secret")
    with pytest.raises(Fatal, match="refused the login"):
        hot.sink().open(ALL)
    limited = redis.Redis.from_url(server.url, password="secret")
    limited.acl_setuser(
        "some", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-config"]
    )
    polite = RedisSink(server.url.replace("redis://", "redis://some:pw@"), hot.namespace)
    assert polite.open(ALL) == {("metrics", 0): 1}  # may not ask for the policy: no matter


def test_another_error_of_the_server_is_fatal(hot: Any, opened: Any) -> None:
    hot.client.set(f"{hot.namespace}:{{metrics-0}}:page_views:1m:{NOON}", "no hash")
    with pytest.raises(Fatal, match="WRONGTYPE"):
        opened.write(hot.batch(0, 0, ("a", 1.0)))


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_do(hot: Any, protocol: int) -> None:
    hot.url += f"?protocol={protocol}"
    sink = hot.sink()
    assert sink.open(ALL) == {("metrics", 0): None}
    sink.write(hot.batch(0, 0, ("a", 1.0)))
    assert hot.contents() == {"a": 1.0}


def test_a_script_that_the_server_forgot_is_sent_again(hot: Any, opened: Any) -> None:
    hot.client.script_flush()
    opened.write(hot.batch(0, 0, ("a", 1.0)))
    assert hot.contents() == {"a": 1.0}


def test_a_cluster_takes_every_partition_in_its_slot(tmp_path: Path, hot: Any, batch: Any) -> None:
    # Nodes talk to each other at the port 10,000 above; from 32768 on the kernel has clients there.
    port = next(p for p in iter(free_port, None) if p < 22_768 and not listens(p + 10_000))
    command = [str(part) for part in LocalRedis(tmp_path).prepare()]
    command[command.index("--port") + 1] = str(port)
    node = subprocess.Popen([*command, "--cluster-enabled", "yes"], stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port, decode_responses=True)
    try:
        while not listens(port):
            assert node.poll() is None
            time.sleep(0.05)
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        while client.cluster("info")["cluster_state"] != "ok":
            time.sleep(0.05)
        sink = RedisSink(f"redis+cluster://127.0.0.1:{port}", "ns")
        sink.open({("metrics", p): Log() for p in range(4)})
        parts = [hot.batch(p, 0, (f"p{p}", 1.0)) for p in range(4)]
        sink.write(batch(sink, [m for part in parts for m in part.messages]))
        keys = sorted(client.scan_iter("ns:{metrics-*}:page_views:*"))
        assert [key[:14] for key in keys] == [f"ns:{{metrics-{p}}}" for p in range(4)]
        sink.close()
    finally:
        node.kill()
        node.wait()
