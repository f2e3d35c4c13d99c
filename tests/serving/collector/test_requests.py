"""Requests over a real socket: what is taken, what is answered, and what is then in the topics."""

import gzip
import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamgauge.schemas.avro import avro_schema
from streamgauge.schemas.envelope import EVENT_TYPES
from streamgauge.schemas.errors import IncompatibleSchema
from streamgauge.schemas.ids import now_ms
from streamgauge.schemas.registry import open_registry
from streamgauge.serving.collector.app import Collector
from streamgauge.serving.collector.errors import CollectorError
from streamgauge.serving.collector.settings import CollectorConfig, Limits

from .conftest import NOW, Running

Start = Callable[..., Running]
Topic = Callable[[str], list[dict[str, Any]]]

SEARCH = {"event_id": "e1", "event_type": "search", "user_id": "u1", "timestamp": NOW}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0"


def test_an_answer_for_each_event_and_each_where_it_belongs(start: Start, topic: Topic) -> None:
    collector = start()
    wrong = {"event_type": "serch", "event_id": "e3", "user_id": "u1", "timestamp": NOW}
    batch = [SEARCH, {**SEARCH, "event_id": "e2", "query": "ü"}, wrong, 7, {**SEARCH, "x": 1}]
    answer = collector.http.post("/v1/batch", json={"batch": batch, "sent_at": now_ms()})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["ok", "ok", "drop", "drop", "drop"]
    assert [result["id"] for result in results] == ["e1", "e2", "e3", None, "e1"]
    assert "did you mean search" in results[2]["reason"]
    assert results[3]["reason"].startswith("not_an_object")
    assert results[4]["reason"] == "unknown_field: x: x is no field of Search"
    events = {event["event_id"]: event for event in topic("events")}
    assert set(events) == {"e1", "e2"}
    assert events["e2"]["query"] == "ü"
    assert abs(events["e1"]["received_at"] - now_ms()) < 60_000
    letters = topic("dead-letters")
    assert sorted(letter["reason"] for letter in letters) == [
        "not_an_object",
        "unknown_field",
        "unknown_type",
    ]
    assert json.loads(letters[0]["payload"]) in batch
    assert len({letter["offset"] for letter in letters}) == 3


def test_one_event_may_be_sent_by_itself_and_gets_an_id(start: Start, topic: Topic) -> None:
    collector = start()
    event = {key: value for key, value in SEARCH.items() if key != "event_id"}
    answer = collector.http.post("/v1/events", json={**event, "sent_at": now_ms()})
    (result,) = answer.json()["results"]
    assert result["status"] == "ok"
    assert [event["event_id"] for event in topic("events")] == [result["id"]]


def test_a_browser_is_told_apart_and_its_beacon_taken(start: Start, topic: Topic) -> None:
    collector = start()
    headers = {"Origin": "https://shop.example", "User-Agent": FIREFOX}
    beacon = {"Content-Type": "text/plain;charset=UTF-8"}
    mine = {**SEARCH, "event_id": "e2", "os": "BeOS", "properties": {"browser": "mine"}}
    body = json.dumps({"batch": [SEARCH, mine]})
    answer = collector.http.post("/v1/batch?key=x", content=body, headers=headers | beacon)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    bot = {"Origin": "https://shop.example", "User-Agent": "Googlebot/2.1"}
    collector.http.post("/v1/events", json={**SEARCH, "event_id": "e3"}, headers=bot)
    events = {event["event_id"]: event for event in topic("events")}
    told = [(events[e]["device_type"], events[e]["os"], events[e]["browser"]) for e in ("e1", "e2")]
    assert told == [("desktop", "Linux", "Firefox"), ("desktop", "BeOS", "mine")]
    assert [events[e]["bot"] for e in ("e1", "e2", "e3")] == [None, None, True]


def test_a_preflight_is_answered(start: Start) -> None:
    collector = start(origins=("https://shop.example",))
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    answer = collector.http.options("/v1/batch", headers=asked)
    assert answer.status_code == 204
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert collector.http.options("/v1/batch", headers={"Origin": "https://x"}).status_code == 403


def test_timestamps_of_a_clock_that_is_ahead_are_put_right(start: Start, topic: Topic) -> None:
    collector = start()
    hour = 3_600_000
    at = now_ms() + hour
    event = {**SEARCH, "timestamp": at - 5_000}
    collector.http.post("/v1/batch", json={"batch": [event], "sent_at": at})
    (found,) = topic("events")
    assert abs(found["timestamp"] - (now_ms() - 5_000)) < 60_000


