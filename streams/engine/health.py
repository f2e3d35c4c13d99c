"""/live, /ready and /metrics on Faust's web server.

Live is progress, not a process that exists: a cycle of the consumer not long ago. Ready is
assigned and restored; with the progress of restoring while it is not.
"""

from __future__ import annotations

from typing import Any

from aiohttp.web import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

LIVE_WITHIN = 60.0  # seconds


def add_pages(app: Any) -> None:
    """Serve the three pages."""

    @app.page("/live", name="live")
    async def live(view: Any, request: Any) -> Any:
        status = app.consumer.status()
        return view.json(status, status=200 if status["idle_seconds"] < LIVE_WITHIN else 503)

    @app.page("/ready", name="ready")
    async def ready(view: Any, request: Any) -> Any:
        status = app.consumer.status()
        return view.json(status, status=200 if status["ready"] else 503)

    @app.page("/metrics", name="metrics")
    async def metrics(view: Any, request: Any) -> Any:
        return Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
