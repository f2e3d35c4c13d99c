"""A collector that keeps what it is given, and misbehaves on demand."""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Misbehave = Callable[[Any, list[dict]], bool]
"""Gets the request's handler and its events; True when it has answered itself."""


class CollectorDouble:
    """Answers `POST /v1/batch` on a port of its own."""

    def __init__(self) -> None:
        self.events: list[dict] = []
        self.requests: list[dict] = []
        self.connections = 0
        self.next: deque[Misbehave] = deque()
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                double.connections += 1
                super().setup()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                asked = json.loads(body)
                double.requests.append(
                    {"path": self.path, "headers": dict(self.headers), "sent_at": asked["sent_at"]}
                )
                if double.next and double.next.popleft()(self, asked["batch"]):
                    return
                double.take(self, asked["batch"])

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def take(self, handler: Any, batch: list[dict]) -> None:
        """Answer ok to all."""
        self.events += batch
        results = [{"id": event["event_id"], "status": "ok"} for event in batch]
        reply(handler, 200, {"results": results})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(handler: Any, status: int, body: Any, **headers: str) -> bool:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
    return True
