"""What a benchmark gives: rows of figures, each with its unit and, where there is one, its goal."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured value and the bounds it is meant to keep."""

    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def goal(self) -> str:
        """The bound in words, "" where there is none."""
        if self.at_most is not None:
            return f"≤ {self.at_most:,.9g}"
        return "" if self.at_least is None else f"≥ {self.at_least:,.9g}"

    @property
    def reached(self) -> bool:
        """Whether it keeps its bounds."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    def to_dict(self) -> dict[str, object]:
        known: dict[str, object] = {"value": self.value, "unit": self.unit}
        if self.goal:
            known |= {"at_most": self.at_most, "goal": self.goal, "reached": self.reached}
        return known


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a benchmark's table: a contender, or one of its cases."""

    name: str
    figures: Mapping[str, Figure]
    facts: Mapping[str, str] = field(default_factory=dict)
    """Columns of text: the guarantee, how often it emits, the sizes."""
    right: bool | None = None
    """Whether its answer was the oracle's; None where there is no answer to check."""
    details: Mapping[str, object] = field(default_factory=dict)
    """For results.json only: the single runs."""

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "facts": dict(self.facts),
            "right": self.right,
            "details": dict(self.details),
        }
