"""The second stage: any split over source partitions gives the answer that a file gives."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streamgauge.schemas import control
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.experiment_records import ExperimentPartial
from streamgauge.schemas.experiments import DAY_MS, Experiment, load_experiment, of_body
from streamgauge.schemas.registry import open_registry
from streamgauge.streams.engine.task import Batch
from streamgauge.streams.experiments.analysis import analyze
from streamgauge.streams.experiments.moments import Moments
from streamgauge.streams.experiments.multiplicity import holm
from streamgauge.streams.experiments.plan import Goal, Plan
from streamgauge.streams.experiments.results import Merged
from streamgauge.streams.experiments.tally import Layout
from streamgauge.streams.experiments.tasks import ExperimentResults

START = 1_760_054_400_000
DEFINITION = """
name: e
variants: [{name: control}, {name: b}, {name: c, weight: 2}]
metrics:
  - {name: score, role: primary, aggregate: mean, events: [rating], field: score, mde: 5%}
  - {name: viewed, aggregate: proportion, events: [page_view]}
  - name: per_view
    aggregate: ratio
    numerator: {events: [rating], field: score}
    denominator: {events: [page_view]}
  - {name: usual_score, aggregate: quantile, quantile: 0.5, events: [rating], field: score}
  - name: slow
    role: guardrail
    aggregate: mean
    events: [request]
    field: duration_ms
    worse: higher
    limit: 10%
    stop_on_breach: true
"""
VARIANTS = ("control", "b", "c")
LATENESS = 3_600_000


def running() -> Experiment:
    return Experiment(
        definition=load_experiment(DEFINITION), state="running", started_at=START, version=2
    )


def partials(
    experiment: Experiment,
    sums: np.ndarray,
    variant: np.ndarray,
    source: np.ndarray,
    day: float = 1,
) -> list[dict[str, Any]]:
    """What the source partitions write of these users."""
    layout = Layout.of(experiment.definition)
    watermark = START + int(day * DAY_MS)
    rows = []
    for number in np.unique(source).tolist():
        told = {"source_partition": number, "experiment": "e", "watermark": watermark}
        for each, name in enumerate(VARIANTS):
            tally = layout.tally(sums[(source == number) & (variant == each)])
            for metric, places, _, _ in layout.metrics:
                of = tally.only(places)
                values = {"sums": json.dumps(of.sums.tolist())}
                values["products"] = json.dumps(of.products.tolist())
                values["counts"] = of.counts[0].to_json() if of.counts else None
                row = {**told, "variant": name, "metric": metric, "users": of.users, **values}
                rows.append({**row, "definition": None})
        body = {"variant": None, "metric": None, "users": 1, "definition": experiment.body()}
        rows.append({**told, **body, "sums": None, "products": None, "counts": None})
    return rows


def world(seed: int, size: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums by user (score, views, duration; and before), variants, source partitions."""
    rng = np.random.default_rng(seed)
    variant = rng.integers(0, 3, size)
    before = rng.normal(50, 20, (size, 3)) * 1_000_000 * scale
    after = before + rng.normal(5, 10, (size, 3)) * 1_000_000 * scale
    sums = np.concatenate([after, before], axis=1)
    sums[:, 1], sums[:, 4] = rng.poisson(1, size), rng.poisson(1, size)
    return np.rint(sums).astype(np.int64), variant, rng.integers(0, 4, size)


@settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.generate])
@given(seed=st.integers(0, 10**6), size=st.integers(0, 60), scale=st.sampled_from([1.0, 1e-3, 50]))
def test_the_figures_are_those_of_a_file_of_users(seed: int, size: int, scale: float) -> None:
    experiment = running()
    sums, variant, source = world(seed, size, scale)
    rows = partials(experiment, sums, variant, source)
    random.Random(seed).shuffle(rows)
    look = Merged().with_rows(rows).with_rows(rows[:5]).look("e")
    if not size:
        assert look is None
        return
    assert look is not None
    found = {(row["metric"], row["variant"]): row for row in look.results()}
    real = sums / [1e6, 1, 1e6, 1e6, 1, 1e6]
    files = {
        "score": (real[:, 0], None, real[:, 3], None),
        "viewed": ((sums[:, 1] > 0) * 1.0, None, (sums[:, 4] > 0) * 1.0, None),
        "per_view": (real[:, 0], real[:, 1], real[:, 3], real[:, 4]),
    }
    families: dict[str, list[Any]] = {}
    for metric, columns in files.items():
        arms = {
            name: Moments.of(*(c if c is None else c[variant == at] for c in columns))
            for at, name in enumerate(VARIANTS)
        }
        goal = Goal(mde=0.05, relative=True, users_per_day=size) if metric == "score" else None
        plan = Plan(
            control="control",
            weights={"control": 1, "b": 1, "c": 2},
            cuped=True,
            proportion=metric == "viewed",
            covariate_proportion=metric == "viewed",
            goal=goal,
        )
        wanted = analyze(arms, plan)
        for name, lift in wanted.lifts.items():
            row, cuped = found[metric, name], wanted.cuped[name]
            interval = (row["ci_sequential_low"], row["ci_sequential_high"])
            assert row["users"] == lift.users
            assert row["mean"] == near(lift.mean)
            assert row["lift_absolute"] == near(lift.lift_absolute)
            assert interval == near(lift.ci_sequential or (None, None))
            assert row.get("cuped_lift_absolute") == near(cuped.lift_absolute)
            assert row["srm_p"] == near(wanted.srm_p)
            to_go = cuped.to_go
            assert row.get("users_to_go") == (to_go.users_sequential if to_go else None)
            role = "primary" if metric == "score" else "secondary"
            if row["p_sequential"] is not None:
                families.setdefault(role, []).append(row)
    for family in families.values():
        adjusted = holm([row["p_sequential"] for row in family])
        assert [row["p_adjusted"] for row in family] == adjusted


def near(value: Any) -> Any:
    if value is None or value == (None, None):
        return value
    return pytest.approx(value, rel=1e-6, abs=1e-6)


