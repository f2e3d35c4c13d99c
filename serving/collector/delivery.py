"""Records to Kafka, or to the spool while Kafka is away: durable, or reported not to be.

Upstream: `events.py` with a request's records. Downstream: `producing.py`, `producers/spool.py`.

    Kafka acknowledges ──────────────────────────────> STORED
    it does not within ack_seconds ──> away ──> spool, fsynced ──> STORED
    while away: straight to the spool, which is sent from its head until Kafka takes it: not away
    no spool, or it is full ─────────────────────────> RETRY, and 503 until Kafka answers
    Kafka will never take it (too large) ────────────> REFUSED

Invariants: STORED is said after the acknowledgement or the fsync, never before. A record may be in
Kafka and in the spool (its acknowledgement was late): events are counted once by their id. All of
this runs in the event loop but for the spool's disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from confluent_kafka import KafkaError, KafkaException

from streamgauge.serving.collector import telemetry
from streamgauge.serving.collector.intake import Record
from streamgauge.serving.collector.producing import Failed, Producing, refused

logger = logging.getLogger(__name__)

Outcome = Literal["stored", "retry", "refused"]

PROBE_S = 1.0
TELL_S = 10.0
CLOSE_S = 10.0


class Buffer(Protocol):
    """Where records wait on disk."""

    @property
    def records(self) -> int:
        """How many wait."""

    @property
    def has_room(self) -> bool:
        """Whether more can be taken."""

    async def append(self, records: Sequence[Record]) -> bool:
        """True once they are on disk, False when there is no room for them."""

    async def head(self) -> Sequence[Record]:
        """The oldest ones; the same again until `advance`."""

    async def advance(self) -> None:
        """Forget what `head` gave."""

    def close(self) -> None:
        """Let go of the files."""


class Delivery:
    """Makes records durable. Used in one event loop, from `start` to `close`."""

    def __init__(
        self,
        kafka: str,
        namespace: str,
        *,
        buffer: Buffer | None,
        ack_seconds: float,
        on_fatal: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._on_fatal = on_fatal
        self.away = False
        self.failed = False
        self._draining: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._closed = False
        self._told = -TELL_S
        self._unreachable: KafkaError | None = None
        self._kafka = Producing(kafka, namespace, ack_seconds=ack_seconds, on_error=self._error)

    def start(self) -> None:
        """Begin to serve callbacks, and to send what an earlier process left in the spool."""
        self._loop = asyncio.get_running_loop()
        self._kafka.start()
        if self._unreachable is not None:
            self._lost(self._unreachable)
        if self._buffer is not None and self._buffer.records:
            self._drain_soon()

    def check(self, timeout: float) -> None:
        """Before `start`: raise a CollectorError if Kafka says that a topic is missing."""
        self._unreachable = self._kafka.check(timeout)

    @property
    def accepts(self) -> bool:
        """Whether records can be taken at all."""
        return self._buffer.has_room if self.away and self._buffer else not self.away

    @property
    def outstanding(self) -> int:
        """Records that Kafka has not acknowledged."""
        return self._kafka.outstanding

    async def store(self, records: Sequence[Record]) -> list[Outcome]:
        """What became of each record."""
        if not records:
            return []
        failed = self._all(records) if self.away and self._buffer else await self._send(records)
        if not failed:
            return ["stored"] * len(records)
        outcomes: list[Outcome] = ["stored"] * len(records)
        unsent = []
        for at, error in failed.items():
            if refused(error):
                outcomes[at] = "refused"
            else:
                unsent.append(at)
        if unsent and not await self._spooled([records[at] for at in unsent]):
            for at in unsent:
                outcomes[at] = "retry"
        return outcomes

    async def close(self) -> None:
        """Wait for what is outstanding; what Kafka does not take by then goes to the spool."""
        self._closed = True
        for task in (self._draining, self._probing):
            if task is not None:
                task.cancel()
        await self._kafka.close(CLOSE_S)
        if self._buffer is not None:
            await asyncio.to_thread(self._buffer.close)

    @staticmethod
    def _all(records: Sequence[Record]) -> Failed:
        return dict.fromkeys(range(len(records)))

    async def _send(self, records: Sequence[Record]) -> Failed:
        """To Kafka, which is away when it does not take them."""
        failed = await self._kafka.send(records)
        for error in failed.values():
            if error is not None and not refused(error):
                self._lost(error)
                break
        return failed

    async def _spooled(self, records: Sequence[Record]) -> bool:
        """Whether the spool has them, on disk."""
        if self._buffer is None or not await self._buffer.append(records):
            return False
        telemetry.SPOOLED.inc(len(records))
        self._drain_soon()
        return True

    def _lost(self, error: KafkaError) -> None:
        telemetry.FAILURES.inc()
        if self.away:
            return
        logger.warning("Kafka is away: %s", error.str())
        self._is_away(True)
        if self._buffer is None and not self._closed:
            self._probing = self._loop.create_task(self._probe())

    def _is_away(self, away: bool) -> None:
        self.away = away
        telemetry.AWAY.set(away)

    async def _probe(self) -> None:
        """Without a spool nothing is sent while Kafka is away: ask until it answers."""
        while self.away:
            await asyncio.sleep(PROBE_S)
            try:
                await asyncio.to_thread(self._kafka.ask)
            except KafkaException:
                continue
            logger.info("Kafka is back")
            self._is_away(False)

    def _drain_soon(self) -> None:
        if self._draining is None and not self._closed:
            self._draining = self._loop.create_task(self._drain())
            self._draining.add_done_callback(self._drained)

    def _drained(self, task: asyncio.Task[None]) -> None:
        self._draining = None
        if not task.cancelled() and task.exception() is not None:
            logger.error("the spool could not be sent", exc_info=task.exception())

    async def _drain(self) -> None:
        """Send the spool from its head until it is empty; what Kafka takes ends `away`."""
        assert self._buffer is not None
        pause = 0.1
        while records := await self._buffer.head():
            failed = await self._send(records)
            if not all(map(refused, failed.values())):
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)
                continue
            if self.away:
                logger.info("Kafka is back: sending the spool")
            pause = 0.1
            self._is_away(False)
            for at in failed:
                telemetry.LOST.inc()
                logger.error(
                    "lost: Kafka refused a record of %d bytes that was answered ok and spooled;"
                    " is max.message.bytes of the topic below 256 KiB?",
                    len(records[at].value),
                )
            await self._buffer.advance()

    def _error(self, error: KafkaError) -> None:
        if error.fatal():
            logger.error("the producer cannot go on: %s", error.str())
            self.failed = True
            self._on_fatal()
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and self._buffer is not None:
            self._lost(error)
            self._drain_soon()
        elif self._loop.time() - self._told > TELL_S:  # an outage has many of these a second
            self._told = self._loop.time()
            logger.warning("Kafka: %s", error.str())
