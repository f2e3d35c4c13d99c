"""What a checkpoint brings back, beyond what `test_pipeline` shows: bounds, and when to say no."""

from __future__ import annotations

from typing import Any

from streamgauge.schemas.metrics import load_definitions
from streamgauge.streams.metrics.merge import SIZE, SIZE_MS, START
from streamgauge.streams.metrics.snapshots import identity

MINUTE, HOUR = 60_000, 3_600_000
ONE = "extends: none\nmetrics: [{name: events, aggregate: count}]"
USERS = "extends: none\nmetrics: [{name: people, aggregate: distinct_users}]"
EVERY = {0, 1}


def search(time: int, user: str = "u") -> dict[str, Any]:
    event = {"event_type": "search", "user_id": user, "timestamp": time}
    return event | {"event_id": f"{user} {time}"}


def run(pipeline: Any) -> None:
    for stage in (pipeline.source, pipeline.merge):
        logs = pipeline.topics[stage.task.topic]
        pipeline.read(stage, {p: len(log) for p, log in enumerate(logs)})
        pipeline.now += 10
        pipeline.barrier(stage)


def tick(pipeline: Any, time: int) -> None:
    for partition in EVERY:
        pipeline.append(partition, {"event_type": "tick", "timestamp": time})


def checkpoint(pipeline: Any) -> None:
    for stage in (pipeline.source, pipeline.merge):
        pipeline.checkpoint(stage, EVERY)


def finals(pipeline: Any) -> list[bytes | None]:
    rows = [message for log in pipeline.topics["metrics"] for message in log]
    return [m.key() for m in rows if pipeline.codec.decode(m.value()).record["is_final"]]


def test_what_closed_since_is_neither_held_nor_written_again(kit: Any) -> None:
    #  events 0:50 ... 1:09 | checkpoint, folded to 0:50 | tick 1:15: folded to 1:00, hour 0 closes
    #  | an event at 1:16, not folded
    pipeline = kit.pipeline(load_definitions(USERS))
    for minute in range(50, 70):
        for partition in EVERY:
            pipeline.append(partition, search(kit.start + minute * MINUTE, f"u{minute}"))
    run(pipeline)
    checkpoint(pipeline)
    tick(pipeline, kit.start + 75 * MINUTE)
    run(pipeline)
    pipeline.append(0, search(kit.start + 76 * MINUTE))
    run(pipeline)
    before = finals(pipeline)
    for stage in (pipeline.source, pipeline.merge):
        pipeline.restart(stage)
        assert stage.loaded  # of the partition that the only grain is in
    for partition, (_, metadata) in pipeline.merge.committed.items():
        assert pipeline.merge.task.metadata(partition) == metadata
    rows = pipeline.merge.task._state.rows.runs
    ends = [
        start + SIZE_MS[size]
        for run in rows
        for start, size in zip(run.columns[START], run.columns[SIZE], strict=True)
    ]
    assert min(ends) > kit.start + HOUR
    sketches = pipeline.source.task._state.sketches
    assert min(place.start for place in sketches if place.size == "1h") == kit.start + HOUR
    run(pipeline)
    assert finals(pipeline) == before
    assert len(set(before)) == len(before) > 10


def test_a_checkpoint_is_refused_where_the_log_was_read_under_other_definitions(kit: Any) -> None:
    pipeline = kit.pipeline(load_definitions(ONE))
    for partition in EVERY:
        pipeline.append(partition, search(kit.start))
    run(pipeline)
    checkpoint(pipeline)
    pipeline.restart(pipeline.source, load_definitions(USERS))  # for a while, elsewhere
    for partition in EVERY:
        pipeline.append(partition, search(kit.start + MINUTE))
    run(pipeline)
    pipeline.source.loaded = 0
    pipeline.restart(pipeline.source, load_definitions(ONE))
    assert pipeline.source.loaded == 0


def test_a_checkpoint_before_what_a_full_restore_reads_is_refused(kit: Any) -> None:
    pipeline = kit.pipeline()
    for hour in range(4):
        for partition in EVERY:
            pipeline.append(partition, search(kit.start + hour * HOUR))
        run(pipeline)
        if not hour:
            checkpoint(pipeline)
    for stage in (pipeline.source, pipeline.merge):
        pipeline.restart(stage)
        assert stage.loaded == 0


def test_settings_and_definitions_tell_snapshots_apart() -> None:
    same = identity(["a", "b"], 600, "granted")
    assert same == identity(["a", "b"], 600, "granted")
    others = [(["b", "a"], 600, "granted"), (["a"], 600, "granted"), (["a", "b"], 601, "granted")]
    assert same not in [identity(*other) for other in others]