def slowed(extra: int, size: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users whose calls take `extra` ms longer in b and c."""
    sums, variant, source = world(3, size)
    sums[:, 2] = 1_000_000 * (100 + np.arange(size) % 7 + extra * (variant > 0))
    return sums, variant, source


def guarded(extra: int) -> Any:
    look = Merged().with_rows(partials(running(), *slowed(extra))).look("e")
    assert look is not None
    return look


@pytest.mark.parametrize(
    ("extra", "verdict"), [(30, "breached"), (0, "ok"), (-30, "ok"), (10, "unclear")]
)
def test_a_guardrail_is_breached_or_not_or_nobody_knows_yet(extra: int, verdict: str) -> None:
    look = guarded(extra)
    found = {r["variant"]: r["verdict"] for r in look.results() if r["role"] == "guardrail"}
    assert found == {"control": None, "b": verdict, "c": verdict}
    assert (look.ending(4, LATENESS) is not None) == (verdict == "breached")


def test_nothing_is_stopped_that_has_ended() -> None:
    look = guarded(30)
    rows = partials(look.experiment.stopped(START, "done"), *world(3, 10), day=2)
    ended = Merged().with_rows(rows).look("e")
    assert ended is not None
    assert (ended.ending(4, LATENESS), ended.experiment.reason) == (None, "done")


@pytest.mark.parametrize("value", [0, 1, 2**53 - 1, -(2**53)])
@pytest.mark.parametrize("size", [1, 2, 30])
def test_extremes_give_a_clear_answer(value: int, size: int) -> None:
    sums = np.full((size, 6), value)
    rows = partials(running(), sums, np.arange(size) % 3, np.zeros(size, int))
    look = Merged().with_rows(rows).look("e")
    assert look is not None
    for row in look.results():
        numbers = [cell for cell in row.values() if isinstance(cell, float)]
        assert np.isfinite(numbers).all()
        assert "NaN" not in row["analysis"] and "Infinity" not in row["analysis"]


def test_tallies_add_and_take_away_exactly_whatever_their_size() -> None:
    layout = Layout.of(load_experiment(DEFINITION))
    rng = random.Random(1)
    for bits in (3, 20, 40, 53):
        lines = [[rng.randrange(-(2**bits), 2**bits) for _ in range(6)] for _ in range(40)]
        sums = np.array(lines, np.int64)
        both, first, second = layout.tally(sums), layout.tally(sums[:15]), layout.tally(sums[15:])
        assert (first + second).products.tolist() == both.products.tolist()
        assert (both - first).sums.tolist() == second.sums.tolist()
        scores = [line[0] for line in lines]
        assert both.sums[0] == sum(scores)
        assert both.products[0, 0] == sum(score * score for score in scores)


def test_the_worker_ends_what_its_guardrails_refuse_once_and_in_every_partition(
    kit: Any, message: Any
) -> None:
    registry = open_registry("mock://metrics")
    task, codec = ExperimentResults(registry, partitions=kit.partitions), Codec(registry)
    sums, variant, source = slowed(30)
    rows = partials(running(), sums, variant, source)
    values = [codec.encode("experiment-partials", ExperimentPartial(**row)) for row in rows]
    task.process(message(values))
    first = {output.topic: output for output in task.flush(100.0)}
    assert set(first) == {"experiment-results", "control", "events"}
    assert first["events"].partitions == list(range(kit.partitions))
    marked = codec.decode(first["events"].values[0]).record["control"]
    told = of_body("e", control.of_text(marked).body or "")
    assert (told.state, told.version) == ("stopped", 3)
    assert told.reason == "guardrail slow of b is breached"
    task.commit()
    assert task.settled and not list(task.flush(200.0))
    task.process(message(values))
    assert not list(task.flush(105.0)), "every ten seconds at most"
    task.abort()
    assert task.settled
    task.revoke(set(range(kit.partitions)))
    task.process(message([]))
    assert not list(task.flush(300.0))


@pytest.mark.parametrize(("hours", "is_over"), [(14 * 24 + 0.9, False), (14 * 24 + 1.1, True)])
def test_the_worker_ends_what_is_over_once_nothing_that_counts_can_come(
    message: Any, hours: float, is_over: bool
) -> None:
    registry = open_registry("mock://metrics")
    task, codec = ExperimentResults(registry, partitions=4), Codec(registry)
    rows = partials(running(), *slowed(0), day=14.5)
    late = partials(running(), *slowed(0), day=hours / 24)
    rows = [row for row in rows if row["source_partition"]]
    rows += [row for row in late if not row["source_partition"]]
    encoded = [codec.encode("experiment-partials", ExperimentPartial(**row)) for row in rows]
    task.process(message(encoded[:-1]))  # not yet all that a partition says
    assert "control" not in {output.topic for output in task.flush(100.0)}
    task.process(message(encoded))
    told = {output.topic: output for output in task.flush(200.0)}
    assert ("control" in told) == is_over
    if is_over:
        ended = of_body("e", codec.decode(told["control"].values[0] or b"").record["body"])
        assert (ended.state, ended.reason) == ("stopped", "its 14 days are over")


def test_the_worker_raises_the_allocation_when_its_gates_open(kit: Any, message: Any) -> None:
    steps = "schedule: [{day: 1, allocation: 5%}, {day: 3, allocation: 25%}]"
    definition = load_experiment(f"{DEFINITION}{steps}\ngates: {{users: 10, srm: 0}}")
    experiment = replace(running(), definition=definition)
    registry = open_registry("mock://metrics")
    codec = Codec(registry)
    for day, is_raised in ((1, False), (4, True)):
        task = ExperimentResults(registry, partitions=kit.partitions)
        rows = partials(experiment, *slowed(0), day=day)
        encoded = [codec.encode("experiment-partials", ExperimentPartial(**row)) for row in rows]
        task.process(message(encoded))
        told = {output.topic: output for output in task.flush(100.0)}
        result = codec.decode(told["experiment-results"].values[0] or b"").record
        assert json.loads(result["analysis"])["ramp"]["next_allocation"] == 0.25
        assert ("control" in told) == is_raised
        if is_raised:
            raised = of_body("e", codec.decode(told["control"].values[0] or b"").record["body"])
            assert (raised.state, raised.opened, raised.version) == ("running", 2, 3)
            assert raised.allocation_at(START + 4 * DAY_MS) == 0.25


@pytest.fixture
def message() -> Any:
    """Encoded partials as a batch."""

    class Record:
        def __init__(self, offset: int, value: bytes) -> None:
            self.at, self.data = offset, value

        def partition(self) -> int:
            return 0

        def offset(self) -> int:
            return self.at

        def key(self) -> bytes:
            return b"k"

        def value(self) -> bytes:
            return self.data

        def timestamp(self) -> tuple[int, int]:
            return 2, 0

    def batch(values: list[bytes]) -> Batch:
        records: Any = [Record(at, value) for at, value in enumerate(values)]
        decoder = Decoder(open_registry("mock://metrics"), "experiment-partials", None)
        decoded = decoder.decode(records)
        return Batch(topic="experiment-partials", messages=records, frame=decoded.frame)

    return batch
