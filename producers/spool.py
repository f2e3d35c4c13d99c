"""The disk spool: events that could not be sent yet, kept through crashes and sent in order.

    <directory>/<process>/     one folder for each process that has spooled, locked while it lives

Upstream: `sender.py`. Downstream: `segments.py`, one log a folder.

Invariants: a folder belongs to whoever holds its lock, so workers of one server may share the
directory; what a dead process left is taken over by the next one that looks, and sent before its
own. Never more than `max_bytes` are written. After a fork the child has a folder of its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

from streamgauge.producers.errors import SpoolFull, SpoolUnusable
from streamgauge.producers.segments import Place, SegmentLog
from streamgauge.schemas.durable import sync_folder
from streamgauge.schemas.ids import uuid7

Fsync = Literal["always", "interval", "never"]
SYNC_S = 1.0


@dataclass
class _Folder:
    path: Path
    lock: int
    log: SegmentLog

    def close(self) -> None:
        self.log.close()
        os.close(self.lock)


class Spool:
    """Records on disk, first in, first out. One thread at a time."""

    def __init__(self, directory: Path, *, max_bytes: int, fsync: Fsync = "always") -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._synced = monotonic()
        self._left: list[_Folder] = []
        """Folders of processes that have ended, oldest first."""
        self._own: _Folder | None = None
        self._read: tuple[_Folder, Place, int] | None = None
        self._unreadable = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolUnusable(f"cannot spool in {directory}: {error}") from error

    @property
    def pending(self) -> int:
        """Records that are to be sent."""
        return sum(folder.log.pending for folder in self._folders())

    @property
    def size(self) -> int:
        """What they take on disk."""
        return sum(folder.log.size for folder in self._folders())

    @property
    def unreadable(self) -> int:
        """Records that were damaged, and had to be passed."""
        return self._unreadable + sum(folder.log.unreadable for folder in self._folders())

    def adopt(self) -> int:
        """Take over what processes that have ended left; returns how many records."""
        found = 0
        for path in sorted(self._directory.iterdir()):
            known = {folder.path for folder in self._folders()}
            if path in known or path.name.startswith(".") or not path.is_dir():
                continue
            lock = _locked(path / "lock")
            if lock is None:
                continue
            folder = _Folder(path, lock, SegmentLog(path))
            if folder.log.pending:
                found += folder.log.pending
                self._left.append(folder)
            else:
                self._discard(folder)
        return found

    def append(self, payloads: Sequence[bytes]) -> None:
        """Keep these, all or none; raises SpoolFull, or OSError where the disk refuses."""
        if self.size + sum(map(len, payloads)) + 8 * len(payloads) > self._max_bytes:
            raise SpoolFull(f"the spool holds its {self._max_bytes} bytes")
        if self._own is None:
            self._own = self._new_folder()
        self._own.log.append(payloads, sync=self._fsync == "always")
        if self._fsync == "interval" and monotonic() - self._synced >= SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Bring to the disk what is not there yet."""
        self._synced = monotonic()
        if self._own is not None and self._fsync != "never":
            self._own.log.sync()

    def read(self, records: int, size: int) -> list[bytes]:
        """The oldest records; the same ones again, until `done`."""
        for folder in self._folders():
            found: list[bytes] = []
            for record in folder.log.records():
                if found and (len(found) == records or len(record.payload) > size):
                    break
                size -= len(record.payload)
                found.append(record.payload)
                self._read = (folder, record.next, len(found))
            if found:
                return found
            self._retire(folder)
        return []

    def done(self) -> None:
        """What was last read need not be read again."""
        assert self._read is not None
        folder, place, records = self._read
        self._read = None
        folder.log.advance(place, records)
        if not folder.log.pending:
            self._retire(folder)

    def close(self) -> None:
        """Leave what there is to whoever comes next."""
        if self._own is not None:
            self.sync()
        for folder in self._folders():
            if folder.log.pending:
                folder.close()
            else:
                self._discard(folder)
        self._left, self._own = [], None

    def abandon(self) -> None:
        """In a forked child: these are the parent's files, and its locks."""
        for folder in self._folders():
            folder.close()  # the parent's own descriptors keep the lock
        self._left, self._own, self._read = [], None, None

    def _folders(self) -> list[_Folder]:
        return [*self._left, *([self._own] if self._own else [])]

    def _retire(self, folder: _Folder) -> None:
        """A folder in which nothing is left to send; the own one is kept."""
        if folder is not self._own:
            self._left.remove(folder)
            self._discard(folder)

    def _discard(self, folder: _Folder) -> None:
        self._unreadable += folder.log.unreadable
        shutil.rmtree(folder.path, ignore_errors=True)  # before the lock: nobody else may begin
        folder.close()

    def _new_folder(self) -> _Folder:
        """Made under another name, for without a lock in it another process would take it."""
        name = uuid7()
        draft, path = self._directory / f".{name}", self._directory / name
        draft.mkdir(mode=0o700)
        lock = os.open(draft / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(path)
        if self._fsync == "always":
            sync_folder(self._directory)
        return _Folder(path, lock, SegmentLog(path))


def _locked(path: Path) -> int | None:
    """A lock on this file, None when somebody else has it or it is gone."""
    try:
        lock = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_nlink:  # else it was removed while we asked
            return lock
    except OSError:
        pass
    os.close(lock)
    return None
