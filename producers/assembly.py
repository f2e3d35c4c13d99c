"""What a client was told, and the sender made of it.

Upstream: `core.py`, in the sender's thread: here pydantic and the transports are imported for the
first time. Downstream: `sender.py` and its parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamgauge.producers.errors import SpoolUnusable
from streamgauge.producers.intake import Intake
from streamgauge.producers.outcomes import Ledger, OnOutcome
from streamgauge.producers.ways import MakeTransport
from streamgauge.schemas.unknown import UnknownTypes

if TYPE_CHECKING:
    from streamgauge.producers import native
    from streamgauge.producers.preparation import BeforeSend
    from streamgauge.producers.sender import Sender
    from streamgauge.producers.store import Store


@dataclass(frozen=True, kw_only=True)
class Settings:
    """As `Client` has them, checked."""

    make_transport: MakeTransport
    on_outcome: OnOutcome | None
    before_send: BeforeSend | None
    consent_default: Literal["granted", "denied"] | None
    when_denied: Literal["send", "drop"]
    sample: float | Mapping[str, float]
    defaults: Mapping[str, Any]
    unknown: UnknownTypes
    max_events: int
    max_bytes: int
    when_full: Literal["block", "raise", "spool"]
    block_s: float
    batch_events: int
    batch_s: float
    timeout_s: float
    spool_dir: Path | None
    spool_bytes: int
    fsync: Literal["always", "interval", "never"]
    exit_s: float

    def __post_init__(self) -> None:
        if self.when_full == "spool" and self.spool_dir is None:
            raise ValueError('when_full="spool" needs a spool_dir')
        if min(self.max_events, self.max_bytes, self.batch_events) < 1:
            raise ValueError("max_events, max_bytes and batch_events must be at least 1")


def usable(spool_dir: str | Path | None) -> Path | None:
    """The spool's directory, there from now on; raises SpoolUnusable."""
    if spool_dir is None:
        return None
    path = Path(spool_dir).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpoolUnusable(f"cannot spool in {path}: {error}") from error
    return path


def make_store(settings: Settings, ledger: Ledger) -> Store | None:
    """The spool, if there is to be one."""
    from streamgauge.producers.spool import Spool
    from streamgauge.producers.store import Store

    if settings.spool_dir is None:
        return None
    spool = Spool(settings.spool_dir, max_bytes=settings.spool_bytes, fsync=settings.fsync)
    return Store(spool, ledger, settings.unknown)


def make_sender(
    settings: Settings,
    intake: Intake,
    ledger: Ledger,
    store: Store | None,
    wakeup: native.Wakeup,
) -> Sender:
    """What empties the queue."""
    from streamgauge.producers.preparation import Preparation
    from streamgauge.producers.sender import Pace, Sender
    from streamgauge.schemas.backoff import Backoff

    preparation = Preparation(
        defaults=settings.defaults,
        unknown=settings.unknown,
        consent_default=settings.consent_default,
        when_denied=settings.when_denied,
        sample=settings.sample,
        before_send=settings.before_send,
    )
    pace = Pace(
        batch_events=settings.batch_events,
        batch_s=settings.batch_s,
        timeout_s=settings.timeout_s,
        backoff=Backoff(),
    )
    transport = settings.make_transport()
    return Sender(intake, ledger, preparation, transport, store, wakeup, pace)
