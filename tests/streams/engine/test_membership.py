"""Which state is kept over a rebalance, and where reading goes on."""

import asyncio
from types import SimpleNamespace

from faust.types import TP

from streamgauge.streams.engine.membership import Membership
from streamgauge.streams.engine.restore import Commit
from streamgauge.streams.engine.task import Task

HELD, OTHER = TP("in", 0), TP("in", 1)


class Told(Task):
    topic = "in"

    def __init__(self):
        self.revoked = set()

    def revoke(self, partitions):
        self.revoked |= partitions


def take_over(held, committed):
    """Restore both partitions; gives the start offsets, what was restored, what was forgotten."""
    task, restored = Told(), {}
    engine = SimpleNamespace(tasks=[task], qualified=lambda name: name)
    reader = SimpleNamespace(kafka=None, generation=1)
    barrier = SimpleNamespace(engine=engine, reader=reader, stamps=dict(held))

    def run(engine, commits, cancelled):
        restored.update(commits)
        return {place: max(commit.offset, 0) for place, commit in commits.items()}

    restorer = SimpleNamespace(
        committed=lambda kafka, places: {place: committed[TP(*place)] for place in places}, run=run
    )

    async def make():
        nothing = dict.fromkeys(("announce", "resume", "settle", "discard", "withdraw"))
        return Membership(barrier, restorer, **nothing)

    membership = asyncio.run(make())
    offsets = membership._restored({HELD, OTHER}, 1)
    return offsets, {TP(*place) for place in restored}, task.revoked


def test_state_is_kept_where_the_group_still_has_our_stamp():
    committed = {HELD: Commit(offset=7, stamp="us.1"), OTHER: Commit(offset=9, stamp="them.4")}
    offsets, restored, _ = take_over({HELD: "us.1"}, committed)
    assert offsets == {HELD: 7, OTHER: 9}
    assert restored == {OTHER}


def test_state_is_forgotten_and_restored_where_somebody_else_has_committed():
    committed = {HELD: Commit(offset=8, stamp="them.2"), OTHER: Commit(offset=9, stamp="them.4")}
    offsets, restored, revoked = take_over({HELD: "us.1"}, committed)
    assert offsets == {HELD: 8, OTHER: 9}
    assert restored == {HELD, OTHER}
    assert revoked == {0}


def test_a_partition_that_nobody_has_committed_is_read_from_its_start():
    # -1 as an offset would be the end of the partition: everything so far would be skipped
    committed = {HELD: Commit(offset=-1), OTHER: Commit(offset=-1)}
    offsets, restored, _ = take_over({HELD: ""}, committed)
    assert offsets == {HELD: 0, OTHER: 0}
    assert restored == {HELD, OTHER}
