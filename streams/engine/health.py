"""/live, /ready and /metrics on Faust's web server, and a file that says the same as /ready.

Live is progress, not a process that exists: a cycle of the consumer not long ago. Ready is
assigned and restored; with the progress of restoring while it is not. The file is for
`streamgauge status`: it needs no port, and is there before the web server is.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp.web import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

LIVE_WITHIN = 60.0  # seconds
REPORT_EVERY = 1.0

logger = logging.getLogger(__name__)


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


@contextmanager
def reporting(
    folder: Path | None, name: str, status: Callable[[], Mapping[str, Any]]
) -> Iterator[None]:
    """Write the status to a file every second, by a thread; delete it at the end."""
    if folder is None:
        yield
        return
    path, stop = folder / f"{quote(name, safe='')}.json", threading.Event()
    aside = path.with_suffix(f".{os.getpid()}.new")

    def report() -> None:
        while not stop.is_set():
            told = {"name": name, "pid": os.getpid(), "at": time.time(), **status()}
            try:
                folder.mkdir(parents=True, exist_ok=True)
                aside.write_text(json.dumps(told))
                aside.replace(path)
            except OSError as exc:
                logger.warning("the status cannot be written: %s", exc)
            stop.wait(REPORT_EVERY)

    thread = threading.Thread(target=report, name="status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(2 * REPORT_EVERY)
        for file in (path, aside):
            try:
                file.unlink(missing_ok=True)
            except OSError as exc:
                logger.warning("%s cannot be deleted: %s", file, exc)
