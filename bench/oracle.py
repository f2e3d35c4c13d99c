"""The exact answers, folded from the generator's columns, and what a contender really wrote.

Independent of every contender: numpy over whole columns, no window, no state, no Kafka.
"""

import json
from collections.abc import Iterable, Mapping

import numpy as np

from bench.events import TYPES, Chunk, page, user_id
from streamgauge.cli.verify.log import Log

Answer = Mapping[str, Mapping[str, int | str]]


def rollup(chunks: Iterable[Chunk]) -> Answer:
    """B1: count, sum and max of duration by minute, type and page."""
    ts, kind, seen, duration = _columns(chunks, "ts", "type", "page", "duration")
    pages = int(seen.max()) + 1
    duration = np.maximum(duration, 0)
    minute = ts // 60_000
    least = minute.min()
    key = ((minute - least) * len(TYPES) + kind) * pages + seen
    counts = np.bincount(key)
    sums = np.bincount(key, weights=duration)  # exact below 2^53
    most = np.zeros(len(counts), np.int64)
    np.maximum.at(most, key, duration)
    answer = {}
    for k in np.flatnonzero(counts).tolist():
        rest, p = divmod(k, pages)
        m, t = divmod(rest, len(TYPES))
        answer[f"{(least + m) * 60_000}|{TYPES[t]}|{page(p)}"] = {
            "count": int(counts[k]),
            "sum": int(sums[k]),
            "max": int(most[k]),
        }
    return answer


def profile(chunks: Iterable[Chunk]) -> Answer:
    """B2: each user's events, sum of duration, last event time and the page he read last."""
    user, ts, seen, duration = _columns(chunks, "user", "ts", "page", "duration")
    counts = np.bincount(user)
    sums = np.bincount(user, weights=np.maximum(duration, 0))
    last_ts = np.zeros(len(counts), np.int64)
    np.maximum.at(last_ts, user, ts)
    last = np.zeros(len(counts), np.int64)
    np.maximum.at(last, user, np.arange(len(user)))  # the order of a user's events is the log's
    return {
        user_id(u): {
            "events": int(counts[u]),
            "sum": int(sums[u]),
            "last_ts": int(last_ts[u]),
            "page": page(seen[last[u]]),
        }
        for u in np.flatnonzero(counts).tolist()
    }


def _columns(chunks: Iterable[Chunk], *names: str) -> list[np.ndarray]:
    parts = [[getattr(part, name) for name in names] for part in chunks]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def written(bootstrap: str, topic: str) -> tuple[Answer, int]:
    """The last committed value of each key of a topic of JSON objects, and how many rows it has."""
    log = Log({"bootstrap.servers": bootstrap})
    answer: dict[str, dict[str, int | str]] = {}
    rows = 0
    for some in log.read(topic, *log.bounds(topic)):
        rows += len(some)
        for message in some:
            answer[(message.key() or b"").decode()] = json.loads(message.value() or b"{}")
    log.close()
    return answer, rows


def wrong(expected: Answer, found: Answer) -> int:
    """How many keys differ; 0 is a right answer."""
    return sum(expected.get(k) != found.get(k) for k in expected.keys() | found.keys())
