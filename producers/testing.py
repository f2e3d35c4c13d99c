"""A client for the tests of applications: it sends nothing, and keeps what it would have sent.

    client = RecordingClient()
    view_pricing(client, user="ann")
    assert [event.page_url for event in client.events] == ["/pricing"]
    assert client.dropped == []        # what was no valid event would be here, with the reason

Everything but the way out is the real client: queue, thread, validation, consent, sampling,
`before_send`. `client.fail(2)` makes the next two batches meet a receiver that is away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamgauge.producers.client import Client
from streamgauge.producers.errors import Unavailable
from streamgauge.producers.outcomes import OnOutcome, Outcome
from streamgauge.producers.preparation import Ready
from streamgauge.producers.transport import DELIVERED, Answer, Refused
from streamgauge.producers.undeclared import is_undeclared, why

if TYPE_CHECKING:
    from streamgauge.schemas.events import Event

__all__ = ["RecordingClient", "RecordingTransport"]

FLUSH_S = 10.0


class RecordingTransport:
    """Takes every event, but for the failures it is told to have."""

    max_batch = 100
    max_bytes = 1 << 20

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failures: deque[Unavailable] = deque()
        self.refusals: dict[str, str] = {}
        """Reasons to refuse an event, by its id."""

    def send(self, events: Sequence[Ready], timeout: float) -> list[Answer]:
        if self.failures:
            raise self.failures.popleft()
        answers: list[Answer] = []
        for ready in events:
            reason = self.refusals.get(ready.event_id)
            if is_undeclared(ready.event):
                answers.append(Refused("invalid", why(ready.event)))
            elif reason is not None:
                answers.append(Refused("rejected", reason))
            else:
                self.events.append(ready.event)
                answers.append(DELIVERED)
        return answers

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class RecordingClient(Client):
    """Takes what `Client` takes, but for where to send."""

    def __init__(self, *, on_outcome: OnOutcome | None = None, **settings: Any) -> None:
        self.transport = RecordingTransport()
        self._told: list[Outcome] = []
        self._also = on_outcome
        super().__init__(
            transport=lambda: self.transport, on_outcome=self._hear, **{"batch_s": 0.0, **settings}
        )

    @property
    def events(self) -> list[Event]:
        """What has been sent, in order; waits for what is under way."""
        self.flush(FLUSH_S)
        return list(self.transport.events)

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each, in order; waits for what is under way."""
        self.flush(FLUSH_S)
        return list(self._told)

    @property
    def dropped(self) -> list[Outcome]:
        """What was not sent, and why."""
        return [outcome for outcome in self.outcomes if outcome.status == "dropped"]

    def fail(self, times: int = 1, retry_after: float | None = None) -> None:
        """The receiver is away for so many batches."""
        self.transport.failures += [Unavailable("told to fail", retry_after)] * times

    def clear(self) -> None:
        """Forget what has been sent."""
        self.flush(FLUSH_S)
        self.transport.events.clear()
        self._told.clear()

    def _hear(self, outcome: Outcome) -> None:
        self._told.append(outcome)
        if self._also is not None:
            self._also(outcome)
