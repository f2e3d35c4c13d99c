"""Users whom policies exclude from metrics and experiments: whose events do not count, and why.

Upstream: rows of the topic `actions`, which say who is left out from when to when, of event time;
accepted events, ticks and controls in order of offsets. Downstream: the recomputation, which leaves
these events out, and the comparison, which holds each span to its flag and to what was undone.

A span begins when the flag's minute is over by the time that minutes have to settle, and ends so
much after the three minutes without its condition; or, undone, right after the watermark at which
the marker lies. Invariant: it shares no code with the worker.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.log import Log
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.control_checks import problem_of
from streamgauge.schemas.exclusions import KIND
from streamgauge.schemas.records import Control
from streamgauge.schemas.topics import ACTIONS
from streamgauge.schemas.watched import SETTLE_MS

MINUTE, QUIET = 60_000, 3
EXCLUDE = "exclude"


class Exclusions:
    """Give it the rows, ask it of each accepted event; it is a fold as well."""

    def __init__(self, *, lateness_ms: int, consent_denied: bool) -> None:
        self._settle = min(SETTLE_MS, lateness_ms)
        self._consent_denied = consent_denied
        self._spans: dict[tuple[int, str], list[tuple[int, int | None]]] = {}
        self._watermarks: dict[int, int] = {}
        self._undone: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        """By partition and anomaly: the watermarks at which it was undone."""

    def believe(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """These are the spans; earlier ones may have got an end."""
        self._spans.clear()
        for row in rows:
            if row["action"] == EXCLUDE:
                spans = self._spans.setdefault((row["partition"], row["user_id"]), [])
                spans.append((row["excluded_from"], row["excluded_until"]))

    def has(self, partition: int, event: Mapping[str, Any]) -> bool:
        """Whether an accepted event is left out."""
        if not self._spans:
            return False
        consent = event.get("consent_analytics")
        if self._consent_denied if consent is None else not consent:
            return False
        user = event.get("user_id")
        user = event.get("anonymous_id") if user is None else user
        return any(
            since <= event["timestamp"] and (until is None or event["timestamp"] < until)
            for since, until in self._spans.get((partition, str(user)), ())
        )

    def tick(self, partition: int, timestamp: int) -> None:
        """Time passes."""
        self._watermarks[partition] = max(timestamp, self._watermarks.get(partition, timestamp))

    def event(self, partition: int, offset: int, event: Mapping[str, Any]) -> None:
        """An accepted one, left out or not."""
        self.tick(partition, event["timestamp"])

    def control(self, partition: int, offset: int, control: Control) -> None:
        """A marker that takes one back."""
        if control.kind == KIND and problem_of(control) is None and partition in self._watermarks:
            self._undone[partition, control.name].append(self._watermarks[partition])

    def problems(
        self, row: Mapping[str, Any], flag: Mapping[str, Any] | None
    ) -> Iterator[tuple[str, str]]:
        """Where a row does not follow from its flag and what was undone: expected, found."""
        if row["action"] != EXCLUDE or flag is None:  # without a flag none is right
            return
        since, until = row["excluded_from"], row["excluded_until"]
        marks = self._undone.get((row["partition"], row["anomaly_id"]), [])
        first = flag["started_at"] + MINUTE + self._settle
        is_exact = flag["severity"] == "yellow"  # a policy may answer its getting worse only
        if since != first and (is_exact or since < first or (since - first) % MINUTE):
            yield f"from {first}{'' if is_exact else ' or whole minutes later'}", f"from {since}"
        ended = flag["ended_at"]
        end = None if ended is None else ended + QUIET * MINUTE + self._settle
        in_force = [mark for mark in marks if since <= mark and (end is None or mark < end)]
        if in_force:
            end = min(in_force) + 1
        if (until, row["undone_at"] is not None) != (end, bool(in_force)):
            told = "undone" if in_force else "not undone"
            yield f"until {end}, {told}", f"until {until}, undone_at {row['undone_at']}"


def rows_of(config: VerifyConfig, log: Log, codec: Codec) -> list[dict[str, Any]]:
    """The last row of each action."""
    topic = config.topic(ACTIONS.name)
    if not log.exists(topic):
        return []
    return [codec.decode(value).record for value in log.last_values(topic).values()]
