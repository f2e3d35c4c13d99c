"""To which experiments a user was exposed, as sets; and who assigns finds them there."""

from __future__ import annotations

from typing import Any

import pytest

from streamgauge.producers.partitioner import partition_of
from streamgauge.producers.targeting import RedisTargeting
from streamgauge.schemas.experiment_records import Exposure
from streamgauge.schemas.segment_records import UserSegment
from streamgauge.sinks.sink import Log

NOON = 1_767_268_800_000
PARTITIONS = 2


def exposure(experiment: str, user: str, variant: str | None = "control") -> Exposure:
    return Exposure(
        experiment=experiment,
        user_id=user,
        variant=variant,
        exposed_at=NOON,
        variants="{}",
        sums="{}",
        emitted_offset=0,
    )


def member(user: str, segment: str) -> UserSegment:
    return UserSegment(
        user_id=user,
        segment=segment,
        entered_at=NOON,
        left_at=None,
        reason_in="{}",
        reason_out=None,
        rule_version="abcdef01",
    )


@pytest.mark.redis
def test_who_assigns_finds_what_the_sink_wrote(hot: Any, message: Any, batch: Any) -> None:
    sink = hot.sink()
    topics = ("user-segments", "exposures")
    places = [(topic, partition) for topic in topics for partition in range(PARTITIONS)]
    sink.open(dict.fromkeys(places, Log(cluster_id="c", topic_id="t")))
    exposures = [
        exposure("feed", "ann"),
        exposure("feed", "ann"),
        exposure("price", "ann", None),  # seen in several variants: exposed nevertheless
        exposure("feed", "bob"),
    ]
    for topic, rows in (("exposures", exposures), ("user-segments", [member("ann", "power")])):
        by_user = {row.user_id: partition_of(row.user_id.encode(), PARTITIONS) for row in rows}
        messages = [
            message(topic, by_user[row.user_id], offset, row, f"{offset}")
            for offset, row in enumerate(rows)
        ]
        sink.write(batch(sink, messages))
    targeting = RedisTargeting(hot.url, hot.namespace)
    assert targeting.of("ann") == ({"power"}, {"feed", "price"})
    assert targeting.of("bob") == (set(), {"feed"})
    assert targeting.of("cyd") == (set(), set())
    (key,) = hot.client.scan_iter(f"{hot.namespace}:*exposures-*:user:ann")
    assert hot.client.pttl(key) > 0
    targeting.close()
    sink.close()
