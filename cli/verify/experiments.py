"""Experiments again: who was exposed to what, and the sums of what they did, from the raw log.

Upstream: accepted events and controls, partition by partition in order of offsets. Downstream:
`experiment_targets.py`, which compares. Everything that a metric selects is kept, user by user, and
looked through once in the end (or where an experiment is stopped): slow, and hard to get wrong.

Invariants: the meaning is that of `schemas/experiments.py` and of nothing in streams; the order in
which events arrived decides nothing but which controls were before them.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple

from streamgauge.cli.verify.exclusions import Exclusions
from streamgauge.schemas.experiment_definition import ExperimentMetric
from streamgauge.schemas.experiments import (
    BUCKET_BITS,
    EXCLUDED,
    HOUR_MS,
    KIND,
    Experiment,
    of_body,
    selections,
)
from streamgauge.schemas.metric_file import DefinitionError
from streamgauge.schemas.metrics import MAX_OBSERVATION, SCALE, Condition, Selection
from streamgauge.schemas.records import Control

DAY_MS = 24 * HOUR_MS


class Happened(NamedTuple):
    """An event as one selection sees it."""

    timestamp: int
    selection: Selection
    since: int
    """Since which offset the selection has been collected."""
    value: int


@dataclass(frozen=True)
class Shown:
    """A user's exposure."""

    exposed_at: int
    variants: Mapping[str, int]

    @property
    def variant(self) -> str | None:
        """None for several."""
        return next(iter(self.variants)) if len(self.variants) == 1 else None

    def __str__(self) -> str:
        return f"{self.variant} at {self.exposed_at}, seen {dict(sorted(self.variants.items()))}"


class Statistics(NamedTuple):
    """Of a metric and variant in a source partition."""

    users: int
    sums: tuple[int, ...]
    products: tuple[tuple[int, ...], ...]
    counts: tuple[tuple[int, int], ...] = ()
    """Of outcomes whose quantile is asked for: bucket and users, ascending."""


StatisticsKey = tuple[int, str, str, str]
"""Source partition, experiment, variant, metric."""


@dataclass
class _Partition:
    experiments: dict[str, Experiment] = field(default_factory=dict)
    since: dict[Selection, int] = field(default_factory=dict)
    shown: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    """By experiment and user: the first time of each variant."""
    happened: dict[str, list[Happened]] = field(default_factory=lambda: defaultdict(list))
    running_since: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """Of users whom a policy excludes: offset and time of each event that does not count."""

    def variants(self, name: str, user: str) -> dict[str, int]:
        """What a user saw; who had an event left out since is as if seen in one more."""
        seen, end = self.shown[name, user], self.experiments[name].end or 0
        since, exposed_at = self.running_since[name], min(seen.values())
        found = [t for o, t in self.left_out.get(user, ()) if o > since and exposed_at <= t < end]
        return seen | {EXCLUDED: min(found)} if found else seen


