"""Clients that send anything at all: no 5xx but an honest 503, nothing grows, nothing dies.

FUZZ_SECONDS=300 makes it long.
"""

import gzip
import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.serving.collector.settings import CollectorConfig

from .conftest import NOW, Collectors, make_topics

SECONDS = float(os.environ.get("FUZZ_SECONDS", "4"))
pytestmark = pytest.mark.timeout(300 + 4 * SECONDS)
GROWTH = 200 << 20
"""Bytes: its limit is 24 MiB of requests under way, each of them in memory a few times over."""


@pytest.fixture(scope="module")
def fuzzed(
    broker: str, registry_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collectors]:
    config = CollectorConfig(kafka=broker, registry=f"file:{registry_folder}", namespace="fuzzed")
    make_topics(config)
    collectors = Collectors(config, tmp_path_factory.mktemp("fuzzed"))
    collectors.start("--request-timeout", "0.3")
    yield collectors
    collectors.end(signal.SIGKILL)


def test_requests_made_from_the_openapi_document(fuzzed: Collectors) -> None:
    schema = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json")
    for path in ("/v1/events", "/v1/batch"):
        statuses = Counter[int]()

        @settings(
            max_examples=max(6, int(SECONDS)),
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            derandomize=SECONDS < 10,
        )
        @given(case=schema[path]["POST"].as_strategy())
        def requests(case: Any) -> None:
            statuses[case.call().status_code] += 1  # noqa: B023

        requests()
        assert {status for status in statuses if status >= 500} <= {503}
        assert statuses[200]


