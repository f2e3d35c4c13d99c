"""The asyncio client: the same core, and a loop that is never held up."""

import asyncio
import threading
import time

import pytest

from streamgauge.producers import AsyncClient, ClientClosed, QueueFull
from streamgauge.producers.testing import RecordingTransport

from .collector_double import CollectorDouble


def run(work):
    return asyncio.run(asyncio.wait_for(work, 60))


class Slow(RecordingTransport):
    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def send(self, events, timeout):
        self.go.wait(120)
        return super().send(events, timeout)


def test_many_tasks_lose_nothing():
    double = CollectorDouble()

    async def work():
        async with AsyncClient(endpoint=double.address, write_key="key", batch_s=0.01) as client:

            async def task(number):
                with client.context(user_id=f"u{number}"):
                    for one in range(50):
                        await client.track("search", query=str(one))
                        await asyncio.sleep(0)

            await asyncio.gather(*(task(number) for number in range(20)))
            assert await client.flush(30) == 0
            return client.stats().delivered

    assert run(work()) == 1000
    for number in range(20):
        mine = [e["query"] for e in double.events if e["user_id"] == f"u{number}"]
        assert mine == [str(one) for one in range(50)]
    double.close()


def test_all_kinds_of_calls():
    transport = RecordingTransport()

    async def work():
        async with AsyncClient(transport=lambda: transport) as client:
            await client.identify("ann", "cookie")
            await client.page("/pricing", "ann")
            await client.custom("signup", "ann", {"plan": "pro"})

    run(work())
    assert [e.event_type for e in transport.events] == ["identify", "page_view", "custom"]


def test_a_full_queue_lets_other_tasks_run_and_takes_the_event_then():
    transport = Slow()

    async def work():
        client = AsyncClient(transport=lambda: transport, max_events=1, batch_s=0, block_s=30)
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1
                if ticks == 20:
                    transport.go.set()

        ticking = asyncio.create_task(tick())
        ids = [await client.track("search", "ann") for _ in range(10)]
        assert ticks >= 20
        ticking.cancel()
        await client.close()
        return ids

    ids = run(work())
    assert [event.event_id for event in transport.events] == ids


@pytest.mark.parametrize("settings", [{"block_s": 0.05}, {"when_full": "raise", "block_s": 60}])
def test_a_queue_that_stays_full_raises(settings):
    transport = Slow()

    async def work():
        client = AsyncClient(transport=lambda: transport, max_events=1, batch_s=0, **settings)
        with pytest.raises(QueueFull):
            for _ in range(5):
                await client.track("search", "ann")
        assert client.stats().refused == 1
        transport.go.set()
        await client.close()
        with pytest.raises(ClientClosed):
            await client.track("search", "ann")

    run(work())


def test_outcomes_are_told_in_the_loop():
    heard = []

    async def work():
        client = AsyncClient(
            transport=RecordingTransport,
            on_outcome=lambda o: heard.append((o.status, threading.get_ident())),
        )
        await client.track("search", "ann")
        await client.close()
        await asyncio.sleep(0.05)

    run(work())
    assert heard == [("delivered", threading.get_ident())]


def test_outcomes_that_come_after_the_loop_are_told_all_the_same():
    heard = []
    transport = Slow()
    made = []

    async def work():
        made.append(AsyncClient(transport=lambda: transport, on_outcome=heard.append, batch_s=0))
        await made[0].track("search", "ann")

    run(work())
    transport.go.set()
    deadline = time.monotonic() + 60
    while not heard and time.monotonic() < deadline:
        time.sleep(0.01)
    assert heard[0].status == "delivered"
    asyncio.run(made[0].close())
