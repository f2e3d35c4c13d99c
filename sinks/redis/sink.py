"""Topics into hot keys, guarded partition by partition: metrics, segments, profiles, experiments.

Upstream: the runner. Downstream: the hashes of `counters.py`, `profiles.py` and `experiments.py`,
the sets of `segments.py` and `exposures.py`. One write is one script call a partition, which
checks the fence (epoch and offset), sets absolute values and moves the offset. So each call finds
out whether the server still is what it was: a replica promoted with older data, or a server that
lost all, answers `rewound`, and the runner reads again from its fence, or the compacted topic from
the beginning.

Counters go when the watermark has passed them (the script keeps an index). A TTL a day longer
frees the memory where the sink itself is gone; it does not decide what is seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import redis
from redis import exceptions

from streamgauge.schemas import faultpoint
from streamgauge.sinks.errors import Fatal, Fenced, Retryable, Rewound
from streamgauge.sinks.redis import experiments, exposures, profiles, segments
from streamgauge.sinks.redis.commands import Commands
from streamgauge.sinks.redis.counters import DAY_MS, Counters, counters, deletions, keys
from streamgauge.sinks.sink import Batch, Log, Partition, Range

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
# Codes of answers that pass; out of a script, Redis 6 tells them in the middle of the text.
_OUTAGES = ("OOM", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNKILLABLE")


@dataclass(frozen=True, kw_only=True)
class Owned:
    """A partition as this process knows it; position '' is the beginning."""

    epoch: str
    position: str


APPLIED: Mapping[str, Callable[[pl.DataFrame, dict[int, Commands]], None]] = {
    "user-segments": segments.apply,
    "user-profiles": profiles.apply,
    "experiment-results": experiments.apply,
    "exposures": exposures.apply,
}
"""Topics whose rows are commands, and what makes them."""


class RedisSink:
    """Writes the hot keys of one namespace. A URL `redis+cluster://` names a cluster."""

    topics: Mapping[str, frozenset[str] | None] = {
        "metrics": frozenset(
            {"window_start", "window_size", "dimensions", "watermark", "metrics", "values"}
        ),
        "user-segments": segments.COLUMNS,
        "user-profiles": profiles.COLUMNS,
        "experiment-results": experiments.COLUMNS,
        "exposures": exposures.COLUMNS,
    }
    types: Mapping[str, frozenset[str]] = {}

    def __init__(self, url: str, namespace: str = "", *, owner: str = "") -> None:
        kind: Any = redis.Redis
        if url.startswith("redis+cluster://"):
            kind, url = redis.RedisCluster, url.replace("redis+cluster", "redis", 1)
        self._connect = lambda: kind.from_url(
            url, decode_responses=True, socket_timeout=10, socket_connect_timeout=5
        )
        self._namespace = namespace
        self._owner = owner
        self._client: Any = None
        self._warned = False
        self._owned: dict[Partition, Owned] = {}

    def open(self, partitions: Mapping[Partition, Log]) -> dict[Partition, int | None]:
        """Take partitions over; what was owned before is let go."""
        self._owned = {}
        owned: dict[Partition, Owned] = {}
        with self._connected() as client:
            self._warn_of_eviction(client)
            for (topic, partition), of in partitions.items():
                at = keys(self._namespace, partition, topic)
                epoch, position = self._open(
                    keys=[at.fence, at.expiry], args=[of.cluster_id, of.topic_id, self._owner]
                )
                owned[topic, partition] = Owned(epoch=epoch, position=position)
        self._owned = owned
        return {at: int(one.position) if one.position else None for at, one in owned.items()}

    def write(self, batch: Batch) -> None:
        """One script call a partition. After an outage in between, those that are done say so."""
        with self._connected():
            if batch.topic in APPLIED:
                self._apply(batch)
                return
            set_, deleted = counters(batch.frame), deletions(batch.tombstones)
            for partition, span in batch.ranges.items():
                self._write(partition, span, set_[partition], deleted[partition])

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            client.close()

    def _write(self, partition: int, span: Range, set_: Counters, deleted: list[bytes]) -> None:
        owned, at = self._owned["metrics", partition], keys(self._namespace, partition)
        end = _end(span, owned)
        names = [at.fence, at.expiry, at.names]
        arguments: list[Any] = [owned.epoch, owned.position, end]
        arguments += [set_.watermark, at.prefix, DAY_MS]
        for (name, expires), fields in set_.hashes.items():
            names.append(at.prefix + name)
            arguments += [expires, len(fields), *fields]
        arguments += deleted
        if set_.hashes:
            faultpoint.reached("sink_before_commit")
        answer = self._script(keys=names, args=arguments)
        self._moved(("metrics", partition), answer, end)

    def _apply(self, batch: Batch) -> None:
        at = {p: keys(self._namespace, p, batch.topic) for p in batch.ranges}
        commands = {partition: Commands(prefix=names.prefix) for partition, names in at.items()}
        APPLIED[batch.topic](batch.frame, commands)
        for partition, span in batch.ranges.items():
            owned, of = self._owned[batch.topic, partition], commands[partition]
            end = _end(span, owned)
            if of.keys:
                faultpoint.reached("sink_before_commit")
            answer = self._commands(
                keys=[at[partition].fence, at[partition].expiry, *of.keys],
                args=[owned.epoch, owned.position, end, of.packed],
            )
            self._moved((batch.topic, partition), answer, end)

    def _moved(self, partition: Partition, answer: str, end: str) -> None:
        owned, name = self._owned[partition], " ".join(map(str, partition))
        if answer == "fenced":
            raise Fenced(f"{name}: another instance writes it by now")
        if answer == "rewound":
            raise Rewound(f"{name}: Redis is not where it was (at {owned.position})")
        self._owned[partition] = replace(owned, position=end)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """The client, made if there is none, and thrown away after any failure."""
        try:
            if self._client is None:
                self._client = self._connect()
                self._open = self._client.register_script(_lua("open"))
                self._script = self._client.register_script(_lua("fence", "write"))
                self._commands = self._client.register_script(_lua("fence", "apply"))
            yield self._client
        except exceptions.RedisError as error:
            self.close()
            raise _translated(error) from error

    def _warn_of_eviction(self, client: Any) -> None:
        """An evicted fence means that everything is read again, an evicted counter is lost."""
        if self._warned:
            return
        self._warned = True
        try:
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy")
        except exceptions.ResponseError:  # a hosted one may not tell
            return
        if policy != "noeviction":
            log.warning("Redis may evict counters (maxmemory-policy %s): set noeviction", policy)


def _lua(*names: str) -> str:
    """A script, from the files of these names."""
    return "".join((_HERE / f"{name}.lua").read_text() for name in names)


def _end(span: Range, owned: Owned) -> str:
    """The position after a range; an empty one only proves that the partition is still ours."""
    return str(span.end) if span.end > span.start else owned.position


def _translated(error: exceptions.RedisError) -> Retryable | Fatal:
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return Fatal(f"Redis refused the login: {error}. Correct the URL or the user's rights.")
    passing = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError)
    if isinstance(error, passing) or any(c in str(error) for c in _OUTAGES):
        return Retryable(f"Redis: {error}")
    return Fatal(f"Redis refused a command: {error}")
