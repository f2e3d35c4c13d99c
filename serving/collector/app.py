"""The collector's ASGI app: its routes, what starts with it, and what ends with it.

Upstream: `server.py`, or any ASGI server. Downstream: `events.py` for the two routes that take
events; the rest is here: the tracker's file, health, metrics, OpenAPI.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from streamgauge.schemas.registry import open_registry
from streamgauge.serving.collector import addresses, telemetry
from streamgauge.serving.collector.answers import Receive, Scope, Send
from streamgauge.serving.collector.delivery import Delivery
from streamgauge.serving.collector.door import Door
from streamgauge.serving.collector.events import Endpoint
from streamgauge.serving.collector.intake import Intake
from streamgauge.serving.collector.keys import KeyRing, load
from streamgauge.serving.collector.openapi import document
from streamgauge.serving.collector.settings import CollectorConfig
from streamgauge.serving.collector.throttles import Reader, Throttles
from streamgauge.serving.collector.waiting import SpoolBuffer

logger = logging.getLogger(__name__)

App = Callable[[Scope, Receive, Send], Awaitable[None]]

RELOAD_S = 2.0
TRACKER_SECONDS = 3600
"""For how long browsers may keep the tracker without asking."""


class Collector:
    """One process's parts, and their life."""

    def __init__(self, config: CollectorConfig, *, on_fatal: Callable[[], None]) -> None:
        self.config = config
        self.draining = False
        self._modified = 0.0
        instance = f"{socket.gethostname()}-{config.process}"
        registry, throttles = open_registry(config.registry), Throttles()
        self.intake = Intake(
            registry, config.limits, config.unknown, instance=instance, throttles=throttles
        )
        self.actions = Reader(config.kafka, config.namespace, registry, throttles.tell)
        self.buffer = None
        if config.spool is not None:
            self.buffer = SpoolBuffer(config.spool, config.spool_bytes)
        self.delivery = Delivery(
            config.kafka,
            config.namespace,
            buffer=self.buffer,
            ack_seconds=config.ack_seconds,
            on_fatal=on_fatal,
        )
        self.door = Door(config, self._keys(), self.intake, self.delivery)

    def prepare(self) -> None:
        """Before it serves: raise what keeps it from working, a schema or a topic.

        A Kafka that does not answer is no such thing: the spool can take events, or it comes back.
        """
        self.intake.register()
        self.delivery.check(min(3.0, self.config.ack_seconds))

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """From before the first request until after the last."""
        self.delivery.start()
        self.actions.start()
        tasks = [asyncio.create_task(self._reload()), asyncio.create_task(self.door.turn())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self.actions.stop()
            await self.delivery.close()

    def _keys(self) -> KeyRing:
        path = self.config.write_keys
        if path is None:
            return KeyRing(None, self.config.origins)
        self._modified = path.stat().st_mtime if path.exists() else 0.0
        return KeyRing(load(path))

    async def _reload(self) -> None:
        """Take a changed file of write keys; keep the old keys while it cannot be used."""
        path = self.config.write_keys
        while path is not None:
            await asyncio.sleep(RELOAD_S)
            try:
                if path.stat().st_mtime != self._modified:
                    self.door.keys = self._keys()
                    logger.info("write keys read again")
            except Exception as error:
                logger.error("the old write keys stay: %s", error)


def create_app(collector: Collector) -> App:
    """The app of a collector: the routes for events by themselves, all others by Starlette."""
    endpoints = {
        "/v1/events": Endpoint(collector.door, single=True),
        "/v1/batch": Endpoint(collector.door, single=False),
    }
    others = _others(collector)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = endpoints.get(scope["path"]) if scope["type"] == "http" else None
        await (endpoint or others)(scope, receive, send)

    return app


def _others(collector: Collector) -> Starlette:
    config, door, delivery = collector.config, collector.door, collector.delivery

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        good = not collector.draining and delivery.accepts
        state = "draining" if collector.draining else ("ok" if good else "unavailable")
        told = {"status": state, "kafka": "away" if delivery.away else "ok"}
        return JSONResponse(told, 200 if good else 503)

    async def metrics(request: Request) -> Response:
        peer = request.client.host if request.client else ""
        forwarded = request.headers.get("x-forwarded-for", "")
        address = addresses.client(peer, forwarded, config.trusted_proxies)
        # Behind a proxy that is not known everybody seems to come from this machine.
        if not addresses.private(address) or (forwarded and address == peer):
            return PlainTextResponse("metrics are for private networks\n", 403)
        telemetry.INFLIGHT.set(door.inflight)
        if collector.buffer is not None:
            telemetry.WAITING.set(collector.buffer.records)
        return Response(generate_latest(_registry()), media_type=CONTENT_TYPE_LATEST)

    routes = [
        Route("/tracker.js", _tracker(), methods=["GET"]),
        Route("/live", live, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
    if config.openapi:
        told = document(config)

        async def openapi(request: Request) -> Response:
            return JSONResponse(told)

        routes.append(Route("/openapi.json", openapi, methods=["GET"]))
    return Starlette(routes=routes, lifespan=collector.lifespan)


def _registry() -> CollectorRegistry:
    """Of this process; of all of them where there are several."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def _tracker() -> Callable[[Request], Any]:
    """The tracker's file as it is now, with what browsers need to keep it."""
    file = resources.files("streamgauge.serving").joinpath("tracker", "tracker.js")
    script = file.read_bytes() if file.is_file() else b""
    packed = gzip.compress(script, 9, mtime=0)
    headers = {
        "cache-control": f"public, max-age={TRACKER_SECONDS}",
        "etag": f'"{hashlib.sha256(script).hexdigest()[:16]}"',
        "access-control-allow-origin": "*",
        "cross-origin-resource-policy": "cross-origin",
        "x-content-type-options": "nosniff",
        "vary": "accept-encoding",
    }

    async def tracker(request: Request) -> Response:
        if not script:
            return PlainTextResponse("this installation has no tracker\n", 404)
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(
                packed, media_type="text/javascript", headers=headers | {"content-encoding": "gzip"}
            )
        return Response(script, media_type="text/javascript", headers=headers)

    return tracker
