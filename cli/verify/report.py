"""The answer of a verification: what was read, what was compared, and every difference found.

Upstream: the comparison of each target. Downstream: the CLI prints `text()` or `to_json()` and
exits 1 unless `ok`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One place where a target does not say what the raw topic says."""

    target: str  # metrics, dead-letters, late-events, postgres.metrics, redis, …
    key: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.target}  {self.key}  expected {self.expected}, found {self.found}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One target against the recomputation; `differences` is the whole list."""

    target: str
    keys: int
    differences: Sequence[Difference] = ()
    excused: int = 0  # expired in Redis, or open windows left out


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `verify` found. `differences` is capped; `different` is how many there are."""

    cut: Mapping[int, int]  # partition → first offset not read
    source: str
    read: int = 0
    ticks: int = 0
    accepted: int = 0
    duplicates: int = 0
    late: int = 0
    excluded: int = 0  # accepted, but of users whom a policy leaves out
    rejected: Mapping[str, int] = field(default_factory=dict)  # by reason
    closed_only: bool = False
    keys: Mapping[str, int] = field(default_factory=dict)  # compared, by target
    excused: Mapping[str, int] = field(default_factory=dict)
    different: Mapping[str, int] = field(default_factory=dict)
    differences: Sequence[Difference] = ()
    notes: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """No target differs anywhere."""
        return not any(self.different.values())

    def filled(self, comparisons: Sequence[Comparison], *, shown: int, seconds: float) -> "Report":
        """With what the comparisons found, at most `shown` differences in words."""
        differences = [each for one in comparisons for each in one.differences]
        return replace(
            self,
            keys={each.target: each.keys for each in comparisons},
            excused={each.target: each.excused for each in comparisons},
            different={each.target: len(each.differences) for each in comparisons},
            differences=tuple(differences[:shown]),
            seconds=round(seconds, 3),
        )

    def to_json(self) -> str:
        """One JSON object; `ok` first."""
        return json.dumps({"ok": self.ok, **asdict(self)}, ensure_ascii=False)

    def text(self) -> str:
        """A table for people, then the differences."""
        rejected = sum(self.rejected.values())
        lines = [
            f"read        {self.read:>12,}  from {self.source}",
            f"accepted    {self.accepted:>12,}",
            f"duplicates  {self.duplicates:>12,}",
            f"late        {self.late:>12,}",
            *([f"excluded    {self.excluded:>12,}"] if self.excluded else []),
            f"rejected    {rejected:>12,}  {_by_reason(self.rejected)}".rstrip(),
            "",
            f"{'target':<24}{'keys':>12}{'excused':>10}{'different':>11}",
        ]
        for target, keys in self.keys.items():
            excused, different = self.excused.get(target, 0), self.different.get(target, 0)
            lines.append(f"{target:<24}{keys:>12,}{excused:>10,}{different:>11,}")
        lines += [""] * bool(self.differences) + [str(each) for each in self.differences]
        left_out = sum(self.different.values()) - len(self.differences)
        if left_out > 0:
            lines.append(f"… and {left_out:,} more")
        lines += [f"note: {note}" for note in self.notes]
        verdict = "equal" if self.ok else "DIFFERENT"
        windows = "closed windows" if self.closed_only else "all windows"
        return "\n".join([*lines, f"{verdict} ({windows}, {self.seconds:.1f} s)"])


def _by_reason(rejected: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(rejected.items()))
