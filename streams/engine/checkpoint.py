"""Checkpoints: the state of one task and partition at a commit, as a file on local disk.

Upstream: `checkpointing.py` and `standby.py` write them. Downstream: `restore.py` takes one up and
reads only what came after it; `streamgauge state` lists them.

    magic (8) | BLAKE2b of the rest (16) | length of the head (4) | head, JSON | snapshot

Invariants: a file is whole or not there (written aside, synced, renamed), and any bit that is not
as it was written makes it unusable; a commit's state stays true for ever, so an older checkpoint
costs time and nothing else; whatever is in doubt is deleted, for Kafka has everything.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from streamgauge.schemas import faultpoint
from streamgauge.schemas.durable import sync_folder

logger = logging.getLogger(__name__)

MAGIC = b"SGCHECK1"
DIGEST = 16
START = len(MAGIC) + DIGEST + 4
SUFFIX = ".checkpoint"
ABANDONED = 3600.0  # seconds after which nobody is still writing a file


class Damaged(Exception):
    """The file is not what was written."""


@dataclass(frozen=True, kw_only=True)
class Changelog:
    """Rows of a changelog before `next` are in the snapshot; `seen` is when that was asked."""

    topic_id: str
    next: int
    seen: float


@dataclass(frozen=True, kw_only=True)
class Head:
    """Of what a snapshot is: all that has to fit before it may be used."""

    cluster: str
    group: str
    task: str
    identity: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    """Input before it is in the snapshot."""
    changelogs: Mapping[str, Changelog]
    written: float

    @staticmethod
    def parsed(text: bytes) -> Head:
        content = json.loads(text)
        logs = {name: Changelog(**one) for name, one in content.pop("changelogs").items()}
        return Head(changelogs=logs, **content)


class Checkpoints:
    """The checkpoints of one group in a folder that workers and standbys of a host share."""

    def __init__(self, folder: Path, group: str, *, owned: bool = True) -> None:
        self.group = group
        self._parent, self._owned = folder, owned
        self._folder = folder / quote(group, safe="")

    def unowned(self) -> Checkpoints:
        """The same, for one who leaves to others what does not fit: they may be ahead of it."""
        return Checkpoints(self._parent, self.group, owned=False)

    def write(self, head: Head, snapshot: bytes) -> None:
        """Put a checkpoint in the place of an earlier one; raises OSError."""
        path = self._path(head.task, head.partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(head)).encode()
        length = len(text).to_bytes(4, "big")
        aside = path.with_suffix(f".{os.getpid()}.new")
        try:
            with aside.open("wb") as file:
                file.write(MAGIC + _digest(length, text, snapshot) + length)
                file.write(text)
                faultpoint.reached("during_checkpoint")
                file.write(snapshot)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)

    def read(self, task: str, partition: int) -> tuple[Head, memoryview] | None:
        """None when there is none; one that is damaged is dropped."""
        try:
            return verified(self._path(task, partition))
        except FileNotFoundError:
            return None
        except (Damaged, OSError) as exc:
            self.drop(task, partition, str(exc))
            return None

    def drop(self, task: str, partition: int, reason: str) -> None:
        """Delete one that is not to be used: its state will be restored from Kafka."""
        logger.warning("no use of the checkpoint of %s/%d: %s", task, partition, reason)
        try:
            if self._owned:
                self._path(task, partition).unlink(missing_ok=True)
        except OSError as exc:
            logger.warning("it cannot be deleted: %s", exc)

    def sweep(self) -> None:
        """Delete what processes that were killed left half written."""
        for path in self._folder.glob("*.new"):
            try:
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
            except OSError:
                continue

    def _path(self, task: str, partition: int) -> Path:
        return self._folder / f"{quote(task, safe='')}-{partition}{SUFFIX}"


def verified(path: Path) -> tuple[Head, memoryview]:
    """Head and snapshot of a file; raises Damaged or OSError."""
    content = memoryview(path.read_bytes())
    if len(content) < START or content[: len(MAGIC)] != MAGIC:
        raise Damaged("it is not a checkpoint of this version")
    digest, rest = content[len(MAGIC) : START - 4], content[START - 4 :]
    if digest != _digest(rest):
        raise Damaged("its checksum is wrong")
    end = 4 + int.from_bytes(rest[:4], "big")
    try:
        return Head.parsed(bytes(rest[4:end])), rest[end:]
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise Damaged(f"its head cannot be read: {exc!r}") from exc


def found(folder: Path) -> Iterator[Path]:
    """Every checkpoint in a folder, of whatever group."""
    return iter(sorted(folder.glob(f"*/*{SUFFIX}")))


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        digest.update(part)
    return digest.digest()
