"""Metrics that are read from views in Postgres: of sessions, and of users.

What they count is known only when a session, a day or a week is over, and is corrected with it; so
they are no definitions of `metrics.py`, which add up events by the minute. Upstream:
`catalogue/view_metrics.yaml`. Downstream: the CLI, and `verify`. How a value is computed stands in
the view (`sinks/postgres/migrations`) and nowhere else; the entries only name its columns:

    - name: bounce_rate
      description: Sessions of one event, as a share of all.
      unit: minutes                # for people
      aggregate: ratio             # likewise: how the value comes about
      view: session_metrics
      where: {by: genre}           # rows of the view: column = text
      window: 1d                   # or 1w: what a row stands for
      start: day                   # column with the start of that window
      dimensions: [segment]        # columns
      value: bounce_rate
      numerator: bounces           # value = numerator / denominator, where the view has them
      denominator: sessions        # of a mean: over how many
      users: users                 # distinct users
      final: is_final              # column: nothing will change it; without: it is as it stands
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from streamgauge.schemas.metric_file import parse

CATALOGUE = Path(__file__).parent / "catalogue" / "view_metrics.yaml"

Column = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class ViewMetric(BaseModel):
    """One entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Column
    description: str
    unit: str | None = None
    aggregate: Literal["count", "sum", "mean", "median", "distinct_users", "ratio", "diversity"]
    view: Column
    where: Mapping[Column, str] = {}
    window: Literal["1d", "1w"] = "1d"
    start: Column = "day"
    dimensions: tuple[Column, ...] = ()
    value: Column
    numerator: Column | None = None
    denominator: Column | None = None
    users: Column | None = None
    final: Column | None = None


@cache
def view_metrics() -> Mapping[str, ViewMetric]:
    """The catalogue's, by name."""
    content, _ = parse(CATALOGUE.read_text(encoding="utf-8"), str(CATALOGUE))
    return {one.name: one for one in map(ViewMetric.model_validate, content["metrics"])}
