"""Threads and locks of the operating system, whatever gevent has put in their place.

The sender must go on while no greenlet yields, and librdkafka waits where gevent cannot see it: so
the sender is a real thread under gevent too, and what it shares with callers are real locks, each
held for microseconds. Whoever has to *wait* sleeps (`time.sleep`, which gevent makes cooperative).
"""

from __future__ import annotations

import _thread
import sys
from collections.abc import Callable
from typing import Any


def _original(name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(_thread, name) if monkey is None else monkey.get_original("_thread", name)


def start_thread(run: Callable[[], None]) -> None:
    """Run something in a daemon thread; RuntimeError where no thread can be started any more."""
    _original("start_new_thread")(run, ())


def thread_id() -> int:
    """The operating system's thread, not the greenlet."""
    return int(_original("get_ident")())


def new_lock() -> Any:
    """A lock that its own holder may take again: a signal handler may call what it interrupts."""
    return _original("RLock")()


class Wakeup:
    """One thread waits; any other may end its waiting, before it begins as well."""

    def __init__(self) -> None:
        self._lock = _original("allocate_lock")()
        self._lock.acquire()

    def set(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # it was set already
            pass

    def wait(self, timeout: float) -> None:
        self._lock.acquire(True, max(timeout, 0.0))
