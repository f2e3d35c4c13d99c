import gc
import threading
import time
import weakref
from types import SimpleNamespace

from faust.types import TP

from streamgauge.streams.engine.checkpointing import Checkpointing, pause


class State:
    def __call__(self, partition):
        return b"state"


class Turns:
    """A stop event that is waited for until the test lets the thread go on."""

    def __init__(self):
        self.go, self.stopped = threading.Semaphore(0), False

    def wait(self, interval):
        self.go.acquire()
        return self.stopped

    def is_set(self):
        return self.stopped

    def set(self):
        self.stopped = True
        self.go.release()


def test_a_state_that_has_been_written_is_let_go():
    written = []
    checkpoints = SimpleNamespace(sweep=lambda: None, write=lambda head, data: written.append(data))
    resumption = SimpleNamespace(
        known=None, checkpoints=checkpoints, head=lambda *_: "head", refresh=lambda: None
    )
    task = SimpleNamespace(topic="events", changelogs=(), snapshot=lambda: states.pop(0))
    engine = SimpleNamespace(tasks=[task], namespace="", qualified=lambda topic: topic)
    states = [State(), None]
    first = weakref.ref(states[0])

    checkpointing = Checkpointing(engine, resumption, interval=30)
    turns = checkpointing._stop = Turns()
    checkpointing.committed({TP("events", 0): 1})
    turns.go.release()
    await_(lambda: written == [b"state"])
    checkpointing.committed({TP("events", 0): 2})  # another state
    await_(lambda: gc.collect() is not None and first() is None)
    checkpointing.close()
    assert written == [b"state"]


def await_(what):
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_large_states_are_written_less_often_within_limits():
    assert [pause(30, taken) for taken in (0.0, 1.5, 3.0, 60.0)] == [30, 30, 60, 120]
