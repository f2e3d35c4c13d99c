"""Who may add files: one small JSON file beside them, read and written under a lock.

Upstream: the archive's sink. Invariants: the lock is held for moments only (never while data is
written), so a process that is stopped cannot keep others out for long, and the kernel lets go of
it when its holder dies; the ledger is replaced as a whole, never torn.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from streamgauge.schemas.durable import sync_folder
from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.sink import Log

_PATIENCE = 5.0


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Which log the files are of, and the epoch of each partition."""

    log: Log
    epochs: dict[int, int] = field(default_factory=dict)


def read(events: Path) -> Ledger | None:
    """The ledger of a folder; None where there is none yet."""
    try:
        said = json.loads(_file(events).read_text())
    except FileNotFoundError:
        return None
    epochs = {int(partition): epoch for partition, epoch in said["epochs"].items()}
    return Ledger(log=Log(**said["log"]), epochs=epochs)


def write(events: Path, ledger: Ledger) -> None:
    """Replace the ledger."""
    draft = _file(events).with_suffix(".new")
    with draft.open("w") as out:
        json.dump(asdict(ledger), out)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(_file(events))
    sync_folder(events)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone in this namespace's folder."""
    with (folder / ".lock").open("w") as handle:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Retryable(
                        f"another process holds {handle.name}: if it is stopped, end it"
                    ) from None
                time.sleep(0.01)
        yield


def _file(events: Path) -> Path:
    return events / "_ledger.json"
