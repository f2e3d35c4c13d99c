"""Produces the events of a file, line by line; what is no event is kept as a dead letter.

Upstream: `streamgauge produce --file`. Downstream: the client, in the file's order. `backtest`
reads files by `read_lines` too.

Invariants: read = produced + rejected, and every line is one of them. An event without an id of
its own gets one from the digest of the file's text and the line's number: the same file gives
the same ids again, compressed or not, and equal lines are different events. That needs the
whole text first, so standard input is spooled until it ends.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sys
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from streamgauge.producers import jsonlines, weblog
from streamgauge.producers.errors import EventTooLarge, Undelivered, UnreadableFile
from streamgauge.producers.records import RecordProducer
from streamgauge.schemas.envelope import now_ms
from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.events import Event, parse_event
from streamgauge.schemas.records import DeadLetter
from streamgauge.schemas.unknown import KEPT, UnknownTypes

Parse = Callable[[str], Mapping[str, Any]]
OwnId = Callable[[], str]
"""The id of a line's event, if the line says none."""

FORMATS: dict[str, Parse] = {
    "jsonl": jsonlines.parse_line,
    "combined": weblog.parse_line,
}

SOURCE = "file:"
"""Begins the name of where a dead letter comes from."""

TOO_LONG = "too_long"

MAX_LINE = 512 * 1024
"""Bytes of a line; of a longer one this much is kept."""

REPORTED_REJECTS = 100
SPOOL_BYTES = 16 << 20
FLUSH_S = 120.0
PROGRESS_LINES = 500


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A line that is no event."""

    line: int
    reason: str
    detail: str


@dataclass(kw_only=True)
class FileReport:
    """What became of a file's lines; `rejects` are the first of those rejected."""

    read: int = 0
    produced: int = 0
    rejected: int = 0
    rejects: list[Rejected] = field(default_factory=list)
    seconds: float = 0.0


def produce_file(
    client: RecordProducer,
    path: str | Path,
    format: str,
    *,
    unknown: UnknownTypes = KEPT,
    progress: Callable[[FileReport], None] | None = None,
) -> FileReport:
    """Send every line's event and wait until Kafka has them; `-` is standard input.

    Raises UnreadableFile, or Undelivered when Kafka did not acknowledge everything.
    """
    report = FileReport()
    began = time.monotonic()
    topic = dead_letter_topic(path)
    for number, line, own_id, event in read_lines(path, format, unknown):
        report.read += 1
        try:
            if isinstance(event, InvalidEvent):
                raise event
            client.send_event(event)
            report.produced += 1
        except InvalidEvent as error:
            kept = client if error.keep else None
            _reject(kept, report, topic, number, line, own_id, error.reason, str(error))
        except EventTooLarge as error:
            _reject(client, report, topic, number, line, own_id, TOO_LONG, str(error))
        if progress and number % PROGRESS_LINES == 0:
            progress(report)
    outstanding = client.flush(FLUSH_S)
    if outstanding:
        raise Undelivered(outstanding)
    report.seconds = round(time.monotonic() - began, 3)
    if progress:
        progress(report)
    return report


def read_lines(
    path: str | Path, format: str, unknown: UnknownTypes = KEPT
) -> Iterator[tuple[int, bytes, OwnId, Event | InvalidEvent]]:
    """Every line: its number, its text, the id of its event if it says none, and its event or why
    there is none; `-` is standard input.

    Raises UnreadableFile.
    """
    if format not in FORMATS:
        raise UnreadableFile(f"there is no format {format!r}: use one of {', '.join(FORMATS)}")
    with ExitStack() as files:
        text = _text(str(path), files)
        digest = hashlib.file_digest(text, "sha256").hexdigest()  # type: ignore[arg-type]
        text.seek(0)
        for number, (line, length) in enumerate(_lines(text), 1):
            own_id = partial(_own_id, digest, number)
            try:
                if length > MAX_LINE:
                    told = f"{length} bytes, at most {MAX_LINE} are read"
                    raise InvalidEvent(TOO_LONG, None, told)
                yield number, line, own_id, event_of(line, format, own_id, unknown)
            except InvalidEvent as error:
                yield number, line, own_id, error


def dead_letter_topic(path: str | Path) -> str:
    """Where a dead letter says that it comes from."""
    return f"{SOURCE}{'stdin' if str(path) == '-' else Path(path).name}"


def event_of(line: bytes, format: str, own_id: OwnId, unknown: UnknownTypes = KEPT) -> Event:
    """The event of a whole line; raises InvalidEvent."""
    if not line.strip():
        raise InvalidEvent("blank_line", None, "nothing in the line")
    # What is not UTF-8 stays legible, as servers write it: \xff.
    fields = dict(FORMATS[format](line.decode(errors="backslashreplace")))
    if not fields.get("event_id"):
        fields["event_id"] = own_id()
    return parse_event(fields, unknown)


def _own_id(digest: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{digest}/{number}"))


def _reject(
    client: RecordProducer | None,
    report: FileReport,
    topic: str,
    number: int,
    line: bytes,
    own_id: OwnId,
    reason: str,
    detail: str,
) -> None:
    report.rejected += 1
    if len(report.rejects) < REPORTED_REJECTS:
        report.rejects.append(Rejected(line=number, reason=reason, detail=detail))
    if client is None:  # refused at the door
        return
    client.send_dead_letter(
        DeadLetter(
            topic=topic,
            partition=0,
            offset=number,
            schema_id=None,
            reason=reason,
            detail=detail,
            payload=line,
            key=None,
            failed_at=now_ms(),
            added=json.dumps({"event_id": own_id()}),
        )
    )


def _lines(text: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Each line without its end, cut off at MAX_LINE, and its whole length."""
    while line := text.readline(MAX_LINE + 2):
        kept, length = line, len(line)
        while not line.endswith(b"\n") and (line := text.readline(MAX_LINE)):
            length += len(line)
        if line.endswith(b"\n"):
            length -= 1
        yield kept[:MAX_LINE].rstrip(b"\r\n"), length


def _text(path: str, files: ExitStack) -> IO[bytes]:
    """The file's text, unpacked, from its begin and seekable."""
    try:
        source: Any = sys.stdin.buffer
        if path != "-":
            source = files.enter_context(Path(path).open("rb"))  # noqa: SIM115
        if source.peek(2)[:2] == b"\x1f\x8b":
            source = files.enter_context(gzip.GzipFile(fileobj=source))
        elif path != "-" and source.seekable():
            return source  # type: ignore[no-any-return]
        spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        files.enter_context(spool)
        shutil.copyfileobj(source, spool)
        spool.seek(0)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(f"cannot read {path}: {error}") from error
    return spool  # type: ignore[return-value]
