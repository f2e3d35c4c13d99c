"""Under gevent: patched before or after the import, over HTTP and to Kafka, with a fork as
gunicorn's preloading workers do it. Nothing is lost, and no greenlet is held up."""

import subprocess
import sys

import pytest

from .collector_double import CollectorDouble

PATCH = "import gevent.monkey; gevent.monkey.patch_all()\n"
SDK = "import os, sys, time\nfrom streamgauge.producers import Client, QueueFull\n"

WORK = """
import gevent
TO = sys.argv[1:]
def make(**settings):
    if TO[0] == "kafka":
        kafka = {"bootstrap.servers": TO[1]}
        return Client(kafka, TO[2], TO[3], **settings)
    return Client(endpoint=TO[1], write_key="key", **settings)

ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.005)
        ticks += 1
gevent.spawn(tick)

def work(client, name):
    with client.context(user_id=name):
        for one in range(50):
            client.track("search", query=f"{name} {one}")
            gevent.sleep(0)
"""

MANY = """
client = make(batch_s=0.05)
gevent.joinall([gevent.spawn(work, client, f"g{number}") for number in range(20)])
before = ticks
assert client.flush(60) == 0, client.stats()
assert ticks > before, "flush held the loop up"
assert client.stats().delivered == 1000, client.stats()
client.close()
"""

FULL = """
client = make(batch_s=0.0, max_events=20, block_s=60)
gevent.joinall([gevent.spawn(work, client, f"g{number}") for number in range(20)])
client.close()
assert client.stats().delivered == 1000, client.stats()
"""

PRELOAD = """
client = make()
if os.environ.get("EARLY"):
    client.track("search", "early", query="early 0")
children = []
for number in range(2):
    pid = os.fork()
    if not pid:
        gevent.joinall([gevent.spawn(work, client, f"c{number}-{n}") for n in range(5)])
        assert client.flush(90) == 0, client.stats()
        sys.exit()
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(script, *where, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *where],
        capture_output=True,
        text=True,
        timeout=240,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def collector():
    double = CollectorDouble()
    yield double
    double.close()


def expected(names):
    return sorted(f"{name} {one}" for name in names for one in range(50))


GREENLETS = [f"g{number}" for number in range(20)]


@pytest.mark.parametrize("header", [PATCH + SDK, SDK + PATCH], ids=["patched first", "last"])
@pytest.mark.parametrize("script", [MANY, FULL], ids=["many", "full"])
def test_greenlets_lose_nothing_on_the_way_to_a_collector(collector, header, script):
    run(header + WORK + script, "http", collector.address)
    assert sorted(event["query"] for event in collector.events) == expected(GREENLETS)


@pytest.mark.parametrize("header", [PATCH + SDK, SDK + PATCH], ids=["patched first", "last"])
def test_greenlets_lose_nothing_on_the_way_to_kafka(
    broker, registry_url, namespace, read, codec, header
):
    run(header + WORK + MANY, "kafka", broker, registry_url, namespace)
    records = [codec.decode(message.value()).record for message in read(f"{namespace}.events")]
    assert sorted(record["query"] for record in records) == expected(GREENLETS)


@pytest.mark.parametrize("early", ["", "1"], ids=["unused before", "used before"])
def test_a_preloading_server_forks_and_loses_nothing(collector, early):
    run(PATCH + SDK + WORK + PRELOAD, "http", collector.address, EARLY=early)
    children = [f"c{number}-{n}" for number in range(2) for n in range(5)]
    queries = sorted(event["query"] for event in collector.events)
    assert queries == sorted(expected(children) + (["early 0"] if early else []))
