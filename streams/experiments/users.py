"""One row a user to moments by variant.

Upstream: a frame with `variant`, `outcome` and, if there are, `denominator`, `covariate` and
`covariate_denominator`, numbers all but the first. Downstream: `analysis.py`.

Invariants: the order of the rows does not matter, to the last bit (they are sorted before they
are added up); a user without outcome or denominator is left out of the means but still counts as
assigned; one without a covariate keeps its place with the mean covariate, which is the same
whatever the variant and so favours none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from streamgauge.streams.experiments.moments import Array, Moments

OPTIONAL = ("denominator", "covariate", "covariate_denominator")


@dataclass(frozen=True, kw_only=True)
class Users:
    """The users of an experiment; `proportion` ones have nothing but 0 and 1."""

    arms: Mapping[str, Moments]
    outcomes: Mapping[str, Array]
    assigned: Mapping[str, int]
    proportion: bool
    covariate_proportion: bool
    notes: tuple[str, ...]


def by_variant(frame: pl.DataFrame) -> Users:
    """Moments of every variant in the frame, by its name in order."""
    notes = []
    given = [name for name in OPTIONAL if name in frame.columns]
    nowhere = frame["variant"].null_count()
    if nowhere:
        notes.append(f"users without a variant, left out: {nowhere}")
        frame = frame.drop_nulls("variant")
    assigned = dict(sorted(frame["variant"].value_counts().iter_rows()))

    known = frame.drop_nulls([name for name in ("outcome", "denominator") if name in frame.columns])
    if known.height < frame.height:
        notes.append(
            f"users without an outcome or denominator, left out: {frame.height - known.height}; "
            "write 0 where nothing happened"
        )
    for name in [name for name in given if name.startswith("covariate")]:
        missing = known[name].null_count()
        if missing:
            # Sorted, as the mean of another order differs in its last bits.
            mean = known[name].sort().mean()
            notes.append(f"users without a {name.replace('_', ' ')}, given the mean: {missing}")
            known = known.with_columns(pl.col(name).fill_null(0.0 if mean is None else mean))

    numbers = ["outcome", *given]
    parts = known.partition_by("variant", as_dict=True)
    arms = {name: Moments.none() for name in assigned}
    outcomes: dict[str, Array] = {}
    for (name,), part in parts.items():
        ordered = part.sort(numbers)
        outcomes[str(name)] = ordered["outcome"].to_numpy()
        arms[str(name)] = Moments.of(**{each: ordered[each].to_numpy() for each in numbers})
    return Users(
        arms=arms,
        outcomes=outcomes,
        assigned=assigned,
        proportion="denominator" not in given and _only_0_and_1(known["outcome"]),
        covariate_proportion="covariate" in given
        and "covariate_denominator" not in given
        and _only_0_and_1(known["covariate"]),
        notes=tuple(notes),
    )


def _only_0_and_1(values: pl.Series) -> bool:
    return bool(values.is_in([0.0, 1.0]).all())
