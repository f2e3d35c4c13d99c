"""A collector process: a socket, uvicorn and the app, until it is told to stop.

Upstream: `streamgauge collect`. Downstream: `app.py`. Several processes share one port: the
kernel gives each connection to one of them.

SIGTERM: /ready says 503 for `drain_seconds`, then no connection is taken any more, open requests
are answered, and what Kafka has not acknowledged by then is in the spool or was answered 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from types import FrameType

import uvicorn

from streamgauge.serving.collector.app import Collector, create_app
from streamgauge.serving.collector.protocol import limited
from streamgauge.serving.collector.settings import CollectorConfig

logger = logging.getLogger(__name__)

BACKLOG = 4096
KEEP_ALIVE_S = 75
GRACE_S = 15
"""For open requests at the end: longer than Kafka may take to acknowledge."""


def run(config: CollectorConfig) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Raises what `prepare` does."""
    _raise_file_limit()
    collector = Collector(config, on_fatal=stop_process)
    collector.prepare()
    server = Server(collector)
    server.run([listen(config.host, config.port, shared=config.shared)])
    return 0 if server.started and not collector.delivery.failed else 1


def stop_process() -> None:
    """End as after SIGTERM, but with 1: whoever started us starts another."""
    os.kill(os.getpid(), signal.SIGTERM)


def listen(host: str, port: int, *, shared: bool) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, port))
    return listening


class Server(uvicorn.Server):
    """uvicorn with a collector's app and limits."""

    def __init__(self, collector: Collector) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(collector),
                http=limited(collector.config.limits),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._collector = collector

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and then end by ourselves instead of by the signal, as uvicorn would."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is here now stays: no need to look through it every few seconds
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            logger.info("collecting on http://%s:%d", host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._collector.draining = True
        await asyncio.sleep(self._collector.config.drain_seconds)
        await super().shutdown(sockets)


def _raise_file_limit() -> None:
    """A connection is an open file: take as many as we may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
