"""The client as an application sees it, with nobody at the other end."""

import inspect
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
import zlib
from datetime import UTC, datetime

import pytest

import streamgauge.producers
from streamgauge.producers import (
    AsyncClient,
    Client,
    ClientClosed,
    EventTooLarge,
    QueueFull,
    Undelivered,
    context,
)
from streamgauge.producers.ambient import ENVELOPE
from streamgauge.producers.errors import SpoolUnusable, Unavailable
from streamgauge.producers.segments import FRAME
from streamgauge.producers.testing import RecordingClient, RecordingTransport
from streamgauge.schemas.events import Event, PageView, Search


@pytest.fixture
def client():
    with RecordingClient() as client:
        yield client


class Away(RecordingTransport):
    """A receiver that does not answer until it is told to."""

    def __init__(self):
        super().__init__()
        self.there = threading.Event()

    def send(self, events, timeout):
        if not self.there.is_set():
            raise Unavailable("away")
        return super().send(events, timeout)


class Slow(RecordingTransport):
    """Holds every batch until it is let go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.holds = threading.Event()

    def send(self, events, timeout):
        self.holds.set()
        self.go.wait(120)
        return super().send(events, timeout)

    def interrupt(self):
        self.go.set()


def wait(question):
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_public_names_are_these():
    assert streamgauge.producers.__all__ == [
        "AsyncClient",
        "Client",
        "ClientClosed",
        "EventTooLarge",
        "FileReport",
        "Outcome",
        "ProducerError",
        "QueueFull",
        "RecordProducer",
        "RedisTargeting",
        "Rejected",
        "SendRefused",
        "SpoolFull",
        "SpoolUnusable",
        "Stats",
        "TargetingUnavailable",
        "Transport",
        "Unavailable",
        "Undelivered",
        "UnreadableFile",
        "context",
        "produce_file",
    ]
    assert all(hasattr(streamgauge.producers, name) for name in streamgauge.producers.__all__)
    with pytest.raises(AttributeError):
        _ = streamgauge.producers.Clinet


def test_importing_and_calling_the_client_imports_nothing_heavy():
    script = (
        "import sys; from streamgauge.producers import Client, context\n"
        "client = Client(endpoint='http://127.0.0.1:1', write_key='k', exit_s=0)\n"
        "heavy = {'pydantic', 'fastavro', 'confluent_kafka', 'asyncio', 'ssl', 'http.client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_envelope_known_to_the_client_is_that_of_all_events():
    assert set(Event.model_fields) == ENVELOPE


def test_the_asyncio_client_takes_what_the_client_takes():
    assert inspect.signature(AsyncClient) == inspect.signature(Client)


def test_a_tracked_event_is_sent_with_the_id_that_was_returned(client):
    event_id = client.track("page_view", user_id="ann", page_url="/pricing")
    (event,) = client.events
    assert isinstance(event, PageView)
    assert (event.event_id, event.user_id, event.page_url) == (event_id, "ann", "/pricing")
    assert abs(event.timestamp - time.time() * 1000) < 60_000


def test_ids_and_times_may_be_given_and_are_kept(client):
    at = datetime(2026, 1, 31, tzinfo=UTC)
    assert client.track("search", "ann", event_id="mine", timestamp=at) == "mine"
    (event,) = client.events
    assert (event.event_id, event.timestamp) == ("mine", int(at.timestamp() * 1000))


def test_typed_events_are_sent_as_they_are(client):
    event = Search(user_id="ann", query="cats")
    assert client.track(event) == event.event_id
    assert client.events == [event]
    with pytest.raises(TypeError, match="whole event"):
        client.track(event, user_id="bob")
    with pytest.raises(TypeError, match="not int"):
        client.track(5)


def test_identify_page_and_custom_events(client):
    client.identify("ann", anonymous_id="cookie")
    client.page("/pricing", "ann", title="Prices")
    client.custom("signup", "ann", {"plan": "pro", "seats": 3})
    identify, page, custom = client.events
    assert (identify.event_type, identify.anonymous_id) == ("identify", "cookie")
    assert (page.event_type, page.page_url, page.title) == ("page_view", "/pricing", "Prices")
    properties = {pair.key: pair.value for pair in custom.properties}
    assert (custom.name, properties) == ("signup", {"plan": "pro", "seats": "3"})


@pytest.mark.parametrize(
    ("event_type", "fields", "reason"),
    [
        ("page_vew", {"user_id": "ann"}, "unknown_type"),
        ("page_view", {}, "missing_user"),
        ("page_view", {"user_id": "ann", "stats": 200}, "unknown_field"),
        ("page_view", {"user_id": "ann", "status": "fine"}, "wrong_value"),
    ],
)
def test_an_invalid_event_is_told_with_the_reason(client, event_type, fields, reason):
    event_id = client.track(event_type, **fields)
    (outcome,) = client.dropped
    assert (outcome.event_id, outcome.reason) == (event_id, "invalid")
    assert outcome.detail.startswith(f"{reason}: ")
    assert outcome.event["event_type"] == event_type
    assert client.stats().dropped == {"invalid": 1}
    assert client.events == []


def test_types_that_nobody_declared_are_taken_kept_or_refused_by_name(tmp_path):
    modes = {"unknown_events": "shop_*=custom, cart=dead-letter", "spool_dir": tmp_path}
    client = RecordingClient(**modes, before_send=lambda event: event)
    client.fail()  # and through the spool
    client.track("shop_visit", user_id="ann", shelf=3)
    kept = client.track("cart", user_id="ann", items=["a"], properties={"sum": 2.5})
    client.track("cartoon", user_id="ann")
    (custom,) = client.events
    assert (custom.event_type, custom.name) == ("custom", "shop_visit")
    refused, letter = sorted(client.dropped, key=lambda one: one.event_id == kept)
    assert (refused.reason, letter.reason) == ("invalid", "invalid")
    assert "dead letter" not in refused.detail
    assert "kept as a dead letter" in letter.detail
    assert (letter.event.items, letter.event.sum) == (["a"], 2.5)
    client.close()


def test_an_undeclared_event_that_could_not_be_kept_is_told_as_such():
    with RecordingClient(unknown_events="dead-letter") as client:
        client.track("cart")  # nobody's
        client.track("cart", user_id="ann", items=["\ud800"])
        client.track("cart", user_id="ann", properties={"user_id": "bob"})
        assert [one.reason for one in client.dropped] == ["invalid"] * 3
        assert not any("kept" in one.detail for one in client.dropped)


def test_what_the_caller_changes_after_the_call_is_not_sent(client):
    properties, nested = {"a": {"b": 1}}, {"cats": [1, 2]}
    client.transport.failures.append(Unavailable("a moment"))
    client.custom("one", "ann", properties)
    client.track("custom", "ann", name="two", properties=nested)
    properties["a"]["b"] = nested["cats"][0] = 99
    assert [event.properties[0].value for event in client.events] == ['{"b":1}', "[1,2]"]


def test_a_value_that_cannot_be_sent_drops_that_event_alone(client):
    class Odd:
        def __str__(self):
            raise RuntimeError("odd")

    ring: list = []
    ring.append(ring)
    client.custom("one", "ann", {"odd": Odd()})
    client.custom("two", "ann", {"ring": ring})
    client.track("search", "ann", query="cats")
    assert [event.event_type for event in client.events] == ["search"]
    assert client.stats().dropped == {"invalid": 2}


# -- context, consent, sampling, before_send ------------------------------------------------------


def test_context_adds_to_events_that_do_not_say_otherwise():
    with RecordingClient(defaults={"app_version": "2.1", "os": "linux"}) as client:
        with context(user_id="ann", session_id="s1"), client.context(session_id="s2", os="mac"):
            client.track("search", query="cats")
            client.track("search", user_id="bob", session_id="s3")
            client.track(Search(user_id="cid", session_id="s4"))
        client.track("search", user_id="dan")
        told = [(e.user_id, e.session_id, e.os, e.app_version) for e in client.events]
    assert told == [
        ("ann", "s2", "mac", "2.1"),
        ("bob", "s3", "mac", "2.1"),
        ("cid", "s4", "mac", "2.1"),
        ("dan", None, "linux", "2.1"),
    ]


def test_context_knows_the_fields_that_all_events_have():
    with pytest.raises(TypeError, match="plan is no field"), context(plan="pro"):
        pass
    with pytest.raises(TypeError, match="event_id is no field"):
        RecordingClient(defaults={"event_id": "x"})


@pytest.mark.parametrize(("default", "written"), [("granted", True), ("denied", False)])
def test_the_consent_default_is_for_events_that_say_nothing(default, written):
    with RecordingClient(consent_default=default) as client:
        client.track("search", user_id="ann")
        client.track("search", user_id="ann", consent_analytics=not written)
        assert [e.consent_analytics for e in client.events] == [written, not written]


def test_without_a_consent_default_the_event_says_nothing(client):
    client.track("search", user_id="ann")
    assert client.events[0].consent_analytics is None


def test_denied_events_can_stay_here():
    with RecordingClient(consent_default="denied", when_denied="drop") as client:
        client.track("search", user_id="ann")
        client.track("search", user_id="bob", consent={"analytics": True})
        assert [event.user_id for event in client.events] == ["bob"]
        assert client.stats().dropped == {"consent": 1}


def test_a_user_is_sampled_wholly_or_not_at_all():
    with RecordingClient(sample=0.3) as client:
        for number in range(600):
            client.track("search", user_id=f"u{number % 200}")
            client.track("identify", user_id=f"u{number % 200}")
        events = client.events
    searches = [event.user_id for event in events if event.event_type == "search"]
    assert 30 < len(set(searches)) < 90
    assert all(searches.count(user) == 3 for user in set(searches))
    assert len(events) - len(searches) == 600
    assert client.stats().dropped == {"sampled": 600 - len(searches)}


def test_types_are_sampled_by_their_own_shares():
    with RecordingClient(sample={"search": 0, "identify": 0, "*": 1}) as client:
        for event_type in ("search", "identify", "page_view"):
            client.track(event_type, user_id="ann")
        assert [event.event_type for event in client.events] == ["page_view"]


def test_before_send_may_change_an_event_or_drop_it():
    def scrub(event):
        return event.model_copy(update={"query": "***"}) if event.user_id == "ann" else None

    with RecordingClient(before_send=scrub) as client:
        client.track("search", user_id="ann", query="secret")
        client.track("search", user_id="bob", query="secret")
        assert [event.query for event in client.events] == ["***"]
        assert client.stats().dropped == {"before_send": 1}


def test_what_before_send_breaks_is_not_sent():
    # It may have been there to take something out: when it fails, the event stays here.
    def broken(event):
        if event.user_id == "ann":
            raise KeyError("no")
        return event.model_copy(update={"query": 5.5j}) if event.user_id == "bob" else "event"

    with RecordingClient(before_send=broken) as client:
        for user in ("ann", "bob", "cid"):
            client.track("search", user_id=user)
        assert client.events == []
        assert client.stats().dropped == {"before_send_failed": 3}
        assert "KeyError" in client.dropped[0].detail


# -- outcomes -------------------------------------------------------------------------------------


def test_a_callback_that_raises_stops_nothing(caplog):
    def broken(outcome):
        raise RuntimeError("the application's fault")

    with RecordingClient(on_outcome=broken) as client:
        client.track("search", user_id="ann")
        client.track("search", user_id="ann")
        assert len(client.events) == 2
    assert client.stats().delivered == 2
    assert caplog.text.count("on_outcome raised") == 2  # at once, and the rest at the end


def test_a_callback_may_track_flush_and_close(client):
    heard = []

    def hear(outcome):
        heard.append(outcome.event_id)
        if len(heard) == 1:
            client.track("search", user_id="again", event_id="second")
            assert client.flush() > 0  # it would wait for itself
            client.close()

    client._also = hear
    client.track("search", user_id="ann", event_id="first")
    deadline = time.monotonic() + 60
    while len(heard) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert heard == ["first", "second"]


def test_a_refused_event_is_told_with_the_receivers_reason(client):
    client.transport.refusals["bad"] = "no such course"
    client.track("search", user_id="ann", event_id="bad")
    client.track("search", user_id="ann", event_id="good")
    told = {outcome.event_id: (outcome.status, outcome.detail) for outcome in client.outcomes}
    assert told == {"bad": ("dropped", "no such course"), "good": ("delivered", None)}


def test_the_log_says_what_is_dropped_once_in_a_while_and_how_often(caplog):
    with caplog.at_level(logging.INFO), RecordingClient() as client:
        for _ in range(50):
            client.track("page_vew", user_id="ann")
        client.flush()
    told = [record for record in caplog.records if "dropped: invalid" in record.message]
    assert len(told) == 2
    assert "1 times" in told[0].message and "unknown_type" in told[0].message
    assert "49 times" in told[1].message


def test_a_failing_receiver_is_tried_again_and_nothing_is_lost(client):
    client.fail(3)
    ids = [client.track("search", user_id="ann") for _ in range(5)]
    assert [event.event_id for event in client.events] == ids
    assert client.stats().retries >= 3


# -- the queue --------------------------------------------------------------------------------


def full(transport, **settings):
    """A client whose sender is busy, and whose queue has room for two."""
    client = Client(transport=lambda: transport, max_events=2, batch_s=0.0, **settings)
    client.track("search", user_id="ann", event_id="sent")
    assert transport.holds.wait(60)
    client.track("search", user_id="ann", event_id="one")
    client.track("search", user_id="ann", event_id="two")
    return client


def test_a_full_queue_blocks_and_then_raises():
    transport = Slow()
    client = full(transport, block_s=0.15)
    began = time.monotonic()
    with pytest.raises(QueueFull, match="not taken") as refused:
        client.track("search", user_id="ann", event_id="three")
    assert time.monotonic() - began >= 0.15
    assert refused.value.retryable
    transport.go.set()
    client.close()
    assert [event.event_id for event in transport.events] == ["sent", "one", "two"]
    assert (client.stats().accepted, client.stats().refused) == (3, 1)


def test_a_full_queue_can_raise_at_once():
    transport = Slow()
    client = full(transport, when_full="raise", block_s=60)
    with pytest.raises(QueueFull):
        client.track("search", user_id="ann")
    transport.go.set()
    client.close()


def test_a_full_queue_takes_the_event_once_there_is_room():
    transport = Slow()
    client = full(transport, block_s=20)
    threading.Timer(0.1, transport.go.set).start()
    client.track("search", user_id="ann", event_id="three")
    client.close()
    assert [e.event_id for e in transport.events] == ["sent", "one", "two", "three"]


def test_a_full_queue_can_move_to_the_spool_while_the_sender_waits(tmp_path):
    transport = Slow()
    client = full(transport, when_full="spool", spool_dir=tmp_path)
    ids = [client.track("search", user_id="ann") for _ in range(20)]
    assert client.stats().spooled >= 18
    transport.go.set()
    assert client.flush(20) == 0
    assert [event.event_id for event in transport.events] == ["sent", "one", "two", *ids]
    client.close()
    assert list(tmp_path.iterdir()) == []


def test_the_queue_is_bounded_by_bytes():
    transport = Slow()
    client = Client(transport=lambda: transport, max_bytes=10_000, batch_s=0.0, when_full="raise")
    client.track("search", user_id="ann")
    assert transport.holds.wait(60)
    client.track("search", user_id="ann", query="x" * 6000)
    with pytest.raises(QueueFull):
        client.track("search", user_id="ann", query="x" * 6000)
    with pytest.raises(EventTooLarge, match="shorten"):
        client.track("search", user_id="ann", query="x" * 20_000)
    transport.go.set()
    client.close()


def test_flush_says_how_many_are_left(tmp_path):
    transport = Away()
    with Client(transport=lambda: transport, spool_dir=tmp_path) as client:
        client.track("search", user_id="ann")
        assert client.flush(0.2) == 1
        transport.there.set()
        assert client.flush(20) == 0


# -- the end ----------------------------------------------------------------------------------


def test_closing_tells_how_many_events_were_lost_and_each_to_its_callback():
    told = []
    client = Client(transport=Away, on_outcome=told.append)
    event_id = client.track("search", user_id="ann")
    with pytest.raises(Undelivered, match="1 events") as lost:
        client.close(0.2)
    assert lost.value.count == 1
    (outcome,) = told
    assert (outcome.event_id, outcome.status, outcome.reason) == (
        event_id,
        "dropped",
        "undelivered",
    )


def test_closing_with_a_spool_loses_nothing_and_does_not_wait(tmp_path):
    client = Client(transport=Away, spool_dir=tmp_path, batch_s=0.01)
    ids = [client.track("search", user_id="ann") for _ in range(30)]
    client.close(60)
    assert client.stats().spooled == 30

    transport = RecordingTransport()
    with Client(transport=lambda: transport, spool_dir=tmp_path) as later:
        assert later.flush(20) == 0
        assert later.stats().delivered == 30
    assert [event.event_id for event in transport.events] == ids


def test_a_spool_that_vanishes_is_told_and_stops_nothing(tmp_path, caplog):
    transport = Away()
    folder = tmp_path / "spool"
    with Client(transport=lambda: transport, spool_dir=folder, batch_s=0.01) as client:
        client.track("search", user_id="ann")
        wait(lambda: client.stats().spooled == 1)
        shutil.rmtree(folder)
        transport.there.set()
        wait(lambda: ".log" in caplog.text)
        event_id = client.track("search", user_id="ann")
        wait(lambda: [event.event_id for event in transport.events] == [event_id])
        client.close(0.1)
    assert "the spool cannot be read" in caplog.text


def test_a_forked_child_has_a_spool_of_its_own(tmp_path):
    client = Client(transport=Away, spool_dir=tmp_path, batch_s=0.01)
    client.track("search", user_id="ann", query="parent")
    wait(lambda: client.stats().spooled == 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            client.track("search", user_id="ann", query="child")
            client.close(5)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert client.stats().spooled == 1
    client.close(0)
    transport = RecordingTransport()
    with Client(transport=lambda: transport, spool_dir=tmp_path) as later:
        assert later.flush(20) == 0
    assert sorted(event.query for event in transport.events) == ["child", "parent"]


def test_an_event_whose_type_has_changed_since_it_was_spooled_is_told(tmp_path):
    with Client(transport=Away, spool_dir=tmp_path) as client:
        client.track("search", user_id="ann", event_id="old")
    (segment,) = tmp_path.glob("*/*.log")
    data = segment.read_bytes().replace(b'"search"', b'"sxarch"')
    payload = data[FRAME.size :]
    segment.write_bytes(FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
    told = []
    with Client(transport=Away, spool_dir=tmp_path, on_outcome=told.append) as later:
        assert later.flush(20) == 0
    assert [(one.event_id, one.reason) for one in told] == [("old", "invalid")]


def test_a_receiver_that_never_returns_does_not_hold_the_end_up():
    transport = Slow()
    client = Client(transport=lambda: transport, batch_s=0.0)
    client.track("search", user_id="ann")
    assert transport.holds.wait(60)
    began = time.monotonic()
    client.close(0.2)
    assert time.monotonic() - began < 60
    assert client.stats().delivered == 1  # it came as it was interrupted


def test_a_closed_client_takes_nothing(client):
    client.close()
    client.close()
    with pytest.raises(ClientClosed):
        client.track("search", user_id="ann")


def test_a_client_that_was_never_used_closes_at_once():
    Client(transport=RecordingTransport).close()


def test_settings_that_cannot_be_are_refused_at_once(tmp_path):
    for wrong in (
        {},
        {"kafka": "localhost:9092"},
        {"endpoint": "collect.example.com"},
        {"endpoint": "http://a", "kafka": "b"},
        {"transport": RecordingTransport, "when_full": "spool"},
        {"transport": RecordingTransport, "max_events": 0},
    ):
        with pytest.raises(ValueError):
            Client(**wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnusable, match="cannot spool"):
        Client(transport=RecordingTransport, spool_dir=tmp_path / "file")


def test_a_transport_that_cannot_be_made_is_told_and_tried_again(caplog):
    made = []

    def make():
        made.append(1)
        if len(made) == 1:
            raise OSError("no such file")
        return transport

    transport = RecordingTransport()
    with Client(transport=make) as client:
        client.track("search", user_id="ann")
        assert client.flush(20) == 0
    assert "the client cannot send" in caplog.text
    assert len(transport.events) == 1


def test_a_transport_that_cannot_be_made_does_not_hold_the_end_up():
    def broken():
        raise OSError("no such file")

    client = Client(transport=broken)
    client.track("search", user_id="ann")
    with pytest.raises(Undelivered):
        client.close(0.5)


def test_an_error_in_a_transport_ends_nothing(caplog):
    class Odd(RecordingTransport):
        def send(self, events, timeout):
            if not self.refusals:
                self.refusals["once"] = ""
                raise RuntimeError("a bug")
            return super().send(events, timeout)

    transport = Odd()
    with Client(transport=lambda: transport, batch_s=0.0) as client:
        client.track("search", user_id="ann")
        assert client.flush(20) == 0
    assert "a bug" in caplog.text


def test_a_call_from_a_signal_handler_cannot_lock_up(client):
    # The handler runs in the midst of what the main thread does, its locks held.
    core = client._core
    with core.intake._lock, core.ledger._lock:
        client.track("search", user_id="ann")
        client.stats()
    assert len(client.events) == 1


SCRIPT = """
import os, sys, time
from streamgauge.producers import Client
class Out:
    max_batch = max_bytes = 1000
    def send(self, events, timeout):
        from streamgauge.producers.transport import DELIVERED
        for ready in events:
            os.write(1, (ready.event.query + "\\n").encode())
        return [DELIVERED] * len(events)
    def interrupt(self): pass
    def close(self): pass
    def abandon(self): pass
