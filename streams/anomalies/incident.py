r"""An incident: when a flag opens, gets worse, clears, and stays quiet.

Upstream: the rarest figure at each point (`series.py`). Downstream: `flag.py`.

                  score
    yellow -------/--\------------------/\-----------  opens at yellow; clears when the score has
    yellow - 0.2 -    \----            /  \            fallen a little below it, or after
                  |####|    quiet a day                12 points: what lasts is then the new usual.

For a day after it cleared, only what is ten times rarer than its peak opens a new flag: it is one
incident, told once.

Invariants: at most one flag stands; what was told is part of the state, so a restart does not
repeat it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamgauge.streams.anomalies.flag import Flag, Severity

QUIET = 86_400.0
LONGEST = 12
RARER = 1.0
SLACK = 0.2


@dataclass
class Incident:
    """The flag that stands, and the last one's peak."""

    flag: Flag | None = None
    points: int = 0
    peak: float = 0.0
    quiet_until: float | None = None

    def judge(self, candidate: Flag, yellow: float, red: float) -> list[Flag]:
        """What this point changes: flags opened, worse or cleared. The candidate starts now."""
        now, score = candidate.start, candidate.score
        severity: Severity = "red" if score >= red else "yellow"
        changes = []
        if self.flag is not None:
            self.points += 1
            if score < yellow - SLACK or self.points > LONGEST:
                changes.append(replace(self.flag, end=now))
                self.flag = None
                self.quiet_until = now + QUIET
            elif score > self.peak:
                self.peak = score
                if severity != self.flag.severity:
                    first = self.flag
                    self.flag = replace(
                        candidate, severity=severity, start=first.start, detector=first.detector
                    )
                    changes.append(self.flag)
        if self.flag is None and score >= yellow:
            quiet = self.quiet_until is not None and now < self.quiet_until
            if not quiet or score >= self.peak + RARER:
                self.flag = replace(candidate, severity=severity)
                self.points, self.peak = 1, score
                changes.append(self.flag)
        return changes