class Experiments:
    """The fold; feed it in order, then ask."""

    def __init__(self, *, consent_denied: bool, exclusions: Exclusions | None = None) -> None:
        self._consent_denied = consent_denied
        self._exclusions = exclusions
        self._partitions: dict[int, _Partition] = defaultdict(_Partition)
        self._final: dict[StatisticsKey, Statistics] = {}
        self._final_excluded: dict[tuple[int, str], int] = {}
        self._final_shown: dict[tuple[str, str], Shown] = {}

    def control(self, partition: int, offset: int, control: Control) -> None:
        """A marker."""
        if control.kind != KIND:
            return
        of, name = self._partitions[partition], control.name
        known = of.experiments.get(name)
        try:
            if control.body is not None:
                new = of_body(name, control.body)
            elif known is not None:
                new = replace(known, state="stopped")
            else:
                return
        except DefinitionError:
            return
        if known is None and new.state == "stopped":
            return
        if known is not None and known.state == "stopped":
            return
        goes_on = known is not None and known.state == "running" and new.state != "stopped"
        if known is not None and goes_on and new.meaning != known.meaning:
            return
        if known is not None and new.state == "stopped":
            new = replace(known, state="stopped")
            self._end(partition, name)
        of.experiments[name] = new
        if new.state == "running":
            of.running_since.setdefault(name, offset)
        wanted = {s for one in of.experiments.values() if one.state != "stopped" for s in _all(one)}
        of.since = {selection: of.since.get(selection, offset) for selection in wanted}

    def tick(self, partition: int, timestamp: int) -> None:
        """Nothing of experiments waits for time to pass."""

    def event(self, partition: int, offset: int, event: Mapping[str, Any]) -> None:
        """An accepted event."""
        of = self._partitions.get(partition)
        if of is None or not of.since:
            return
        consent = event.get("consent_analytics")
        if self._consent_denied if consent is None else not consent:
            return
        user = event.get("user_id")
        user = event.get("anonymous_id") if user is None else user
        time = event["timestamp"]
        if event["event_type"] == "experiment_exposure":
            self._exposed(of, str(user), time, event)
        if self._exclusions is not None and self._exclusions.has(partition, event):
            of.left_out[str(user)].append((offset, time))
            return
        for selection, since in of.since.items():
            value = _value(selection, event)
            if value is not None:
                of.happened[str(user)].append(Happened(time, selection, since, value))

    def exposures(self) -> dict[tuple[str, str], Shown]:
        """By experiment and user; of experiments that were stopped as they were then."""
        found = dict(self._final_shown)
        for of in self._partitions.values():
            found |= {place: _shown(of.variants(*place)) for place in of.shown}
        return found

    def statistics(self) -> dict[StatisticsKey, Statistics]:
        """Of every experiment."""
        found = dict(self._final)
        for partition, of in self._partitions.items():
            for name, one in of.experiments.items():
                if one.state != "stopped":
                    found |= dict(self._statistics(partition, name))
        return found

    def excluded(self) -> dict[tuple[int, str], int]:
        """Users seen in several variants, by source partition and experiment."""
        found = dict(self._final_excluded)
        for partition, of in self._partitions.items():
            for name, one in of.experiments.items():
                if one.state != "stopped":
                    found[partition, name] = _excluded(of, name)
        return found

    def definitions(self) -> dict[str, Experiment]:
        """Every experiment that is known, by name."""
        return {name: e for of in self._partitions.values() for name, e in of.experiments.items()}

    def _exposed(self, of: _Partition, user: str, time: int, event: Mapping[str, Any]) -> None:
        one = of.experiments.get(event["experiment_id"])
        if one is None or one.state != "running" or time >= (one.end or 0):
            return
        if event["variant"] in one.definition.weights:
            variants = of.shown.setdefault((one.name, user), {})
            variants[event["variant"]] = min(time, variants.get(event["variant"], time))

    def _end(self, partition: int, name: str) -> None:
        """What was known when it was stopped stays."""
        of = self._partitions[partition]
        self._final |= dict(self._statistics(partition, name))
        self._final_excluded[partition, name] = _excluded(of, name)
        for place in [place for place in of.shown if place[0] == name]:
            self._final_shown[place] = _shown(of.variants(*place))
            del of.shown[place]

    def _statistics(self, partition: int, name: str) -> Iterator[tuple[StatisticsKey, Statistics]]:
        of = self._partitions[partition]
        one = of.experiments[name]
        lines: dict[tuple[str, str], list[list[int]]] = defaultdict(list)
        for experiment, user in of.shown:
            if experiment != name or len(seen := of.variants(experiment, user)) > 1:
                continue
            ((variant, exposed_at),) = seen.items()
            kept = of.happened.get(user, ())
            happened = [h for h in kept if of.since.get(h.selection) == h.since]
            for metric in one.definition.metrics:
                lines[variant, metric.name].append(_line(one, metric, exposed_at, happened))
        for (variant, metric_name), values in lines.items():
            columns = list(zip(*values, strict=True))
            yield (
                (partition, name, variant, metric_name),
                Statistics(
                    users=len(values),
                    sums=tuple(map(sum, columns)),
                    products=tuple(
                        tuple(sum(a * b for a, b in zip(x, y, strict=True)) for y in columns)
                        for x in columns
                    ),
                    counts=_counts(one, metric_name, columns[0]),
                ),
            )


def mean(metric: ExperimentMetric, of: list[Statistics]) -> float | None:
    """Of a variant, over all source partitions."""
    users = sum(each.users for each in of)
    sums = [sum(values) for values in zip(*(each.sums for each in of), strict=True)]
    chosen = selections(metric)
    if not users:
        return None
    if metric.aggregate == "quantile" and metric.quantile is not None:
        return _quantile(of, metric.quantile, chosen[0].scale)
    above = Fraction(sums[0], 1 if metric.aggregate == "proportion" else chosen[0].scale)
    below = Fraction(users) if len(chosen) == 1 else Fraction(sums[1], chosen[1].scale)
    return float(above / below) if below else None


