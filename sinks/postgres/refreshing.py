"""Refreshes the materialised views every so often, beside the sink.

Upstream: the runner, for the Postgres sink. Downstream: `views.py`. A thread with connections of
its own: the sink never waits for it, and its failures are logged, not the sink's. However many
sinks run, a view is refreshed once in the interval: the table `view_refreshes` says when it is due.
"""

from __future__ import annotations

import logging
import threading
import time

from streamgauge.schemas.errors import StreamgaugeError
from streamgauge.sinks.postgres import views
from streamgauge.sinks.telemetry import REFRESH_FAILURES, REFRESH_SECONDS, REFRESHES

log = logging.getLogger(__name__)

_LOOK = 30.0
"""Seconds between looks at what is due, at most."""


class Refreshing:
    """Runs from when it is made until it is closed."""

    def __init__(self, dsn: str, schema: str, every: float) -> None:
        self._dsn = dsn
        self._schema = schema
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refreshing", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Begin no further refresh; one that is going on ends with the process."""
        self._stop.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        complaint = ""
        while not self._stop.wait(min(_LOOK, self._every / 10)):
            began = time.monotonic()
            try:
                done = views.refresh(self._dsn, self._schema, older_than=self._every)
            except StreamgaugeError as error:
                REFRESH_FAILURES.inc()
                if str(error) != complaint:  # an outage is told once
                    log.warning("the materialised views stay as they are for now: %s", error)
                complaint = str(error)
                continue
            complaint = ""
            if done:
                took = time.monotonic() - began
                REFRESHES.inc(len(done))
                REFRESH_SECONDS.observe(took)
                log.info("refreshed %s in %.1f s", ", ".join(done), took)
