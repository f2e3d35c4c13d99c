"""What the targets say of experiments, beside what the raw log says.

Upstream: `experiments.py` computed it again. Downstream: the report. Open experiments change with
every event, so nothing is compared where events keep coming. Statistics and exposures must be
equal; a mean but for the last bits of a double.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import isclose
from typing import Any

from streamgauge.cli.verify import compare
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.experiments import (
    Experiments,
    Shown,
    Statistics,
    mean,
    statistics_of,
)
from streamgauge.cli.verify.log import Log
from streamgauge.cli.verify.postgres import Tables
from streamgauge.cli.verify.redis import Counters
from streamgauge.cli.verify.report import Comparison
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.topics import EXPERIMENT_PARTIALS, EXPERIMENT_RESULTS, EXPOSURES

TABLES = (EXPOSURES.name, EXPERIMENT_RESULTS.name)
"""Topics that the Postgres sink reads."""

_SAME = 1e-12
_KEPT_MS = 90 * 86_400_000
"""For so long the Redis sink keeps exposures of users that do not come back."""
_EXPOSED = "experiment, user_id, (extract(epoch FROM exposed_at) * 1000)::bigint, variants"
_LATEST = "experiment, metric, variant, users, mean, users_excluded"

Figures = tuple[int, float | None, int]
"""Users, mean, users excluded."""


def compare_experiments(
    fold: Experiments,
    config: VerifyConfig,
    log: Log,
    codec: Codec,
    tables: Tables | None,
    counters: Counters | None,
) -> Iterator[Comparison]:
    """Each target; none where no experiment has been defined."""
    if not fold.definitions():
        return

    def rows(name: str) -> list[dict[str, Any]]:
        topic = config.topic(name)
        values = log.last_values(topic).values() if log.exists(topic) else ()
        return [codec.decode(value).record for value in values]

    shown = fold.exposures()
    found = {
        (row["experiment"], row["user_id"]): Shown(row["exposed_at"], json.loads(row["variants"]))
        for row in rows(EXPOSURES.name)
    }
    yield compare.rows(EXPOSURES.name, shown, found)
    yield from _partials(fold, rows(EXPERIMENT_PARTIALS.name))
    figures = _figures(fold)
    results = {
        (row["experiment"], row["metric"], row["variant"]): _figure(row)
        for row in rows(EXPERIMENT_RESULTS.name)
    }
    yield compare.rows(EXPERIMENT_RESULTS.name, figures, results, _near)
    if tables is not None:
        rows_of = tables.select("exposures", _EXPOSED)
        exposed = {(name, user): Shown(at, seen) for name, user, at, seen in rows_of}
        yield compare.rows("postgres.exposures", shown, exposed)
        rows_of = tables.select("experiment_latest", _LATEST)
        latest = {tuple(row[:3]): tuple(row[3:]) for row in rows_of}
        yield compare.rows("postgres.experiment_latest", figures, latest, _near)
    if counters is not None:
        there = {
            (name, key.removeprefix("user:")) for key, name in counters.members(EXPOSURES.name)
        }
        kept = time.time() * 1000 - _KEPT_MS
        wanted = {place for place, one in shown.items() if one.exposed_at > kept or place in there}
        yield compare.rows("redis.exposures", dict.fromkeys(wanted, 1), dict.fromkeys(there, 1))


def _partials(fold: Experiments, rows: list[dict[str, Any]]) -> Iterator[Comparison]:
    found: dict[Any, Any] = {}
    for row in rows:
        place = (row["source_partition"], row["experiment"])
        if row["metric"] is None:
            found[place] = row["users"] or 0
        elif row["users"]:  # those who were in the variant may be in several now
            found[(*place, row["variant"], row["metric"])] = statistics_of(row)
    expected: dict[Any, Any] = {**fold.excluded(), **fold.statistics()}
    yield compare.rows(EXPERIMENT_PARTIALS.name, expected, found)


def _figures(fold: Experiments) -> dict[tuple[str, str, str], Figures]:
    """Of each experiment that has begun, metric and variant."""
    parts: dict[tuple[str, str, str], list[Statistics]] = defaultdict(list)
    for (_, name, variant, asked), statistics in fold.statistics().items():
        parts[name, asked, variant].append(statistics)
    excluded: dict[str, int] = defaultdict(int)
    for (_, name), users in fold.excluded().items():
        excluded[name] += users
    figures = {}
    for name, experiment in fold.definitions().items():
        if experiment.started_at is None:
            continue
        for metric in experiment.definition.metrics:
            for variant in experiment.definition.weights:
                of = parts[name, metric.name, variant]
                users = sum(each.users for each in of)
                figures[name, metric.name, variant] = (users, mean(metric, of), excluded[name])
    return figures


def _figure(row: Mapping[str, Any]) -> Figures:
    return row["users"], row["mean"], row["users_excluded"]


def _near(expected: Figures, found: Figures) -> bool:
    if expected[1] is None or found[1] is None:
        return expected == found
    same = isclose(expected[1], found[1], rel_tol=_SAME)
    return same and (expected[0], expected[2]) == (found[0], found[2])
