"""The second stage of experiments: the source partitions' tallies, added up, and what they say.

Upstream: rows of `experiment-partials`. Downstream: `tasks.py` writes rows of `experiment-results`
and, where a guardrail says so, the end of an experiment. Statistics are those of `analysis.py`,
the same as for a file.

A guardrail is tested one-sided at alpha at every look: by the confidence sequence at 1 - 2 alpha.
`breached` when it lies beyond the limit as a whole, `ok` when it lies on the good side as a whole.

Invariants: the last row of a source partition counts, so reading rows again changes nothing; no
figure is NaN or infinite.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from streamgauge.schemas.experiment_definition import ExperimentDefinition, ExperimentMetric
from streamgauge.schemas.experiments import DAY_MS, STATES, Experiment, of_body
from streamgauge.streams.experiments import gates
from streamgauge.streams.experiments.analysis import Analysis, Interval, Lift, analyze
from streamgauge.streams.experiments.counts import Counts, ends_of
from streamgauge.streams.experiments.multiplicity import CORRECTIONS
from streamgauge.streams.experiments.plan import Goal, Plan
from streamgauge.streams.experiments.quantile_analysis import analyze_quantile
from streamgauge.streams.experiments.quantiles import Distribution
from streamgauge.streams.experiments.tally import Layout, Tally

Row = Mapping[str, Any]
OK, BREACHED, UNCLEAR = "ok", "breached", "unclear"
MOST_ALPHA = 0.999


@dataclass(frozen=True, kw_only=True)
class Merged:
    """The last row of each source partition, variant and metric, by experiment."""

    rows: Mapping[str, Mapping[tuple[Any, ...], Row]] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()
    """Experiments whose results are to be written."""

    def with_rows(self, rows: Iterable[Row]) -> Merged:
        """With partials, in order."""
        new: dict[str, dict[tuple[Any, ...], Row]] = {}
        for row in rows:
            place = (row["source_partition"], row["variant"], row["metric"])
            new.setdefault(row["experiment"], {})[place] = row
        merged = {name: {**self.rows.get(name, {}), **added} for name, added in new.items()}
        return Merged(rows={**self.rows, **merged}, changed=self.changed | set(merged))

    def without(self, wanted: Iterable[str]) -> Merged:
        """Without some experiments."""
        gone = set(wanted)
        rows = {name: of for name, of in self.rows.items() if name not in gone}
        return Merged(rows=rows, changed=self.changed - gone)

    def look(self, name: str) -> Look | None:
        """An experiment as it stands; None before its start."""
        rows = self.rows.get(name, {})
        told = [row for (_, _, metric), row in rows.items() if metric is None]
        experiments = [of_body(name, row["definition"]) for row in told]
        if not experiments:
            return None
        experiment = max(experiments, key=lambda one: (STATES.index(one.state), one.version))
        watermarks = [row["watermark"] for row in rows.values() if row["watermark"] is not None]
        if experiment.state == "created" or not watermarks:
            return None
        tallies: dict[tuple[str, str], Tally] = {}
        for (_, variant, metric), row in rows.items():
            if metric is not None:
                tally = _tally(row)
                known = tallies.get((variant, metric))
                tallies[variant, metric] = tally if known is None else known + tally
        return Look(
            experiment=experiment,
            as_of=max(watermarks),
            watermarks=tuple(row["watermark"] for row in told if row["watermark"] is not None),
            excluded=sum(row["users"] or 0 for row in told),
            tallies=tallies,
        )


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known of an experiment at a time."""

    experiment: Experiment
    as_of: int
    watermarks: tuple[int, ...]
    """Of the source partitions that have one."""
    excluded: int
    tallies: Mapping[tuple[str, str], Tally]
    """By variant and metric."""

    def results(self) -> list[dict[str, Any]]:
        """A row for each metric and variant, in the order of the definition."""
        definition = self.experiment.definition
        answers = list(self._answers())
        adjusted = _adjusted(definition, answers)
        rows = []
        for metric, analysis, verdicts in answers:
            for variant in definition.weights:
                p_adjusted = adjusted.get((metric.name, variant))
                rows.append(self._row(metric, analysis, variant, verdicts.get(variant), p_adjusted))
        ramp = gates.ramp(self.experiment, self.as_of, rows)
        told = {} if ramp is None else {"ramp": _told(ramp)}
        for row in rows:
            row["analysis"] = json.dumps({**row["analysis"], **told})
        return rows

    def opened(self, rows: Sequence[Row]) -> Experiment | None:
        """With the next step of its schedule, if it is due and its gates let it through."""
        ramp = gates.ramp(self.experiment, self.as_of, rows)
        return None if ramp is None else ramp.opened

    def ending(self, partitions: int, lateness_ms: int) -> str | None:
        """Why the experiment is to be stopped, if it is."""
        if self.experiment.state != "running":
            return None
        over = [self.experiment.is_over(at, lateness_ms) for at in self.watermarks]
        if len(over) == partitions and all(over):
            return f"its {self.experiment.definition.duration_days:g} days are over"
        for metric, _, verdicts in self._answers():
            for variant, verdict in verdicts.items():
                if metric.stop_on_breach and verdict == BREACHED:
                    return f"guardrail {metric.name} of {variant} is breached"
        return None

    def _answers(self) -> Iterator[tuple[ExperimentMetric, Analysis, dict[str, str]]]:
        definition = self.experiment.definition
        layout = Layout.of(definition)
        for metric, (name, _, variables, scales) in zip(
            definition.metrics, layout.metrics, strict=True
        ):
            tallies = {
                variant: self.tallies.get((variant, name), layout.nobody.only(range(len(scales))))
                for variant in definition.weights
            }
            plan = self._plan(metric)
            answer = _answering(metric, tallies, variables, scales)
            yield metric, answer(plan), _verdicts(metric, answer, plan)

    def _plan(self, metric: ExperimentMetric) -> Plan:
        definition = self.experiment.definition
        is_proportion = metric.aggregate == "proportion"
        goal = None
        if metric.mde is not None:
            goal = Goal(
                mde=metric.mde.value,
                relative=metric.mde.relative,
                power=definition.power,
                users_per_day=self._users_per_day(metric),
            )
        return Plan(
            control=definition.control_name,
            weights=definition.weights,
            alpha=definition.alpha,
            tuning_n=definition.tuning_n,
            correction=definition.correction,
            cuped=bool(definition.lookback_days) and metric.aggregate != "quantile",
            proportion=is_proportion,
            covariate_proportion=is_proportion,
            goal=goal,
        )

    def _users_per_day(self, metric: ExperimentMetric) -> float | None:
        started = self.experiment.started_at
        users = sum(t.users for (_, name), t in self.tallies.items() if name == metric.name)
        if started is None or self.as_of <= started or not users:
            return None
        return users * DAY_MS / (self.as_of - started)

    def _row(
        self,
        metric: ExperimentMetric,
        analysis: Analysis,
        variant: str,
        verdict: str | None,
        p_adjusted: float | None,
    ) -> dict[str, Any]:
        row: dict[str, Any] = {
            "experiment": self.experiment.name,
            "metric": metric.name,
            "variant": variant,
            "as_of": self.as_of,
            "state": self.experiment.state,
            "role": metric.role,
            "aggregate": metric.aggregate,
            "control": analysis.control,
            "is_control": variant == analysis.control,
            "srm_p": analysis.srm_p,
            "users_excluded": self.excluded,
            "verdict": verdict,
            "p_adjusted": p_adjusted,
        }
        if variant == analysis.control:
            told = {"users": analysis.control_users, "mean": analysis.control_mean}
            return {**row, **told, "analysis": {"notes": list(analysis.notes)}}
        lift, cuped = analysis.lifts[variant], analysis.cuped.get(variant)
        details = {
            "lift": asdict(lift),
            "cuped": asdict(cuped) if cuped else None,
            "notes": list(analysis.notes),
        }
        return {**row, **_figures(lift, cuped), "analysis": details}


