"""One run: the stack, the events, the faults by their schedule, then the proof.

    events ──┬── kills                    (a thread)
             └── every other fault        (this thread)
    afterwards: drain ── verify ── stop ── ends of topics ── replay

Upstream: the command. Downstream: a report. Invariants: a fault begins while there is lag, once
its place in the stream of events is reached; events come slowly while a fault is late; a fault
other than a kill begins when the last one of its track has been got over.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from streamgauge.cli.chaos import faults
from streamgauge.cli.chaos.reader import Reader
from streamgauge.cli.chaos.report import Injected, Invariant, Report
from streamgauge.cli.chaos.schedule import SINKS, Fault
from streamgauge.cli.chaos.scratch import NAMESPACE, Scratch
from streamgauge.cli.chaos.standing import HANG, OPEN_LIMIT
from streamgauge.cli.chaos.watch import Watch, open_transactions
from streamgauge.cli.commands.verify import configuration
from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings
from streamgauge.cli.stack.lag import Broker
from streamgauge.cli.verify import Report as Verified
from streamgauge.cli.verify import VerifyConfig, compare_namespaces, verify
from streamgauge.cli.verify.errors import VerifyError
from streamgauge.producers import RecordProducer
from streamgauge.producers.simulator import Rates, Simulation, Truth, simulate
from streamgauge.schemas.topics import EVENTS, TOPICS, qualified

PARTITIONS = EVENTS.partitions
SAY_EVERY = 5.0
LOOK = 0.05
SETTLE_SECONDS = 180.0
DRAIN_SECONDS = 600.0
REPLAY = f"{NAMESPACE}-replay"
AHEAD_SECONDS = 2.0
"""So far the events may be ahead of a fault that is late."""
TRICKLE = 0.1
"""The share of the rate at which they go on then."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """What to run."""

    settings: Settings
    events: int
    rate: float
    seed: int
    faults: Sequence[Fault]
    folder: Path
    replay: bool
    keep: bool


def run(chaos: Chaos, report: Report, say: Say) -> None:
    """Carry the schedule out and fill the report."""
    began = time.monotonic()
    with Scratch(chaos.settings, chaos.folder) as scratch:
        say(f"stack in {chaos.folder}, Kafka behind {scratch.settings.kafka}")
        _Run(chaos, report, scratch, say).run()
    if not chaos.keep:
        scratch.drop_data()
    report.seconds = time.monotonic() - began


class _Run:
    """The state of one run."""

    def __init__(self, chaos: Chaos, report: Report, scratch: Scratch, say: Say) -> None:
        self._chaos = chaos
        self._report = report
        self._scratch = scratch
        self._say = say
        kafka, registry = scratch.settings.need("kafka"), scratch.settings.need("registry")
        self._kafka = kafka
        self._watch = Watch(kafka, NAMESPACE, ("worker", *SINKS))
        self._reader = Reader(kafka, registry, NAMESPACE, PARTITIONS)
        self._client = RecordProducer(
            {"bootstrap.servers": kafka, "logger": _log_of(scratch, "producer")},
            registry,
            NAMESPACE,
        )
        self._truth: Truth | None = None
        self._all_sent = False
        self._said = 0.0
        #: By track (is it the kills'?): the place of the next fault, while one is under way.
        self._next: dict[bool, int] = {}
        self._now: dict[bool, str] = {}
        self._began = 0.0
        self._stop = threading.Event()

    def run(self) -> None:
        chaos = self._chaos
        self._watch.start()
        self._reader.start()
        self._began = time.monotonic()
        with ThreadPoolExecutor(3, thread_name_prefix="chaos") as pool:
            try:
                sending = pool.submit(self._send)
                telling = pool.submit(self._tell)
                kills = pool.submit(self._track, [f for f in chaos.faults if f.is_kill])
                self._track([f for f in chaos.faults if not f.is_kill])
                kills.result()
                self._truth = sending.result()
            finally:
                self._stop.set()
            telling.result()
        self._client.close()
        self._prove()

    # -- events and faults -------------------------------------------------------------------

    def _send(self) -> Truth:
        chaos = self._chaos
        simulation = Simulation(
            events=chaos.events,
            rate=chaos.rate,
            seed=chaos.seed,
            rates=Rates(duplicates=0.01, late=0.01, broken=0.001),
        )
        try:
            return simulate(
                self._client,
                simulation,
                pause_when=self._too_far,
                stop=self._stop,
            )
        finally:
            self._all_sent = True

    @property
    def _sent(self) -> int:
        """Events that are in the log."""
        return self._client.stats.acknowledged

    def _too_far(self) -> bool:
        """A fault will be late: events wait for it, but for a few that keep everybody at work."""
        ahead = self._chaos.rate * AHEAD_SECONDS
        late = any(self._sent > at + ahead for at in list(self._next.values()))
        return late and time.monotonic() % 1.0 > TRICKLE

    def _track(self, track: Sequence[Fault]) -> None:
        """Inject faults one after the other, each in its place."""
        for fault, following in zip(track, [*track[1:], None], strict=True):
            while not self._due(fault):
                if self._stop.wait(LOOK):
                    return
            if following is not None:
                self._next[fault.is_kill] = following.at
            self._scratch.check()
            injected = self._inject(fault)
            if not fault.is_kill:
                self._await_recovery(injected)
            self._next.pop(fault.is_kill, None)

    def _due(self, fault: Fault) -> bool:
        return self._all_sent or (self._sent >= fault.at and self._watch.lag() > 0)

    def _inject(self, fault: Fault) -> Injected:
        injected = Injected(fault=fault, began=self._elapsed(), lag=self._watch.lag())
        self._report.injected.append(injected)
        self._now[fault.is_kill] = str(fault)
        self._say(f"{self._elapsed():6.1f} s  fault: {fault}")
        broker = fault.target == "kafka"
        if broker:
            self._watch.broker(away=True)
        try:
            injected.outcome = faults.FAULTS[fault.kind](self._scratch, fault)
        finally:
            self._now.pop(fault.is_kill)
            if broker:
                self._watch.broker(away=False)
        injected.ended = self._elapsed()
        injected.recovery = self._watch.recovery(faults.groups(fault))
        return injected

    def _await_recovery(self, injected: Injected) -> None:
        deadline = time.monotonic() + HANG
        while injected.recovered is None and time.monotonic() < deadline:
            time.sleep(LOOK)

    def _tell(self) -> None:
        while not self._stop.wait(SAY_EVERY):
            during = f"  during {' and '.join(self._now.values())}" if self._now else ""
            lags = [f"{name.removeprefix('sink-')} {self._watch.lag(name):,}" for name in SINKS]
            self._say(
                f"{self._elapsed():6.1f} s  {self._sent:,} events, lag {self._watch.lag():,} "
                f"({', '.join(lags)}){during}"
            )

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    # -- the proof ---------------------------------------------------------------------------

    def _prove(self) -> None:
        """Let everything come to its end, then look at each invariant."""
        scratch, say, report = self._scratch, self._say, self._report
        say(f"{self._elapsed():6.1f} s  {self._sent:,} events sent; verifying")
        try:
            verified = verify(self._config(timeout=SETTLE_SECONDS), self._verifying)
            report.verified = verified.text()
        except VerifyError as error:  # a worker or sink that hangs
            verified, report.verified = None, str(error)
        self._watch.close()
        extra = {
            name: child.restarts - sum(_kills(one) for one in report.injected if _at(one, name))
            for name, child in scratch.children.items()
        }
        scratch.stop_processes()
        say(f"{self._elapsed():6.1f} s  stopped; looking at the ends of topics")
        still_open = open_transactions(self._kafka)
        outputs = [qualified(NAMESPACE, name) for name in TOPICS]
        self._reader.finish(Broker(self._kafka).ends(outputs))
        report.invariants = [
            self._i1(verified),
            self._by_reader("I2"),
            self._by_reader("I3"),
            self._i4(),
            _i5(verified),
            self._i6(still_open),
            self._i7(),
        ]
        report.figures = {
            "events": self._sent,
            "seconds_of_faults": round(self._elapsed(), 1),
            "rows_seen_by_the_reader": self._reader.checks.rows,
            "kills": sum(_kills(one) for one in report.injected),
            "restarts_that_nobody_asked_for": extra,
            "longest_stall_seconds": round(self._watch.standing.longest_stall, 1),
            "longest_open_transaction_seconds": round(self._watch.standing.longest_open, 1),
            "looks_without_an_answer": f"{self._watch.unanswered} of {self._watch.looks}",
        }

    def _verifying(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self._said > SAY_EVERY:
            self._said = time.monotonic()
            self._say(f"{self._elapsed():6.1f} s  {stage}: {done:,} of {total:,}")

    def _config(self, timeout: float) -> VerifyConfig:
        return configuration(self._scratch.settings, archive=None, timeout=timeout)

    def _i1(self, verified: Verified | None) -> Invariant:
        """Every record sent is in the log once, and met the fate it was sent for."""
        if verified is None:
            return _UNVERIFIED["I1"]
        assert self._truth is not None
        sent = self._truth.as_dict()["totals"]
        found = {
            "records": verified.read - verified.ticks,
            "accepted": verified.accepted,
            "duplicates": verified.duplicates,
            "late": verified.late,
            "broken": sum(verified.rejected.values()),
        }
        broken = [
            f"{fate}: {sent[fate]:,} sent, {count:,} found"
            for fate, count in found.items()
            if count != sent[fate]
        ]
        if self._truth.acknowledged != sent["records"]:
            broken.append(f"only {self._truth.acknowledged:,} of them were acknowledged")
        broken += [what for what in self._reader.checks.broken if what.startswith("I1")]
        topics = ("metrics", "dead-letters", "late-events")
        broken += [f"{t}: {verified.different.get(t)} differ" for t in topics
                   if verified.different.get(t)]  # fmt: skip
        told = ", ".join(f"{count:,} {fate}" for fate, count in found.items())
        return Invariant(name="I1", evidence=f"{told}: as they were sent", broken=broken)

    def _by_reader(self, name: str) -> Invariant:
        checks = self._reader.checks
        known = ("I1", "I2", "I3", "I6")
        broken = [
            what
            for what in [*checks.broken, *self._watch.standing.broken]
            if what.startswith(name) or (name == "I3" and not what.startswith(known))
        ]
        evidence = {
            "I2": f"{checks.rows:,} rows read while faults went on; no watermark, count, final "
            "window or commit went back",
            "I3": f"{checks.watermarks:,} watermarks, the same in each of {PARTITIONS} partitions",
        }
        return Invariant(name=name, evidence=evidence[name], broken=broken)

    def _i4(self) -> Invariant:
        """What comes out of the whole log, read again by one undisturbed worker, is the same."""
        if not self._chaos.replay:
            return Invariant(name="I4", evidence="not looked at (--no-replay)")
        self._say(f"{self._elapsed():6.1f} s  replaying into a fresh namespace")
        scratch, events = self._scratch, qualified(NAMESPACE, EVENTS.name)
        for name, namespace, arguments in (
            # Ticks that the workers sent as they left are in the log, but read by nobody yet.
            ("drain", NAMESPACE, ["worker", "--until-end"]),
            ("topics", REPLAY, ["topics", "create"]),
            ("replay", REPLAY, ["worker", "--until-end", "--events-topic", events]),
        ):
            if scratch.run(name, *arguments, namespace=namespace, timeout=DRAIN_SECONDS):
                raise CommandError(f"{name} failed, see {scratch.folder}/stack/logs/{name}.log")
        live = replace(self._config(60.0), postgres=None, redis=None)
        same = compare_namespaces(live, replace(live, namespace=REPLAY, events_topic=events))
        self._report.replayed = same.text()
        broken = [str(each) for each in same.differences[:20]]
        keys = sum(same.keys.values())
        return Invariant(name="I4", evidence=f"{keys:,} metrics of a replay equal", broken=broken)

    def _i6(self, still_open: dict[str, int]) -> Invariant:
        found = self._watch.standing
        broken = [what for what in found.broken if what.startswith("I6")]
        broken += [f"{place} has an open transaction at the end" for place in still_open]
        evidence = (
            f"longest stall {found.longest_stall:.1f} s (at most {HANG:.0f}); a transaction held "
            f"an output for {found.longest_open:.1f} s (at most {OPEN_LIMIT:.0f}); none is open"
        )
        return Invariant(name="I6", evidence=evidence, broken=broken)

    def _i7(self) -> Invariant:
        times = [one.recovered for one in self._report.injected if one.recovered is not None]
        broken = [
            f"{one.fault}: {'never' if one.recovered is None else f'{one.recovered:.0f} s'}"
            for one in self._report.injected
            if one.recovered is None or one.recovered > HANG
        ]
        evidence = f"{len(times)} faults, the longest got over in {max(times, default=0):.1f} s"
        return Invariant(name="I7", evidence=evidence, broken=broken)


def _log_of(scratch: Scratch, name: str) -> logging.Logger:
    """A log beside those of the processes."""
    logger = logging.getLogger(f"{__name__}.{name}")
    handler = logging.FileHandler(scratch.folder / "stack" / "logs" / f"{name}.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


def _i5(verified: Verified | None) -> Invariant:
    if verified is None:
        return _UNVERIFIED["I5"]
    keys = {name: n for name, n in verified.keys.items() if name.startswith(("postgres", "redis"))}
    broken = [str(each) for each in verified.differences if each.target in keys]
    told = ", ".join(f"{name} {count:,}" for name, count in keys.items())
    return Invariant(name="I5", evidence=f"keys equal: {told}", broken=broken)


_UNVERIFIED = {
    name: Invariant(name=name, evidence="none", broken=["verify did not come to its end"])
    for name in ("I1", "I5")
}


def _kills(injected: Injected) -> int:
    """How many processes it ended."""
    return injected.outcome.count("pid ") if injected.fault.is_kill else 0


def _at(injected: Injected, name: str) -> bool:
    return name in injected.fault.target.split()