def test_gzip_is_taken_within_the_limit(start: Start, topic: Topic) -> None:
    collector = start(limits=Limits(inflated_bytes=20_000))
    packed = gzip.compress(json.dumps({"batch": [SEARCH]}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    post = collector.http.post
    assert post("/v1/batch", content=packed, headers=headers).status_code == 200
    bomb = gzip.compress(b" " * 10_000_000)
    assert post("/v1/batch", content=bomb, headers=headers).status_code == 413
    broken = post("/v1/batch", content=packed[:-4], headers=headers)
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "gzip")
    assert len(topic("events")) == 1


KEYS = """
[[keys]]
name = "shop"
key = "k1"
scopes = ["browser"]
origins = ["https://shop.example"]
event_types = ["search"]

[[keys]]
name = "slow"
key = "k2"
rate = 1
"""


def test_write_keys_decide_who_sends_what_and_how_much(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(KEYS)
    collector = start(write_keys=path)
    post = collector.http.post
    assert post("/v1/events", json=SEARCH).status_code == 401
    wrong = post("/v1/events", json=SEARCH, headers={"Authorization": "Bearer nobody"})
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")
    shop = {"Origin": "https://shop.example"}
    assert post("/v1/events?key=k1", json=SEARCH, headers=shop).json()["results"][0]["id"] == "e1"
    other = post("/v1/events?key=k1", json={**SEARCH, "event_type": "rating"}, headers=shop)
    assert other.json()["results"][0]["reason"].startswith("forbidden_type")
    assert (
        post("/v1/events?key=k1", json=SEARCH, headers={"Origin": "https://x"}).status_code == 403
    )
    slow = {"Authorization": "Bearer k2"}
    batch = {"batch": [SEARCH] * 50}
    assert post("/v1/batch", json=batch, headers=slow).status_code == 200
    refused = post("/v1/batch", json=batch, headers=slow)
    assert refused.status_code == 429
    assert 30 <= int(refused.headers["retry-after"]) <= 41
    path.write_text(KEYS.replace("k2", "k3"))
    deadline = time.monotonic() + 120
    while post("/v1/events", json=SEARCH, headers=slow).status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_requests_that_are_too_large_are_refused(start: Start) -> None:
    collector = start(limits=Limits(body_bytes=10_000, batch_events=10, event_bytes=2_000, depth=3))
    post = collector.http.post
    assert post("/v1/batch", content=b" " * 10_001).status_code == 413
    chunks = (b" " * 1000 for _ in range(50))
    assert post("/v1/batch", content=chunks).status_code == 413
    assert post("/v1/batch", json={"batch": [SEARCH] * 11}).json()["error"]["code"] == "too_many"
    deep: Any = 1
    for _ in range(5):
        deep = {"a": deep}
    custom = {**SEARCH, "event_type": "custom", "name": "x", "properties": deep}
    large = {**SEARCH, "query": "x" * 3_000}
    results = post("/v1/batch", json={"batch": [custom, large, SEARCH]}).json()["results"]
    assert [result.get("reason", "ok").split(":")[0] for result in results] == [
        "too_complex",
        "too_large",
        "ok",
    ]


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/batch", b"[]", "not_an_object"),
        ("/v1/batch", b"{}", "no_batch"),
        ("/v1/batch", b'{"batch": {}}', "no_batch"),
        ("/v1/batch", b'{"batch": [], "sent_at": "soon"}', "sent_at"),
        ("/v1/batch", b'{"batch": [], "sent_at": {}}', "sent_at"),
        ("/v1/events", b'{"batch": []}', "batch"),
        ("/v1/events", b"{", "not_json"),
        ("/v1/batch?" + "a=1&" * 100, b'{"batch": []}', "query"),
    ],
)
def test_a_body_of_another_shape_is_refused(
    shared: Running, path: str, body: bytes, code: str
) -> None:
    answer = shared.http.post(path, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_other_methods_and_empty_batches(shared: Running) -> None:
    assert shared.http.get("/v1/events").status_code == 405
    assert shared.http.post("/v1/batch", json={"batch": []}).json() == {"results": []}


def test_health_metrics_openapi_and_the_tracker(shared: Running) -> None:
    shared.http.post("/v1/events", json=SEARCH)
    assert shared.http.get("/live").json() == {"status": "ok"}
    assert shared.http.get("/ready").json() == {"status": "ok", "kafka": "ok"}
    metrics = shared.http.get("/metrics").text
    assert 'streamgauge_collector_events_total{key="open",status="ok"}' in metrics
    public = shared.http.get("/metrics", headers={"X-Forwarded-For": "8.8.8.8"})
    assert public.status_code == 403
    assert "/v1/batch" in shared.http.get("/openapi.json").json()["paths"]
    script = shared.http.get("/tracker.js")
    assert script.status_code == 200 and script.headers["content-type"].startswith("text/java")
    again = shared.http.get("/tracker.js", headers={"If-None-Match": script.headers["etag"]})
    assert again.status_code == 304


def test_a_schema_that_breaks_the_registrys_keeps_it_from_starting(
    config: CollectorConfig, tmp_path: Path
) -> None:
    registry = f"file:{tmp_path}"
    schema = json.loads(json.dumps(avro_schema(EVENT_TYPES["search"])))
    for field in schema["fields"]:
        if field["name"] == "query":
            field["type"] = ["null", "long"]
    open_registry(registry).register("events-streamgauge.Search", schema)
    broken = Collector(replace(config, registry=registry), on_fatal=lambda: None)
    with pytest.raises(IncompatibleSchema, match="query"):
        broken.prepare()


def test_a_topic_that_is_missing_is_an_error_that_says_so(
    kafka: str, config: CollectorConfig
) -> None:
    without = Collector(replace(config, kafka=kafka, namespace="nowhere"), on_fatal=lambda: None)
    with pytest.raises(CollectorError, match=r"no topic nowhere\.events.*topics create"):
        without.prepare()


def test_openapi_can_be_turned_off(start: Start) -> None:
    assert start(openapi=False).http.get("/openapi.json").status_code == 404


def test_more_than_fits_in_memory_at_once_is_told_to_wait(start: Start) -> None:
    collector = start(limits=Limits(inflight_bytes=50_000, request_seconds=60))
    head = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", collector.port)) as slow:
        slow.sendall(head + b" " * 30_000)
        deadline = time.monotonic() + 120
        while collector.collector.door.inflight < 30_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        full = collector.http.post("/v1/batch", content=b" " * 30_000)
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
        assert collector.http.post("/v1/events", json=SEARCH).status_code == 200
    while collector.collector.door.inflight:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_slow_requests_and_floods_of_headers_are_cut_off(start: Start) -> None:
    collector = start(limits=Limits(request_seconds=1.0, header_bytes=8_000, headers=20))
    request = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\n"
    slow = [b"", request, request + b"Content-Length: 100\r\n\r\n{"]
    floods = [
        request + b"X-A: 1\r\n" * 30 + b"\r\n",
        request + b"X-A: " + b"a" * 20_000,
        b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    opened = []
    for data in [*slow, *floods]:
        connection = socket.create_connection(("127.0.0.1", collector.port))
        connection.settimeout(30)
        connection.sendall(data)
        opened.append(connection)
    answers = [connection.recv(1000) for connection in opened]
    for connection in opened:
        connection.close()
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers[:2])
    assert answers[2] == b""  # the app has the request: the connection ends
    assert all(answer.startswith(b"HTTP/1.1 431") for answer in answers[3:])
    assert collector.http.post("/v1/events", json=SEARCH).status_code == 200


def test_more_connections_than_allowed_are_turned_away(start: Start) -> None:
    collector = start(limits=Limits(connections=3))
    opened = [socket.create_connection(("127.0.0.1", collector.port)) for _ in range(6)]
    try:
        opened[-1].settimeout(30)
        assert opened[-1].recv(100).startswith(b"HTTP/1.1 503")
    finally:
        for connection in opened:
            connection.close()


def test_without_kafka_and_spool_nothing_is_acknowledged(
    start: Start, config: CollectorConfig
) -> None:
    collector = start(kafka="127.0.0.1:1", ack_seconds=0.5)
    answer = collector.http.post("/v1/batch", json={"batch": [SEARCH]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert collector.http.get("/ready").json() == {"status": "unavailable", "kafka": "away"}


def test_while_kafka_is_away_the_spool_keeps_events_and_then_sends_them(
    start: Start, config: CollectorConfig, tmp_path: Path, topic: Topic
) -> None:
    away = replace(config, kafka="127.0.0.1:1", ack_seconds=0.5, spool=tmp_path / "spool")
    collector = Running(away)
    try:
        for number in range(5):
            event = {**SEARCH, "event_id": f"e{number}"}
            answer = collector.http.post("/v1/batch", json={"batch": [event, 7]})
            assert [each["status"] for each in answer.json()["results"]] == ["ok", "drop"]
        assert collector.http.get("/ready").json() == {"status": "ok", "kafka": "away"}
    finally:
        collector.close()
    back = start(spool=tmp_path / "spool")
    deadline = time.monotonic() + 120
    assert back.collector.buffer is not None
    while back.collector.buffer.records or back.collector.delivery.outstanding:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sorted(event["event_id"] for event in topic("events")) == [f"e{n}" for n in range(5)]
    assert len(topic("dead-letters")) == 5


def test_a_full_spool_is_said_not_hidden(start: Start, tmp_path: Path) -> None:
    collector = start(
        kafka="127.0.0.1:1", ack_seconds=0.5, spool=tmp_path / "spool", spool_bytes=1_000
    )
    batch = {"batch": [{**SEARCH, "query": "x" * 300}]}
    answers = [collector.http.post("/v1/batch", json=batch) for _ in range(6)]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 503
    assert collector.http.get("/ready").status_code == 503
