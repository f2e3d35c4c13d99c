"""The exact answers, folded from the generator's columns, and what a contender really wrote.

Independent of every contender: numpy over whole columns, no window, no state, no Kafka.
"""

import json
from collections.abc import Mapping

import numpy as np

from bench.events import CHUNK, PAGES, TYPES, chunk
from streamgauge.cli.verify.log import Log

Answer = Mapping[str, Mapping[str, int]]


def rollup(events: int) -> Answer:
    """B1: count, sum and max of duration by minute, type and page."""
    parts = [chunk(number) for number in range(-(-events // CHUNK))]
    ts, kind, page, duration = (
        np.concatenate([getattr(part, name) for part in parts])[:events]
        for name in ("ts", "type", "page", "duration")
    )
    duration = np.maximum(duration, 0)
    minute = ts // 60_000
    least = minute.min()
    key = ((minute - least) * len(TYPES) + kind) * len(PAGES) + page
    counts = np.bincount(key)
    sums = np.bincount(key, weights=duration)  # exact below 2^53
    most = np.zeros(len(counts), np.int64)
    np.maximum.at(most, key, duration)
    answer = {}
    for k in np.flatnonzero(counts).tolist():
        rest, p = divmod(k, len(PAGES))
        m, t = divmod(rest, len(TYPES))
        answer[f"{(least + m) * 60_000}|{TYPES[t]}|{PAGES[p]}"] = {
            "count": int(counts[k]),
            "sum": int(sums[k]),
            "max": int(most[k]),
        }
    return answer


def written(bootstrap: str, topic: str) -> tuple[Answer, int]:
    """The last committed value of each key of a topic of JSON objects, and how many rows it has."""
    log = Log({"bootstrap.servers": bootstrap})
    answer: dict[str, dict[str, int]] = {}
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
