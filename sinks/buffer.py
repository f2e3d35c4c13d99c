"""What was read and not yet written: of a compacted topic the newest record of each key alone.

Upstream: the consumer. Downstream: batches. Rows carry absolute values, so what a newer one
overtakes within an interval need not be decoded, let alone written; except in topics that tell a
history.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Message

from streamgauge.schemas.topics import TOPICS


class Buffer:
    """Messages by topic; `rows` and `bytes` say when it is enough."""

    def __init__(self, *, every: bool = False) -> None:
        """`every`: whoever reads it wants each record, also of topics of latest values."""
        self._every = every
        self._newest: dict[str, dict[tuple[int | None, bytes | None], Message]] = {}
        self._all: dict[str, list[Message]] = {}
        self.bytes = 0

    def add(self, topic: str, messages: Iterable[Message]) -> None:
        """Messages of one topic (its name without the namespace), in the log's order."""
        if TOPICS[topic].compacted and not TOPICS[topic].history and not self._every:
            newest = self._newest.setdefault(topic, {})
            for message in messages:
                at = message.partition(), message.key()
                before = newest.get(at)
                newest[at] = message
                self.bytes += len(message) - (len(before) if before is not None else 0)
        else:
            kept = self._all.setdefault(topic, [])
            for message in messages:
                kept.append(message)
                self.bytes += len(message)

    @property
    def rows(self) -> int:
        """Messages held."""
        return sum(map(len, self._newest.values())) + sum(map(len, self._all.values()))

    def messages(self, topic: str) -> list[Message]:
        """What is held of a topic."""
        if topic in self._newest:
            return list(self._newest[topic].values())
        return self._all.get(topic, [])

    def clear(self) -> None:
        """Forget everything: it was written, or it will be read again."""
        self._newest, self._all, self.bytes = {}, {}, 0
