"""Who is in which segment, as the Redis sink keeps it; and what the client makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from streamgauge.producers import AsyncClient, RedisTargeting, TargetingUnavailable
from streamgauge.producers.assignment import Seen
from streamgauge.producers.partitioner import partition_of
from streamgauge.producers.targeting import Known
from streamgauge.producers.testing import RecordingClient, RecordingTransport
from streamgauge.sinks.redis.counters import keys

WEIGHTS = {"control": 0.5, "treatment": 0.5}
IN, OUT = "user-0000001", "user-0000000"
"""Inside and outside an allocation of 20 %, by the golden vectors."""


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def put(server: Any, namespace: str, partitions: int, user: str, topic: str, *members: str) -> None:
    at = partition_of(user.encode(), partitions)
    for partition in range(partitions):
        server.hset(keys(namespace, partition, "user-segments").fence, "offset", 0)
    server.sadd(f"{keys(namespace, at, topic).prefix}user:{user}", *members)


@pytest.mark.parametrize("partitions", [1, 4, 40])
def test_a_user_is_found_whatever_the_partitions(
    server: Any, redis_url: str, namespace: str, partitions: int
) -> None:
    targeting = RedisTargeting(redis_url, namespace)
    for user in ("u-1", "u-2", "żółw"):
        put(server, namespace, partitions, user, "user-segments", "power", "new")
    put(server, namespace, partitions, "u-2", "exposures", "feed-ranking")
    both = frozenset({"power", "new"})
    assert targeting.of("u-1") == targeting.of("żółw") == Known(both, frozenset())
    assert targeting.of("u-2") == Known(both, frozenset({"feed-ranking"}))
    assert targeting.of("nobody") == Known(frozenset(), frozenset())
    targeting.close()


def test_what_is_not_there_is_told(redis_url: str, namespace: str) -> None:
    with pytest.raises(TargetingUnavailable, match="knows no segments of namespace"):
        RedisTargeting(redis_url, namespace).of("u-1")
    with pytest.raises(TargetingUnavailable, match="Redis: "):
        RedisTargeting("redis://127.0.0.1:1/0").of("u-1")


def test_who_is_outside_gets_nothing_and_tells_nothing() -> None:
    client = RecordingClient()
    given: Any = {"allocation": 0.2, "segments": ["power"]}
    assert client.variant("feed-ranking", IN, WEIGHTS, **given) is None
    assert client.variant("feed-ranking", IN, WEIGHTS, user_segments=["new"], **given) is None
    assert client.variant("feed-ranking", OUT, WEIGHTS, user_segments=["power"], **given) is None
    assert client.events == []
    client.close()


def test_who_was_exposed_stays_in_and_is_told_of_once() -> None:
    client = RecordingClient()
    given: Any = {"allocation": 0.2, "segments": ["power"]}
    look: Any = {**given, "user_segments": ["power"], "expose": False}
    assert client.variant("feed-ranking", IN, WEIGHTS, **look) == "control"
    assert client.variant("feed-ranking", IN, WEIGHTS, **given) is None  # was not shown yet
    for segments in (["power"], [], ["new"]):
        variant = client.variant("feed-ranking", IN, WEIGHTS, user_segments=segments, **given)
        assert variant == "control"
    elsewhere = client.variant("feed-ranking", OUT, WEIGHTS, exposed=True, app_version="2", **given)
    assert elsewhere == "control"
    told = [(event.user_id, event.variant, event.app_version) for event in client.events]  # type: ignore[attr-defined]
    assert told == [(IN, "control", None), (OUT, "control", "2")]
    client.close()


def test_the_client_for_asyncio_does_the_same() -> None:
    transport = RecordingTransport()

    async def run() -> list[str | None]:
        async with AsyncClient(transport=lambda: transport, batch_s=0.0) as client:
            given: Any = {"allocation": 0.2, "segments": ["power"]}
            return [
                await client.variant("feed-ranking", IN, WEIGHTS, user_segments=some, **given)
                for some in ([], ["power"], [])
            ]

    assert asyncio.run(run()) == [None, "control", "control"]
    assert [event.user_id for event in transport.events] == [IN]


def test_only_so_many_are_remembered() -> None:
    seen = Seen(most=2)
    for user in ("a", "b", "c"):
        seen.add("e", user)
    assert [seen.has("e", user) for user in ("a", "b", "c")] == [False, True, True]
