"""The faults: each a function that injects one into the scratch stack and takes it back.

Upstream: `run`, with a fault of the schedule. Downstream: signals to our own processes, servers
that end and begin again, the proxies. A function returns at the fault's end, with what came of it
in words; recovery is measured from there. Invariant: only processes of the scratch are touched.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from streamgauge.cli.chaos.schedule import SINKS, WORKERS, Fault
from streamgauge.cli.chaos.scratch import Scratch
from streamgauge.cli.errors import CommandError
from streamgauge.cli.stack.proxy import ApiKey, Delay, Drop
from streamgauge.cli.stack.server import Server
from streamgauge.cli.stack.supervisor import Child

PATIENCE = 30.0
"""Seconds until a process is back, or has come to the point where it is to die."""
LOOK = 0.02
GUEST = "guest"
GUEST_STAYS = 5.0


def kill(scratch: Scratch, fault: Fault) -> str:
    """`kill -9` at once, and of the one started in its place at an exact point."""
    child = scratch.children[fault.target]
    with scratch.processes:
        _await(lambda: child.pid is not None, fault.target)
        if fault.how == "any moment":
            return _killed(child)
        first = child.process
        child.env = {**child.env, "FAULTPOINT": f"{fault.how}:{fault.times}:kill"}
        try:
            done = _killed(child)
            _await(lambda: child.process is not first, fault.target)
        finally:
            child.env = {key: it for key, it in child.env.items() if key != "FAULTPOINT"}
        armed = child.process
        assert armed is not None
        try:
            _await(lambda: armed.poll() is not None, fault.how)
        except CommandError:
            return f"{done}, then {_killed(child)}, which had not come to {fault.how}"
        return f"{done}, then pid {armed.pid} at {fault.how}"


def bounce(scratch: Scratch, fault: Fault) -> str:
    """The broker ends, cleanly or not, and begins again on its data."""
    began = time.monotonic()
    with _away(scratch, fault):
        ended = time.monotonic() - began
    return f"ended within {ended:.1f} s, back after {time.monotonic() - began:.1f} s"


def stop(scratch: Scratch, fault: Fault) -> str:
    """SIGSTOP beyond session and transaction timeouts: somebody else takes over, then SIGCONT.

    The other worker takes a worker's partitions over; for a sink one of its kind is started.
    """
    with scratch.processes:
        names = fault.target.split()
        children = [scratch.children[name] for name in names]
        for child in children:
            _await(lambda child=child: child.pid is not None, child.name)  # type: ignore[misc]
        pids = [child.process.pid for child in children if child.process]
        guests = [
            scratch.guest(f"{GUEST}-{name}", "sink", name.removeprefix("sink-"))
            for name in names
            if name in SINKS
        ]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(fault.seconds)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        if guests:
            time.sleep(GUEST_STAYS)
        for guest in guests:
            guest.terminate()
        for guest in guests:
            guest.wait(PATIENCE)
    return f"pids {', '.join(map(str, pids))}"


def commit_loss(scratch: Scratch, fault: Fault) -> str:
    """Responses to requests of a transaction come late, or never."""
    action = Delay(fault.seconds) if fault.how == "delay" else Drop(close="close" in fault.how)
    rule = scratch.wire.on_response({ApiKey[fault.target]}, action, fault.times)
    try:
        _await(lambda: rule.fired >= fault.times, fault.target)
    except CommandError:
        pass
    finally:
        scratch.wire.clear()
    return f"{rule.fired} responses"


def rebalance(scratch: Scratch, fault: Fault) -> str:
    """A third worker joins and leaves, over and over."""
    changes, guest, end = 0, None, time.monotonic() + fault.seconds
    while guest is not None or time.monotonic() < end:
        if guest is None:
            guest = scratch.guest(f"{GUEST}-worker", "worker", "--id", GUEST)
        else:
            guest.terminate()
            guest.wait(PATIENCE)
            guest = None
        changes += 1
        time.sleep(5)
    return f"{changes} times"


def network(scratch: Scratch, fault: Fault) -> str:
    """Everything between clients and one server takes longer, or nothing passes at all."""
    proxy = scratch.proxies[fault.target]
    kind, _, how = fault.how.partition(" ")
    try:
        if kind == "latency":
            proxy.delay(float(how.removesuffix(" s")))
        else:
            proxy.cut()
        time.sleep(fault.seconds)
    finally:
        proxy.restore(lost=how == "bytes lost")
        proxy.delay(0)
    return ""


def postgres(scratch: Scratch, fault: Fault) -> str:
    """Postgres is killed, stays away, and recovers."""
    with _away(scratch, fault):
        pass
    return f"pid {scratch.postgres.pid} since"


def redis(scratch: Scratch, fault: Fault) -> str:
    """Redis is killed, stays away, and reads its file."""
    with _away(scratch, fault):
        pass
    return f"pid {scratch.redis.pid} since"


def redis_loss(scratch: Scratch, fault: Fault) -> str:
    """Redis is killed and comes back empty."""
    with _away(scratch, fault):
        for left in scratch.redis.data_dir.glob("appendonly*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return f"empty, pid {scratch.redis.pid} since"


FAULTS: Mapping[str, Callable[[Scratch, Fault], str]] = {
    "kill": kill,
    "bounce": bounce,
    "stop": stop,
    "commit-loss": commit_loss,
    "rebalance": rebalance,
    "network": network,
    "postgres": postgres,
    "redis": redis,
    "redis-loss": redis_loss,
}


def groups(fault: Fault) -> tuple[str, ...]:
    """The consumer groups whose commits must move again after it."""
    if fault.target in ("postgres", "redis"):
        return (f"sink-{fault.target}",)
    if fault.target == "kafka":
        return ("worker", *SINKS)
    found = tuple("worker" if name in WORKERS else name for name in fault.target.split())
    return found if set(found) <= {"worker", *SINKS} else ("worker",)


@contextmanager
def _away(scratch: Scratch, fault: Fault) -> Iterator[None]:
    """A server ends, its port refuses connections for a while, and it begins again on its data."""
    server: Server = getattr(scratch, fault.target)
    proxy = scratch.proxies[fault.target]
    if fault.how == "SIGTERM":
        server.stop()
    else:
        server.kill()
    proxy.refuse()
    yield
    time.sleep(fault.seconds)
    deadline = time.monotonic() + PATIENCE
    while server.pid is None:
        try:
            server.start()
        except CommandError:  # Postgres, while children of the killed one are still leaving
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    proxy.restore()


def _killed(child: Child) -> str:
    assert child.process is not None
    child.process.kill()
    child.process.wait()
    return f"pid {child.process.pid}"


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise CommandError(f"{what}: not there after {PATIENCE:.0f} s")
        time.sleep(LOOK)
