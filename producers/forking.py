"""What a fork means for clients: the child starts with empty hands.

Upstream: `client.py` registers every client. Downstream: `os.register_at_fork`.

Invariants: what the parent had taken stays the parent's and is sent once, by it; the child makes a
queue, a thread, connections and a spool folder of its own when it sends its first event. A fork
waits while a sender is importing its modules, for an import lock held by a thread that the child
does not have would never be released there.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from streamgauge.producers import native


class Forked(Protocol):
    """Who wants to know."""

    def begin_anew(self) -> None:
        """In the child, before anybody else uses it."""


IMPORTING = native.new_lock()
"""Held by a sender while it imports."""

_clients: weakref.WeakSet[Forked] = weakref.WeakSet()


def register(client: Forked) -> None:
    """Tell it in every child."""
    _clients.add(client)


def _in_child() -> None:
    global IMPORTING
    IMPORTING = native.new_lock()
    for client in list(_clients):
        client.begin_anew()


os.register_at_fork(
    before=lambda: IMPORTING.acquire(),
    after_in_parent=lambda: IMPORTING.release(),
    after_in_child=_in_child,
)
