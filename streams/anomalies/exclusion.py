"""Exclusions: spans of event time in which a user counts in no metric and no experiment.

    flag      started ... opens (told)  ..............  last ... clears (told)
    span                  [since ------------------------------- until)      both event times

A flag's word is known as soon as the partition's watermark has reached the time at which it is
told, that is before any event of that time or later is looked at. So whether an event is left out
follows from its user and its own timestamp, however late it comes and however often it is read.

Upstream: words about users (`users.py`), markers of whoever undoes one. Downstream:
`user_branch.py`, the topic `actions`. Invariants: spans of a user stay in one source partition;
what was undone stays so until the user is flagged anew; a span is known as long as its events may
be read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.alerts import Policies
from streamgauge.schemas.control_checks import problem_of
from streamgauge.schemas.exclusions import KIND, of_control
from streamgauge.streams.anomalies.users import MINUTE_MS, QUIET, Told, Who
from streamgauge.streams.branch import Placed
from streamgauge.streams.metrics.fate import NONE

Array = np.ndarray

EXCLUDE = "exclude"


@dataclass(frozen=True, kw_only=True)
class Span:
    """One exclusion, by one flag."""

    anomaly_id: str
    detector: str
    severity: str
    started_at: int
    """Of the flag."""
    since: int
    until: int | None = None
    """The first event time that counts again; None while it lasts."""
    ended_at: int | None = None
    """Of the flag."""
    undone_at: int | None = None
    undone_by: str | None = None
    note: str | None = None

    def has(self, timestamp: int) -> bool:
        """Whether an event of this time is left out."""
        return self.since <= timestamp and (self.until is None or timestamp < self.until)

    def row(self, who: Who) -> dict[str, Any]:
        """As the topic `actions` has it."""
        told = asdict(self)
        since, until = told.pop("since"), told.pop("until")
        partition, user = who
        row = {"action": EXCLUDE, "user_id": user, "partition": partition, "rate": None}
        return {**told, **row, "excluded_from": since, "excluded_until": until}


Spans = Mapping[Who, tuple[Span, ...]]


def answered(
    spans: Spans, words: Iterable[Told], policies: Policies, settle: int
) -> dict[Who, tuple[Span, ...]]:
    """What changes by words about users; policies answer those of flags that open or get worse."""
    changes: dict[Who, tuple[Span, ...]] = {}
    for (partition, user, detector), standing, word in words:
        if word is None:
            continue
        who = partition, user
        known = changes.get(who, spans.get(who, ()))
        one = next((one for one in known if one.anomaly_id == word["anomaly_id"]), None)
        if one is not None:
            changes[who] = tuple(
                _after(each, word, settle) if each is one else each for each in known
            )
        elif standing is not None and policies.excludes(user, detector, word["severity"]):
            of = {name: word[name] for name in ("anomaly_id", "detector", "severity", "started_at")}
            begun = Span(**of, since=standing.last + MINUTE_MS + settle)
            changes[who] = (*known, begun)
    return changes


def _after(span: Span, word: Mapping[str, Any], settle: int) -> Span:
    """After a word about its flag."""
    new = replace(span, severity=word["severity"], ended_at=word["ended_at"])
    if new.ended_at is None or new.until is not None:
        return new
    return replace(new, until=new.ended_at + QUIET * MINUTE_MS + settle)


def undone(spans: Spans, controls: Iterable[Placed]) -> dict[Who, tuple[Span, ...]]:
    """What changes by markers that take exclusions back: events after the watermark count."""
    changes: dict[Who, tuple[Span, ...]] = {}
    for placed in sorted(controls, key=lambda one: (one.partition, one.offset)):
        if placed.control.kind != KIND or problem_of(placed.control) is not None:
            continue
        watermark, by = placed.watermark, of_control(placed.control)
        for who in spans:
            known = changes.get(who, spans[who])
            if who[0] == placed.partition and any(
                one.anomaly_id == placed.control.name and one.has(watermark) for one in known
            ):
                changes[who] = tuple(
                    replace(one, until=watermark + 1, **asdict(by))
                    if one.anomaly_id == placed.control.name
                    else one
                    for one in known
                )
    return changes


def outlived(spans: Spans, floors: Mapping[int, int]) -> dict[Who, tuple[Span, ...]]:
    """What is left of users of whom a span is over for all events from the floor on."""
    changes = {}
    for (partition, user), known in spans.items():
        floor = floors.get(partition, NONE)
        kept = tuple(
            one for one in known if one.ended_at is None or one.until is None or one.until > floor
        )
        if kept != known:
            changes[partition, user] = kept
    return changes


def mask(spans: Spans, frame: pl.DataFrame, wanted: pl.Expr) -> Array | None:
    """Which events are left out, of those that are `wanted`; None: none of them."""
    users = pl.Series([user for _, user in spans], dtype=pl.String).unique()
    some = frame.select(wanted & pl.col("user_key").is_in(users.implode())).to_series()
    rows = np.flatnonzero(some.to_numpy())
    if not len(rows):
        return None
    of = frame.select(pl.col("partition", "user_key", "timestamp").gather(rows))
    out = [
        any(one.has(timestamp) for one in spans.get((partition, user), ()))
        for partition, user, timestamp in of.iter_rows()
    ]
    found = np.zeros(frame.height, bool)
    found[rows] = out
    return found if found.any() else None


def to_state(spans: Iterable[Span]) -> list[dict[str, Any]]:
    """As JSON keeps them."""
    return [asdict(one) for one in spans]


def of_state(kept: Iterable[Mapping[str, Any]]) -> tuple[Span, ...]:
    """What `to_state` gave."""
    return tuple(Span(**one) for one in kept)
