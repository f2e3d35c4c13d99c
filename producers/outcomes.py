"""What became of each event: counted, told to the callback, and logged.

Upstream: `sender.py` says what happened. Downstream: `client.stats()`, the application's
`on_outcome`, the log.

Invariants: every accepted event ends as delivered or dropped, once; accepted + recovered =
delivered + dropped + outstanding. A line of the log speaks for all events of one reason since the
line before, so an outage writes a line every 10 s, not one an event. Callbacks come before the
counts, so whoever has waited for `flush` has heard. A callback that raises stops nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

from streamgauge.producers import native

logger = logging.getLogger("streamgauge.producers")

LOG_EVERY_S = 10.0

WANTED = frozenset({"consent", "sampled", "before_send"})
"""Reasons that the application asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one event.

    `spooled` is not the end: it is on disk, and `delivered` or `dropped` follows, maybe told by
    another process. Reasons of `dropped`: invalid, too_large, consent, sampled, before_send,
    before_send_failed, schema, rejected (by the receiver, which says why in `detail`) and
    undelivered (the client was closed first).
    """

    event_id: str
    status: Literal["delivered", "spooled", "dropped"]
    reason: str | None = None
    detail: str | None = None
    event: Any = None
    """The event as sent; as it was given, where it never became one."""
    partition: int | None = None
    offset: int | None = None


OnOutcome = Callable[[Outcome], None]


@dataclass(frozen=True, kw_only=True)
class Stats:
    """The counts so far. accepted + recovered = delivered + dropped + outstanding."""

    accepted: int = 0
    recovered: int = 0
    """Events found in the spool, left by a process that had ended."""
    delivered: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    """By reason."""
    outstanding: int = 0
    queued: int = 0
    queued_bytes: int = 0
    spooled: int = 0
    """Events on disk now."""
    spooled_bytes: int = 0
    spooled_ever: int = 0
    refused: int = 0
    """Calls that found no room: they raised QueueFull, and their events are not in `accepted`."""
    retries: int = 0
    """Events that were sent once more."""
    unreadable: int = 0
    """Records of the spool that were damaged."""


class Ledger:
    """All threads may count; the sender's tells."""

    def __init__(self, on_outcome: OnOutcome | None, log_every: float = LOG_EVERY_S) -> None:
        self._on_outcome = on_outcome
        self._log_every = log_every
        self._lock = native.new_lock()
        self._dropped: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._unsaid: Counter[str] = Counter()
        self._said: dict[str, float] = {}

    @property
    def wants_each(self) -> bool:
        """Whether somebody listens to single events."""
        return self._on_outcome is not None

    @property
    def settled(self) -> int:
        """Events that have met their end."""
        with self._lock:
            return self._counts["delivered"] + self._dropped.total()

    def count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number

    def __getitem__(self, name: str) -> int:
        with self._lock:
            return self._counts[name]

    @property
    def dropped(self) -> dict[str, int]:
        """By reason."""
        with self._lock:
            return dict(self._dropped)

    def delivered(self, outcomes: int | Sequence[Outcome]) -> None:
        """So many, or these, are where they belong."""
        if isinstance(outcomes, int):
            self.count("delivered", outcomes)
            return
        for outcome in outcomes:
            self._tell(outcome)
        self.count("delivered", len(outcomes))

    def spooled(self, outcomes: int | Sequence[Outcome]) -> None:
        """So many, or these, are on disk."""
        if isinstance(outcomes, int):
            self.count("spooled", outcomes)
            return
        for outcome in outcomes:
            self._tell(outcome)
        self.count("spooled", len(outcomes))

    def drop(self, event_id: str, reason: str, detail: str | None, event: Any) -> None:
        """This one ends here."""
        level = logging.INFO if reason in WANTED else logging.ERROR
        self.say(f"dropped: {reason}", f"for example {event_id}: {detail}", level)
        self._tell(
            Outcome(event_id=event_id, status="dropped", reason=reason, detail=detail, event=event)
        )
        with self._lock:
            self._dropped[reason] += 1

    def say(
        self,
        what: str,
        detail: str,
        level: int = logging.WARNING,
        error: BaseException | None = None,
    ) -> None:
        """A line of the log, unless the same was said a moment ago."""
        now = monotonic()
        with self._lock:
            self._unsaid[what] += 1
            if now - self._said.get(what, -self._log_every) < self._log_every:
                return
            self._said[what] = now
            times = self._unsaid.pop(what)
        logger.log(level, "%s (%d times since last told): %s", what, times, detail, exc_info=error)

    def say_rest(self) -> None:
        """What no line has told yet, at the end."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, Counter()
        for what, times in unsaid.items():
            logger.warning("%s (%d times since last told)", what, times)

    def _tell(self, outcome: Outcome) -> None:
        if self._on_outcome is None:
            return
        try:
            self._on_outcome(outcome)
        except Exception as error:  # the application's, in our thread: it must not stop the others
            detail = f"event {outcome.event_id}: {type(error).__name__}: {error}"
            self.say("on_outcome raised", detail, logging.ERROR, error)
