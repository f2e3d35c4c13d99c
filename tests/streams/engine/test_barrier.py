"""What was read, what it made and what is remembered move together; and lanes."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from faust.types import TP

from streamgauge.streams.engine.barrier import Barrier
from streamgauge.streams.engine.errors import Rollback
from streamgauge.streams.engine.lane import Lane
from streamgauge.streams.engine.restore import Commit
from streamgauge.streams.engine.task import Output, Task
from streamgauge.streams.engine.transaction import Ambiguous

PLACE = TP("in", 0)


class Remembering(Task):
    topic = "in"

    def __init__(self):
        self.told = []

    def flush(self, now):
        yield Output(topic="out", keys=[b"k"], values=[b"v"])

    def commit(self):
        self.told.append("commit")

    def abort(self):
        self.told.append("abort")

    def metadata(self, partition):
        return f"at {partition}"


class Other(Remembering):
    topic = "other"

    def metadata(self, partition):
        return f"other {partition}"

    def flush(self, now):
        self.told.append("flush")
        return ()


class Transaction:
    """Commits, or says what it is told to."""

    def __init__(self, answer=None):
        self.answer, self.begun = answer, False
        self.committed, self.sent, self.reopened = [], [], 0

    def write(self, output):
        self.begun = True

    def send(self, *row):
        self.sent.append(row)

    def commit(self, offsets, group, consumer):
        self.committed.append(offsets)
        self.begun = False
        if self.answer:
            raise self.answer

    def abort(self):
        self.begun = False

    def open(self):
        self.reopened += 1

    def abandon(self, thread):
        assert thread.name == "transaction"


def barrier_of(transaction, stamp_of_group=None):
    """A barrier; `stamp_of_group(stamps written)` is what the group says was committed last."""
    engine = SimpleNamespace(
        tasks=[Remembering(), Other()],
        transaction=transaction,
        producing=asyncio.Lock(),
        unattached=[],
        unqualified=lambda name: name,
        qualified=lambda name: name,
    )
    reader = SimpleNamespace(positions={PLACE: 7}, group="group", kafka=None)

    def committed(kafka, places):
        stamp = transaction.committed[-1][0].metadata.split(";")[0]
        return {place: Commit(offset=7, stamp=stamp_of_group(stamp)) for place in places}

    return Barrier(engine, reader, SimpleNamespace(committed=committed))


def test_positions_go_with_a_stamp_and_the_tasks_text():
    async def run():
        transaction = Transaction()
        barrier = barrier_of(transaction)
        assert await barrier.commit_all()
        ((offset,),) = transaction.committed
        stamp, _, text = offset.metadata.partition(";")
        assert (offset.topic, offset.offset, text) == ("in", 7, "at 0")
        assert barrier.stamps == {PLACE: stamp}
        assert barrier.committed == {PLACE: 7}
        assert barrier.engine.tasks[0].told == ["commit"]

    asyncio.run(run())


def test_what_is_left_out_of_a_commit_stays_where_it_was():
    async def run():
        transaction = Transaction()
        barrier = barrier_of(transaction)
        other = TP("other", 0)
        barrier.reader.positions[other] = 5
        await barrier.commit_all()
        barrier.reader.positions.update({PLACE: 8, other: 9})
        assert await barrier.commit_all(still={"other"})
        assert {o.topic: o.offset for o in transaction.committed[-1]} == {"in": 8, "other": 5}
        assert barrier.committed == {PLACE: 8, other: 5}
        first, second = barrier.engine.tasks
        assert first.told == ["commit", "commit"]
        assert second.told == ["flush", "commit"]

    asyncio.run(run())


@pytest.mark.parametrize("ours", [True, False])
def test_after_an_ambiguous_timeout_the_groups_stamp_tells(ours):
    async def run():
        transaction = Transaction(Ambiguous("timed out"))
        barrier = barrier_of(transaction, lambda stamp: stamp if ours else "another's")
        if ours:
            await barrier.commit_all()
        else:
            with pytest.raises(Rollback):
                await barrier.commit_all()
        assert transaction.reopened == 1
        assert barrier.engine.tasks[0].told == (["commit"] if ours else [])

    asyncio.run(run())


def test_rows_of_timers_are_sent_again_after_an_abort():
    async def run():
        transaction = Transaction()
        barrier = barrier_of(transaction)
        barrier.engine.unattached.append(("out", b"k", b"v", -1, None))
        await barrier.abort("broker")
        assert transaction.sent == [("out", b"k", b"v", -1, None)]
        assert barrier.engine.tasks[0].told == ["abort"]

    asyncio.run(run())


def test_a_lane_runs_calls_in_order_and_hands_errors_over():
    class Panic(BaseException):
        pass

    def panic():
        raise Panic("polars")

    async def run():
        lane, seen = Lane("test"), []
        await asyncio.gather(*(lane.run(seen.append, n) for n in range(5)))
        assert seen == [0, 1, 2, 3, 4]
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 // 0)
        with pytest.raises(RuntimeError, match="Panic: polars"):
            await lane.run(panic)
        lane.close()

    asyncio.run(run())


def test_a_call_that_never_returns_is_given_up():
    async def run():
        lane, released = Lane("test"), threading.Event()
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await lane.run(released.wait, timeout=0.05)
        assert time.monotonic() - started < 5
        released.set()

    asyncio.run(run())
