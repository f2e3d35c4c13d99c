"""What segments write, as bytes for the topics, and back: `user-segments` is the changelog.

Upstream: `moves.py`. Downstream: `membership.py` hands it to the engine. Rows go to the
partition that the users' events are in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.messages import Messages
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.segment_records import SegmentCount, SegmentRules, UserSegment
from streamgauge.schemas.segments import Rules, load_rules
from streamgauge.schemas.topics import SEGMENT_COUNTS, USER_SEGMENTS
from streamgauge.streams.engine.task import Output
from streamgauge.streams.metrics import keys
from streamgauge.streams.segments.evaluation import Count
from streamgauge.streams.segments.moves import Moves
from streamgauge.streams.segments.state import SegmentState, restored

RULES = b"rules"
"""The key of a partition's rules; those of users have a | in them."""

_COUNTS: Mapping[str, Any] = {"segment": pl.String, "at": pl.Int64, "members": pl.Int64}


def told(moves: Moves) -> pl.DataFrame:
    """Moves as rows of the topic, with the columns of `UserSegment`."""
    enters, nothing = pl.col("is_member"), pl.lit(None)
    return moves.frame.select(
        "user_id",
        "segment",
        "entered_at",
        pl.when(enters).then(nothing).otherwise("at").alias("left_at"),
        pl.when(enters).then("reason").alias("reason_in"),
        pl.when(enters).then(nothing).otherwise("reason").alias("reason_out"),
        "rule_version",
    )


class SegmentOutputs:
    """Rows of both topics."""

    def __init__(self, registry: Registry) -> None:
        self._moves = Encoder(registry, USER_SEGMENTS.name, UserSegment)
        self._rules = Encoder(registry, USER_SEGMENTS.name, SegmentRules)
        self._counts = Encoder(registry, SEGMENT_COUNTS.name, SegmentCount)
        self._decoder = Decoder(registry, USER_SEGMENTS.name)

    def moves(self, moves: Moves) -> Output:
        keys = pl.concat_str("user_id", "segment", separator="|").cast(pl.Binary)
        return Output(
            topic=USER_SEGMENTS.name,
            keys=moves.frame.select(keys).to_series().to_list(),
            values=self._moves.encode(told(moves)),
            partitions=moves.frame["partition"].to_list(),
        )

    def rules(self, rules: Mapping[int, Rules]) -> Output:
        table = pl.DataFrame(
            {
                "rules_version": [one.version for one in rules.values()],
                "rules_body": [one.body() for one in rules.values()],
            },
            schema={"rules_version": pl.Int64, "rules_body": pl.String},
        )
        return Output(
            topic=USER_SEGMENTS.name,
            keys=[RULES] * len(rules),
            values=self._rules.encode(table),
            partitions=list(rules),
        )

    def counts(self, counts: Sequence[Count]) -> Output:
        rows = [(c.segment, c.hour, c.members) for c in counts]
        return Output(
            topic=SEGMENT_COUNTS.name,
            keys=[f"{c.segment}|{c.hour}|{c.partition}".encode() for c in counts],
            values=self._counts.encode(pl.DataFrame(rows, schema=_COUNTS, orient="row")),
            partitions=[c.partition for c in counts],
        )

    def restored(
        self, state: SegmentState, partition: int, rows: Mapping[bytes, bytes]
    ) -> SegmentState:
        """With a partition as the last rows of its changelog say."""
        frame = self._decoder.decode(
            Messages(
                USER_SEGMENTS.name,
                list(rows),
                list(rows.values()),
                np.full(len(rows), partition, np.int32),
                np.arange(len(rows)),
                np.zeros(len(rows), np.int64),
            )
        ).frame
        held = frame.drop_nulls("rules_body").select("rules_body", "rules_version").rows()
        if not held:  # nothing has ever been evaluated
            return state
        body, version = held[0]
        stays = frame.filter(pl.col("user_id").is_not_null(), pl.col("left_at").is_null())
        return restored(
            state,
            partition,
            known(state, body, version),
            keys.of_strings(stays["user_id"]),
            stays["segment"],
            stays["entered_at"].to_numpy(),
        )


def known(state: SegmentState, body: str, version: int) -> Rules:
    """These rules; the very object that another partition has, where it has the same."""
    rules = load_rules(body, "rules in force", version)
    return next((one for one in state.rules.values() if one == rules), rules)
