"""Whether a checkpoint may be taken up: what it has to fit, noted when one is written.

Upstream: files (`checkpoint.py`), the cluster (`lookup.py`). Downstream: `restore.py`, which reads
what a checkpoint leaves out; `checkpointing.py` and `standby.py`, which write new ones.

    changelog   ......... next ======== high watermark      a task whose tail is its changelogs
    input       ......... offset ====== committed           a task whose tail is its input
                          ^ checkpoint  ^ the group         = is what is read

Why a checkpoint and its tail are the state: it is of a commit of this group, on topics that are
still the same, and not ahead of what is committed now. Rows of a changelog are absolute, so what
was written since, in order, over what there was, is what there is; what compaction took away had a
later row, and a tombstone outlives a checkpoint that may need it (`OLDEST`). A task whose tail is
its input promises the same state however its input is read, and says False to `load` where that
does not hold, or where a full restore reads less.

Invariants: `known` was asked before every commit it is used for; doubt drops the file.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from streamgauge.streams.engine.checkpoint import Changelog, Checkpoints, Head
from streamgauge.streams.engine.lookup import Lookup, Place
from streamgauge.streams.engine.task import Task

logger = logging.getLogger(__name__)

Span = tuple[int, int]
OLDEST = 12 * 3600.0
"""Seconds; compaction keeps tombstones for a day (delete.retention.ms)."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What was asked last: which cluster and topics these are, and how far the changelogs went."""

    cluster: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)
    changelogs: Mapping[Place, Changelog] = field(default_factory=dict)
    """The state of every later commit includes these rows."""

    def reaching(self, highs: Mapping[Place, int]) -> Known:
        now = time.time()
        logs = {
            place: Changelog(topic_id=self.ids.get(place[0], ""), next=high, seen=now)
            for place, high in highs.items()
        }
        return replace(self, changelogs={**self.changelogs, **logs})


class Resumption:
    """The checkpoints of one group, and what they have to fit."""

    def __init__(self, checkpoints: Checkpoints, lookup: Lookup) -> None:
        self.checkpoints, self._lookup = checkpoints, lookup
        self.known = Known()
        self._asking = threading.Lock()

    def identify(self, topics: Iterable[str], highs: Mapping[Place, int]) -> None:
        """Note which topics these are, and the high watermarks of changelogs."""
        with self._asking:
            ids = {**self.known.ids, **self._lookup.ids(topics)}
            known = replace(self.known, cluster=self._lookup.cluster(), ids=ids)
            self.known = known.reaching(highs)

    def refresh(self) -> None:
        """Ask for the high watermarks again, for commits that are still to come."""
        with self._asking:
            self.known = self.known.reaching(self._lookup.ends(self.known.changelogs))

    def head(
        self, task: Task, place: Place, offset: int, changelogs: Iterable[str], known: Known
    ) -> Head | None:
        """Of a checkpoint of a commit at `offset`; None when nobody could take it up."""
        topic, partition = place
        logs = {
            name: known.changelogs[name, partition]
            for name in changelogs
            if (name, partition) in known.changelogs
        }
        if topic not in known.ids or len(logs) < len(task.changelogs):
            return None
        return Head(
            cluster=known.cluster,
            group=self.checkpoints.group,
            task=type(task).__name__,
            identity=task.identity,
            topic=topic,
            topic_id=known.ids[topic],
            partition=partition,
            offset=offset,
            changelogs=logs,
            written=time.time(),
        )

    def load(
        self,
        task: Task,
        place: Place,
        start: int,
        committed: tuple[int, str],
        changelogs: Mapping[str, Span],
    ) -> Head | None:
        """Have the task take up its checkpoint, if there is one that fits; drop one that does not.

        `start` of the input, the group's offset and metadata, and what there is of the task's
        `changelogs` in this partition.
        """
        name, partition = type(task).__name__, place[1]
        if (found := self.checkpoints.read(name, partition)) is None:
            return None
        head, snapshot = found
        reason = self._objection(head, task, place, (start, committed[0]), changelogs)
        if reason is None:
            try:
                if task.load(partition, snapshot, head.offset, *committed):
                    return head
                reason = "a full restore is better"
            except BaseException as exc:  # polars raises PanicException, a BaseException
                if isinstance(exc, KeyboardInterrupt | SystemExit):
                    raise
                task.revoke({partition})
                reason = f"it cannot be taken up: {exc!r}"
        self.checkpoints.drop(name, partition, reason)
        return None

    def _objection(
        self, head: Head, task: Task, place: Place, span: Span, changelogs: Mapping[str, Span]
    ) -> str | None:
        if not head.cluster or head.cluster != self.known.cluster:
            return f"it is of another cluster, {head.cluster!r}"
        if (head.group, (head.topic, head.partition)) != (self.checkpoints.group, place):
            return f"it is of {head.topic}/{head.partition} and group {head.group}"
        if head.topic_id != self.known.ids.get(head.topic):
            return f"the topic {head.topic} was made anew"
        if head.identity != task.identity:
            return "definitions, settings or versions have changed"
        if not span[0] <= head.offset <= span[1]:
            return f"offset {head.offset} is not within {span[0]} and {span[1]}, the committed one"
        if set(head.changelogs) != set(changelogs):
            return "its changelogs are others"
        for topic, (first, high) in changelogs.items():
            log = head.changelogs[topic]
            if log.topic_id != self.known.ids.get(topic):
                return f"the changelog {topic} was made anew"
            if not first <= log.next <= high:
                return f"the changelog {topic} holds {first} to {high}, not {log.next}"
            if task.tail == "changelogs" and not -60 < time.time() - log.seen < OLDEST:
                return "it is too old: the changelog may have forgotten what was deleted since"
        return None
