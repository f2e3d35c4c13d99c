"""A lane: one daemon thread that runs blocking librdkafka calls in order.

A thread pool will not do: a call that never returns (send_offsets_to_transaction ignores its
timeout, librdkafka 5456) would keep the process from exiting. A lane is abandoned instead.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Lane:
    """Run calls one after the other in a thread of their own."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None]
        self._calls = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    async def run(self, call: Callable[..., T], *args: Any, timeout: float | None = None) -> T:
        """Run `call(*args)`; after `timeout` seconds raise TimeoutError (the call goes on)."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((lambda: call(*args), future))
        return await asyncio.wait_for(future, timeout)

    def close(self) -> None:
        """End the thread after the calls already queued."""
        self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            call, future = item
            result, error = None, None
            try:
                result = call()
            except BaseException as exc:  # polars raises PanicException, a BaseException
                error = exc
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """asyncio.to_thread, where polars' PanicException (a BaseException) becomes an Exception."""
    try:
        return await asyncio.to_thread(call, *args)
    except (Exception, asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        raise RuntimeError(f"{type(exc).__name__}: {exc}") from None


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, Exception):
        future.set_exception(error)
    else:
        future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
