"""The SDK's client: `track()` puts an event on a queue, and everything else happens elsewhere.

    with Client(kafka="localhost:9092", registry="http://localhost:8081") as client:
        client.track("page_view", user_id="u-17", page_url="/pricing")

    Client(endpoint="https://collect.example.com", write_key="…", spool_dir="/var/spool/app")

Upstream: an application. Downstream: `intake.py` (the queue), `sender.py` (the thread).

Invariants: no event vanishes silently. One that `track()` accepted ends as delivered or dropped,
which `on_outcome` hears and `stats()` counts; one that it did not accept raised QueueFull,
EventTooLarge or ClientClosed. `track()` does not validate, encode, import or wait, unless the
queue is full. Importing this module takes neither pydantic nor librdkafka: the sender's thread
does that with the first event.
"""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamgauge.producers import forking, native
from streamgauge.producers.ambient import CURRENT, checked, context
from streamgauge.producers.errors import EventTooLarge, QueueFull, SpoolUnusable, Undelivered
from streamgauge.producers.intake import Given, Intake
from streamgauge.producers.outcomes import Ledger, OnOutcome, Stats
from streamgauge.producers.ways import way_out
from streamgauge.producers.weight import weigh
from streamgauge.schemas.ids import now_ms, uuid7

if TYPE_CHECKING:
    from streamgauge.producers.preparation import BeforeSend
    from streamgauge.producers.sender import Sender
    from streamgauge.producers.store import Store
    from streamgauge.producers.transport import Transport
    from streamgauge.schemas.events import Event
    from streamgauge.schemas.registry import Registry

_tuple = tuple.__new__

CLOSE_S = 30.0
PAUSE_S = 0.001
MAX_PAUSE_S = 0.05
GRACE_S = 2.0
"""What an answer that is late may take beyond a deadline, once it has been interrupted."""


