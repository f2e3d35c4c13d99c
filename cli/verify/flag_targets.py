"""Flags of the topic `anomalies`, beside those that have to be there.

Upstream: `series_flags.py` and `user_flags.py`, which say what has to be said by now; the topic.
Downstream: the report. The topic is read before the points that its flags are of, so that whatever
it says can be computed again, though time goes on meanwhile.

Invariants: a word that is due is there, with what it has to say; nothing is said twice, or after a
flag has cleared; what cannot be computed again is held to what holds of any flag.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from streamgauge.cli.verify import series_flags
from streamgauge.cli.verify.compare import NOTHING
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.flags import Word
from streamgauge.cli.verify.log import Log
from streamgauge.cli.verify.report import Comparison, Difference
from streamgauge.cli.verify.series_flags import Fault, Key, Place, SeriesFlags
from streamgauge.cli.verify.user_flags import UserFlags
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.topics import ANOMALIES, ANOMALY_STATE

Row = Mapping[str, Any]
Rows = Mapping[Key, Sequence[Row]]
"""Words by flag, in the order in which they were said."""


def read_flags(config: VerifyConfig, log: Log, codec: Codec) -> Rows | None:
    """Everything that the topic still says; None without it."""
    topic = config.topic(ANOMALIES.name)
    if not log.exists(topic):
        return None
    rows: defaultdict[Key, list[Row]] = defaultdict(list)
    for chunk in log.read(topic, *log.bounds(topic)):
        for message in chunk:
            if (value := message.value()) is not None:
                row = codec.decode(value).record
                rows[row["series"], row["detector"], row["started_at"]].append(row)
    return rows


def read_memories(config: VerifyConfig, log: Log, codec: Codec) -> Mapping[Place, bytes]:
    """The last memory of each series, packed."""
    topic = config.topic(ANOMALY_STATE.name)
    if not log.exists(topic):
        return {}
    found = {}
    for key, value in log.last_values(topic).items():
        if (key or b"").startswith(b"["):  # others are points and progress
            metric, dimensions = json.loads(key or b"")
            found[metric, dimensions] = codec.decode(value).record["state"]
    return found


def compare_flags(
    rows: Rows, series: SeriesFlags, users: UserFlags, *, done: int, is_whole: bool
) -> Comparison:
    """What is said, beside what has to be said of minutes that are done in all partitions."""
    told = users.told()
    faults = [*_anyway(rows, users), *series.faults(rows, done)]
    for key, words in told.items():
        faults += _beside(key, words, rows.get(key, ()), math.inf, may_go_on=True)
    for key, words in series.told.items():
        if series.is_known(*key):
            faults += _beside(key, words, rows.get(key, ()), done, may_go_on=False)
    left_alone = 0
    for key, said in rows.items():
        name, detector, started_at = key
        if key in told or key in series.told:
            continue
        if said[0]["user_id"] is not None:
            is_wrong = users.is_known(said[0]["user_id"], started_at)
        else:
            is_wrong = series.is_known(name, detector, started_at)
            left_alone += not is_wrong and detector not in series_flags.DETECTORS
        if is_wrong:
            faults.append((key, NOTHING, _text(said[-1])))
    differences = [
        Difference(target=ANOMALIES.name, key="|".join(map(str, key)), expected=one, found=other)
        for key, one, other in sorted(set(faults))
        if is_whole or other != NOTHING
    ]
    return Comparison(
        target=ANOMALIES.name,
        keys=len(told.keys() | series.told.keys() | rows.keys()),
        differences=differences,
        excused=left_alone,
    )


def _anyway(rows: Rows, users: UserFlags) -> Iterator[Fault]:
    """What holds of any flag."""
    for key, said in rows.items():
        if said[0]["user_id"] is not None and not users.is_alone(said[0]["user_id"]):
            continue
        for row in said:
            ended = row["ended_at"]
            if ended is not None and ended < row["started_at"]:
                yield key, f"an end from {row['started_at']} on", str(ended)
            if row["is_final"] is not (ended is not None):
                yield key, "final when it has an end", _text(row)
        for before, row in pairwise(said):
            if row["version"] <= before["version"]:
                yield key, f"a word after {before['version']}", f"word {row['version']} again"
            elif before["is_final"]:
                yield key, "nothing after it cleared", _text(row)
            elif before["severity"] == "red" != row["severity"]:
                yield key, "red until it clears", _text(row)


def _beside(
    key: Key, words: Sequence[Word], said: Sequence[Row], done: float, *, may_go_on: bool
) -> Iterator[Fault]:
    """A flag's words; `may_go_on`: later ones are of what was not read."""
    for row in said:
        number = row["version"]
        if not 1 <= number <= len(words):
            if not (may_go_on and words[-1].ended_at is None and number > 0):
                yield key, f"{len(words)} words", f"word {number}: {_text(row)}"
        elif not _same(words[number - 1], row):
            yield key, str(words[number - 1]), _text(row)
    last = max((row["version"] for row in said), default=0)
    due = sum(word.due <= done for word in words)
    if last < due:
        yield key, str(words[due - 1]), _text(said[-1]) if said else NOTHING


def _same(word: Word, row: Row) -> bool:
    return (
        (word.severity, word.ended_at) == (row["severity"], row["ended_at"])
        and _near(word.expected, row["expected"])
        and _near(word.observed, row["observed"])
        and _near(word.score, row["score"])
    )


def _near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _text(row: Row) -> str:
    until = "" if row["ended_at"] is None else f" until {row['ended_at']}"
    return (
        f"{row['severity']}{until}, {row['observed']} for {row['expected']}, score {row['score']}"
    )
