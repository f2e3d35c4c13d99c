"""Users that are not as people are, as a branch of the first stage.

Upstream: accepted events (`streams/branch.py`). Downstream: the topic `anomalies`; and `actions`,
what policies do about it. What is asked is in `users.py`; here are minutes of users from frames,
the state and its stable copy. The changelog `anomaly-users` has the flags that stand, and whose
events are left out (`exclusion.py`); minutes of users are read again.

Invariants: only who may be identified is looked at; a user's minutes and flags stay in one source
partition; this branch comes before those that leave events out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.alerts import Policies
from streamgauge.schemas.anomaly_records import Action, Anomaly, AnomalyState
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import ACTIONS, ANOMALIES, ANOMALY_USERS
from streamgauge.schemas.watched import SETTLE_MS
from streamgauge.streams import packing
from streamgauge.streams.anomalies import actions, exclusion, outputs, users
from streamgauge.streams.anomalies.exclusion import EXCLUDE, Span
from streamgauge.streams.anomalies.users import (
    BUSY,
    MINUTE_MS,
    Judged,
    Minute,
    Standing,
    Told,
    Who,
)
from streamgauge.streams.branch import Accepted, Branch, Horizon
from streamgauge.streams.engine.task import Output
from streamgauge.streams.metrics import snapshots
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import combine, firsts, ordering
from streamgauge.streams.metrics.runs import Run, Runs

Array = np.ndarray

FORMAT = 3
NO_POLICIES = Policies()
DAY_MS = 86_400_000
_IMPOSSIBLE = (
    (pl.col("duration_ms") < 0)
    | (pl.col("duration_ms") > DAY_MS)
    | (pl.col("position_ms") < 0)
    | (pl.col("position_ms") > pl.col("duration_ms") + 60_000)
).fill_null(False)

# Columns of open minutes.
PARTITION, START, EVENTS, SUM, SQUARES, FIRST, LAST, BAD, USER = range(9)


_HOW: Mapping[int, np.ufunc] = {
    **dict.fromkeys((EVENTS, SUM, SQUARES, BAD), np.add),
    FIRST: np.minimum,
    LAST: np.maximum,
}


def _folded(run: Run) -> Run:
    """One row a key."""
    is_first = firsts(run.key)
    if is_first.all():
        return run
    more = (~is_first).nonzero()[0]  # few: what came before is of other minutes, mostly
    folded, into = run.take(is_first.nonzero()[0]), (is_first.cumsum() - 1).take(more)
    for column, how in _HOW.items():
        how.at(folded.columns[column], into, run.columns[column].take(more))
    return folded


_NONE_OPEN = Runs(dtypes=(np.int32, *[np.int64] * 7, object), fold=_folded)


@dataclass(frozen=True, kw_only=True)
class State:
    """Open minutes of users, what was judged, who is left out; never changed in place."""

    open: Runs = _NONE_OPEN
    judged: Judged = field(default_factory=Judged)
    watermarks: Mapping[int, int] = field(default_factory=dict)
    done: Mapping[int, int] = field(default_factory=dict)
    told: tuple[Told, ...] = ()
    """Since the last flush."""
    spans: Mapping[Who, tuple[Span, ...]] = field(default_factory=dict)
    changed: frozenset[Who] = frozenset()
    """Whose spans are to be written."""


class UserWatch(Branch):
    """Accepted events to flags of users."""

    changelogs = (ANOMALY_USERS.name,)
    columns = frozenset({"duration_ms", "position_ms"})

    def __init__(
        self,
        registry: Registry,
        *,
        lateness_ms: int,
        consent_default: ConsentDefault = "granted",
        settle_ms: int = SETTLE_MS,
        policies: Policies = NO_POLICIES,
    ) -> None:
        self._policies = policies
        self._lateness = lateness_ms
        self._settle = min(settle_ms, lateness_ms)
        # Earlier minutes may not be read again after a restart.
        self._remembered = min(
            users.REMEMBERED_MS, max(0, lateness_ms - self._settle - 2 * MINUTE_MS)
        )
        self._identifiable = identifiable_rows(consent_default)
        # What was left out since a snapshot is found again by the policies of then only.
        self.identity = json.dumps(
            ["user anomalies", FORMAT, self._settle, consent_default, policies.exclusions()]
        )
        self._codec = Codec(registry)
        self._anomalies = Encoder(registry, ANOMALIES.name, Anomaly)
        self._actions = Encoder(registry, ACTIONS.name, Action)
        self._states = Encoder(registry, ANOMALY_USERS.name, AnomalyState)
        self._stable = self._state = State()
        self._loaded: set[int] = set()
        """Partitions that are replayed from a snapshot: nothing of it has been judged."""

    def process(self, accepted: Accepted) -> None:
        self._state = self._observed(self._state, accepted)
        if self._excludes:
            state = self._judged(self._state)
            changes = exclusion.undone(state.spans, accepted.controls)
            self._state = _with_spans(state, changes)

    def _observed(self, state: State, accepted: Accepted) -> State:
        watermarks = {**state.watermarks, **accepted.watermarks}
        timestamp = accepted.frame["timestamp"].to_numpy()
        end = timestamp // MINUTE_MS * MINUTE_MS + MINUTE_MS
        prompt = accepted.watermark < end + self._settle
        if len(prompt):
            state = replace(state, open=_added(state.open, accepted.frame, prompt, self._wanted()))
        return replace(state, watermarks=watermarks)

    def replay(self, accepted: Accepted) -> None:
        """Of partitions without a snapshot everything had been judged at the commit."""
        self._state = self._observed(self._state, accepted)
        if self._excludes and (loaded := self._loaded & accepted.watermarks.keys()):
            state = self._judged_of(self._state, loaded)
            controls = accepted.of_partitions(loaded).controls
            state = _with_spans(state, exclusion.undone(state.spans, controls))
            self._state = _quiet(state, loaded)

    def leaves_out(self, accepted: Accepted) -> Array | None:
        spans = self._state.spans
        return exclusion.mask(spans, accepted.frame, self._wanted()) if spans else None

    @property
    def _excludes(self) -> bool:
        """Whether it must be known at each event who is left out."""
        return bool(self._state.spans) or bool(self._policies.exclusions())

    def _wanted(self) -> pl.Expr:
        return self._identifiable & pl.col("user_key").is_not_null()

    def flush(self, now: float, horizons: Mapping[int, Horizon]) -> Iterable[Output]:
        state = self._judged(self._state)
        told, changed = state.told, state.changed
        floors = {p: horizon.timestamp - self._lateness for p, horizon in horizons.items()}
        forgotten = exclusion.outlived(state.spans, floors)
        spans = {who: of for who, of in {**state.spans, **forgotten}.items() if of}
        self._state = replace(state, told=(), spans=spans, changed=frozenset())
        words = [each.word for each in told if each.word is not None]
        if words:
            yield outputs.anomalies(words, self._anomalies)
        acted = actions.actions_of(words, self._policies)
        acted += [span.row(who) for who in sorted(changed) for span in state.spans.get(who, ())]
        if acted:
            yield actions.output(acted, self._actions)
        if told or changed or forgotten:
            yield self._saved(told, {who: spans.get(who, ()) for who in (*changed, *forgotten)})

    def _saved(self, told: Iterable[Told], spans: exclusion.Spans) -> Output:
        """Flags that stand, and who is left out, to the changelog."""
        rows: dict[tuple[int, str], Any] = {}
        for each in told:
            partition, user, detector = each.place
            standing = None if each.standing is None else asdict(each.standing)
            rows[partition, f"{user}|{detector}"] = standing
        for (partition, user), of in sorted(spans.items()):
            rows[partition, f"{user}|{EXCLUDE}"] = exclusion.to_state(of) or None
        kept = [(key, None, json.dumps(it).encode()) for (_, key), it in rows.items() if it]
        values = iter(self._states.encode(outputs.states(kept)))
        return Output(
            topic=ANOMALY_USERS.name,
            keys=[key.encode() for _, key in rows],
            values=[next(values) if it else None for it in rows.values()],
            partitions=[partition for partition, _ in rows],
        )

    def _judged(self, state: State) -> State:
        """With the minutes that are done since."""
        state, minutes, done = self._taken(state)
        if not done:
            return state
        judged, told = users.judge(state.judged, minutes, done, self._remembered)
        changes = exclusion.answered(state.spans, told, self._policies, self._settle)
        state = replace(state, judged=judged, told=(*state.told, *told))
        return _with_spans(state, changes)

    def _judged_of(self, state: State, partitions: Iterable[int]) -> State:
        """With those of some partitions."""
        wanted = set(partitions)
        here = {p: at for p, at in state.watermarks.items() if p in wanted}
        judged = self._judged(replace(state, watermarks=here))
        return replace(judged, watermarks=state.watermarks)

    def _taken(self, state: State) -> tuple[State, list[tuple[Who, Minute]], dict[int, int]]:
        """Without the minutes that are done since; those, in order; and until when."""
        done = {
            partition: (watermark - self._settle) // MINUTE_MS * MINUTE_MS
            for partition, watermark in state.watermarks.items()
            if watermark != NONE
        }
        done = {p: end for p, end in done.items() if end > state.done.get(p, NONE)}
        if not done:
            return state, [], {}
        bounds = np.full(max(done) + 1, NONE)
        for partition, end in done.items():
            bounds[partition] = end

        def is_done(run: Run) -> Array:
            partition = np.minimum(run.columns[PARTITION], len(bounds) - 1)
            known = run.columns[PARTITION] < len(bounds)
            return known & (run.columns[START] + MINUTE_MS <= bounds[partition])

        taken = state.open.where(is_done)
        minutes = _minutes(taken.take(np.argsort(taken.key, kind="stable")))
        kept = state.open.keep(lambda run: ~is_done(run))
        return replace(state, open=kept, done={**state.done, **done}), minutes, done

    def commit(self) -> None:
        self._stable = self._state

    def abort(self) -> None:
        self._state = self._stable

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        standing, spans = dict(self._state.judged.standing), dict(self._state.spans)
        for key, value in zip(keys, values, strict=True):
            user, _, detector = key.decode().rpartition("|")
            if detector == EXCLUDE:
                spans.pop((partition, user), None)
            standing.pop((partition, user, detector), None)
            if value is None:
                continue
            found = json.loads(self._codec.decode(value).record["state"])
            if detector == EXCLUDE:
                spans[partition, user] = exclusion.of_state(found)
            else:
                standing[partition, user, detector] = Standing(**found)
        judged = replace(self._state.judged, standing=standing)
        self._state = replace(self._state, judged=judged, spans=spans)

    def restored(self, partitions: set[int]) -> None:
        """What was done at the commit had been judged, or is in the snapshot."""
        if loaded := self._loaded & partitions:
            self._state = _quiet(self._judged_of(self._state, loaded), loaded)
        rest = {p: at for p, at in self._state.watermarks.items() if p in partitions - loaded}
        state, minutes, _ = self._taken(replace(self._state, watermarks=rest))
        judged = users.remembered(state.judged, minutes)
        self._loaded -= partitions
        self._state = replace(state, judged=judged, watermarks=self._state.watermarks)

    def revoke(self, partitions: set[int]) -> None:
        same = self._state is self._stable
        self._stable = _without(self._stable, partitions)
        self._state = self._stable if same else _without(self._state, partitions)
        self._loaded -= partitions

    def snapshot(self) -> Callable[[int], bytes]:
        state = self._stable

        def of(partition: int) -> bytes:
            mine = _without(state, {p for p in state.watermarks if p != partition})
            content = [
                state.watermarks.get(partition),
                state.done.get(partition),
                [[user, minutes] for (_, user), minutes in mine.judged.busy.items()],
                [[p, u, d, asdict(flag)] for (p, u, d), flag in mine.judged.standing.items()],
                [[u, exclusion.to_state(of)] for (_, u), of in mine.spans.items()],
            ]
            return packing.packed({"open": snapshots.table(mine.open)}, content)

        return of

    def load(self, partition: int, snapshot: memoryview) -> bool:
        frames, (watermark, done, busy, standing, spans) = packing.unpacked(snapshot)
        state, judged = self._state, self._state.judged
        known = {
            (partition, user): tuple(Minute(*minute) for minute in minutes)
            for user, minutes in busy
        }
        stands = {(p, user, detector): Standing(**flag) for p, user, detector, flag in standing}
        self._state = State(
            open=snapshots.added(state.open, frames["open"]),
            judged=Judged(busy={**judged.busy, **known}, standing={**judged.standing, **stands}),
            watermarks=_with(state.watermarks, partition, watermark),
            done=_with(state.done, partition, done),
            spans={**state.spans, **{(partition, u): exclusion.of_state(of) for u, of in spans}},
        )
        self._loaded.add(partition)
        return True


def _with(known: Mapping[int, int], partition: int, value: int | None) -> Mapping[int, int]:
    return known if value is None else {**known, partition: value}


def _added(open_: Runs, frame: pl.DataFrame, prompt: Array, wanted: pl.Expr) -> Runs:
    read = frame.select(
        wanted.alias("wanted"),
        pl.col("user_key").hash(0).alias("user"),
        _IMPOSSIBLE.alias("bad"),
        "partition",
        "timestamp",
    )
    rows = np.flatnonzero(prompt & read["wanted"].to_numpy())
    if not len(rows):
        return open_
    timestamp = read["timestamp"].to_numpy()[rows]
    partition = read["partition"].to_numpy()[rows]
    start = timestamp // MINUTE_MS * MINUTE_MS
    key = combine(combine(read["user"].to_numpy()[rows], partition), start)
    order = ordering(key)
    key = key[order]
    first = firsts(key).nonzero()[0]
    within = (timestamp - start)[order]
    bad = read["bad"].to_numpy()[rows][order].astype(np.int64)
    at = order[first]
    users_of = np.empty(len(first), object)
    users_of[:] = frame["user_key"].gather(rows[at]).to_list()
    return open_.add(
        key[first],
        partition[at].astype(np.int32),
        start[at],
        np.diff(np.r_[first, len(key)]),
        np.add.reduceat(within, first),
        np.add.reduceat(within * within, first),
        np.minimum.reduceat(within, first),
        np.maximum.reduceat(within, first),
        np.add.reduceat(bad, first),
        users_of,
    )


def _minutes(run: Run) -> list[tuple[Who, Minute]]:
    """Those that are busy or impossible, in order of time."""
    if not len(run.key):
        return []
    run = _folded(run)
    run = run.take(np.flatnonzero((run.columns[EVENTS] >= BUSY) | (run.columns[BAD] > 0)))
    partition, start, count, total, squares, first, last, bad, user = run.columns
    variance = (squares - total * total / np.maximum(count, 1)) / np.maximum(count, 1)
    spread = (last - first).astype(float)
    comb = spread**2 * (count + 1) / (12 * np.maximum(count - 1, 1))
    evenness = np.where(comb > 0, variance / np.maximum(comb, 1e-9), 0.0)
    columns = zip(
        start.tolist(),
        partition.tolist(),
        user.tolist(),
        count.tolist(),
        evenness.tolist(),
        bad.tolist(),
        first.tolist(),
        last.tolist(),
        strict=True,
    )
    return [((p, u), Minute(at, *rest)) for at, p, u, *rest in sorted(columns)]


def _without(state: State, partitions: set[int]) -> State:
    gone = list(partitions)
    judged = state.judged
    return State(
        open=state.open.keep(lambda run: ~np.isin(run.columns[PARTITION], gone)),
        judged=Judged(
            busy={who: m for who, m in judged.busy.items() if who[0] not in partitions},
            standing={p: flag for p, flag in judged.standing.items() if p[0] not in partitions},
        ),
        watermarks={p: wm for p, wm in state.watermarks.items() if p not in partitions},
        done={p: end for p, end in state.done.items() if p not in partitions},
        told=tuple(each for each in state.told if each.place[0] not in partitions),
        spans={who: of for who, of in state.spans.items() if who[0] not in partitions},
        changed=frozenset(who for who in state.changed if who[0] not in partitions),
    )


def _with_spans(state: State, changes: exclusion.Spans) -> State:
    if not changes:
        return state
    return replace(state, spans={**state.spans, **changes}, changed=state.changed | changes.keys())


def _quiet(state: State, partitions: set[int]) -> State:
    """What was told before a restart is not told again."""
    return replace(
        state,
        told=tuple(each for each in state.told if each.place[0] not in partitions),
        changed=frozenset(who for who in state.changed if who[0] not in partitions),
    )
