"""Reads what is hot: counters (one hash per metric, window and partition, a field per dimensions),
sets of segments, hashes of profiles.

Upstream: the Redis sink. Downstream: `compare`. Invariant: reads only, by SCAN, so that a busy
server is not held up.
"""

from collections.abc import Iterable
from typing import Any

import redis

from streamgauge.cli.verify.cells import WINDOW_MS, CellKey, Name, canonical

_DAY_MS = WINDOW_MS["1d"]
TTL_MS = {"1m": 7_200_000, "1h": 2 * _DAY_MS, "1d": 8 * _DAY_MS}


class Counters:
    """The counters of one namespace."""

    def __init__(self, url: str, prefix: str) -> None:
        kind: Any = redis.Redis
        if url.startswith("redis+cluster://"):
            kind, url = redis.RedisCluster, url.replace("redis+cluster", "redis", 1)
        self._redis = kind.from_url(url, decode_responses=True)
        self._prefix = prefix

    def close(self) -> None:
        """Let go of the connections."""
        self._redis.close()

    def metrics(self) -> dict[Name, float]:
        """Every value of every hash."""
        values: dict[Name, float] = {}
        keys: list[str] = []
        for key in self._redis.scan_iter(match=f"{self._prefix}{{metrics-*}}:*", count=1000):
            if not key.endswith(":fence"):
                keys.append(key)
            if len(keys) == 1000:
                self._hashes(keys, values)
                keys = []
        self._hashes(keys, values)
        return values

    def members(self, topic: str) -> set[tuple[str, str]]:
        """The members of every set of a topic, each with the name of its set."""
        found: set[tuple[str, str]] = set()
        for key in self._redis.scan_iter(
            match=f"{self._prefix}{{{topic}-*}}:*", count=1000, _type="set"
        ):
            name = key[len(self._prefix) :].split(":", 1)[1]
            found |= {(name, member) for member in self._redis.smembers(key)}
        return found

    def hashes(self, topic: str) -> dict[str, dict[str, str]]:
        """Every hash of a topic by name, but for the sink's fences."""
        start = f"{self._prefix}{{{topic}-"
        keys = [
            key
            for key in self._redis.scan_iter(match=f"{start}*}}:*", count=1000, _type="hash")
            if key[len(start) :].split("}:", 1)[1] != "fence"
        ]
        found = {}
        for some in range(0, len(keys), 1000):
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys[some : some + 1000]:
                pipeline.hgetall(key)
            for key, fields in zip(keys[some : some + 1000], pipeline.execute(), strict=True):
                found[key[len(start) :].split("}:", 1)[1]] = fields
        return found

    def offsets(self, partitions: Iterable[int], topic: str = "metrics") -> dict[int, int]:
        """How far the sink has written a topic: next offsets, from its fences."""
        fences = {p: f"{self._prefix}{{{topic}-{p}}}:fence" for p in partitions}
        return {p: int(self._redis.hget(fence, "offset") or 0) for p, fence in fences.items()}

    def _hashes(self, keys: list[str], values: dict[Name, float]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        for key, fields in zip(keys, pipeline.execute(), strict=True):
            name, size, start = key[len(self._prefix) :].split(":", 1)[1].rsplit(":", 2)
            for dimensions, value in fields.items():
                values[Name(name, size, int(start), canonical(dimensions))] = float(value)


def expired(watermark: int, key: CellKey) -> bool:
    """Whether the sink may have let go of a window by now."""
    return watermark >= key.window_start + TTL_MS[key.window_size]
