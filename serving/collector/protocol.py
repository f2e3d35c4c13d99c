"""HTTP as uvicorn speaks it, with limits on what a connection may take before it is a request.

Upstream: the socket. Downstream: the app. uvicorn limits neither the size of headers nor the time
in which a request arrives; without that, ten thousand idle lines of header are a denial of service.

Invariants: from its begin a request (the first one: from the connection's) has `request_seconds`
to arrive in, headers and body; headers are at most `header_bytes` and `headers`; more connections
than `connections` are answered 503 at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streamgauge.serving.collector import telemetry
from streamgauge.serving.collector.settings import Limits


def _closing(status: str, extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{extra}connection: close\r\ncontent-length: 0\r\n\r\n".encode()


TOO_SLOW = _closing("408 Request Timeout")
TOO_MUCH = _closing("431 Request Header Fields Too Large")
TOO_MANY = _closing("503 Service Unavailable", "retry-after: 1\r\n")


def limited(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol class for these limits."""

    class Protocol(HttpToolsProtocol):
        """One connection."""

        _timer: asyncio.TimerHandle | None = None
        _head = 0
        _in_head = True

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            telemetry.CONNECTIONS.set(len(self.connections))
            if len(self.connections) > limits.connections:
                self._end(TOO_MANY)
            else:
                self._arm()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)
            telemetry.CONNECTIONS.set(len(self.connections))

        def data_received(self, data: bytes) -> None:
            if self._in_head:
                self._head += len(data)
            super().data_received(data)
            if self._in_head and self._head > limits.header_bytes:
                self._end(TOO_MUCH)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_head = True
            if self._timer is None:
                self._arm()

        def on_headers_complete(self) -> None:
            self._in_head = False
            size = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
            if len(self.headers) > limits.headers or size > limits.header_bytes:
                self._end(TOO_MUCH)
            else:
                super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._disarm()
            self._head, self._in_head = 0, True
            super().on_message_complete()

        def _arm(self) -> None:
            self._timer = self.loop.call_later(limits.request_seconds, self._end, TOO_SLOW)

        def _disarm(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _end(self, answer: bytes) -> None:
            """Answer, unless an answer is on its way, and close."""
            self._disarm()
            transport: Any = self.transport
            if transport.is_closing():
                return
            if self.cycle is None or self.cycle.response_complete:
                transport.write(answer)
            transport.close()

    return Protocol
