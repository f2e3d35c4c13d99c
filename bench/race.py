"""One job that several contenders do on the same events, each answer checked.

Every contender runs over a topic, then over one of twice the size: the slope between the two is the
figure, so that start-up and prefetch do not blur it.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace

from bench import oracle
from bench.contenders import Contender
from bench.context import CACHE, HERE, Context, say
from bench.events import Chunk, Traffic
from bench.measure import Lag, Measurement, Program, run
from bench.rows import Figure, Row

CPU = "CPU µs an event"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is computed, by whom, with which answer."""

    name: str
    contenders: tuple[Contender, ...]  # ours first, the rest on request
    answer: Callable[[Iterable[Chunk]], oracle.Answer]
    goal_us: float


@dataclass(kw_only=True)
class Runs:
    """A contender's runs, the smaller first."""

    contender: Contender
    command: Sequence[str]
    costs: list[Measurement] = field(default_factory=list)
    wrong_keys: int = 0

    @property
    def cpu_us(self) -> float:
        """The figure; one run alone gives its mean."""
        first, last = self.costs[0], self.costs[-1]
        return last.cpu_us if first is last else slope(first, last)


def slope(first: Measurement, last: Measurement) -> float:
    """CPU µs of an event more, between a run and a longer one."""
    return (last.cpu_s - first.cpu_s) / (last.events - first.events) * 1e6


def race(context: Context, job: Job) -> list[Row]:
    """A row for each contender that was asked for; ours is the first."""
    runs = [  # all are installed before the first is measured
        Runs(contender=contender, command=contender.prepare())
        for contender in job.contenders
        if contender.name == "streamgauge" or contender.name in context.peers
    ]
    sizes = [context.events, 2 * context.events] if context.slope else [context.events]
    for size in sizes:
        for each in runs:
            traffic = Traffic(count=int(size * each.contender.share))
            cost, wrong = measure(context, job, each.contender, each.command, traffic)
            each.costs.append(cost)
            each.wrong_keys += wrong
    return [_row(job, each, runs[0]) for each in runs]


def measure(
    context: Context,
    job: Job,
    contender: Contender,
    command: Sequence[str],
    traffic: Traffic,
) -> tuple[Measurement, int]:
    """One run: its cost, and how many keys of its answer are wrong."""
    source = context.topic_of(traffic)
    group = context.unique(f"{job.name}-{contender.label}-{traffic.count}")
    out, inner = f"{group}-out", contender.inner.format(group=group, source=source)
    context.create(out, traffic.partitions)
    if contender.wants_inner:
        context.create(inner, traffic.partitions)
    settings = {
        **contender.environment,
        **environment(context, group, source, out),
        "PARTITIONS": str(traffic.partitions),
    }
    with (
        closing(Lag(context.kafka.bootstrap, group, source, inner)) as lag,
        Program(command, CACHE / "logs" / f"{group}.log", settings) as program,
    ):
        cost = run(
            program,
            lag,
            until_done=contender.until_done,
            timeout=context.timeout,
        )
    found, rows = oracle.written(context.kafka.bootstrap, out)
    wrong = oracle.wrong(job.answer(traffic.chunks()), found)
    say(
        f"{group}: {cost.cpu_us:.2f} µs, {cost.rate:,.0f}/s, {wrong} wrong keys"
        + ("" if cost.finished else ", did not finish")
    )
    return replace(cost, output_rows=rows), wrong


def environment(context: Context, group: str, source: str, out: str) -> Mapping[str, str]:
    """What every program is told."""
    return {
        **os.environ,
        "GROUP": group,
        "SOURCE": source,
        "OUT": out,
        "KAFKA": context.kafka.bootstrap,
        "REGISTRY": context.registry,
        "STATE": str(context.folder / group),
        "SCHEMA": str(HERE / "event.avsc"),
    }


def _row(job: Job, runs: Runs, ours: Runs) -> Row:
    contender, last = runs.contender, runs.costs[-1]
    whole, our_whole = last.cpu_us, ours.costs[-1].cpu_us
    mine = runs is ours
    return Row(
        name=contender.title,
        facts={
            "guarantee": contender.guarantee,
            "emits": contender.emits,
            "events": " → ".join(f"{cost.events:,}" for cost in runs.costs),
        },
        figures={
            CPU: Figure(value=runs.cpu_us, unit="µs", at_most=job.goal_us if mine else None),
            "times ours": Figure(
                value=runs.cpu_us / ours.cpu_us, at_least=None if mine else contender.beat_by
            ),
            "whole run": Figure(value=whole, unit="µs"),
            "whole run, times ours": Figure(value=whole / our_whole),
            "events/s": Figure(value=last.rate, unit="/s"),
            "rows out an event": Figure(value=last.output_rows / last.events),
            "peak MB": Figure(value=max(cost.peak_rss_mb for cost in runs.costs), unit="MB"),
        },
        right=runs.wrong_keys == 0 and all(cost.finished for cost in runs.costs),
        details={
            "wrong_keys": runs.wrong_keys,
            "runs": [asdict(cost) for cost in runs.costs],
        },
    )
