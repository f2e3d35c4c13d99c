"""The consumer: Faust's consumer on librdkafka, with a barrier for every commit.

Upstream: `reader.py`, which gives records. Downstream: the agents, which get each record (of a
columnar topic: each batch) as a Faust message; `barrier.py`, which commits what they made of it.

One cycle after the other: read, deliver, wait until everything is acknowledged, commit. An agent
that raised has failed, although Faust acknowledges its message all the same: the transaction is
rolled back and its input read again, three times, then in halves, down to the record to blame,
which is dead-lettered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from typing import Any

from faust.streams import current_event
from faust.types import TP, ConsumerMessage
from mode import Service

from streamgauge.schemas import faultpoint
from streamgauge.schemas.messages import Messages
from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.answered import Answered
from streamgauge.streams.engine.barrier import Barrier
from streamgauge.streams.engine.checkpointing import Checkpointing
from streamgauge.streams.engine.engine import Engine
from streamgauge.streams.engine.errors import Fenced, Poisoned, Rollback
from streamgauge.streams.engine.lane import in_thread
from streamgauge.streams.engine.membership import Membership
from streamgauge.streams.engine.reader import Found, Reader
from streamgauge.streams.engine.restore import Restorer
from streamgauge.streams.engine.suspicion import Suspicion
from streamgauge.streams.engine.task import Batch, Record

logger = logging.getLogger(__name__)

MAX_DEAD_LETTERS_IN_A_ROW = 25
SHARE, LONGEST = 0.2, 1.0
"""Of the time, for batches and their commits; and the longest pause for it, in seconds."""
RELAY_BEFORE = 0.1
"""Seconds before a barrier in which it is not worth a commit of its own to pass something on."""


def pause(interval: float, taken: float) -> float:
    """Seconds from one commit to the next, when the last one took this long with its batch.

    What a small batch costs is nearly all fixed, so commits are fewer where they take long: a
    worker with little to do is idle most of the time, and one with much has larger batches.
    """
    return max(interval, min(taken / SHARE, LONGEST))


class Consumer(Answered):
    """Drives everything; there is one in a worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.engine: Engine = self.app.engine  # type: ignore[attr-defined]
        restorer = Restorer(self.engine.kafka, self.engine.namespace, self.engine.checkpoints)
        self.reader = Reader(self.engine.kafka, self.app.conf.id, self.engine.columnar)
        checkpointing = Checkpointing.of(self.engine, restorer.resumption)
        self.barrier = Barrier(self.engine, self.reader, restorer, checkpointing)
        self.membership = Membership(
            self.barrier,
            restorer,
            announce=self._announce,
            resume=self._resume,
            settle=self._settle,
            discard=self._discard,
            withdraw=self._withdraw,
        )
        self._delivered: list[ConsumerMessage] = []
        self._since_commit = 0  # records
        self._first: Record | None = None
        self._waiting: dict[str, list[Messages]] = defaultdict(list)
        self._failure: BaseException | None = None
        self._failed: list[Any] = []  # messages at which agents raised
        self._suspicion = Suspicion()
        self._next_barrier = self._next_relay = self._next_tick = 0.0
        self._relaying = 0.0  # seconds since the last barrier
        #: Whether a full barrier is due before anything is relayed: something else was processed
        #: or restored since the last one.
        self._ahead = True
        self._backoff = 0.1
        self._broken = False
        self.computing = 0  # tasks that process a batch just now
        self._ended_since: float | None = None
        self._alive_at = time.monotonic()
        self._stopping = False
        self._pump_done = asyncio.Event()

    # -- Faust's interface -------------------------------------------------------------------

    def on_init_dependencies(self) -> list[Any]:
        return []

    async def on_start(self) -> None:
        await self.barrier.open()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group; topics that are not there are created first, as Faust declares them."""
        conf, names = self.app.conf, set(topics)
        if conf.topic_allow_declare:
            there = await asyncio.to_thread(self.reader.kafka.list_topics, timeout=30)
            for topic in sorted(names - set(there.topics)):
                await self.app.producer.create_topic(
                    topic, conf.topic_partitions, conf.topic_replication_factor
                )
        await self.reader.subscribe(names, self.membership)

    def assignment(self) -> set[TP]:
        """Partitions owned."""
        return set(self.membership.owned)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commits happen at barriers; this asks for one soon."""
        self._next_barrier = 0.0
        return True

    async def on_task_error(self, exc: BaseException) -> None:
        """An agent raised."""
        self.failed(exc)

    def failed(self, exc: BaseException) -> None:
        """Record that processing failed; the cycle rolls back."""
        event = current_event()
        if event is not None:  # Faust acknowledges it when the agent's frames are gone
            self._failed.append(event.message)
        if self._failure is None:
            self._failure = exc

    def status(self) -> dict[str, Any]:
        """For `/live` and `/ready`: progress, ownership, restoring."""
        alive_at = max(self._alive_at, self.barrier.alive_at)
        return {
            "idle_seconds": round(time.monotonic() - alive_at, 1),
            "commits": self.barrier.commits,
            **self.membership.status(),
        }

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return dict(self.barrier.committed)

    async def position(self, tp: TP) -> int | None:
        return self.reader.positions.get(tp)

    # -- the cycle ---------------------------------------------------------------------------

    @Service.task
    async def _pump(self) -> None:
        try:
            while not self._stopping:
                try:
                    await self._cycle()
                    self._backoff = 0.1
                except Rollback as exc:
                    await self._roll_back(exc, "broker")
                    await asyncio.sleep(self._backoff)
                    self._backoff = min(self._backoff * 2, 5.0)
        except (Fenced, Poisoned) as exc:
            self._broken = True
            logger.critical("%s: %s", type(exc).__name__, exc)
            await self.crash(exc)
        except BaseException:
            self._broken = True  # positions are ahead of what was processed: never commit them
            raise
        finally:
            self._pump_done.set()

    async def _cycle(self) -> None:
        """Read until the barrier is due, hand over, wait, commit."""
        room = self._suspicion.limit or self.engine.batch_size
        deadline = max(self._next_barrier, time.monotonic() + 0.001)
        while room > 0 and not self._stopping:
            self._alive_at = time.monotonic()
            wait = min(0.05, deadline - self._alive_at)
            if wait <= 0:
                break
            found = await self.reader.read(room, wait)
            if found.count and self.membership.running:
                room -= found.count
                await self._take(found)
            if found.drained and deadline - time.monotonic() > RELAY_BEFORE:
                await self._relay()
            if self._failure is not None:
                break
        began = time.monotonic()
        if self._failure is None:
            await self._hand_over()
        due = time.monotonic() >= deadline or self._stopping or self._suspicion.failures
        if self._failure is None and due:
            await self._barrier()
            taken = time.monotonic() - began
            taken += min(self._relaying, taken)  # what others write must not hold ours up for long
            self._relaying = 0.0
            self._next_barrier = began + pause(self.engine.commit_interval, taken)
            await self._once_a_second()
        if isinstance(self._failure, (Rollback, Fenced)):
            raise self._failure  # the broker's trouble, not a record's
        if self._failure is not None:
            await self._narrow_down()

    async def _take(self, found: Found) -> None:
        """Per-event topics go to their agents at once; columnar ones gather until the barrier."""
        self._since_commit += found.count
        for topic, parts in found.columns.items():
            self._first = self._first or parts[0][0]
            self._waiting[topic] += parts
        for record in found.records:
            self._first = self._first or record
            telemetry.RECORDS_IN.labels(self.engine.unqualified(record.topic())).inc()
            await self._deliver(record, record.value())
        await self._drained()

    async def _relay(self) -> None:
        """Between two barriers: pass on what the last one wrote for other tasks of this app.

        Or a figure would wait for two pauses, once as an event and once as a part of the figure.
        What was read of other topics still waits, for a batch of it costs much the same whatever
        its size: it is left out of this commit.
        """
        began = time.monotonic()
        still = self.engine.columnar - self.engine.relayed
        waits = self.engine.relayed & self._waiting.keys() and self.membership.running
        if not (still and waits) or self._ahead or began < self._next_relay:
            return
        if self._failure is not None or self._suspicion.failures or self._stopping:
            return
        await self._hand_over(self.engine.relayed)
        if self._failure is None:
            await self._barrier(still)
        taken = time.monotonic() - began
        self._relaying += taken
        self._next_relay = began + pause(self.engine.commit_interval, taken)

    async def _hand_over(self, topics: Set[str] | None = None) -> None:
        """Decode what has gathered (of these topics) and wait until the agents are done with it."""
        mine = [topic for topic in self._waiting if topics is None or topic in topics]
        self._ahead |= topics is None and bool(mine)
        for topic, parts in [(topic, self._waiting.pop(topic)) for topic in mine]:
            faultpoint.reached("mid_batch")
            try:
                messages, batch = await in_thread(self._decoded, topic, parts)
                if batch.rejects:
                    await self.barrier.write(self.engine.rejected(batch.rejects))
            except Exception as exc:
                self.failed(exc)
                return
            if batch.frame.height:
                await self._deliver(messages[0], batch)
        await self._drained()

    def _decoded(self, topic: str, parts: list[Messages]) -> tuple[Messages, Batch]:
        messages = Messages.joined(parts)
        telemetry.RECORDS_IN.labels(self.engine.unqualified(topic)).inc(len(messages))
        return messages, self.engine.decode(topic, messages)

    async def _deliver(self, record: Record, value: Any) -> None:
        topic, partition = record.topic(), record.partition()
        kind, timestamp = record.timestamp()
        message = ConsumerMessage(
            topic, partition, record.offset(), timestamp / 1000, kind, record.headers() or [],
            record.key(), value, None, 0, 0, TP(topic, partition),
            generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        self._delivered.append(message)
        await self.callback(message)

    async def _drained(self) -> None:
        """Wait until the agents have acknowledged what was delivered, or one has failed."""
        warn_at = time.monotonic() + 30
        while self._failure is None:
            self._delivered = [m for m in self._delivered if not m.acked]
            if not self._delivered:
                return
            # Faust's compiled stream loop notifies this future, and never calls Consumer.ack
            self._waiting_for_ack = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._waiting_for_ack, 0.05)
            except TimeoutError:
                self._wake_supervisors()
            if time.monotonic() > warn_at:
                warn_at = time.monotonic() + 30
                logger.warning("an agent is still working on %s/%d", *self._delivered[0].tp)

    def _wake_supervisors(self) -> None:
        """A crashed agent's restart waits up to 5 s when its supervisor missed the call."""
        if self._suspicion.failures:
            for agent in self.app.agents.values():
                if agent.supervisor is not None:
                    agent.supervisor.wakeup()

    async def _barrier(self, still: Set[str] = frozenset()) -> None:
        if not self.membership.running:
            if not self.membership.owned:
                await self.barrier.commit_unassigned()
            return
        try:
            committed = await self.barrier.commit_all(still)
        except (Rollback, Fenced):
            raise
        except Exception as exc:  # a task's flush
            self.failed(exc)
            return
        if not still:
            self._ahead = False
            if committed:
                self._committed_all()

    def _committed_all(self) -> None:
        self._since_commit, self._first = 0, None
        self._acked.clear()  # Faust's own book-keeping of offsets, which nobody reads here
        self._acked_index.clear()
        self._suspicion.succeeded(self.engine.batch_size)

    # -- failure -----------------------------------------------------------------------------

    async def _narrow_down(self) -> None:
        """Processing failed: go back, try again, halve, dead-letter the record to blame."""
        failure, record, count = self._failure, self._first, self._since_commit
        verdict = self._suspicion.failed(count)
        logger.error("processing %d records failed: %r; %s", count, failure, verdict)
        await self._roll_back(failure, "agent")
        if verdict != "dead_letter" or not self.membership.running:
            return
        if record is None:
            raise Poisoned(f"a task fails without any input: {failure!r}")
        if self._suspicion.dead_letters_in_a_row > MAX_DEAD_LETTERS_IN_A_ROW:
            raise Poisoned(f"{MAX_DEAD_LETTERS_IN_A_ROW} records in a row failed: {failure!r}")
        await self.barrier.write(self.engine.failed_record(record, failure))
        self.reader.positions[TP(record.topic(), record.partition())] = record.offset() + 1
        await self.barrier.commit()
        await self.reader.read_from(self.barrier.committed, self.reader.generation)

    async def _roll_back(self, exc: BaseException | None, cause: str) -> None:
        """Abort, take the stable states again, and read on from the committed offsets."""
        logger.warning("rolling back: %s", exc)
        generation = self.reader.generation
        await self._discard()
        await self.barrier.abort(cause, states=self.membership.running)
        if self.membership.running:
            await self.reader.read_from(self.barrier.committed, generation)

    async def _discard(self) -> None:
        """Make the streams skip what is in their queues; wait for what they are working on."""
        self.app.consumer_generation_id += 1
        self.app.flow_control.clear()
        in_work = [m for m in self._delivered if m.tracked and not m.acked]
        deadline = time.monotonic() + 5
        while self.computing or (
            time.monotonic() < deadline
            and any(m.refcount > self._failed.count(m) for m in in_work if not m.acked)
        ):
            await asyncio.sleep(0.01)
        self._waiting.clear()
        self._delivered, self._failure = [], None
        self._since_commit, self._first = 0, None
        self._ahead, self._relaying = True, 0.0
        self._failed.clear()

    # -- what membership asks for ------------------------------------------------------------

    async def _announce(self, owned: set[TP]) -> None:
        self.app.on_rebalance_start()
        await self.on_partitions_assigned(owned, self.app.consumer_generation_id)

    def _resume(self) -> None:
        self.app.consumer_generation_id += 1
        self.app.flow_control.resume()  # clears the agents' queues: deliver nothing before it
        self.resume_flow()
        self.app.on_rebalance_end()

    async def _settle(self) -> bool:
        if self._broken:
            return False
        await self._hand_over()
        if self._failure is not None:
            return False
        await self._barrier()
        return self._failure is None

    async def _withdraw(self, gone: set[TP]) -> None:
        self.app.flow_control.suspend()
        await self.on_partitions_revoked(gone)

    # -- time, lag, end ------------------------------------------------------------------------

    async def _once_a_second(self) -> None:
        """Note the lag; let tasks append ticks to partitions that are idle."""
        now = time.monotonic()
        if not self.membership.running or now < self._next_tick:
            return
        self._next_tick = now + 1.0
        await self.reader.note_lag(self.engine.unqualified)
        if self.engine.until_end:
            self._end_if_done(now)
            return
        for task in self.engine.tasks:
            topic = self.engine.qualified(task.topic)
            idle = {tp.partition for tp in self.reader.at_end if tp.topic == topic}
            for output in task.ticks(int(time.time() * 1000), idle):
                self.engine.tick(output)

    def _end_if_done(self, now: float) -> None:
        """A run until the end stops when nothing has been left to do for three seconds."""
        at_end = self.reader.at_end >= self.membership.owned
        if not at_end or not all(task.settled for task in self.engine.tasks):
            self._ended_since = None
        elif self._ended_since is None:
            self._ended_since = now
        elif now - self._ended_since > 3:
            logger.info("everything is read and written: stopping")
            os.kill(os.getpid(), signal.SIGTERM)  # Faust's worker stops as for anybody else

    async def on_stop(self) -> None:
        await self.shutdown()

    async def shutdown(self) -> None:
        """Commit, leave the group for good, close; under five seconds."""
        if self._stopping:
            return
        self._stopping = True
        try:
            await asyncio.wait_for(self._pump_done.wait(), 3)
        except TimeoutError:
            logger.warning("an agent does not finish; its records will be processed again")
            self.failed(Rollback("stopped while an agent was working"))
        try:
            await self.reader.leave()
            await self.barrier.close()
        except Exception as exc:
            logger.warning("unclean stop: %r", exc)
        self.membership.lane.close()
        if self.barrier.checkpointing is not None:
            await asyncio.to_thread(self.barrier.checkpointing.close)
