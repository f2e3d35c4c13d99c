"""`/live`, `/ready` and `/metrics` of a sink's process.

Upstream: an orchestrator and Prometheus. `/live` is about progress, not the process: a loop that
no longer turns is not live. `/ready` says that partitions are assigned and the target answers.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

STALLED_SECONDS = 90.0
"""Longer than any write may take."""


class Progress:
    """What the loop tells about itself."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.turned_at = time.monotonic()
        self.ready = False

    def live(self) -> bool:
        """Whether the loop has turned lately."""
        return time.monotonic() - self.turned_at < STALLED_SECONDS


class Together:
    """The progress of several loops in one process."""

    def __init__(self, instance: str, loops: Sequence[Progress]) -> None:
        self.instance = instance
        self._loops = loops

    @property
    def ready(self) -> bool:
        """Whether all are."""
        return all(loop.ready for loop in self._loops)

    def live(self) -> bool:
        """Whether all have turned lately."""
        return all(loop.live() for loop in self._loops)


class HealthServer:
    """Serves in a thread of its own until closed; port 0 takes a free one."""

    def __init__(self, progress: Progress | Together, port: int, host: str = "0.0.0.0") -> None:
        self._server = ThreadingHTTPServer((host, port), _handler(progress))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _handler(progress: Progress | Together) -> type[BaseHTTPRequestHandler]:
    checks: dict[str, Callable[[], bool]] = {
        "/live": progress.live,
        "/ready": lambda: progress.live() and progress.ready,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest())
            elif check := checks.get(self.path):
                good = check()
                said = {"status": "ok" if good else "unavailable", "instance": progress.instance}
                self._answer(200 if good else 503, "application/json", json.dumps(said).encode())
            else:
                self._answer(404, "text/plain", b"/live, /ready or /metrics\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes are no news."""

    return Handler
