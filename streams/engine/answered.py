"""What Faust asks of a consumer and the engine does at its barriers, or not at all.

Upstream: Faust's app, conductor and flow control. Downstream: `consumer.py`, the consumer itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from faust.transport.consumer import Consumer as FaustConsumer
from faust.types import TP


class Answered(FaustConsumer):
    """A consumer whose fetching, seeking and committing is not Faust's business."""

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        return await self.commit()

    async def perform_seek(self) -> None: ...
    async def wait_empty(self) -> None: ...
    async def seek_wait(self, partitions: Mapping[TP, int]) -> None: ...
    async def _seek(self, partition: TP, offset: int) -> None: ...
    async def create_topic(self, *args: Any, **kwargs: Any) -> None: ...
    def verify_event_path(self, now: float, tp: TP) -> None: ...
    def verify_recovery_event_path(self, now: float, tp: TP) -> None: ...

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return True

    async def _getmany(self, active_partitions: Any, timeout: float) -> dict[TP, list[Any]]:
        return {}

    async def _drain_messages(self, fetcher: Any) -> None:
        await fetcher.wait_for_stopped(asyncio.Event())

    def _to_message(self, tp: TP, record: Any) -> Any:
        return record

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def highwater(self, tp: TP) -> int:
        return 0

    def topic_partitions(self, topic: str) -> int | None:
        return None

    def key_partition(self, topic: str, key: Any, partition: int | None = None) -> int | None:
        return partition

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)