VALUES: list[Any] = [
    *(None, True, 0, -1, 2**63, 2**64, 10**30, 1e308, 1e-308, 0.1, "", " ", "null", "\x00"),
    *("\ud83d", "😀" * 1000, "x" * 70_000, "9" * 400, "1e400", "2026-13-45", "NaN", "-1"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", [{"key": 1}]),
    *([], {}, [[]], [None], {"a": {"b": [1]}}),
    *([{"key": "a", "value": {}}], {"": ""}, NOW, str(NOW), -NOW, NOW * 10**6, float(NOW)),
]  # fmt: skip
FIELDS = sorted({name for cls in EVENT_TYPES.values() for name in cls.model_fields})
NAMES = [*FIELDS, "device", "consent", "properties", "name", "", "batch", "sent_at", "\ud83d", "x"]


def event(draw: random.Random) -> Any:
    if draw.random() < 0.05:
        return draw.choice(VALUES)
    made = {"event_type": draw.choice(list(EVENT_TYPES)), "user_id": "u", "timestamp": NOW}
    for _ in range(draw.randrange(4)):
        made[draw.choice(NAMES)] = draw.choice(VALUES)
    if draw.random() < 0.1:
        deep: Any = draw.choice(VALUES)
        for _ in range(draw.choice([3, 15, 17, 60, 900])):
            deep = [deep] if draw.random() < 0.5 else {"a": deep}
        made["properties"] = deep
    return made


def body(draw: random.Random) -> bytes:
    kind = draw.randrange(10)
    if kind == 0:
        return draw.randbytes(draw.choice([0, 1, 100, 70_000]))
    if kind == 1:
        return b"[" * draw.choice([10, 2_000, 500_000])
    if kind == 2:
        number = b"9" * draw.choice([20, 400, 5_000, 100_000])
        return b'{"event_type":"search","user_id":"u","timestamp":' + number + b"}"
    made: Any = {"batch": [event(draw) for _ in range(draw.choice([0, 1, 5, 300]))]}
    if draw.random() < 0.3:
        made["sent_at"] = draw.choice(VALUES)
    if draw.random() < 0.2:
        made = event(draw)
    text = json.dumps(made)
    encoding = draw.choice(["utf-8"] * 8 + ["utf-16", "latin-1"])
    data = text.encode(encoding, "replace")
    if draw.random() < 0.2:
        at = draw.randrange(len(data) + 1)
        data = data[:at] + draw.randbytes(3) + data[at + draw.randrange(5) :]
    return data


def headers(draw: random.Random, data: bytes) -> tuple[list[bytes], bytes]:
    lines = [b"Host: x"]
    for name, values in (
        (b"Content-Type", [b"application/json"] * 6 + [b"text/plain;charset=x", b"\xff/\xfe", b""]),
        (b"User-Agent", [b"Mozilla/5.0 (X11)", b"curl", b"\x80" * 600, b"(" * 3_000, b""]),
        (b"Origin", [b"https://a.example", b"null", b"\xff", b"a" * 5_000]),
        (b"Authorization", [b"Bearer", b"Bearer \xff", b"Basic x", b"Bearer " + b"k" * 5_000]),
        (b"X-Forwarded-For", [b"1.2.3.4", b",,,", b"\xff", b"::1, " * 500]),
    ):
        if draw.random() < 0.6:
            lines.append(name + b": " + draw.choice(values))
    kind = draw.randrange(8)
    if kind == 0:
        data = gzip.compress(data)
        lines.append(b"Content-Encoding: gzip")
    elif kind == 1:
        data = gzip.compress(data)[: draw.randrange(30)]
        lines.append(b"Content-Encoding: gzip")
    elif kind == 2:
        data = gzip.compress(bytes(20_000_000), 1)
        lines.append(b"Content-Encoding: gzip")
    elif kind == 3:
        lines.append(b"Content-Encoding: " + draw.choice([b"br", b"gzip", b"gzip, gzip", b"\xff"]))
    if draw.random() < 0.05:
        lines += [b"X-Flood-%d: %s" % (n, b"a" * draw.choice([1, 900])) for n in range(200)]
    return lines, data


def raw(draw: random.Random) -> bytes:
    """A request as bytes, seldom whole."""
    lines, data = headers(draw, body(draw))
    path = draw.choice(
        [b"/v1/batch", b"/v1/events", b"/v1/batch?key=%ff", b"/v1/events?" + b"a&" * 60]
    )
    length = draw.choice([len(data)] * 12 + [len(data) + 10, max(0, len(data) - 3), 10**12, 0])
    if draw.random() < 0.1:
        lines.append(b"Transfer-Encoding: chunked")
        data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    else:
        lines.append(b"Content-Length: %d" % length)
    method = draw.choice([b"POST"] * 9 + [b"GET", b"OPTIONS", b"PUT"])
    request = method + b" " + path + b" HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + data
    return request[: draw.randrange(len(request))] if draw.random() < 0.05 else request


def answer(port: int, request: bytes, *, slowly: bool) -> int | None:
    """The status, None where the connection ended without one."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(30)
        try:
            if slowly:
                connection.sendall(request[:200])
                time.sleep(0.05)
                request = request[200:]
            connection.sendall(request)
            head = connection.recv(64)
        except (BrokenPipeError, ConnectionResetError):
            return None
    return int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else None


def test_nasty_bytes(fuzzed: Collectors) -> None:
    draw = random.Random(int(os.environ.get("FUZZ_SEED", "7")))
    statuses: Counter[int | None] = Counter()
    before = fuzzed.memory
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or not {200, 400, 413} <= set(statuses):
        assert time.monotonic() < end + 120, statuses
        request = raw(draw)
        status = answer(fuzzed.port, request, slowly=draw.random() < 0.05)
        statuses[status] += 1
        assert status is None or status < 500 or status == 503, request[:2000]
    assert fuzzed.memory - before < GROWTH
    search = {"event_type": "search", "user_id": "u", "timestamp": NOW}
    request = json.dumps(search).encode()
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(request)
    deadline = time.monotonic() + 60
    while answer(fuzzed.port, head + request, slowly=False) != 200:  # it may be too slow for it
        assert time.monotonic() < deadline
    log = fuzzed.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
