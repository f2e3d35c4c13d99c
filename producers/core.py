"""A client within one process: the queue, the counts, the sender's thread, and how all of it ends.

    Client ── offer ──> intake ··· thread: assembly.py makes the Sender, which runs ──> receiver
       └── flush, close ── wait until the ledger has an end for everything

Upstream: `client.py`, which makes one, and another in every forked child. Downstream: `intake.py`,
`sender.py`.

Invariants: the thread begins with the first event, or at once where a spool may hold some; an
event that was taken has met its end, or is in the spool, when `close` has returned.
"""

from __future__ import annotations

import atexit
import sys
import time
from typing import TYPE_CHECKING

from streamgauge.producers import forking, native
from streamgauge.producers.assembly import Settings, make_sender, make_store
from streamgauge.producers.errors import QueueFull, Undelivered
from streamgauge.producers.intake import Given, Intake
from streamgauge.producers.outcomes import Ledger, Stats

if TYPE_CHECKING:
    from streamgauge.producers.sender import Sender
    from streamgauge.producers.store import Store

PAUSE_S = 0.001
MAX_PAUSE_S = 0.05
GRACE_S = 2.0
"""What an answer that is late may take beyond a deadline, once it has been interrupted."""


class Core:
    """Any thread may use it."""

    def __init__(self, settings: Settings, client: object) -> None:
        self._settings = settings
        self._client = client  # kept, for it is the client who hears of a fork
        self._wakeup = native.Wakeup()
        self.intake = Intake(
            settings.max_events, settings.max_bytes, settings.batch_events, self._wakeup.set
        )
        self.ledger = Ledger(settings.on_outcome)
        self.started = False
        self.closed = False
        self._sender: Sender | None = None
        self._store: Store | None = None
        self._thread: int | None = None
        self._starting = native.new_lock()
        self._close_by = float("inf")
        self._running = False
        atexit.register(self._close_at_exit)

    def start(self) -> None:
        """Begin to send."""
        with self._starting:
            if self.started:
                return
            self.started = True
            self._end_with_multiprocessing()
            try:
                native.start_thread(self._run)
            except RuntimeError:  # the interpreter is ending: `close` does the work itself
                self._running = False
            else:
                self._running = True

    def abandon(self) -> None:
        """In a forked child: this is the parent's."""
        atexit.unregister(self._close_at_exit)
        if self._sender is not None:
            self._sender.abandon()
        if self._store is not None:
            self._store.abandon()

    # -- events ------------------------------------------------------------------------------

    def offer(self, given: Given) -> bool:
        """Take the event if there is room now; moves what is queued to the spool if it may."""
        if self.intake.offer(given):
            return True
        if self._settings.when_full == "spool" and (sender := self._sender) is not None:
            return sender.spill() and self.intake.offer(given)
        return False

    def squeeze_in(self, given: Given) -> None:
        """Wait for room as long as the settings say; raises QueueFull."""
        deadline = time.monotonic() + self._settings.block_s
        pause = PAUSE_S
        if not self.started:
            self.start()
        while not self.offer(given):
            # In its own thread the sender would wait for itself.
            waits = self._settings.when_full != "raise" and not self._ours()
            if not waits or time.monotonic() >= deadline:
                raise self.refused()
            time.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_S)

    def refused(self) -> QueueFull:
        """The error for an event that found no room."""
        self.ledger.count("refused")
        events, size = self._settings.max_events, self._settings.max_bytes
        full = f"the queue ({events} events, {size} bytes) is full"
        self.ledger.say("events refused", full)
        return QueueFull(
            f"{full}: the receiver is unreachable or slower than the events come. Try again "
            "later, or give the client a spool; this event was not taken."
        )

    # -- their end ---------------------------------------------------------------------------

    def flush(self, timeout: float) -> int:
        """Wait until every event has met its end; returns how many have not."""
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

    def close(self, timeout: float) -> None:
        """Flush and stop. What is left goes to the spool; without one, raises Undelivered."""
        if self.closed:
            return
        self.closed = True
        atexit.unregister(self._close_at_exit)
        self.intake.close()
        self._close_by = time.monotonic() + timeout
        if self.started or len(self.intake):
            self._await_end()
        undelivered = self.ledger.dropped.get("undelivered", 0)
        if undelivered:
            raise Undelivered(undelivered)

    @property
    def outstanding(self) -> int:
        """Events that have not met their end: queued, on their way, or in the spool."""
        return self.intake.accepted + self.ledger["recovered"] - self.ledger.settled

    def stats(self) -> Stats:
        """What became of the events so far."""
        ledger, store = self.ledger, self._store
        return Stats(
            accepted=self.intake.accepted,
            recovered=ledger["recovered"],
            delivered=ledger["delivered"],
            dropped=ledger.dropped,
            outstanding=self.outstanding,
            queued=len(self.intake),
            queued_bytes=self.intake.bytes,
            spooled=store.events if store else 0,
            spooled_bytes=store.size if store else 0,
            spooled_ever=ledger["spooled"],
            refused=ledger["refused"],
            retries=ledger["retries"],
            unreadable=store.unreadable if store else 0,
        )

    def _all_sent(self) -> bool:
        """Nothing is outstanding, nor left by an earlier process and not found yet."""
        store, unknown = self._store, self.started and self._settings.spool_dir is not None
        looked = not unknown or (store is not None and store.has_looked)
        return looked and not self.outstanding

    # -- the thread --------------------------------------------------------------------------

    def _ours(self) -> bool:
        """Whether this is the sender's thread, in a callback."""
        return self._thread == native.thread_id()

    def _run(self) -> None:
        """The sender's thread."""
        self._thread = native.thread_id()
        while (sender := self._sender) is None:
            try:
                with forking.IMPORTING:
                    sender = self._made()
                self._sender = sender
            except Exception as error:  # a setting that cannot be, a module that is not there
                self.ledger.say("the client cannot send", f"{type(error).__name__}: {error}")
                if self.closed:
                    self._give_up()
                    return
                self._wakeup.wait(1.0)
        if self.closed:
            sender.finish(self._close_by)
        sender.run()

    def _made(self) -> Sender:
        if self._store is None:
            self._store = make_store(self._settings, self.ledger)
        return make_sender(self._settings, self.intake, self.ledger, self._store, self._wakeup)

    def _give_up(self) -> None:
        for given in self.intake.take(self.intake.max_events, sys.maxsize):
            self.ledger.drop(given.event_id, "undelivered", "the client closed", given.event)
        self._running = False

    def _await_end(self) -> None:
        if not self.started:
            self.start()
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
            self.close(self._settings.exit_s)
        except Undelivered as error:
            self.ledger.say("at exit", str(error))

    def _end_with_multiprocessing(self) -> None:
        """Its children end without running atexit; they do run these."""
        util = sys.modules.get("multiprocessing.util")
        process = sys.modules.get("multiprocessing.process")
        if util is not None and process is not None and process.parent_process() is not None:
            util.Finalize(None, self._close_at_exit, exitpriority=100)