def _told(ramp: gates.Ramp) -> dict[str, Any]:
    return {
        "allocation": ramp.allocation,
        "next_allocation": ramp.next_allocation,
        "due_at": ramp.due_at,
        "held": list(ramp.held),
    }


def _figures(lift: Lift, cuped: Lift | None) -> dict[str, Any]:
    figures = {
        "users": lift.users,
        "mean": lift.mean,
        "lift_absolute": lift.lift_absolute,
        "lift_relative": lift.lift_relative,
        **_ends("ci_fixed", lift.ci_fixed),
        **_ends("ci_sequential", lift.ci_sequential),
        **_ends("ci_relative_sequential", lift.ci_relative_sequential),
        "p_fixed": lift.p_fixed,
        "p_sequential": lift.p_sequential,
    }
    if cuped is not None:
        figures |= {
            "cuped_lift_absolute": cuped.lift_absolute,
            **_ends("cuped_ci_fixed", cuped.ci_fixed),
            **_ends("cuped_ci_sequential", cuped.ci_sequential),
            "cuped_p_sequential": cuped.p_sequential,
        }
    to_go = (cuped or lift).to_go
    if to_go is not None:
        figures |= {
            "power": to_go.power_sequential,
            "users_to_go": to_go.users_sequential,
            "days_to_go": to_go.days_sequential,
        }
    return figures


