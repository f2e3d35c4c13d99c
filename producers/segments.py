"""A log of records in one folder: append at the end, read from the front, survive `kill -9`.

    00000001.log  00000002.log  …     [length u32 | crc32 u32 | payload] …
    cursor                            how far it has been read: segment, byte, crc32

Upstream: `spool.py`. Downstream: a folder that one process owns.

Invariants: what `append` returned from is read later, in order, also by another process after a
crash. A record is at most read twice (when the crash came between reading and `advance`), never
skipped. A record half written is the end of its segment; a damaged one is counted in `unreadable`
and passed, and where even its length is damaged, so is the rest of its segment.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from streamgauge.schemas.durable import sync_folder

FRAME = struct.Struct("<II")
CURSOR = struct.Struct("<QQI")
MAX_RECORD = 16 << 20
SEGMENT_BYTES = 1 << 20


@dataclass(frozen=True, order=True)
class Place:
    """Where a record begins."""

    segment: int
    byte: int


@dataclass(frozen=True)
class Record:
    """A record, and where the next one begins."""

    payload: bytes
    next: Place


class SegmentLog:
    """One folder's records."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments = sorted(int(path.stem) for path in folder.glob("*.log"))
        self._sizes = {number: self._path(number).stat().st_size for number in self._segments}
        self._writing: int | None = None  # file descriptor of the last segment
        self._cursor = self._read_cursor()
        self._cursor_file = os.open(folder / "cursor", os.O_RDWR | os.O_CREAT, 0o600)
        frames = [payload is not None for _, _, payload in self._frames()]
        self.pending = sum(frames)
        self.unreadable = len(frames) - self.pending

    @property
    def size(self) -> int:
        """What it takes on disk."""
        return sum(self._sizes.values())

    def append(self, payloads: Iterable[bytes], *, sync: bool) -> None:
        """Write records, all or none; with `sync` they are on the disk when this returns."""
        payloads = list(payloads)
        data = b"".join(
            FRAME.pack(len(payload), zlib.crc32(payload)) + payload for payload in payloads
        )
        if self._writing is None or self._sizes[self._segments[-1]] >= self._segment_bytes:
            self._new_segment(sync=sync)
        assert self._writing is not None
        number = self._segments[-1]
        size = self._sizes[number]
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._writing, left) :]
            if sync:
                os.fsync(self._writing)
        except OSError:
            self._undo(size)
            raise
        self._sizes[number] = size + len(data)
        self.pending += len(payloads)

    def sync(self) -> None:
        """Bring what was appended to the disk."""
        if self._writing is not None:
            os.fsync(self._writing)

    def records(self) -> Iterator[Record]:
        """What has not been passed by `advance`, oldest first."""
        for number, end, payload in self._frames():
            if payload is not None:
                yield Record(payload, Place(number, end))

    def advance(self, to: Place, records: int) -> None:
        """The records before `to` need not be read again; so many were read."""
        self.pending -= records
        self._cursor = to
        if self.pending <= 0:  # also what is damaged behind the last one
            self.pending = 0
            self._remove(self._segments)
            return
        self._write_cursor()
        self._remove([number for number in self._segments if number < to.segment])

    def close(self) -> None:
        """Let go of the files, as they are."""
        for file in (self._writing, self._cursor_file):
            if file is not None:
                os.close(file)
        self._writing = None

    def _frames(self) -> Iterator[tuple[int, int, bytes | None]]:
        """(segment, where the next frame begins, payload: None when it is damaged)."""
        for number in list(self._segments):
            if number < self._cursor.segment:
                continue
            at = self._cursor.byte if number == self._cursor.segment else 0
            with self._path(number).open("rb") as file:
                file.seek(at)
                data = file.read(self._sizes[number] - at)
            for end, payload in _frames_in(data):
                yield number, at + end, payload

    def _new_segment(self, *, sync: bool) -> None:
        number = max(self._segments[-1] if self._segments else 0, self._cursor.segment) + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        opened = os.open(self._path(number), flags, 0o600)
        if self._writing is not None:
            os.close(self._writing)
        self._writing = opened
        self._segments.append(number)
        self._sizes[number] = 0
        if sync:
            sync_folder(self._folder)

    def _undo(self, size: int) -> None:
        """After a failed write: no half a record may stand before the next one."""
        assert self._writing is not None
        try:
            os.ftruncate(self._writing, size)
        except OSError:  # then the next record goes to a new segment
            os.close(self._writing)
            self._writing = None

    def _remove(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            if self._writing is not None and number == self._segments[-1]:
                os.close(self._writing)
                self._writing = None
            self._path(number).unlink(missing_ok=True)
            self._segments.remove(number)
            del self._sizes[number]

    def _read_cursor(self) -> Place:
        try:
            segment, byte, crc = CURSOR.unpack((self._folder / "cursor").read_bytes())
        except (OSError, struct.error):
            return Place(0, 0)
        if zlib.crc32(struct.pack("<QQ", segment, byte)) != crc:
            return Place(0, 0)
        return Place(segment, byte)

    def _write_cursor(self) -> None:
        place = struct.pack("<QQ", self._cursor.segment, self._cursor.byte)
        os.pwrite(self._cursor_file, place + struct.pack("<I", zlib.crc32(place)), 0)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.log"


def _frames_in(data: bytes) -> Iterator[tuple[int, bytes | None]]:
    begin = FRAME.size
    while begin <= len(data):
        length, crc = FRAME.unpack_from(data, begin - FRAME.size)
        end = begin + length
        if not 0 < length <= MAX_RECORD:  # zeros, or noise: no frame can be found from here
            yield len(data), None
            return
        if end > len(data):  # half a record: written when the process died
            return
        payload = data[begin:end]
        yield end, payload if zlib.crc32(payload) == crc else None
        begin = end + FRAME.size
