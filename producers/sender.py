"""The thread that takes events away: makes them ready, sends them, tries again, spools.

              ┌── held ── (ready, but the spool was full)
    Intake ───┴─> flight ──> Transport ──> delivered, dropped, or back into the flight
                    ^  │ nobody answers, or the queue is full, or the client is closed
                    └─ Store

Upstream: `client.py`. Downstream: a `Transport`, the `Store`, the `Ledger`.

Invariants: events leave in the order flight, spool, held, intake, which is the order they came in.
An event is in exactly one of them until the ledger has its end. An event that nobody took is sent
again for as long as the client lives, after growing pauses. Nothing ends the thread but `finish`:
an error of our own is logged, and the flight is sent again. What callers and the sender both do
(moving events to the spool) is under `_hands`; nothing is sent while it is held.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from streamgauge.producers import native
from streamgauge.producers.errors import Unavailable
from streamgauge.producers.intake import Given, Intake
from streamgauge.producers.outcomes import Ledger, Outcome
from streamgauge.producers.preparation import Preparation, Ready, Unfit
from streamgauge.producers.store import Store
from streamgauge.producers.transport import Again, Delivered, Refused, Transport
from streamgauge.schemas.backoff import Backoff

IDLE_S = 5.0
"""The longest sleep: what a dead sibling has spooled is looked for this often."""

LAST_PAUSE_S = 0.25
"""The longest pause between tries once the client is being closed."""

SPILL = 500
"""Events that go to the spool in one write."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """When a batch goes, and how long it may take."""

    batch_events: int = 100
    batch_s: float = 0.5
    timeout_s: float = 10.0
    backoff: Backoff


class Sender:
    """One thread's work; `run` is the thread."""

    def __init__(
        self,
        intake: Intake,
        ledger: Ledger,
        preparation: Preparation,
        transport: Transport,
        store: Store | None,
        wakeup: native.Wakeup,
        pace: Pace,
    ) -> None:
        self._intake = intake
        self._ledger = ledger
        self._prepare = preparation
        self._transport = transport
        self._store = store
        self._wakeup = wakeup
        self._pace = pace
        self._hands = native.new_lock()
        self._moving = False
        self._flight: list[Ready] = []
        self._from_spool = False
        self._held: list[Ready] = []
        self._failures = 0
        self._not_before = 0.0
        self._asked_for = 0.0
        self._since: float | None = None
        self._looked = 0.0
        self._deadline: float | None = None
        self.urgent = 0
        """How many wait for everything to be sent."""
        self.ended = False

    def run(self) -> None:
        """Until `finish`."""
        while not self.ended:
            try:
                pause = self._turn(monotonic())
            except Exception as error:  # ours, or the disk's: nothing of it may end the thread
                said = f"{type(error).__name__}: {error}"
                self._ledger.say("the sender met an error", said, logging.ERROR, error)
                self._failed(monotonic(), None)
                pause = 0.5
            if pause > 0 and not self.ended:
                self._wakeup.wait(pause)

    def finish(self, deadline: float) -> None:
        """Send what there is until then (a monotonic time), and end."""
        self._failures = 0
        self._deadline = deadline
        self._not_before = min(self._not_before, self._asked_for)  # our own pause is cut short
        self._wakeup.set()

    def interrupt(self) -> None:
        """Do not wait for answers any longer."""
        self._transport.interrupt()
        self._wakeup.set()

    def hurry(self, more: int) -> None:
        """So many more callers wait for everything to be sent, or fewer."""
        with self._hands:
            self.urgent += more
        self._wakeup.set()

    def spill(self) -> bool:
        """From a caller who found the queue full: whether the spool has made room."""
        with self._hands:
            # A callback of the application's, called while events are moved, may find it full too.
            return not self._moving and self._store is not None and self._spill()

    def abandon(self) -> None:
        """In a forked child: nothing of this is ours."""
        self.ended = True
        self._transport.abandon()

    # -- one turn ----------------------------------------------------------------------------

    def _turn(self, now: float) -> float:
        """Do what is due; returns how long there is nothing to do."""
        self._look_for_orphans(now)
        if self._deadline is not None and (now >= self._deadline or self._all_done()):
            self._end()
            return 0.0
        if now < self._not_before:
            self._move_to_spool(now)
            return self._until(now, self._not_before)
        if not self._flight:
            with self._hands:
                self._flight = self._next(now)
            if not self._flight:
                return self._until(now, None)
        self._attempt(now)
        return 0.0

    def _all_done(self) -> bool:
        """Nothing is left to send; or all is on disk, and nobody answers."""
        if self._held or len(self._intake) or (self._flight and not self._from_spool):
            return False
        left = 0 if self._store is None else self._store.events
        return not left or self._failures > 0

    def _until(self, now: float, not_before: float | None) -> float:
        """Seconds until something may be due."""
        until = now + IDLE_S if not_before is None else not_before
        if len(self._intake) and (not_before is None or self._store is not None):
            # The wake-up came with the first of them, or they were left by an earlier batch.
            if self._since is None:
                self._since = now
            until = min(until, self._since + self._pace.batch_s)
        if self._deadline is not None:
            until = min(until, self._deadline)
        return max(until - now, 0.001)

    def _due(self, now: float) -> bool:
        count = len(self._intake)
        if not count:
            self._since = None
            return False
        if count >= self._pace.batch_events or self.urgent or self._deadline is not None:
            return True
        if self._since is None:
            self._since = now
        return now - self._since >= self._pace.batch_s

    def _next(self, now: float) -> list[Ready]:
        """The events to send next: the oldest."""
        self._from_spool = False
        most, size = self._transport.max_batch, self._transport.max_bytes
        if self._store is not None and (found := self._store.recall(most, size)):
            self._from_spool = True
            return found
        if self._held:
            held, self._held = self._held, []
            return held
        if not self._due(now):
            return []
        self._since = None
        return self._made_ready(self._intake.take(most, size))

    def _attempt(self, now: float) -> None:
        flight = self._flight
        timeout = self._pace.timeout_s
        if self._deadline is not None:
            timeout = max(min(timeout, self._deadline - now), 0.05)
        try:
            answers = self._transport.send(flight, timeout)
        except Unavailable as error:
            self._failed(monotonic(), error.retry_after)
            self._ledger.count("retries", len(flight))
            self._ledger.say("nothing was taken, sending again", str(error))
            self._rescue()
            return
        self._settle(flight, answers)

    def _settle(self, flight: list[Ready], answers: Sequence[Delivered | Refused | Again]) -> None:
        left: list[Ready] = []
        delivered: list[tuple[Ready, Delivered]] = []
        why = ""
        for ready, answer in zip(flight, answers, strict=True):
            if isinstance(answer, Delivered):
                delivered.append((ready, answer))
            elif isinstance(answer, Again):
                left.append(ready)
                why = answer.detail
        self._flight = left
        if self._ledger.wants_each:
            self._ledger.delivered([_delivered(ready, answer) for ready, answer in delivered])
        else:
            self._ledger.delivered(len(delivered))
        for ready, answer in zip(flight, answers, strict=True):
            if isinstance(answer, Refused):
                self._ledger.drop(ready.event_id, answer.reason, answer.detail, ready.event)
        if left:
            if len(left) < len(flight):
                self._failures = 0
            self._failed(monotonic(), None)
            self._ledger.count("retries", len(left))
            self._ledger.say("not taken, sending again", why)
            self._rescue()
            return
        self._failures = 0
        if self._from_spool:
            with self._hands:
                assert self._store is not None
                self._store.done()

    def _failed(self, now: float, retry_after: float | None) -> None:
        self._failures += 1
        delay = self._pace.backoff.delay(self._failures, retry_after)
        if self._deadline is not None:
            delay = max(min(delay, LAST_PAUSE_S), retry_after or 0.0)
        self._not_before = now + delay
        self._asked_for = now + (retry_after or 0.0)

    # -- the spool ---------------------------------------------------------------------------

    def _rescue(self) -> None:
        """The flight to disk, unless something newer lies there already."""
        with self._hands:
            if self._store is None or self._from_spool or self._store.events:
                return
            if self._store.append(self._flight):
                self._flight = []

    def _move_to_spool(self, now: float) -> None:
        """While nobody answers, what comes goes to disk, a batch at a time."""
        if self._store is not None and (self._held or self._due(now)):
            with self._hands:
                self._spill()
                self._since = None

    def _spill(self) -> bool:
        """Held and queued events to disk; whether there is room in the queue now."""
        assert self._store is not None
        self._moving = True
        try:
            while self._held or len(self._intake):
                if not self._held:
                    taken = self._intake.take(SPILL, self._transport.max_bytes)
                    self._held = self._made_ready(taken)
                elif self._store.append(self._held):
                    self._held = []
                else:
                    return False
            return True
        finally:
            self._moving = False

    def _look_for_orphans(self, now: float) -> None:
        if self._store is None or (self._looked and now - self._looked < IDLE_S):
            return
        self._looked = now
        with self._hands:
            self._store.look()

    # -- events ------------------------------------------------------------------------------

    def _made_ready(self, taken: list[Given]) -> list[Ready]:
        found = []
        for given in taken:
            made = self._prepare(given)
            if isinstance(made, Unfit):
                self._ledger.drop(given.event_id, made.reason, made.detail, made.event)
            else:
                found.append(made)
        return found

    def _end(self) -> None:
        """Whatever is left goes to disk, or is told to be lost."""
        with self._hands:
            if self._store is not None:
                if self._flight and not self._from_spool and self._store.append(self._flight):
                    self._flight = []
                self._spill()
            lost = [*([] if self._from_spool else self._flight), *self._held]
            while len(self._intake):
                lost += self._made_ready(self._intake.take(SPILL, self._transport.max_bytes))
            self._flight, self._held = [], []
            for ready in lost:
                self._ledger.drop(ready.event_id, "undelivered", "the client closed", ready.event)
            self._transport.close()
            if self._store is not None:
                self._store.close()
            self._ledger.say_rest()
            self.ended = True


def _delivered(ready: Ready, answer: Delivered) -> Outcome:
    return Outcome(
        event_id=ready.event_id,
        status="delivered",
        event=ready.event,
        partition=answer.partition,
        offset=answer.offset,
    )
