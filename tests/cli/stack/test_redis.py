"""The embedded Redis: durable when told so, and never evicting."""

from pathlib import Path

import pytest
from redis import Redis

from streamgauge.cli.stack.redis import LocalRedis

pytestmark = pytest.mark.redis


@pytest.mark.parametrize(("durable", "after"), [(True, b"one"), (False, None)])
def test_data_survive_a_bounce_when_durable(
    tmp_path: Path, durable: bool, after: bytes | None
) -> None:
    with LocalRedis(tmp_path / "redis", durable=durable) as server:
        Redis.from_url(server.url).set("note", "one")
        server.restart()
        client = Redis.from_url(server.url)
        assert client.get("note") == after
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert server.pid is None
