"""The SDK's client: `track()` puts an event on a queue, and everything else happens elsewhere.

    with Client(kafka="localhost:9092", registry="http://localhost:8081") as client:
        client.track("page_view", user_id="u-17", page_url="/pricing")

    Client(endpoint="https://collect.example.com", write_key="…", spool_dir="/var/spool/app")

Upstream: an application. Downstream: `core.py`, the queue and the thread that empties it.

Invariants: no event vanishes silently. One that `track()` accepted ends as delivered or dropped,
which `on_outcome` hears and `stats()` counts; one that it did not accept raised QueueFull,
EventTooLarge or ClientClosed. `track()` does not validate, encode, import or wait, unless the
queue is full. Importing this module takes neither pydantic nor librdkafka: the sender's thread
does that with the first event.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamgauge.producers import forking
from streamgauge.producers.ambient import CURRENT, checked, context
from streamgauge.producers.assembly import Settings, usable
from streamgauge.producers.assignment import Seen, assign
from streamgauge.producers.core import Core
from streamgauge.producers.errors import EventTooLarge, QueueFull
from streamgauge.producers.intake import Given
from streamgauge.producers.outcomes import OnOutcome, Stats
from streamgauge.producers.ways import way_out
from streamgauge.producers.weight import weigh
from streamgauge.schemas.ids import now_ms, uuid7
from streamgauge.schemas.unknown import UnknownTypes

if TYPE_CHECKING:
    from streamgauge.producers.preparation import BeforeSend
    from streamgauge.producers.transport import Transport
    from streamgauge.schemas.events import Event
    from streamgauge.schemas.registry import Registry

_tuple = tuple.__new__

CLOSE_S = 30.0


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
        unknown_events: str = "reject",
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
        "*" for the rest. `unknown_events` says what becomes of types that nobody has declared:
        reject, custom, dead-letter, or by name "reject, shop_*=custom". `exit_s` is how long the
        end of the process waits for the queue.
        """
        self._settings = Settings(
            make_transport=way_out(
                kafka, registry, namespace, endpoint, write_key, transport, batch_events
            ),
            on_outcome=on_outcome,
            before_send=before_send,
            consent_default=consent_default,
            when_denied=when_denied,
            sample=dict(sample) if isinstance(sample, Mapping) else sample,
            defaults=checked(defaults or {}),
            unknown=UnknownTypes.parse(f"reject, {unknown_events}"),
            max_events=max_events,
            max_bytes=max_bytes,
            when_full=when_full,
            block_s=block_s,
            batch_events=batch_events,
            batch_s=batch_s,
            timeout_s=timeout_s,
            spool_dir=usable(spool_dir),
            spool_bytes=spool_bytes,
            fsync=fsync,
            exit_s=exit_s,
        )
        self._core = Core(self._settings, self)
        self._seen = Seen()
        forking.register(self)
        if spool_dir is not None:  # what an earlier process left goes now
            self._core.start()

    # -- events ------------------------------------------------------------------------------

    def track(self, event: Event | str, /, user_id: str | None = None, **fields: Any) -> str:
        """Queue an event, or one made of a type's name and its fields; returns its id.

        Raises QueueFull, EventTooLarge or ClientClosed: the event was then not taken. What is
        wrong with an event itself is told to `on_outcome`.
        """
        core = self._core
        given = self.given(event, user_id, fields)
        if not core.intake.offer(given):
            core.squeeze_in(given)
        if not core.started:
            core.start()
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

    def variant(
        self,
        experiment: str,
        user_id: str,
        weights: Mapping[str, float],
        *,
        allocation: float = 1.0,
        segments: Collection[str] = (),
        user_segments: Collection[str] = (),
        exposed: bool = False,
        expose: bool = True,
        **fields: Any,
    ) -> str | None:
        """The user's variant, told as seen (`fields` go into the event); None for who gets none.

        `segments` are the experiment's (none: it is for everybody), `user_segments` those that the
        user is in, and who was `exposed` before stays in: `targeting.py` looks both up. With
        `expose=False` nothing is told, and the variant may change until it is.
        """
        variant, is_new = self.decided(
            experiment,
            user_id,
            weights,
            allocation=allocation,
            segments=segments,
            user_segments=user_segments,
            exposed=exposed,
        )
        if is_new and expose:
            exposure = {"experiment_id": experiment, "variant": variant}
            self.track("experiment_exposure", user_id, **exposure, **fields)
            self.shown(experiment, user_id)
        return variant

    def context(self, **fields: Any) -> AbstractContextManager[None]:
        """Within a `with` of this, events that do not say otherwise have these fields."""
        return context(**fields)

    # -- their end ---------------------------------------------------------------------------

    def flush(self, timeout: float = 10.0) -> int:
        """Wait until every event has met its end; returns how many have not.

        Events in the spool count: they are safe, but not where they are to be.
        """
        return self._core.flush(timeout)

    def close(self, timeout: float = CLOSE_S) -> None:
        """Flush and stop. What is left goes to the spool; without one, raises Undelivered."""
        self._core.close(timeout)

    @property
    def outstanding(self) -> int:
        """Events that have not met their end: queued, on their way, or in the spool."""
        return self._core.outstanding

    def stats(self) -> Stats:
        """What became of the events so far."""
        return self._core.stats()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- for aio.py and forking.py -----------------------------------------------------------

    def given(self, event: Any, user_id: str | None, fields: dict[str, Any]) -> Given:
        """What goes on the queue."""
        if event.__class__ is str:
            event_id = str(fields.pop("event_id", None) or uuid7())
            timestamp, size = now_ms(), weigh(fields)
        else:
            event_id, timestamp, size = _whole(event, user_id, fields)
        if size > self._settings.max_bytes:
            raise EventTooLarge(
                f"an event of about {size} bytes does not fit into a queue of "
                f"{self._settings.max_bytes}: shorten it, or raise max_bytes"
            )
        # A third of the time of Given(…), whose constructor is written in Python.
        return _tuple(Given, (event, event_id, timestamp, user_id, fields, CURRENT.get(), size))

    def offer(self, given: Given) -> bool:
        """Take the event if there is room now."""
        taken = self._core.offer(given)
        if not self._core.started:
            self._core.start()
        return taken

    def refused(self) -> QueueFull:
        """The error for an event that found no room."""
        return self._core.refused()

    def decided(
        self,
        experiment: str,
        user_id: str,
        weights: Mapping[str, float],
        *,
        exposed: bool,
        **targeting: Any,
    ) -> tuple[str | None, bool]:
        """The user's variant, and whether this process has yet to tell of it."""
        seen = self._seen.has(experiment, user_id)
        found = assign(experiment, user_id, weights.items(), exposed=exposed or seen, **targeting)
        return found, found is not None and not seen

    def shown(self, experiment: str, user_id: str) -> None:
        """The exposure was told."""
        self._seen.add(experiment, user_id)

    def begin_anew(self) -> None:
        """In a forked child: what was queued is the parent's."""
        parents, self._core = self._core, Core(self._settings, self)
        parents.abandon()
        if parents.closed:
            self._core.close(0.0)


def _whole(event: Any, user_id: str | None, fields: dict[str, Any]) -> tuple[str, int, int]:
    """The id, time and weight of a whole event."""
    from streamgauge.schemas.events import Event

    if not isinstance(event, Event):
        raise TypeError(f"an event is a type's name or an Event, not {type(event).__name__}")
    if user_id is not None or fields:
        raise TypeError("give fields with an event type's name, not with a whole event")
    return event.event_id, event.timestamp, weigh(dict(vars(event)))
