"""A real browser, the example page, the real collector, and what is in the topic afterwards."""

import asyncio
import functools
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from streamgauge.cli.stack.process import free_port
from streamgauge.producers.assignment import assign
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import create_topics
from tests.serving.tracker.chrome import Chrome, chrome, find

PAGE = Path(__file__).parents[3] / "examples" / "tracker" / "index.html"
SECRETS = ("ann@secret.example", "typed-secret", "password-secret")
DEADLINE = 90.0
WEIGHTS = {"round": 0.5, "exact": 0.5}
EXPECTED = {
    "search": 3,  # each page says so as it loads
    "experiment_exposure": 3,
    "page_view": 5,
    "link_click": 2,
    "button_click": 6,  # buy three times, subscribe, go, no; not the fourth buy
    "form_submit": 2,
    "consent_change": 1,
}
"""Of each kind, but for those that come as often as a page is left."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """librdkafka's mock cluster, in this process."""
    host = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 0})
    (address,) = host.list_topics(timeout=10).brokers.values()
    create_topics({"bootstrap.servers": f"{address.host}:{address.port}"}, embedded=True)
    yield f"{address.host}:{address.port}"
    host.flush(0)


class Collector:
    """`streamgauge collect`, which can go and come back at the same address."""

    def __init__(self, broker: str, registry: str, folder: Path) -> None:
        self.port = free_port()
        self._command = [sys.executable, "-m", "streamgauge.cli", "collect"]
        self._command += ["--kafka", broker, "--registry", registry, "--port", str(self.port)]
        self._folder = folder
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=self._folder)
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            assert self._process.poll() is None, "the collector has ended"
            assert time.monotonic() < deadline, "the collector does not start"
            time.sleep(0.1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def collector(broker: str, registry_url: str, tmp_path: Path) -> Iterator[Collector]:
    running = Collector(broker, registry_url, tmp_path)
    yield running
    running.stop()


@pytest.fixture
def site(collector: Collector) -> Iterator[str]:
    """The example's page at every address, with its collector."""
    page = PAGE.read_text().replace("http://127.0.0.1:8000", collector.url).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def recorded(broker: str, registry: str) -> list[dict[str, Any]]:
    """All records of the topic, in the order of their events' times."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "unused", "log_level": 0})
    partitions = consumer.list_topics("events", 10).topics["events"].partitions
    ends = [consumer.get_watermark_offsets(TopicPartition("events", p), 10)[1] for p in partitions]
    consumer.assign([TopicPartition("events", p, OFFSET_BEGINNING) for p in partitions])
    values: list[bytes] = []
    deadline = time.monotonic() + DEADLINE
    while len(values) < sum(ends) and time.monotonic() < deadline:
        values += [message.value() or b"" for message in consumer.consume(1000, 0.2)]
    consumer.close()
    codec = Codec(open_registry(registry))
    return sorted((codec.decode(value).record for value in values), key=lambda e: e["timestamp"])


def test_what_is_done_on_a_page_is_in_the_topic_and_nothing_that_was_typed(
    collector: Collector, site: str, broker: str, registry_url: str, tmp_path: Path
) -> None:
    command = find()
    if command is None:
        pytest.skip("there is no Chromium or Chrome on the PATH (or in CHROME)")
    events = functools.partial(recorded, broker, registry_url)

    async def seen(**wanted: Any) -> dict[str, Any]:
        """The first event that is so, as soon as it is in the topic."""
        deadline = time.monotonic() + DEADLINE
        while True:
            found = await asyncio.to_thread(events)
            for event in found:
                if all(event.get(name) == value for name, value in wanted.items()):
                    return event
            assert time.monotonic() < deadline, (wanted, Counter(map(kind, found)))
            await asyncio.sleep(0.2)

    async def visit(browser: Chrome) -> None:
        tab = await browser.tab(f"{site}/?email={SECRETS[0]}&utm_source=mail")
        await tab.until("document.readyState === 'complete' && !!window.streamgauge.stats")
        await tab.until("document.getElementById('variant').textContent !== ''")
        await tab.click("[data-track=to-shoes]")
        await seen(event_type="page_view", page_url=f"{site}/shoes")
        await tab.click("#buy")
        await tab.type("#email", SECRETS[0])
        await tab.click("#subscribe")
        await seen(event_type="form_submit", element_id="newsletter")

        await tab.offline(True)
        await tab.until("navigator.onLine === false")
        await tab.click("#top a")
        await asyncio.sleep(2.5)
        assert not [
            e
            for e in await asyncio.to_thread(events)
            if e["page_url"] == f"{site}/" and e["referrer"]
        ]
        assert await tab.evaluate(
            "Object.keys(localStorage).some((key) => key.startsWith('sg.q.'))"
        )
        await tab.offline(False)
        await seen(event_type="page_view", referrer=f"{site}/shoes")

        # The collector is away: what the browser cannot send it keeps.
        collector.stop()
        await tab.click("#buy")
        await tab.until("streamgauge.stats().queued > 0")
        await asyncio.sleep(2.5)
        collector.start()
        await tab.until("streamgauge.stats().queued === 0")

        await tab.type("#q", SECRETS[1])
        await tab.click("#go")  # another page, with what was typed in its address
        await tab.until("location.pathname === '/find' && !!window.streamgauge.stats")
        await seen(event_type="page_view", page_url=f"{site}/find")
        await tab.click("#buy")
        await tab.close()
        await seen(name="page_time", page_url=f"{site}/find")

        tab = await browser.tab(f"{site}/no")
        await tab.until("document.readyState === 'complete' && !!window.streamgauge.stats")
        await seen(event_type="page_view", page_url=f"{site}/no")
        await tab.click("#no")
        await seen(event_type="consent_change", consent_analytics=False)
        assert await tab.evaluate("Object.keys(localStorage).join()") == "sg.c"
        await tab.click("#buy")
        await tab.close()
        await asyncio.sleep(0.5)

    async def run() -> None:
        async with chrome(command, tmp_path) as browser:
            await visit(browser)

    asyncio.run(run())
    # What a page sends as it goes may be on its way.
    deadline = time.monotonic() + DEADLINE
    while True:
        found = events()
        # Twice on the way is possible, when an answer is late; the id is the same.
        distinct = list({event["event_id"]: event for event in found}.values())
        counts = Counter(map(kind, distinct)) - Counter({"page_time": 99, "web_vitals": 99})
        painted = any(float(figures.get("lcp_ms") or 0) > 0 for figures in vitals_of(distinct))
        if (counts == EXPECTED and painted) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert counts == EXPECTED
    assert painted
    assert not [secret for secret in SECRETS if secret in json.dumps(found, default=str)]
    views = [event["page_url"] for event in distinct if event["event_type"] == "page_view"]
    paths = ["/?utm_source=mail", "/shoes", "/", "/find", "/no"]
    assert views == [f"{site}{path}" for path in paths]
    assert len({event["anonymous_id"] for event in distinct}) == 1
    assert len({event["session_id"] for event in distinct}) == 1
    assert {event["app_version"] for event in distinct} == {"1.0"}
    assert {event["browser"] for event in distinct} != {None}
    for seen_variant in (event for event in distinct if event.get("variant")):
        user = seen_variant["anonymous_id"]
        assert seen_variant["variant"] == assign("price-tag", user, WEIGHTS.items())
    elements = {event["element_id"] for event in distinct if event.get("element_id")}
    assert elements == {
        "to-shoes",
        f"{site}/",
        "buy",
        "subscribe",
        "newsletter",
        "go",
        "find",
        "no",
    }


def kind(event: dict[str, Any]) -> str:
    return str(event.get("name") or event["event_type"])


def vitals_of(events: list[dict[str, Any]]) -> list[dict[str, str]]:
    found = [event["properties"] for event in events if event.get("name") == "web_vitals"]
    return [{one["key"]: one["value"] for one in properties} for properties in found]
