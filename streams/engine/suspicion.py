"""Suspicion: how a failing batch is narrowed down to the record that makes it fail.

Three tries of the same, then halves, each in a transaction of its own, down to one record, which
is dead-lettered. Every success doubles the size again until nothing is suspected. Pure: it only
counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["retry", "halve", "dead_letter"]


@dataclass
class Suspicion:
    """`limit` is how many records the next transaction may have; None is no limit."""

    tries: int = 3
    limit: int | None = None
    failures: int = 0
    dead_letters_in_a_row: int = 0

    def failed(self, records: int) -> Verdict:
        """A transaction of `records` records failed: what to do with its input."""
        self.failures += 1
        if self.failures < self.tries:
            return "retry"
        if records <= 1:
            self.dead_letters_in_a_row += 1
            return "dead_letter"
        self.limit = records // 2
        return "halve"

    def succeeded(self, enough: int) -> None:
        """A transaction was committed; `enough` is the size of a normal batch."""
        self.dead_letters_in_a_row = 0
        if self.limit is None:
            self.failures = 0
        else:
            self.limit = self.limit * 2 if self.limit * 2 < enough else None