def _ends(name: str, interval: Interval) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _tally(row: Row) -> Tally:
    sums, products = json.loads(row["sums"]), json.loads(row["products"])
    exact = np.empty(len(sums), object)
    exact[:] = sums
    pairs = np.empty((len(sums), len(sums)), object)
    for at, line in enumerate(products):
        pairs[at, :] = line
    counts = {0: Counts.of_json(row["counts"])} if row.get("counts") else {}
    return Tally(users=row["users"], sums=exact, products=pairs, counts=counts)


def _adjusted(
    definition: ExperimentDefinition,
    answers: Iterable[tuple[ExperimentMetric, Analysis, Mapping[str, str]]],
) -> dict[tuple[str, str], float]:
    """Sequential p values, corrected over all variants and metrics of a role."""
    families: dict[str, dict[tuple[str, str], float]] = {}
    for metric, analysis, _ in answers:
        for variant, lift in analysis.lifts.items():
            if lift.p_sequential is not None and metric.role != "guardrail":
                family = families.setdefault(metric.role, {})
                family[metric.name, variant] = lift.p_sequential
    correct = CORRECTIONS[definition.correction]
    return {
        place: p
        for family in families.values()
        for place, p in zip(family, correct(list(family.values())), strict=True)
    }


Answer = Callable[[Plan], Analysis]


def _answering(
    metric: ExperimentMetric,
    tallies: Mapping[str, Tally],
    variables: Sequence[int],
    scales: Sequence[int],
) -> Answer:
    """What a metric says, by a plan."""
    users = {variant: tally.users for variant, tally in tallies.items()}
    if metric.aggregate == "quantile" and metric.quantile is not None:
        share = metric.quantile
        spread = {v: _distribution(tally, scales[0]) for v, tally in tallies.items()}
        return lambda plan: analyze_quantile(spread, share, plan, users)
    arms = {variant: tally.moments(variables, scales) for variant, tally in tallies.items()}
    return lambda plan: analyze(arms, plan, users)


def _distribution(tally: Tally, scale: int) -> Distribution:
    counts = tally.counts.get(0, Counts.of(np.zeros(0, np.int64)))
    low, high = ends_of(counts.bucket)
    return Distribution(low=low / scale, high=high / scale, users=counts.users)


def _verdicts(metric: ExperimentMetric, answer: Answer, plan: Plan) -> dict[str, str]:
    """Of a guardrail, by variant."""
    if metric.role != "guardrail" or metric.limit is None:
        return {}
    one_sided = replace(plan, alpha=min(2 * plan.alpha, MOST_ALPHA), goal=None)
    lifts = answer(one_sided).lifts
    verdicts = {}
    for variant, lift in lifts.items():
        interval = lift.ci_relative_sequential if metric.limit.relative else lift.ci_sequential
        verdicts[variant] = _verdict(interval, metric.limit.value, metric.worse == "lower")
    return verdicts


def _verdict(interval: Interval, limit: float, lower_is_worse: bool) -> str:
    if interval is None:
        return UNCLEAR
    low, high = (-interval[1], -interval[0]) if lower_is_worse else interval
    if low > limit:
        return BREACHED
    return OK if high < limit else UNCLEAR
