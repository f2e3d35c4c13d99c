"""On real Kafka, Postgres and Redis: a right namespace is found right, every planted fault found.

partition 0:  v0@T0  v1@+1m  v0 again  c1@T0  broken  tick@+62m
partition 1:  v2@T0  v3@+1m  tick@+62m  v9@-1m (late)
"""

from dataclasses import replace

import polars as pl
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from streamgauge.cli.verify import VerifyConfig, compare_namespaces, verify
from streamgauge.cli.verify.cells import Cell, CellKey
from streamgauge.cli.verify.errors import CutNotCoveredError, NotReachedError
from streamgauge.schemas.events import PageView
from streamgauge.schemas.metrics import load_definitions
from streamgauge.schemas.records import MetricUpdate, Tick
from streamgauge.sinks.postgres.migrate import migrate

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.redis]

T0 = 1_760_000_400_000
PARTITIONS = 2


def version(world, *dimensions):
    grains = load_definitions(world.config.definitions).grains()
    return next(g.version for g in grains if g.dimensions == dimensions)


def views_key(world, size="1m"):
    return CellKey(
        "views", size, T0 if size == "1m" else T0 - T0 % 86_400_000, version(world), "{}"
    )


def targets(report):
    return {target for target, count in report.different.items() if count}


def test_a_right_namespace_is_found_right(world):
    seen = []
    report = verify(world.config, progress=lambda *step: seen.append(step))
    assert report.ok, report.text()
    assert (report.read, report.ticks, report.accepted) == (10, 2, 5)
    assert (report.duplicates, report.late, report.rejected) == (1, 1, {"bad_header": 1})
    assert report.cut == {0: 6, 1: 4}
    assert set(report.keys) == {
        "metrics",
        "dead-letters",
        "late-events",
        "postgres.metrics",
        "postgres.dead_letters",
        "postgres.late_events",
        "redis",
    }
    assert ("recomputing", 10, 10) in seen
    assert "equal (all windows" in report.text()
    assert '"ok": true' in report.to_json()


def off_by_one(world):
    world.row(views_key(world)._replace(metric=""), {"views": Cell(3, 3, 1, 2, True)})


def not_final(world):
    world.execute("UPDATE {}.metrics SET is_final = false WHERE metric = 'views'")


def missing_row(world):
    world.execute('DELETE FROM {}.metrics WHERE dimensions = \'{"page": "/b"}\'')


def extra_row(world):
    key = views_key(world)._replace(window_start=T0 - 3_600_000)
    world.table_row(key, Cell(1, 1, 1, 1, True))


def missing_dead_letter(world):
    world.execute("DELETE FROM {}.dead_letters")


def invented_dead_letter(world):
    world.dead_letter(1, 0, "undecodable")


def repeated_dead_letter(world):
    world.execute("DELETE FROM {}.dead_letters")
    world.dead_letter(0, 4, "bad_header")


def missing_late_event(world):
    world.execute("DELETE FROM {}.late_events")


def redis_off(world):
    world.redis().hset(world.redis_key(views_key(world)), "{}", "3.0")


def redis_missing(world):
    world.redis().delete(world.redis_key(views_key(world)))


def key_without_its_row(world):
    world.put("metrics", "|".join(map(str, views_key(world)[1:])), None)


@pytest.mark.parametrize(
    ("change", "different"),
    [
        (off_by_one, {"metrics"}),
        (key_without_its_row, {"metrics"}),
        (not_final, {"postgres.metrics"}),
        (missing_row, {"postgres.metrics"}),
        (extra_row, {"postgres.metrics"}),
        (missing_dead_letter, {"postgres.dead_letters"}),
        (invented_dead_letter, {"dead-letters", "postgres.dead_letters"}),
        (repeated_dead_letter, {"dead-letters"}),
        (missing_late_event, {"postgres.late_events"}),
        (redis_off, {"redis"}),
        (redis_missing, {"redis"}),
    ],
)
def test_a_planted_difference_is_found_in_its_target(world, change, different):
    change(world)
    world.config = replace(world.config, timeout=0.1)
    report = verify(world.config)
    assert targets(report) == different, report.text()
    assert not report.ok
    assert "DIFFERENT" in report.text()


def test_differences_shown_are_capped_and_counted(world):
    world.execute("DELETE FROM {}.metrics")
    report = verify(replace(world.config, timeout=0.1, shown=2))
    assert len(report.differences) == 2
    assert f"and {report.different['postgres.metrics'] - 2:,} more" in report.text()


def test_open_windows_are_left_out_when_only_closed_ones_are_asked_for(closed_only):
    world = closed_only
    hour = views_key(world, "1d")
    world.redis().hset(world.redis_key(hour), "{}", "999")
    assert verify(world.config).ok


def test_a_row_under_a_key_that_is_not_its_own_is_a_difference(world):
    row = MetricUpdate(
        window_start=T0,
        window_size="1m",
        dimensions="{}",
        version="0",
        users=None,
        is_final=False,
        watermark=T0,
        metrics=(),
        values=(),
        numerators=(),
        denominators=(),
    )
    world.put("metrics", "another key", row)
    report = verify(replace(world.config, timeout=0.1, postgres=None, redis=None))
    assert [d.expected for d in report.differences] == ["the key"]


def test_a_sink_that_stands_still_is_named(world):
    world.sink_passed(0)
    with pytest.raises(NotReachedError, match="the Postgres sink"):
        verify(replace(world.config, timeout=0.1))
    with pytest.raises(NotReachedError, match="the Redis sink"):
        verify(replace(world.config, timeout=0.1, postgres=None))


