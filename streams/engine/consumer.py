"""The consumer: Faust's consumer on librdkafka, with a barrier for every commit.

Upstream: Kafka's group protocol (classic, range assignor, fenced by group metadata, KIP-447).
Downstream: the agents, which get each record (or each batch of a columnar topic) as a Faust
message; the transaction, which takes what they produced.

    joining ──assigned──> restoring ──restored──> running ──revoked──> joining
                              │                     │  ^
                              └──revoked/lost──┐    v  │ commit or rollback
                                               └─ barrier

Invariants:
- one cycle after the other: read, deliver, wait until everything is acknowledged, commit;
- an agent that raised has failed, although Faust acknowledges its message all the same;
- librdkafka's rebalance callbacks run inside `consume()`, in the poll lane: revocation commits
  there; restoring does not happen there, or a rebalance every few seconds would never let it end;
- what is lost is dropped, never committed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from faust.transport.consumer import Consumer as FaustConsumer
from faust.types import TP, ConsumerMessage
from mode import Service

from streamgauge.streams.engine import faultpoint, telemetry
from streamgauge.streams.engine.errors import Fenced, Poisoned, Rollback
from streamgauge.streams.engine.lane import Lane
from streamgauge.streams.engine.restore import Cancelled, Restorer
from streamgauge.streams.engine.suspicion import Suspicion
from streamgauge.streams.engine.task import Output
from streamgauge.streams.engine.transaction import Ambiguous

logger = logging.getLogger(__name__)

REVOKE_DEADLINE = 60.0  # below max.poll.interval.ms
MAX_DEAD_LETTERS_IN_A_ROW = 100


class Consumer(FaustConsumer):
    """Drives everything; there is one in a worker."""

    consumer_stopped_errors = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        engine = self.app.engine
        self.engine = engine
        self.transaction = engine.transaction
        self._poll, self._txn, self._restore = Lane("poll"), Lane("transaction"), Lane("restore")
        self._restorer = Restorer(engine.kafka, engine.namespace)
        self._incarnation = uuid.uuid4().hex[:12]
        self._kafka: KafkaConsumer | None = None
        self._topics: set[str] = set()
        self._owned: set[TP] = set()  # assigned by the group
        self._running = False  # restored, and reading
        self._generation = 0
        self._takeover: asyncio.Task[None] | None = None
        self._positions: dict[TP, int] = {}  # next offset to read
        self._at_end: set[TP] = set()
        self._committed: dict[TP, int] = {}
        self._stamps: dict[TP, str] = {}  # of our last commit, kept over a revocation
        self._commits = 0
        self._delivered: list[ConsumerMessage] = []
        self._since_commit: list[Message] = []
        self._failure: BaseException | None = None
        self._suspicion = Suspicion()
        self._waiting: dict[str, list[Message]] = defaultdict(list)
        self._next_barrier = self._next_tick = 0.0
        self._backoff = 0.1
        self._ended_since: float | None = None
        self.alive_at = time.monotonic()
        self._stopping = False
        self._pump_done = asyncio.Event()
        self.taken_over = asyncio.Event()

    # -- Faust's interface -------------------------------------------------------------------

    def on_init_dependencies(self) -> list[Any]:
        return []

    async def on_start(self) -> None:
        self._kafka = KafkaConsumer(self._settings())
        await self._txn.run(self.transaction.open)

    def _settings(self) -> dict[str, Any]:
        return {
            # librdkafka's default backs off a fast reader for a second
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 65536,
            "fetch.message.max.bytes": 1 << 21,
            "topic.metadata.refresh.interval.ms": 10_000,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1500,
            **self.engine.kafka,
            "group.id": self.app.conf.id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "range",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group for `topics`."""
        self._topics = set(topics)
        assert self._kafka is not None
        conf = self.app.conf
        if conf.topic_allow_declare:
            there = await asyncio.to_thread(self._kafka.list_topics, timeout=30)
            for topic in sorted(self._topics - set(there.topics)):
                await self.app.producer.create_topic(
                    topic, conf.topic_partitions, conf.topic_replication_factor
                )
        await self._poll.run(
            lambda: self._kafka.subscribe(  # type: ignore[union-attr]
                sorted(self._topics),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
        )

    def assignment(self) -> set[TP]:
        """Partitions owned."""
        return set(self._owned)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commits happen at barriers; this asks for one soon."""
        self._next_barrier = 0.0
        return True

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        return await self.commit()

    async def on_task_error(self, exc: BaseException) -> None:
        """An agent raised."""
        self.failed(exc)

    async def on_stop(self) -> None:
        await self.shutdown()

    def failed(self, exc: BaseException) -> None:
        """Record that processing failed; the cycle rolls back."""
        if self._failure is None:
            self._failure = exc

    @property
    def ready(self) -> bool:
        """Assigned and restored."""
        return self._running

    def status(self) -> dict[str, Any]:
        """For `/ready` and the CLI: ownership and the progress of restoring."""
        progress = self._restorer.progress
        elapsed = time.monotonic() - progress.started
        left = progress.total - progress.done
        return {
            "ready": self._running,
            "assigned": sorted(f"{tp.topic}/{tp.partition}" for tp in self._owned),
            "commits": self._commits,
            "restore": {
                "done": progress.done,
                "total": progress.total,
                "seconds_left": round(left * elapsed / progress.done, 1) if progress.done else None,
            },
        }

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
            logger.critical("%s: %s", type(exc).__name__, exc)
            await self.crash(exc)
        finally:
            self._pump_done.set()

    async def _cycle(self) -> None:
        """Read until the barrier is due, hand over, wait, commit."""
        engine, limit = self.engine, self._suspicion.limit
        retrying = self._suspicion.failures > 0
        deadline = max(self._next_barrier, time.monotonic() + 0.001)
        room = limit or engine.batch_size
        while room > 0 and not self._stopping:
            self.alive_at = time.monotonic()
            wait = min(0.05, deadline - time.monotonic())
            if wait <= 0:
                break
            generation = self._generation
            messages = await self._poll.run(self._consume, room, wait)
            if not messages:
                continue
            if generation != self._generation or not self._running:
                continue  # fetched before a rebalance: the new owner reads it
            room -= len(messages)
            await self._take(messages)
        faultpoint.reached("mid_batch")
        await self._hand_over()
        if self._failure is None and (retrying or time.monotonic() >= deadline or self._stopping):
            await self._barrier()
            await self._make_time_pass()
        if self._failure is not None:
            await self._failed_cycle()

    def _consume(self, room: int, wait: float) -> list[Message]:
        assert self._kafka is not None
        messages = self._kafka.consume(min(room, 20_000), wait)
        good, running, positions = [], self._running, self._positions
        for message in messages:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                # its offset is past the transaction markers, which are no records
                tp = TP(message.topic(), message.partition())
                if running and tp in positions:
                    positions[tp] = max(positions[tp], message.offset())
                    self._at_end.add(tp)
            elif error.fatal():
                raise KafkaException(error)
            else:
                logger.warning("consume: %s", error.str())
        if running:
            for message in good:
                tp = TP(message.topic(), message.partition())
                positions[tp] = message.offset() + 1
                self._at_end.discard(tp)
        return good

    async def _take(self, messages: list[Message]) -> None:
        """Per-event topics go to their agents at once; columnar ones gather until the barrier."""
        self._since_commit.extend(messages)
        by_topic: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            by_topic[message.topic()].append(message)
        for topic, records in by_topic.items():
            name = self.engine.unqualified(topic)
            telemetry.RECORDS_IN.labels(name).inc(len(records))
            telemetry.BYTES_IN.labels(name).inc(sum(len(m) for m in records))
            if topic in self.engine.columnar:
                self._waiting[topic].extend(records)
                continue
            for record in records:
                await self._deliver(record, record.value())
        await self._drained()

    async def _hand_over(self) -> None:
        waiting, self._waiting = self._waiting, defaultdict(list)
        for topic, records in waiting.items():
            try:
                batch = await asyncio.to_thread(self.engine.decode, topic, records)
            except Exception as exc:
                self.failed(exc)
                return
            if batch.rejects:
                await self._txn.run(self._dead_letters, self.engine.rejected(batch.rejects))
            if batch.frame.height:
                await self._deliver(records[0], batch)
        await self._drained()

    async def _deliver(self, record: Message, value: Any) -> None:
        topic, partition, offset = record.topic(), record.partition(), record.offset()
        kind, timestamp = record.timestamp()
        message = ConsumerMessage(
            topic, partition, offset, timestamp / 1000, kind, record.headers() or [],
            record.key(), value, None, 0, 0, TP(topic, partition),
            generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        self._delivered.append(message)
        await self.callback(message)

    async def _drained(self) -> None:
        """Wait until the agents have acknowledged what was delivered, or one has failed."""
        warned = time.monotonic() + 30
        while self._failure is None:
            self._delivered = [m for m in self._delivered if not m.acked]
            if not self._delivered:
                return
            # Faust's compiled stream loop notifies this future, and never calls Consumer.ack
            self._waiting_for_ack = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._waiting_for_ack, 0.05)
            except TimeoutError:
                pass
            if time.monotonic() > warned:
                warned = time.monotonic() + 30
                oldest = self._delivered[0]
                logger.warning("an agent is still working on %s/%d", *oldest.tp)

    # -- barrier -----------------------------------------------------------------------------

    async def _barrier(self) -> None:
        self._next_barrier = time.monotonic() + self.engine.commit_interval
        if not self._running:
            if self.transaction.begun and not self._owned:  # timers of a worker without partitions
                async with self.engine.producing:
                    await self._txn.run(self.transaction.commit, [], self._kafka)
                    self.engine.unattached.clear()
            return
        try:
            outputs = await asyncio.to_thread(self._flushed)
        except Exception as exc:
            self.failed(exc)
            return
        moved = self._positions != self._committed
        if not (moved or outputs or self.transaction.begun):
            return
        started = time.monotonic()
        await self._commit(outputs)
        telemetry.COMMIT_SECONDS.observe(time.monotonic() - started)
        self._suspicion.succeeded(self.engine.batch_size)

    def _flushed(self) -> list[Output]:
        now = time.monotonic()
        return [o for task in self.engine.tasks for o in task.flush(now) if o.keys]

    async def _commit(self, outputs: Sequence[Output]) -> None:
        """Commit positions (never an empty list: that would fence nothing), rows and states."""
        stamp = f"{self._incarnation}.{self._commits + 1}"
        positions = dict(self._positions)
        offsets = [
            TopicPartition(tp.topic, tp.partition, offset, f"{stamp};{self._metadata(tp)}")
            for tp, offset in positions.items()
        ]
        async with self.engine.producing:  # a timer's rows wait for the next transaction
            try:
                await self._txn.run(self._write_and_commit, outputs, offsets, timeout=150)
            except (TimeoutError, Ambiguous) as exc:
                logger.warning("the commit's outcome is unknown (%s); asking the group", exc)
                if not await self._did_commit(stamp, positions):
                    raise Rollback("the commit did not happen") from exc
            self.engine.unattached.clear()
        self._commits += 1
        self._committed = positions
        self._stamps.update(dict.fromkeys(positions, stamp))
        self._since_commit = []
        self._acked.clear()
        self._acked_index.clear()
        for task in self.engine.tasks:
            task.commit()
        telemetry.COMMITS.inc()

    def _write_and_commit(
        self, outputs: Sequence[Output], offsets: Sequence[TopicPartition]
    ) -> None:
        for output in outputs:
            self.transaction.write(output)
        assert self._kafka is not None
        self.transaction.commit(offsets, self._kafka)

    async def _did_commit(self, stamp: str, positions: Mapping[TP, int]) -> bool:
        """After a new producer has settled the old one's transaction, the offsets' stamp tells."""
        self._txn = Lane("transaction")  # the old thread may never come back
        await self._persist(self.transaction.reopen)
        found = await self._restore.run(
            self._restorer.committed, self._kafka, [tuple(tp) for tp in positions]
        )
        return all(commit.stamp == stamp for commit in found.values())

    def _metadata(self, tp: TP) -> str:
        name = self.engine.unqualified(tp.topic)
        return "".join(t.metadata(tp.partition) for t in self.engine.tasks if t.topic == name)

    # -- failure -----------------------------------------------------------------------------

    async def _failed_cycle(self) -> None:
        """An agent or a task raised: go back, try again, narrow it down, dead-letter the record."""
        failure, records = self._failure, self._since_commit
        verdict = self._suspicion.failed(len(records))
        logger.error("processing %d records failed: %r; %s", len(records), failure, verdict)
        await self._roll_back(failure, "agent")
        if verdict != "dead_letter":
            return
        if not records:  # nothing to blame: a flush that fails by itself
            raise Poisoned(f"a task fails without any input: {failure!r}")
        if self._suspicion.dead_letters_in_a_row > MAX_DEAD_LETTERS_IN_A_ROW:
            raise Poisoned(f"{MAX_DEAD_LETTERS_IN_A_ROW} records in a row failed: {failure!r}")
        record = records[0]
        letters = self.engine.failed_record(record, failure)
        await self._txn.run(self._dead_letters, letters)
        self._positions[TP(record.topic(), record.partition())] = record.offset() + 1
        await self._commit([])
        await self._read_from(self._committed)

    def _dead_letters(self, letters: Sequence[Output]) -> None:
        for letter in letters:
            self.transaction.write(letter)

    async def _roll_back(self, exc: BaseException | None, cause: str) -> None:
        """Abort, take the stable states again, and read on from the committed offsets."""
        logger.warning("rolling back: %s", exc)
        telemetry.ABORTED.labels(cause).inc()
        self._discard()
        in_work = [m for m in self._delivered if m.tracked and not m.acked]
        deadline = time.monotonic() + 5
        while any(not m.acked for m in in_work) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._delivered, self._failure = [], None
        async with self.engine.producing:
            await self._persist(self.transaction.abort)
            for row in self.engine.unattached:  # sent by timers: nothing will send them again
                self.transaction.send(*row)
        for task in self.engine.tasks:
            task.abort()
        if self._running:
            await self._read_from(self._committed)

    async def _persist(self, call: Any) -> None:
        """Run it until the broker is back; only a newer producer of our id ends it."""
        while True:
            try:
                return await self._txn.run(call)
            except KafkaException as exc:
                logger.warning("the transaction coordinator does not answer: %s", exc.args[0].str())
                self.alive_at = time.monotonic()
                await asyncio.sleep(1)

    def _discard(self) -> None:
        """Make the streams skip what is still in their queues."""
        self.app.consumer_generation_id += 1
        self.app.flow_control.clear()
        self._waiting.clear()
        self._since_commit = []

    async def _read_from(self, offsets: Mapping[TP, int]) -> None:
        await self._poll.run(self._assign_at, dict(offsets), self._generation)

    def _assign_at(self, offsets: dict[TP, int], generation: int) -> bool:
        """In the poll lane: start reading, unless the group has moved on."""
        if generation != self._generation:
            return False
        assert self._kafka is not None
        self._kafka.assign(
            [TopicPartition(tp.topic, tp.partition, offset) for tp, offset in offsets.items()]
        )
        self._positions, self._committed = dict(offsets), dict(offsets)
        self._at_end.clear()
        return True

    # -- rebalances: callbacks run in the poll lane, inside consume() --------------------------

    def _on_assign(self, kafka: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        kafka.assign([])  # nothing is read before the state is there
        self._generation += 1
        owned = {TP(tp.topic, tp.partition) for tp in partitions}
        self._in_loop(self._assigned(owned, self._generation), wait=False)

    def _on_revoke(self, kafka: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._in_loop(self._released(lost=False), wait=True)
        kafka.unassign()

    def _on_lost(self, kafka: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._in_loop(self._released(lost=True), wait=True)
        kafka.unassign()

    def _in_loop(self, coroutine: Any, *, wait: bool) -> None:
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        if not wait:
            return
        try:
            future.result(REVOKE_DEADLINE)
        except Exception as exc:  # the group moves on without this commit
            logger.error("giving partitions back failed: %r", exc)

    async def _assigned(self, owned: set[TP], generation: int) -> None:
        telemetry.REBALANCES.inc()
        telemetry.ASSIGNED.set(len(owned))
        logger.info("assigned %s", ", ".join(f"{t}/{p}" for t, p in sorted(owned)) or "nothing")
        self._owned = owned
        self.app.on_rebalance_start()
        if self._takeover is not None:
            self._takeover.cancel()
        self._takeover = asyncio.create_task(self._take_over(owned, generation))

    async def _take_over(self, owned: set[TP], generation: int) -> None:
        """Restore what is new, forget what is gone, then read."""
        while generation == self._generation:
            try:
                await self.on_partitions_assigned(owned, self.app.consumer_generation_id)
                offsets = await self._restore.run(self._restored, owned, generation)
                break
            except Cancelled:
                return
            except Exception:
                logger.exception("restore failed; trying again")
                await asyncio.sleep(1)
        else:
            return
        self.app.consumer_generation_id += 1
        self.app.flow_control.resume()  # clears the agents' queues: deliver nothing before it
        self.resume_flow()
        if await self._poll.run(self._assign_at, offsets, generation):
            self._running = True
            self.app.on_rebalance_end()
            self.taken_over.set()
            logger.info("restored; reading")

    def _restored(self, owned: set[TP], generation: int) -> dict[TP, int]:
        """In the restore lane: bring the tasks to the committed offsets."""
        restorer, tasks = self._restorer, self.engine.tasks
        commits = restorer.committed(self._kafka, [tuple(tp) for tp in owned])  # type: ignore[arg-type]
        kept = {
            tp
            for tp in owned
            if tp in self._stamps and commits[tuple(tp)].stamp == self._stamps[tp]
        }
        for task in tasks:
            topic = self.engine.qualified(task.topic)
            held = {tp.partition for tp in self._stamps if tp.topic == topic}
            gone = held - {tp.partition for tp in kept if tp.topic == topic}
            if gone:
                task.revoke(gone)
        self._stamps = {tp: stamp for tp, stamp in self._stamps.items() if tp in kept}
        fresh = {place: commits[place] for place in commits if TP(*place) not in kept}
        try:
            found = restorer.run(
                tasks, self.engine.decode, fresh, lambda: generation != self._generation
            )
        except BaseException:
            for task in tasks:  # half restored is not restored
                topic = self.engine.qualified(task.topic)
                task.revoke({p for t, p in fresh if t == topic})
            raise
        for task in tasks:
            task.commit()
        # restored state is held state: it must be forgotten when the partition does not come back
        self._stamps.update({TP(*place): fresh[place].stamp for place in fresh})
        offsets = {TP(*place): offset for place, offset in found.items()}
        return offsets | {tp: commits[tuple(tp)].offset for tp in kept}

    async def _released(self, *, lost: bool) -> None:
        """Commit what is done (unless the partitions are lost), and stop reading."""
        was_running, self._running = self._running, False
        if self._takeover is not None:
            self._takeover.cancel()
            self._takeover = None
        committed = False
        if was_running and not lost:
            try:
                self._running = True
                await self._hand_over()
                if self._failure is None:
                    await self._barrier()
                committed = self._failure is None
            except Exception as exc:
                logger.warning("the commit on revocation failed: %r", exc)
            finally:
                self._running = False
        self._generation += 1
        if not committed:
            await self._roll_back(None, "rebalance")
        self._discard()
        self.app.flow_control.suspend()
        await self.on_partitions_revoked(self._owned)
        self._owned, self._positions, self._committed = set(), {}, {}
        telemetry.ASSIGNED.set(0)

    # -- time, lag, end ------------------------------------------------------------------------

    async def _make_time_pass(self) -> None:
        """Once a second: note the lag; let tasks append ticks to partitions that are idle."""
        now = time.monotonic()
        if not self._running or now < self._next_tick:
            return
        self._next_tick = now + 1.0
        await self._poll.run(self._note_lag)
        if self.engine.until_end:
            self._maybe_end(self._at_end >= self._owned, now)
            return
        for task in self.engine.tasks:
            topic = self.engine.qualified(task.topic)
            idle = {tp.partition for tp in self._at_end if tp.topic == topic}
            for output in task.ticks(int(time.time() * 1000), idle):
                self.engine.tick(output)

    def _note_lag(self) -> None:
        assert self._kafka is not None
        for tp, position in list(self._positions.items()):
            asked = TopicPartition(tp.topic, tp.partition)
            _, high = self._kafka.get_watermark_offsets(asked, cached=True)
            lag = max(0, high - position)
            telemetry.LAG.labels(self.engine.unqualified(tp.topic), tp.partition).set(lag)

    def _maybe_end(self, caught_up: bool, now: float) -> None:
        """A run until the end stops when nothing has been left to do for three seconds."""
        if not caught_up or not all(task.settled for task in self.engine.tasks):
            self._ended_since = None
        elif self._ended_since is None:
            self._ended_since = now
        elif now - self._ended_since > 3:
            logger.info("everything is read and written: stopping")
            os.kill(os.getpid(), signal.SIGTERM)  # Faust's worker stops as for anybody else

    # -- end ---------------------------------------------------------------------------------

    async def shutdown(self) -> None:
        """Commit, leave the group for good, close; under five seconds."""
        if self._stopping:
            return
        self._stopping = True
        if self._kafka is None:
            return
        try:
            await asyncio.wait_for(self._pump_done.wait(), 3)
        except TimeoutError:
            logger.warning("an agent does not finish; its records will be processed again")
            self.failed(Rollback("stopped while an agent was working"))
        try:
            await self._poll.run(self._leave, timeout=REVOKE_DEADLINE)
            await self._txn.run(self.transaction.close, timeout=10)
        except Exception as exc:
            logger.warning("unclean stop: %r", exc)
        for lane in (self._poll, self._txn, self._restore):
            lane.close()

    def _leave(self) -> None:
        """Unsubscribe, which gives the partitions back in the revoke callback, then close."""
        assert self._kafka is not None
        self._kafka.unsubscribe()
        deadline = time.monotonic() + 5
        while self._owned and time.monotonic() < deadline:
            self._kafka.poll(0.05)
        self._kafka.close()

    # -- parts of Faust's interface that the engine does itself --------------------------------

    async def perform_seek(self) -> None: ...
    async def wait_empty(self) -> None: ...
    async def seek_wait(self, partitions: Mapping[TP, int]) -> None: ...
    async def _seek(self, partition: TP, offset: int) -> None: ...

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return dict(self._committed)

    async def position(self, tp: TP) -> int | None:
        return self._positions.get(tp)

    async def _commit_offsets(self, offsets: Any, start_new_transaction: bool = True) -> bool:
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

    async def create_topic(self, *args: Any, **kwargs: Any) -> None: ...
    def verify_event_path(self, now: float, tp: TP) -> None: ...
    def verify_recovery_event_path(self, now: float, tp: TP) -> None: ...
