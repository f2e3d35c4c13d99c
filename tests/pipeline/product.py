"""What tests of the whole product have in common: kill -9, and what `verify` is to look at."""

import os
import signal
from datetime import UTC, datetime, timedelta

from streamgauge.cli.settings import Settings
from streamgauge.cli.stack.stack import Stack
from streamgauge.cli.stack.supervisor import Child
from streamgauge.cli.verify import VerifyConfig

NO_REDIS = "redis://127.0.0.1:1"
"""For products that write to none."""


TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
"""The same day for a whole run, though midnight may be in it."""


def yesterday(hour: int) -> int:
    """In milliseconds: a simulated day's traffic goes by its hours, a test must not."""
    return int((TODAY - timedelta(days=1) + timedelta(hours=hour)).timestamp() * 1000)


def kill(child: Child) -> None:
    """kill -9, if it runs just now."""
    if child.pid is not None:
        os.kill(child.pid, signal.SIGKILL)


def worker_of(stack: Stack) -> Child:
    """The first one."""
    return next(child for child in stack.children if child.name.startswith("worker"))


def proof_of(settings: Settings) -> VerifyConfig:
    """The log, Postgres, and Redis if there is one."""
    return VerifyConfig(
        kafka={"bootstrap.servers": settings.need("kafka")},
        registry=settings.need("registry"),
        namespace=settings.namespace,
        postgres=settings.postgres,
        redis=None if settings.redis == NO_REDIS else settings.redis,
        timeout=120,
    )
