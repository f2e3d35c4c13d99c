"""What assignment asks about a user, from Redis: their segments, and what they were exposed to.

    known = RedisTargeting("redis://127.0.0.1:6379/0").of("u-17")
    client.variant("feed-ranking", "u-17", weights, segments=["power"],
                   user_segments=known.segments, exposed="feed-ranking" in known.experiments)

Upstream: the sets that the Redis sink keeps (`docs/segments.md`, `docs/experiments.md`); the
package `redis` (`pip install redis`). Downstream: `assignment.py`. Optional: whoever knows a
user's segments otherwise gives them to `variant()`.

Invariants: one round trip a user; it reads only; which partition a user is in is found as Kafka's
clients find it.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from streamgauge.producers.errors import TargetingUnavailable
from streamgauge.producers.partitioner import partition_of

MOST_PARTITIONS = 1024
FRESH_S = 60.0
"""Partitions are counted again after this."""


class Known(NamedTuple):
    """What is known of a user."""

    segments: frozenset[str]
    experiments: frozenset[str]
    """To which they were exposed."""


class RedisTargeting:
    """Asks one Redis (a URL, `redis+cluster://` for a cluster), about one namespace."""

    def __init__(self, url: str, namespace: str = "", *, timeout_s: float = 0.5) -> None:
        try:
            import redis
        except ImportError as error:
            raise TargetingUnavailable("the package redis is missing: pip install redis") from error
        kind: Any = redis.Redis
        if url.startswith("redis+cluster://"):
            kind, url = redis.RedisCluster, url.replace("redis+cluster", "redis", 1)
        self._error = redis.RedisError
        self._client = kind.from_url(
            url, decode_responses=True, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        self._prefix = namespace or "sg"
        self._partitions = 0
        self._counted_at = float("-inf")

    def of(self, user: str) -> Known:
        """Raises TargetingUnavailable; a user nobody has heard of is in nothing."""
        try:
            partition = partition_of(user.encode(), self._count())
            pipeline = self._client.pipeline(transaction=False)
            for topic in ("user-segments", "exposures"):
                pipeline.smembers(f"{self._prefix}:{{{topic}-{partition}}}:user:{user}")
            segments, experiments = pipeline.execute()
        except self._error as error:
            raise TargetingUnavailable(f"Redis: {error}") from error
        return Known(frozenset(segments), frozenset(experiments))

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _count(self) -> int:
        """Partitions, by the fences of the sink."""
        now = time.monotonic()
        if now - self._counted_at > FRESH_S:
            count, some = 0, 16
            while count < MOST_PARTITIONS:
                pipeline = self._client.pipeline(transaction=False)
                for partition in range(count, count + some):
                    pipeline.exists(f"{self._prefix}:{{user-segments-{partition}}}:fence")
                found = [bool(there) for there in pipeline.execute()]
                count += found.index(False) if False in found else some
                if False in found:
                    break
            if not count:
                raise TargetingUnavailable(
                    f"Redis knows no segments of namespace {self._prefix!r}: does "
                    "`streamgauge sink redis` write there?"
                )
            self._partitions, self._counted_at = count, now
        return self._partitions
