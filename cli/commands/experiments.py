"""`streamgauge experiments`: running them, what their figures say, and how many users they need."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from streamgauge.cli import output
from streamgauge.cli.commands.experiment_control import assign, create, list_, start, stop
from streamgauge.cli.commands.experiment_results import report, results
from streamgauge.cli.users_file import read_users
from streamgauge.streams.experiments import power as needed
from streamgauge.streams.experiments.analysis import Analysis, Lift, analyze
from streamgauge.streams.experiments.multiplicity import CORRECTIONS
from streamgauge.streams.experiments.plan import Goal, Plan
from streamgauge.streams.experiments.quantile_analysis import analyze_quantile
from streamgauge.streams.experiments.quantiles import Distribution
from streamgauge.streams.experiments.users import by_variant

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
POSITIVE = click.FloatRange(0, min_open=True)
DEFAULT_CONTROL = "control"


@click.group()
def experiments() -> None:
    """Run experiments, analyse them and plan them.

    \b
    Examples:
      streamgauge experiments create feed-ranking.yaml --start
      streamgauge experiments results feed-ranking
      streamgauge experiments report feed-ranking
      streamgauge experiments analyze --file users.csv --variant-column variant --metric orders
      streamgauge experiments analyze --file users.csv --variant-column variant --metric minutes \\
          --quantile 0.9
      streamgauge experiments analyze --file users.csv --variant-column variant --metric orders \\
          --denominator sessions --covariate orders_before --weights control=.5,new=.5 --json
      streamgauge experiments power --rate 0.10 --mde 5% --users-per-day 2000
    """


for command in (create, start, stop, list_, assign, results, report):
    experiments.add_command(command)


class Weights(click.ParamType):
    """a=.5,b=.5"""

    name = "A=SHARE,B=SHARE"

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, float]:
        weights: dict[str, float] = {}
        for part in str(value).split(","):
            name, equals, share = (piece.strip() for piece in part.rpartition("="))
            if not (name and equals):
                self.fail(f"{part!r} is not NAME=SHARE", param, ctx)
            if name in weights:
                self.fail(f"{name} has two weights", param, ctx)
            try:
                weights[name] = float(share)
            except ValueError:
                self.fail(f"the weight of {name}, {share!r}, is not a number", param, ctx)
        return weights


class Amount(click.ParamType):
    """0.5, or 5% of the baseline."""

    name = "AMOUNT|PERCENT%"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, bool]:
        text = str(value).strip()
        try:
            amount = float(text.removesuffix("%"))
        except ValueError:
            amount = math.nan
        if not (math.isfinite(amount) and amount):
            self.fail(f"{text!r} is neither an amount (0.5) nor a percentage (5%)", param, ctx)
        return (amount / 100, True) if text.endswith("%") else (amount, False)


@experiments.command("analyze")
@click.option(
    "--file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="CSV with a header and one row a user.",
)
@click.option("--variant-column", required=True, metavar="COLUMN", help="The user's variant.")
@click.option("--metric", required=True, metavar="COLUMN", help="The outcome: a number a user.")
@click.option("--denominator", metavar="COLUMN", help="Compare sum(metric) / sum(this) instead.")
@click.option("--covariate", metavar="COLUMN", help="Known before exposure: adds CUPED.")
@click.option("--covariate-denominator", metavar="COLUMN", help="The covariate is a ratio as well.")
@click.option(
    "--quantile",
    type=SHARE,
    help="Compare this quantile of the users' values instead of the mean: 0.9.",
)
@click.option("--control", metavar="NAME", help=f"[default: {DEFAULT_CONTROL}, or else the first]")
@click.option("--weights", type=Weights(), help="The planned split. [default: equal]")
@click.option("--alpha", type=SHARE, default=0.05, show_default=True, help="1 - confidence.")
@click.option(
    "--tuning-n",
    type=POSITIVE,
    default=5000,
    show_default=True,
    help="Users (of two variants) at which the confidence sequence is narrowest; fixed before "
    "the start.",
)
@click.option(
    "--correction",
    type=click.Choice(list(CORRECTIONS)),
    default="holm",
    show_default=True,
    help="Of the adjusted p values, for several variants.",
)
@click.option("--mde", type=Amount(), help="Least effect worth finding, for what is to go.")
@click.option("--power", type=SHARE, default=0.8, show_default=True, help="Chance to find it.")
@click.option("--users-per-day", type=POSITIVE, help="Who enter the experiment, all variants.")
@output.option
def analyze_(
    file: Path,
    variant_column: str,
    metric: str,
    denominator: str | None,
    covariate: str | None,
    covariate_denominator: str | None,
    quantile: float | None,
    control: str | None,
    weights: dict[str, float] | None,
    mde: tuple[float, bool] | None,
    power: float,
    users_per_day: float | None,
    as_json: bool,
    **decided: Any,
) -> None:
    """Lift of every variant over the control, with intervals, p values and the check of the split.

    `ci_fixed` holds at one look decided on before; `ci_sequential` at every look. What cannot be
    told is null, and `notes` say why. With --mde also the power reached, and users and days to go.
    All figures: docs/experiments.md.
    """
    if covariate_denominator and not covariate:
        raise click.UsageError("--covariate-denominator needs --covariate")
    if quantile is not None and (denominator or covariate):
        raise click.UsageError("--quantile takes neither --denominator nor --covariate")
    asked = {
        "variant": variant_column,
        "outcome": metric,
        "denominator": denominator,
        "covariate": covariate,
        "covariate_denominator": covariate_denominator,
    }
    users = by_variant(read_users(file, {name: it for name, it in asked.items() if it}))
    if weights is None:
        weights = dict.fromkeys([*users.assigned], 1.0)
        if control and not weights:
            weights[control] = 1.0
    unplanned = [name for name in users.assigned if name not in weights]
    if unplanned:
        raise click.UsageError(
            f"--weights says nothing of {', '.join(unplanned)}, which {file} has: "
            f"{unplanned[0]}=0 if it should have no users"
        )
    plan = Plan(
        control=control or _control(weights),
        weights=weights,
        cuped=covariate is not None,
        proportion=users.proportion and quantile is None,
        covariate_proportion=users.covariate_proportion,
        goal=mde and Goal(mde=mde[0], relative=mde[1], power=power, users_per_day=users_per_day),
        **decided,
    )
    if quantile is None:
        analysis = analyze(users.arms, plan, users.assigned)
    else:
        spread = {name: Distribution.of(values) for name, values in users.outcomes.items()}
        analysis = analyze_quantile(spread, quantile, plan, users.assigned)
    notes = [*users.notes, *analysis.notes]
    settings: dict[str, Any] = {
        "metric": metric,
        "denominator": denominator,
        "covariate": covariate,
    }
    settings |= {"quantile": quantile, **decided}
    document = {**settings, **analysis.to_json(), "notes": notes}
    what = "mean" if quantile is None else f"p{100 * quantile:g}"
    output.write(document, as_json, "" if as_json else _text(analysis, plan, notes, what))


def _control(weights: Mapping[str, float]) -> str:
    return DEFAULT_CONTROL if DEFAULT_CONTROL in weights else next(iter(weights), DEFAULT_CONTROL)


def _text(analysis: Analysis, plan: Plan, notes: Sequence[str], what: str) -> str:
    level = f"{100 * (1 - plan.alpha):g} %"
    control = analysis.control
    head = ["variant", "users", what, "lift", f"{level} at one look", f"{level} at every look"]
    head += ["relative", "at one look", "at every look", "p one look", "p every look"]
    lines = [head, [control, str(analysis.control_users), _number(analysis.control_mean)]]
    rows = []
    for name, lift in analysis.lifts.items():
        rows.append((name, lift))
        if analysis.cuped:
            rows.append((f"{name} (CUPED)", analysis.cuped[name]))
    lines += [[name, *_cells(lift)] for name, lift in rows]
    split = "" if analysis.srm_p is None else f"\nsplit as planned (SRM): p {analysis.srm_p:.3g}"
    said = "".join(f"\nnote: {note}" for note in notes)
    return output.aligned(lines) + split + _to_go(rows) + said


def _to_go(rows: Sequence[tuple[str, Lift]]) -> str:
    head = ["to go", "power one look", "users", "days", "power every look", "users", "days"]
    lines = [head]
    for name, lift in rows:
        if lift.to_go:
            to_go = asdict(lift.to_go).values()
            lines.append([name, *("-" if it is None else f"{it:.4g}" for it in to_go)])
    return "\n\n" + output.aligned(lines) if lines[1:] else ""


def _cells(lift: Lift) -> list[str]:
    return [
        str(lift.users),
        _number(lift.mean),
        _number(lift.lift_absolute, sign="+"),
        _interval(lift.ci_fixed),
        _interval(lift.ci_sequential),
        _percent(lift.lift_relative),
        _interval(lift.ci_relative_fixed, percent=True),
        _interval(lift.ci_relative_sequential, percent=True),
        _number(lift.p_fixed_adjusted, digits=3),
        _number(lift.p_sequential_adjusted, digits=3),
    ]


def _number(value: float | None, *, digits: int = 5, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.{digits}g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.3g} %"


def _interval(ends: tuple[float, float] | None, percent: bool = False) -> str:
    if ends is None:
        return "-"
    one = _percent if percent else _number
    return f"{one(ends[0])} to {one(ends[1])}"


@experiments.command()
@click.option("--mean", type=float, help="Of the metric now, by user.")
@click.option("--sd", type=POSITIVE, help="Its standard deviation among users.")
@click.option("--rate", type=SHARE, help="Instead, for a metric of 0 and 1: the share of 1.")
@click.option("--mde", type=Amount(), required=True, help="Least effect worth finding: 0.5 or 5%.")
@click.option("--alpha", type=SHARE, default=0.05, show_default=True, help="1 - confidence.")
@click.option(
    "--power", type=SHARE, default=0.8, show_default=True, help="Chance to find that effect."
)
@click.option("--variants", type=click.IntRange(2), default=2, show_default=True, help="In all.")
@click.option("--users-per-day", type=POSITIVE, help="Who enter the experiment, all variants.")
@click.option(
    "--correlation",
    type=click.FloatRange(-1, 1, min_open=True, max_open=True),
    default=0.0,
    show_default=True,
    help="Of the metric with a covariate, for CUPED.",
)
@click.option(
    "--tuning-n",
    type=POSITIVE,
    default=5000,
    show_default=True,
    help="Of the confidence sequence.",
)
@output.option
def power(
    mean: float | None,
    sd: float | None,
    rate: float | None,
    mde: tuple[float, bool],
    alpha: float,
    power: float,
    variants: int,
    users_per_day: float | None,
    correlation: float,
    tuning_n: float,
    as_json: bool,
) -> None:
    """Users a variant, and days, to find an effect: at one look, and at any look.

    \b
    Examples:
      streamgauge experiments power --rate 0.10 --mde 5% --users-per-day 2000
      streamgauge experiments power --mean 12 --sd 30 --mde 0.5 --correlation 0.6
    """
    if (rate is None) == (mean is None) or (mean is None) != (sd is None):
        raise click.UsageError("give --rate, or --mean and --sd")
    baseline = rate if rate is not None else mean
    assert baseline is not None
    amount, relative = mde
    effect = amount * baseline if relative else amount
    if not effect:
        raise click.UsageError("an effect in percent of 0 is 0: give --mde as an amount")
    # Of two variants of equal size: SE² = (variance + variance) / (users / 2).
    spread = 2 * _variances(baseline, effect, sd) * (1 - correlation**2)
    of_two = (
        needed.users_needed(abs(effect), spread, alpha, power),
        needed.users_needed_sequential(abs(effect), spread, alpha, power, tuning_n),
    )
    users = [None if both is None else math.ceil(both / 2) for both in of_two]
    days = [
        needed.days(one * variants, users_per_day) if one and users_per_day else None
        for one in users
    ]
    notes = [] if users_per_day else ["no days without --users-per-day"]
    if None in users:
        notes.append("no number of users: it would take more than there are")
    answer = {
        "mde_absolute": effect,
        "mde_relative": effect / baseline if baseline else None,
        "users_per_variant": users[0],
        "days": days[0],
        "users_per_variant_sequential": users[1],
        "days_sequential": days[1],
        "notes": notes,
    }
    lines = [["", "users a variant", "days"]]
    for name, *cells in zip(
        ("one look at the end", "a look at any time"), users, days, strict=True
    ):
        lines.append([name, *("-" if cell is None else str(cell) for cell in cells)])
    output.write(answer, as_json, output.aligned(lines))


def _variances(baseline: float, effect: float, sd: float | None) -> float:
    """Of control and treatment together."""
    if sd is not None:
        return 2 * sd * sd
    raised = baseline + effect
    if not 0 <= raised <= 1:
        raise click.UsageError(f"a rate of {baseline:g} cannot become {raised:g}: a smaller --mde")
    return baseline * (1 - baseline) + raised * (1 - raised)
