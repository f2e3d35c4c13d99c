"""One job that several contenders do on the same events, each answer checked.

Every contender runs over a topic, then over one of twice the size: the slope between the two is the
figure, so that start-up and prefetch do not blur it.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from bench import oracle
from bench.contenders import Contender
from bench.context import CACHE, HERE, Context, say
from bench.measure import Measurement, run
from bench.rows import Figure, Row

CPU = "CPU µs an event"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is computed, by whom, with which answer."""

    name: str
    contenders: tuple[Contender, ...]  # ours first, the rest on request
    answer: Callable[[int], oracle.Answer]
    goal_us: float


@dataclass(kw_only=True)
class Runs:
    """A contender's runs, the smaller first."""

    contender: Contender
    costs: list[Measurement] = field(default_factory=list)
    wrong_keys: int = 0

    @property
    def cpu_us(self) -> float:
        """The slope between the two sizes; one run alone gives its mean."""
        first, last = self.costs[0], self.costs[-1]
        if first is last:
            return first.cpu_us
        return (last.cpu_s - first.cpu_s) / (last.events - first.events) * 1e6


def race(context: Context, job: Job) -> list[Row]:
    """A row for each contender that was asked for; ours is the first."""
    chosen = [c for c in job.contenders if c.name == "streamgauge" or c.name in context.peers]
    commands = {c.title: c.prepare() for c in chosen}  # all installed before the first is measured
    runs = [Runs(contender=contender) for contender in chosen]
    sizes = [context.events, 2 * context.events] if context.slope else [context.events]
    for size in sizes:
        for each in runs:
            count = int(size * each.contender.share)
            cost, wrong = _measure(context, job, each.contender, commands, count)
            each.costs.append(cost)
            each.wrong_keys += wrong
    return [_row(job, each, runs[0]) for each in runs]


def _measure(
    context: Context, job: Job, contender: Contender, commands: dict[str, list[str]], count: int
) -> tuple[Measurement, int]:
    """One run: its cost, and how many keys of its answer are wrong."""
    source = context.topic_of(count)
    group = "-".join(filter(None, (job.name, contender.name, contender.variant, str(count))))
    out = f"{group}-out"
    inner = contender.inner.format(group=group, source=source)
    context.create(out)
    if contender.wants_inner:
        context.create(inner)
    cost = run(
        commands[contender.title],
        bootstrap=context.kafka.bootstrap,
        group=group,
        source=source,
        inner=inner,
        until_done=contender.until_done,
        log=CACHE / "logs" / f"{group}.log",
        timeout=context.timeout,
        environment={
            **os.environ,
            **contender.environment,
            "GROUP": group,
            "SOURCE": source,
            "OUT": out,
            "KAFKA": context.kafka.bootstrap,
            "REGISTRY": context.registry,
            "STATE": str(context.folder / group),
            "SCHEMA": str(HERE / "event.avsc"),
        },
    )
    found, rows = oracle.written(context.kafka.bootstrap, out)
    wrong = oracle.wrong(job.answer(count), found)
    cost = replace(cost, output_rows=rows)
    say(
        f"{group}: {cost.cpu_us:.2f} µs, {cost.rate:,.0f}/s, {wrong} wrong keys"
        + ("" if cost.finished else ", did not finish")
    )
    return cost, wrong


def _row(job: Job, runs: Runs, ours: Runs) -> Row:
    contender, last = runs.contender, runs.costs[-1]
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