def _quantile(of: list[Statistics], share: float, scale: int) -> float | None:
    """The value that so many users do not exceed, evenly spread within its bucket."""
    users: Counter[int] = Counter()
    for each in of:
        users.update(dict(each.counts))
    rank, passed = ceil(round(share * users.total(), 6)), 0
    for bucket, count in sorted(users.items()):
        if passed + count >= rank:
            least, most = _ends(bucket)
            return (least + (most - least) * (rank - passed - 0.5) / count) / scale
        passed += count
    return None


def _counts(
    experiment: Experiment, metric_name: str, outcomes: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    metrics = experiment.definition.metrics
    if not any(m.name == metric_name and m.aggregate == "quantile" for m in metrics):
        return ()
    return tuple(sorted(Counter(map(_bucket, outcomes)).items()))


def _bucket(value: int) -> int:
    further = max(abs(value).bit_length() - BUCKET_BITS, 0)
    size: int = further * 2 ** (BUCKET_BITS - 1) + (abs(value) >> further)
    return -size if value < 0 else size


def _ends(bucket: int) -> tuple[int, int]:
    half = 2 ** (BUCKET_BITS - 1)
    further = max(abs(bucket) // half - 1, 0)
    least = (abs(bucket) - further * half) << further
    most = least + (1 << further) - 1
    return (-most, -least) if bucket < 0 else (least, most)


def _all(experiment: Experiment) -> Iterator[Selection]:
    for metric in experiment.definition.metrics:
        yield from selections(metric)


def _shown(variants: Mapping[str, int]) -> Shown:
    return Shown(min(variants.values()), variants)


def _excluded(of: _Partition, name: str) -> int:
    users = [user for experiment, user in of.shown if experiment == name]
    return sum(len(of.variants(name, user)) > 1 for user in users)


def _line(
    experiment: Experiment, metric: ExperimentMetric, exposed_at: int, happened: list[Happened]
) -> list[int]:
    """A user's values: of each selection after the exposure, and before."""
    hour, end = exposed_at // HOUR_MS, experiment.end or 0
    lookback = 24 * experiment.definition.lookback_days
    chosen = selections(metric)
    line = [
        sum(h.value for h in happened if h.selection == s and exposed_at <= h.timestamp < end)
        for s in chosen
    ]
    if lookback and metric.aggregate != "quantile":
        before = [h for h in happened if hour - lookback <= h.timestamp // HOUR_MS < hour]
        line += [sum(h.value for h in before if h.selection == s) for s in chosen]
    return [int(v != 0) for v in line] if metric.aggregate == "proportion" else line


def _value(selection: Selection, event: Mapping[str, Any]) -> int | None:
    """What a selection reads of an event; None where it does not take it."""
    if selection.events is not None and event["event_type"] not in selection.events:
        return None
    if not all(_holds(condition, _field(condition.field, event)) for condition in selection.where):
        return None
    if selection.field is None:
        return 1
    value = _field(selection.field, event)
    if value is None or (isinstance(value, float) and value != value):
        return None
    limit = MAX_OBSERVATION / selection.scale
    if not -limit <= value <= limit:
        return None
    return round(value * float(SCALE)) if selection.kind == "float" else int(value)


def _field(name: str, event: Mapping[str, Any]) -> Any:
    match name:
        case "page":
            url = event.get("page_url")
            return None if url is None else url.split("?")[0].split("#")[0]
        case "content_age_days":
            published = event.get("published_at")
            return None if published is None else (event["timestamp"] - published) // DAY_MS
        case "is_error":
            return (event.get("status") or 0) >= 500 or event.get("error_type") is not None
        case "watched_hours":
            position, action = event.get("position_ms"), event.get("action")
            if action == "complete" and position is None:
                position = event.get("duration_ms")
            if action not in ("complete", "skip") or position is None:
                return None
            return position / 3.6e6
    return event.get(name)


def _holds(condition: Condition, value: Any) -> bool:
    if condition.operator == "not_null":
        return (value is not None) == condition.value
    if value is None:
        return False
    wanted = condition.value
    match condition.operator:
        case "eq":
            return bool(value == wanted)
        case "ne":
            return bool(value != wanted)
        case "lt":
            return bool(value < wanted)
        case "le":
            return bool(value <= wanted)
        case "gt":
            return bool(value > wanted)
        case "ge":
            return bool(value >= wanted)
    return value in wanted


def statistics_of(row: Mapping[str, Any]) -> Statistics:
    """What a row of `experiment-partials` says."""
    products = tuple(tuple(line) for line in json.loads(row["products"]))
    counts = tuple((bucket, users) for bucket, users in json.loads(row.get("counts") or "[]"))
    return Statistics(row["users"], tuple(json.loads(row["sums"])), products, counts)
