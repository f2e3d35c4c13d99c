"""The client for asyncio: the same core, waited for without holding up the loop.

    async with AsyncClient(endpoint="https://collect.example.com", write_key="…") as client:
        await client.track("page_view", user_id="u-17", page_url="/pricing")

Upstream: an application's tasks. Downstream: `client.py`. Invariants: those of the client;
`on_outcome` is called in the loop that first tracked an event, while that loop runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from streamgauge.producers.ambient import context
from streamgauge.producers.client import CLOSE_S, Client
from streamgauge.producers.outcomes import OnOutcome, Outcome, Stats

if TYPE_CHECKING:
    from streamgauge.schemas.events import Event

P = ParamSpec("P")
PAUSE_S = 0.01


def _as(
    init: Callable[Concatenate[Any, P], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Has the parameters of another constructor."""

    def same(own: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        own.__wrapped__ = init  # type: ignore[attr-defined]  # for inspect and help
        return own

    return same


class AsyncClient:
    """Sends events; takes what `Client` takes."""

    @_as(Client.__init__)
    def __init__(self, *where: Any, on_outcome: OnOutcome | None = None, **settings: Any) -> None:
        self._block_s: float = settings.get("block_s", 1.0)
        self._waits = settings.get("when_full", "block") != "raise"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_outcome = on_outcome
        relay = None if on_outcome is None else self._relay
        self._client = Client(*where, on_outcome=relay, **settings)

    async def track(self, event: Event | str, /, user_id: str | None = None, **fields: Any) -> str:
        """As `Client.track`; where that blocks, this lets others run."""
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        client = self._client
        given = client.given(event, user_id, fields)
        if not client.offer(given):
            deadline = loop.time() + self._block_s
            while not client.offer(given):
                if not self._waits or loop.time() >= deadline:
                    raise client.refused()
                await asyncio.sleep(PAUSE_S)
        return given.event_id

    async def identify(self, user_id: str, anonymous_id: str | None = None, **fields: Any) -> str:
        """From here on, anonymous_id is user_id."""
        return await self.track("identify", user_id, anonymous_id=anonymous_id, **fields)

    async def page(self, page_url: str, user_id: str | None = None, **fields: Any) -> str:
        """A page was shown."""
        return await self.track("page_view", user_id, page_url=page_url, **fields)

    async def custom(
        self,
        name: str,
        user_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """An event without a class of its own: a name, and properties of any kind."""
        named = {"name": name, "properties": dict(properties or {}), **fields}
        return await self.track("custom", user_id, **named)

    async def variant(
        self,
        experiment: str,
        user_id: str,
        weights: Mapping[str, float],
        *,
        expose: bool = True,
        exposed: bool = False,
        allocation: float = 1.0,
        segments: Collection[str] = (),
        user_segments: Collection[str] = (),
        **fields: Any,
    ) -> str | None:
        """As `Client.variant`; telling of the exposure waits as `track` does."""
        variant, is_new = self._client.decided(
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
            await self.track("experiment_exposure", user_id, **exposure, **fields)
            self._client.shown(experiment, user_id)
        return variant

    def context(self, **fields: Any) -> AbstractContextManager[None]:
        """Within a `with` of this, events that do not say otherwise have these fields."""
        return context(**fields)

    async def flush(self, timeout: float = 10.0) -> int:
        """Wait until every event has met its end; returns how many have not."""
        return await asyncio.to_thread(self._client.flush, timeout)

    async def close(self, timeout: float = CLOSE_S) -> None:
        """As `Client.close`."""
        await asyncio.to_thread(self._client.close, timeout)

    def stats(self) -> Stats:
        """What became of the events so far."""
        return self._client.stats()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def _relay(self, outcome: Outcome) -> None:
        assert self._on_outcome is not None
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._on_outcome, outcome)
                return
            except RuntimeError:  # the loop has ended before its events
                pass
        self._on_outcome(outcome)