client = Client(transport=Out, batch_s=60)
"""


def run(script):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT + script],
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.returncode, sorted(done.stdout.split()), done.stderr


def test_what_is_queued_at_exit_is_sent():
    assert run('client.track("search", "ann", query="end")') == (0, ["end"], "")


def test_what_is_first_tracked_at_exit_is_sent():
    script = 'import atexit\natexit.register(client.track, "search", "ann", query="end")'
    assert run(script) == (0, ["end"], "")


FORK = """
client.track("search", "ann", query="before")
pid = os.fork()
if not pid:
    client.track("search", "ann", query="child")
    sys.exit()  # as a server's worker does
client.track("search", "ann", query="after")
assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_forked_child_sends_its_own_events_and_not_its_parents():
    assert run(FORK) == (0, ["after", "before", "child"], "")


def test_a_child_forked_before_anything_was_tracked_sends_its_own():
    script = """
pids = []
for number in range(3):
    pids.append(os.fork())
    if not pids[-1]:
        client.track("search", "ann", query=f"child{number}")
        sys.exit()
for pid in pids: assert os.waitpid(pid, 0)[1] == 0
"""
    assert run(script) == (0, ["child0", "child1", "child2"], "")


def test_children_of_multiprocessing_lose_nothing():
    # They end without running atexit.
    script = """
import multiprocessing
def work(number):
    client.track("search", "ann", query=f"child{number}")
if __name__ == "__main__":
    client.track("search", "ann", query="parent")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, range(4))
        pool.close()
        pool.join()
"""
    assert run(script) == (0, ["child0", "child1", "child2", "child3", "parent"], "")