def test_events_that_come_meanwhile_are_taken_in_while_it_settles(world):
    # A new event that nobody counts: first the worker is waited for, then it is a difference.
    world.event(0, PageView(event_id="n", user_id="u", timestamp=T0 + 3_720_000, page_url="/n"))
    with pytest.raises(NotReachedError, match="is it running"):
        verify(replace(world.config, timeout=0.1))
    world.commit()
    report = verify(replace(world.config, timeout=0.1))
    assert not report.ok


def test_a_cut_ends_the_reading_and_what_was_open_there_is_not_compared(world):
    report = verify(replace(world.config, cut={0: 4, 1: 2}))
    assert report.ok, report.text()
    assert (report.read, report.late, report.closed_only) == (6, 0, True)
    assert "goes on after the cut" in report.text()


def archived(world, tmp_path, raw):
    """The records as the archive's sink would have laid them down."""
    folder = tmp_path / "archive" / world.config.namespace / "events" / "date=x" / "hour=y"
    folder.mkdir(parents=True)
    for partition in {each.partition for each in raw}:
        rows = [each for each in raw if each.partition == partition]
        offsets = [each.offset for each in rows]
        frame = pl.DataFrame(
            {
                "partition": pl.Series([partition] * len(rows), dtype=pl.Int32),
                "offset": offsets,
                "append_time": [each.append_time for each in rows],
                "payload": [each.value for each in rows],
            }
        )
        name = f"p{partition}-{min(offsets):012d}-{max(offsets):012d}.parquet"
        frame.write_parquet(folder / name)
    return replace(world.config, archive=tmp_path / "archive")


def test_the_archive_stands_in_for_the_topic(world, tmp_path):
    report = verify(archived(world, tmp_path, world.raw))
    assert report.ok, report.text()
    assert (report.read, report.source) == (10, f"archive {tmp_path / 'archive'}")


def test_an_archive_that_lacks_records_is_refused(world, tmp_path):
    config = archived(world, tmp_path, [each for each in world.raw if each.offset > 0])
    late = archived(world, tmp_path / "b", [each for each in world.raw if each.offset < 3])
    with pytest.raises(NotReachedError, match="the archive's sink"):
        verify(replace(late, timeout=0.1))
    with pytest.raises(CutNotCoveredError, match=r"no file for .*/0 offsets 0 to 0"):
        verify(config)


def test_a_topic_whose_first_records_are_gone_is_refused(world):
    admin = AdminClient(dict(world.config.kafka))
    done = admin.delete_records([TopicPartition(world.config.events, 0, 2)])
    for each in done.values():
        each.result()
    with pytest.raises(CutNotCoveredError, match=r"partitions 0\).*--from-archive"):
        verify(world.config)


def test_rows_that_the_broker_has_deleted_by_retention_are_excused(world):
    admin = AdminClient(dict(world.config.kafka))
    for topic in ("metrics", "dead-letters"):
        gone = TopicPartition(world.config.topic(topic), 0, 1)
        for each in admin.delete_records([gone]).values():
            each.result()
    report = verify(world.config)
    assert report.ok, report.text()
    assert report.excused["metrics"] > 0
    assert report.excused["dead-letters"] == 1
    off_by_one(world)
    assert targets(verify(replace(world.config, timeout=0.1))) == {"metrics"}


def test_ticks_that_come_while_it_settles_are_taken_in(world):
    # Ticks close the hour: Postgres says so already, the topic does not.
    world.execute("UPDATE {}.metrics SET is_final = true WHERE window_size = '1h'")
    closing = T0 - T0 % 3_600_000 + 7_200_000
    once = iter([range(PARTITIONS)])

    def tick(stage, done, total):
        if stage == "settling":
            for partition in next(once, ()):
                world.event(partition, Tick(timestamp=closing))
            world.commit()

    config = replace(world.config, redis=None)
    report = verify(config, progress=tick)
    assert report.cut == {0: 7, 1: 5}
    assert not report.closed_only
    assert targets(report) == {"metrics"}


def test_events_that_keep_coming_leave_closed_windows_to_compare(world):
    world.execute("DELETE FROM {}.metrics WHERE window_size = '1d'")
    sent = iter(["new"])

    def send(stage, done, total):
        if stage == "settling" and (event_id := next(sent, None)):
            event = PageView(event_id=event_id, user_id="u", timestamp=T0 + 3_720_000, page_url="/")
            world.event(0, event)
            world.commit()

    report = verify(replace(world.config, timeout=3.0), progress=send)
    assert report.ok, report.text()
    assert report.closed_only
    assert "keep coming" in report.text()


def test_two_namespaces_with_the_same_rows_are_the_same(world):
    assert compare_namespaces(world.config, world.config).ok


def test_two_namespaces_differ_by_their_rows(world):
    nobody = replace(world.config, schema=f"{world.config.postgres_schema}_b")
    migrate(world.config.postgres, nobody.postgres_schema)
    report = compare_namespaces(world.config, nobody)
    assert targets(report) == {"postgres.metrics"}
    assert report.different["postgres.metrics"] == report.keys["postgres.metrics"]


def test_a_namespace_that_is_not_there_is_an_error_not_an_answer(world):
    wrong = replace(world.config, namespace="nobody", postgres=None, redis=None)
    with pytest.raises(CutNotCoveredError, match="namespace"):
        verify(wrong)


def test_names_follow_the_namespace():
    config = VerifyConfig(kafka={}, registry="", namespace="my-ns")
    assert config.events == "my-ns.events"
    assert (config.postgres_schema, config.redis_prefix) == ("my_ns", "my-ns:")
    assert config.worker_group == "my-ns.streamgauge-worker"
    plain = VerifyConfig(kafka={}, registry="")
    assert (plain.postgres_schema, plain.redis_prefix) == ("streamgauge", "sg:")
