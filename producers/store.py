"""Events in the spool: written as JSON, told to the ledger, read back as events.

Upstream: `sender.py`, with its `_hands` held. Downstream: `spool.py`, which knows bytes alone.

Invariants: nothing that the disk refuses is told as spooled; a disk that fails is said in the log
and never ends the sender, who then keeps events in memory until there is no room for more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from streamgauge.producers.errors import SpoolFull
from streamgauge.producers.outcomes import Ledger, Outcome
from streamgauge.producers.preparation import Ready
from streamgauge.producers.spool import Spool
from streamgauge.producers.undeclared import read_event
from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.unknown import UnknownTypes


class Store:
    """The spool as the sender uses it. The counts may be read by any thread."""

    def __init__(self, spool: Spool, ledger: Ledger, unknown: UnknownTypes) -> None:
        self._spool = spool
        self._ledger = ledger
        self._unknown = unknown
        self.events = 0
        self.size = 0
        self.unreadable = 0
        self.has_looked = False
        """Whether it is known what earlier processes have left."""

    def append(self, events: Sequence[Ready]) -> bool:
        """Keep all of them, or none: False."""
        try:
            self._spool.append([_recorded(ready) for ready in events])
        except SpoolFull as error:
            self._ledger.say("the spool is full", str(error), logging.ERROR)
            return False
        except OSError as error:
            self._ledger.say("the spool cannot be written", str(error), logging.ERROR)
            return False
        self._count()
        if self._ledger.wants_each:
            self._ledger.spooled(
                [Outcome(event_id=r.event_id, status="spooled", event=r.event) for r in events]
            )
        else:
            self._ledger.spooled(len(events))
        return True

    def recall(self, most: int, size: int) -> list[Ready]:
        """The oldest events; the same ones again, until `done`."""
        while self.events:
            try:
                payloads = self._spool.read(most, size)
            except OSError as error:
                self._ledger.say("the spool cannot be read", str(error), logging.ERROR)
                return []
            found = [ready for payload in payloads if (ready := self._event(payload))]
            if found:
                return found
            if payloads:
                self._spool.done()
            self._count()
            if not payloads:  # damaged since it was counted
                break
        return []

    def done(self) -> None:
        """What was recalled last has met its end."""
        self._spool.done()
        self._count()

    def look(self) -> None:
        """Take over what processes that have ended left."""
        try:
            self._ledger.count("recovered", self._spool.adopt())
        except OSError as error:
            self._ledger.say("the spool cannot be read", str(error), logging.ERROR)
        self._count()
        self.has_looked = True

    def close(self) -> None:
        """Leave what there is to whoever comes next."""
        try:
            self._spool.close()
        except OSError as error:
            self._ledger.say("the spool cannot be written", str(error), logging.ERROR)

    def abandon(self) -> None:
        """In a forked child: this is the parent's."""
        self._spool.abandon()

    def _event(self, payload: bytes) -> Ready | None:
        event_id, fields = json.loads(payload)
        try:
            return Ready(event_id, read_event(fields, self._unknown), len(payload))
        except InvalidEvent as error:  # its type has changed since
            self._ledger.drop(event_id, "invalid", f"{error.reason}: {error}", fields)
            return None

    def _count(self) -> None:
        self.events, self.size = self._spool.pending, self._spool.size
        if self._spool.unreadable > self.unreadable:
            self._ledger.say("damaged records in the spool", f"{self._spool.unreadable} so far")
        self.unreadable = self._spool.unreadable


def _recorded(ready: Ready) -> bytes:
    event = ready.event.model_dump_json(exclude_none=True)
    return f"[{json.dumps(ready.event_id)},{event}]".encode()