def test_a_fork_while_the_sender_imports_does_not_lock_the_child_up():
    script = """
pids = []
for number in range(8):
    client.track("search", "ann", query=f"p{number}")
    pids.append(os.fork())
    if not pids[-1]:
        client.track("search", "ann", query=f"c{number}")
        sys.exit()
    time.sleep(0.04)
for pid in pids: assert os.waitpid(pid, 0)[1] == 0
"""
    expected = sorted(f"{who}{number}" for who in "pc" for number in range(8))
    assert run(script) == (0, expected, "")


def test_a_forked_child_counts_from_nothing():
    with RecordingClient(batch_s=60) as client:
        client.track("search", user_id="ann")
        pid = os.fork()
        if pid == 0:
            os._exit(client.stats().accepted + client.outstanding)
        assert os.waitpid(pid, 0)[1] == 0


# -- threads ----------------------------------------------------------------------------------


def test_many_threads_lose_nothing(client):
    def work(number):
        for one in range(300):
            client.track("search", user_id=f"u{number}", query=str(one))

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = client.events
    assert client.stats().delivered == len({event.event_id for event in events}) == 2400
    for number in range(8):
        mine = [event.query for event in events if event.user_id == f"u{number}"]
        assert mine == [str(one) for one in range(300)]


def test_threads_that_find_a_small_queue_full_lose_nothing_and_keep_their_order(tmp_path):
    transport = RecordingTransport()
    client = Client(
        transport=lambda: transport, max_events=10, when_full="spool", spool_dir=tmp_path
    )

    def work(number):
        for one in range(100):
            client.track("search", user_id=f"u{number}", query=str(one))

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    for number in range(4):
        mine = [event.query for event in transport.events if event.user_id == f"u{number}"]
        assert mine == [str(one) for one in range(100)]