class Client:
    """Sends events. One per process is enough; all threads, tasks and greenlets may use it."""

    def __init__(
        self,
        kafka: str | Mapping[str, Any] | None = None,
        registry: str | Registry | None = None,
        namespace: str = "",
        *,
        endpoint: str | None = None,
        write_key: str = "",
        transport: Callable[[], Transport] | None = None,
        on_outcome: OnOutcome | None = None,
        before_send: BeforeSend | None = None,
        consent_default: Literal["granted", "denied"] | None = None,
        when_denied: Literal["send", "drop"] = "send",
        sample: float | Mapping[str, float] = 1.0,
        defaults: Mapping[str, Any] | None = None,
        max_events: int = 10_000,
        max_bytes: int = 32 << 20,
        when_full: Literal["block", "raise", "spool"] = "block",
        block_s: float = 1.0,
        batch_events: int = 100,
        batch_s: float = 0.5,
        timeout_s: float = 10.0,
        spool_dir: str | Path | None = None,
        spool_bytes: int = 256 << 20,
        fsync: Literal["always", "interval", "never"] = "always",
        exit_s: float = 10.0,
    ) -> None:
        """Where to: `kafka` (an address, or librdkafka's settings) with `registry`, or `endpoint`
        (a collector's) with `write_key`, or a `transport`, made in the sender's thread.

        `sample` is the share of users whose events are sent; a mapping gives it by event type,
        "*" for the rest. `exit_s` is how long the end of the process waits for the queue.
        """
        self._make_transport = way_out(
            kafka, registry, namespace, endpoint, write_key, transport, batch_events
        )
        if when_full == "spool" and spool_dir is None:
            raise ValueError('when_full="spool" needs a spool_dir')
        if min(max_events, max_bytes, batch_events) < 1:
            raise ValueError("max_events, max_bytes and batch_events must be at least 1")
        self._on_outcome = on_outcome
        self._before_send = before_send
        self._consent_default = consent_default
        self._when_denied = when_denied
        self._sample = dict(sample) if isinstance(sample, Mapping) else sample
        self._defaults = checked(defaults or {})
        self._bounds = max_events, max_bytes
        self._when_full = when_full
        self._block_s = block_s
        self._batch_events = batch_events
        self._batch_s = batch_s
        self._timeout_s = timeout_s
        self._spool_dir = _usable(spool_dir)
        self._spool_bytes = spool_bytes
        self._fsync = fsync
        self._exit_s = exit_s
        self._closed = False
        self._sender: Sender | None = None
        self._start_anew()
        forking.register(self)
        atexit.register(self._close_at_exit)
        if spool_dir is not None:  # what an earlier process left goes now
            self._start()

    # -- events ------------------------------------------------------------------------------

    def track(self, event: Event | str, /, user_id: str | None = None, **fields: Any) -> str:
        """Queue an event, or one made of a type's name and its fields; returns its id.

        Raises QueueFull, EventTooLarge or ClientClosed: the event was then not taken. What is
        wrong with an event itself is told to `on_outcome`.
        """
        given = self.given(event, user_id, fields)
        if not self._intake.offer(given):
            self._squeeze_in(given)
        if not self._started:
            self._start()
        return given.event_id

    def identify(self, user_id: str, anonymous_id: str | None = None, **fields: Any) -> str:
        """From here on, anonymous_id is user_id."""
        return self.track("identify", user_id, anonymous_id=anonymous_id, **fields)

    def page(self, page_url: str, user_id: str | None = None, **fields: Any) -> str:
        """A page was shown."""
        return self.track("page_view", user_id, page_url=page_url, **fields)

    def custom(
        self,
        name: str,
        user_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """An event without a class of its own: a name, and properties of any kind."""
        return self.track("custom", user_id, name=name, properties=dict(properties or {}), **fields)

    def context(self, **fields: Any) -> AbstractContextManager[None]:
        """Within a `with` of this, events that do not say otherwise have these fields."""
        return context(**fields)

    # -- the queue ---------------------------------------------------------------------------

    def flush(self, timeout: float = 10.0) -> int:
        """Wait until every event has met its end; returns how many have not.

        Events in the spool count: they are safe, but not where they are to be.
        """
        if self._ours():
            return self.outstanding
        deadline = time.monotonic() + timeout
        pause = PAUSE_S
        hurried: Sender | None = None
        while not self._all_sent() and time.monotonic() < deadline:
            if hurried is None and (hurried := self._sender) is not None:
                hurried.hurry(1)
            time.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_S)
        if hurried is not None:
            hurried.hurry(-1)
        return self.outstanding

    def close(self, timeout: float = CLOSE_S) -> None:
        """Flush and stop. What is left goes to the spool; without one, raises Undelivered."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._close_at_exit)
        self._intake.close()
        self._close_by = time.monotonic() + timeout
        if self._started or len(self._intake):
            self._await_end()
        undelivered = self._ledger.dropped.get("undelivered", 0)
        if undelivered:
            raise Undelivered(undelivered)

    @property
    def outstanding(self) -> int:
        """Events that have not met their end: queued, on their way, or in the spool."""
        return self._intake.accepted + self._ledger["recovered"] - self._ledger.settled

    def stats(self) -> Stats:
        """What became of the events so far."""
        ledger, store = self._ledger, self._store
        return Stats(
            accepted=self._intake.accepted,
            recovered=ledger["recovered"],
            delivered=ledger["delivered"],
            dropped=ledger.dropped,
            outstanding=self.outstanding,
            queued=len(self._intake),
            queued_bytes=self._intake.bytes,
            spooled=store.events if store else 0,
            spooled_bytes=store.size if store else 0,
            spooled_ever=ledger["spooled"],
            refused=ledger["refused"],
            retries=ledger["retries"],
            unreadable=store.unreadable if store else 0,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- inside ------------------------------------------------------------------------------

    def ensure_started(self) -> None:
        """For `aio.py`: what `track` does in the end."""
        if not self._started:
            self._start()

    def given(self, event: Any, user_id: str | None, fields: dict[str, Any]) -> Given:
        """What goes on the queue."""
        if event.__class__ is str:
            event_id = str(fields.pop("event_id", None) or uuid7())
            timestamp, size = now_ms(), weigh(fields)
        else:
            event_id, timestamp, size = _whole(event, user_id, fields)
        if size > self._intake.max_bytes:
            raise EventTooLarge(
                f"an event of about {size} bytes does not fit into a queue of "
                f"{self._intake.max_bytes}: shorten it, or raise max_bytes"
            )
        # A third of the time of Given(…), whose constructor is written in Python.
        return _tuple(Given, (event, event_id, timestamp, user_id, fields, CURRENT.get(), size))

    def offer(self, given: Given) -> bool:
        """Take the event if there is room now; moves what is queued to the spool if it may."""
        if self._intake.offer(given):
            return True
        if self._when_full == "spool" and (sender := self._sender) is not None:
            return sender.spill() and self._intake.offer(given)
        return False

    def refused(self) -> QueueFull:
        """The error for an event that found no room."""
        self._ledger.count("refused")
        events, size = self._bounds
        full = f"the queue ({events} events, {size} bytes) is full"
        self._ledger.say("events refused", full)
        return QueueFull(
            f"{full}: the receiver is unreachable or slower than the events come. Try again "
            "later, or give the client a spool; this event was not taken."
        )

    def _squeeze_in(self, given: Given) -> None:
        deadline = time.monotonic() + self._block_s
        pause = PAUSE_S
        if not self._started:
            self._start()
        while not self.offer(given):
            # In its own thread the sender would wait for itself.
            if self._when_full == "raise" or time.monotonic() >= deadline or self._ours():
                raise self.refused()
            time.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_S)

    def _all_sent(self) -> bool:
        """Nothing is outstanding, nor left by an earlier process and not found yet."""
        store, unknown = self._store, self._started and self._spool_dir is not None
        looked = not unknown or (store is not None and store.has_looked)
        return looked and not self.outstanding

    def _ours(self) -> bool:
        """Whether this is the sender's thread, in a callback."""
        return self._thread == native.thread_id()

    def begin_anew(self) -> None:
        """In a forked child (forking.py)."""
        if self._sender is not None:
            self._sender.abandon()
        if self._store is not None:
            self._store.abandon()
        self._start_anew()
        if self._closed:
            self._intake.close()

    def _start_anew(self) -> None:
        self._wakeup = native.Wakeup()
        self._intake = Intake(*self._bounds, self._batch_events, self._wakeup.set)
        self._ledger = Ledger(self._on_outcome)
        self._sender = None
        self._store: Store | None = None
        self._thread: int | None = None
        self._started = False
        self._starting = native.new_lock()
        self._close_by = float("inf")
        self._running = False

    def _start(self) -> None:
        with self._starting:
            if self._started:
                return
            self._started = True
            _finish_with_multiprocessing(self)
            try:
                native.start_thread(self._run)
            except RuntimeError:  # the interpreter is ending: `close` does the work itself
                self._running = False
            else:
                self._running = True

    def _run(self) -> None:
        """The sender's thread."""
        self._thread = native.thread_id()
        while (sender := self._sender) is None:
            try:
                with forking.IMPORTING:
                    sender = self._make_sender()
                self._sender = sender
            except Exception as error:  # a setting that cannot be, a module that is not there
                self._ledger.say("the client cannot send", f"{type(error).__name__}: {error}")
                if self._closed:
                    self._give_up()
                    return
                self._wakeup.wait(1.0)
        if self._closed:
            sender.finish(self._close_by)
        sender.run()

    def _make_sender(self) -> Sender:
        from streamgauge.producers.backoff import Backoff
        from streamgauge.producers.preparation import Preparation
        from streamgauge.producers.sender import Pace, Sender
        from streamgauge.producers.spool import Spool
        from streamgauge.producers.store import Store

        preparation = Preparation(
            defaults=self._defaults,
            consent_default=self._consent_default,
            when_denied=self._when_denied,
            sample=self._sample,
            before_send=self._before_send,
        )
        if self._spool_dir is not None and self._store is None:
            spool = Spool(self._spool_dir, max_bytes=self._spool_bytes, fsync=self._fsync)
            self._store = Store(spool, self._ledger)
        pace = Pace(
            batch_events=self._batch_events,
            batch_s=self._batch_s,
            timeout_s=self._timeout_s,
            backoff=Backoff(),
        )
        made = self._make_transport()
        return Sender(
            self._intake, self._ledger, preparation, made, self._store, self._wakeup, pace
        )

    def _give_up(self) -> None:
        for given in self._intake.take(self._intake.max_events, sys.maxsize):
            self._ledger.drop(given.event_id, "undelivered", "the client closed", given.event)
        self._running = False

    def _await_end(self) -> None:
        if not self._started:
            self._start()
        if not self._running:
            self._run()
            return
        interrupted = False
        told = False
        while self._running and not (self._sender is not None and self._sender.ended):
            if self._sender is not None and not told:
                self._sender.finish(self._close_by)
                told = True
            if self._ours():
                return
            now = time.monotonic()
            if now > self._close_by + GRACE_S:
                return
            if now > self._close_by and self._sender is not None and not interrupted:
                self._sender.interrupt()
                interrupted = True
            self._wakeup.set()
            time.sleep(PAUSE_S * 5)

    def _close_at_exit(self) -> None:
        try:
            self.close(self._exit_s)
        except Undelivered as error:
            self._ledger.say("at exit", str(error))


def _whole(event: Any, user_id: str | None, fields: dict[str, Any]) -> tuple[str, int, int]:
    """The id, time and weight of a whole event."""
    from streamgauge.schemas.events import Event

    if not isinstance(event, Event):
        raise TypeError(f"an event is a type's name or an Event, not {type(event).__name__}")
    if user_id is not None or fields:
        raise TypeError("give fields with an event type's name, not with a whole event")
    return event.event_id, event.timestamp, weigh(dict(vars(event)))


def _usable(spool_dir: str | Path | None) -> Path | None:
    if spool_dir is None:
        return None
    path = Path(spool_dir).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpoolUnusable(f"cannot spool in {path}: {error}") from error
    return path


def _finish_with_multiprocessing(client: Client) -> None:
    """Its children end without running atexit; they do run these."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, client._close_at_exit, exitpriority=100)
