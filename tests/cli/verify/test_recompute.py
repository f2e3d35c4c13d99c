"""A tiny stream, computed by hand; consent, scaling and dimensions each on their own."""

import json

import pytest

from streamgauge.cli.verify.cells import Bound, Cell, CellKey
from streamgauge.cli.verify.experiments import Experiments
from streamgauge.cli.verify.recompute import Raw, Recomputation, Rejected, Tick
from streamgauge.schemas import control
from streamgauge.schemas.metrics import load_definitions
from streamgauge.schemas.records import MARKER_TIME, Control

T0 = 1_760_000_400_000  # 09:00:00 UTC; minute, hour: T0 - T0 % 3_600_000
HOUR = T0 - T0 % 3_600_000
DAY = T0 - T0 % 86_400_000
NOW = T0 + 86_400_000

DEFINITIONS = """
extends: none
metrics:
  - {name: views, events: [page_view], aggregate: count, by: [[], [page]]}
  - {name: users, aggregate: distinct_users}
  - {name: seconds, events: [course_interaction], aggregate: sum, field: duration}
  - {name: mean_seconds, events: [course_interaction], aggregate: mean, field: duration}
  - {name: longest, events: [course_interaction], aggregate: max, field: duration}
  - {name: spread, events: [course_interaction], aggregate: quantiles, field: duration,
     quantiles: [0.5, 0.99]}
  - name: per_view
    aggregate: ratio
    numerator: {events: [course_interaction], field: duration}
    denominator: {events: [page_view], where: {status: {lt: 500}}}
"""


def decode(value):
    """Records in these tests are JSON; `tick` and `reject` stand for themselves."""
    fields = json.loads(value)
    if "tick" in fields:
        return Tick(fields["tick"], fields.get("control"))
    if "reject" in fields:
        return Rejected(fields["reject"])
    return fields


def recompute(*records, definitions=DEFINITIONS, lateness_ms=3_600_000, denied=False, parts=1):
    """Records of (partition, fields), each partition with offsets of its own."""
    oracle = Recomputation(
        load_definitions(definitions).grains(),
        decode,
        lateness_ms=lateness_ms,
        consent_denied=denied,
    )
    oracle.expect(range(parts))
    offsets = dict.fromkeys(range(parts), 0)
    for partition, fields in records:
        oracle.add([Raw(partition, offsets[partition], NOW, json.dumps(fields).encode())])
        offsets[partition] += 1
    return oracle


def view(n, at, user="u1", page="/a?x=1", status=200, **more):
    fields = {"event_id": f"v{n}", "event_type": "page_view", "timestamp": at, "status": status}
    return {**fields, "user_id": user, "page_url": page, **more}


def course(n, at, duration, user="u1"):
    fields = {"event_id": f"c{n}", "event_type": "course_interaction", "timestamp": at}
    return {**fields, "user_id": user, "duration": duration}


def by_name(oracle, window_size, dimensions="{}"):
    return {
        key.metric: cell
        for key, cell in oracle.cells().items()
        if key.window_size == window_size and key.dimensions == dimensions
    }


def test_a_tiny_stream_gives_what_the_drawing_says():
    # partition 0:  T0      +1s     +2s     +61s
    #               v1(u1)  c1=2.5  v2(u2)  c2=0.5
    # partition 1:  v3(u1) at T0, status 500: a view, but no base of the ratio
    #
    # minute T0:    views 3, seconds 2.5 of 1, users {u1, u2}
    # minute T0+60: seconds 0.5 of 1, no view, so neither `views` nor `per_view`
    oracle = recompute(
        (0, view(1, T0)),
        (0, course(1, T0 + 1_000, 2.5)),
        (0, view(2, T0 + 2_000, user="u2", page="/b#top")),
        (0, course(2, T0 + 61_000, 0.5)),
        (1, view(3, T0, status=500)),
        parts=2,
    )
    minutes = {k: c for k, c in oracle.cells().items() if k.window_size == "1m"}
    first = {k.metric: c for k, c in minutes.items() if k[2:] == (T0, k.version, "{}")}
    assert first == {
        "views": Cell(3.0, 3.0, 1.0, 2, False),
        "users": Cell(2.0, 2.0, 1.0, 2, False),
        "seconds": Cell(2.5, 2.5, 1.0, 2, False),
        "mean_seconds": Cell(2.5, 2.5, 1.0, 2, False),
        "longest": Cell(2.5, 2.5, 1.0, 2, False),
        "spread_p50": Cell(2.5, 2.5, 1.0, 2, False, Bound.QUANTILE),
        "spread_p99": Cell(2.5, 2.5, 1.0, 2, False, Bound.QUANTILE),
        "per_view": Cell(1.25, 2.5, 2.0, 2, False),
    }
    second = {k.metric for k in minutes if k.window_start == T0 + 60_000}
    assert second == {"users", "seconds", "mean_seconds", "longest", "spread_p50", "spread_p99"}
    pages = {k.dimensions: c.value for k, c in minutes.items() if k.dimensions != "{}"}
    assert pages == {'{"page":"/a"}': 2.0, '{"page":"/b"}': 1.0}
    assert by_name(oracle, "1h")["seconds"] == Cell(3.0, 3.0, 1.0, 2, False)
    assert by_name(oracle, "1h")["mean_seconds"].value == 1.5
    assert {k.window_start for k in oracle.cells() if k.window_size == "1h"} == {HOUR}
    assert {k.window_start for k in oracle.cells() if k.window_size == "1d"} == {DAY}


def test_every_record_meets_exactly_one_fate():
    oracle = recompute(
        (0, view(1, T0)),
        (0, view(1, T0)),  # the same id
        (0, {"tick": T0 + 4_000_000}),
        (0, view(2, T0)),  # an hour and more behind
        (0, {"reject": "undecodable"}),
        (0, view(3, NOW + 300_001)),  # from the future
    )
    assert oracle.counts == {"read": 6, "ticks": 1, "accepted": 1, "duplicate": 1, "late": 1}
    assert oracle.late_events == {(0, 3): "v2"}
    assert oracle.dead_letters == {(0, 4): "undecodable", (0, 5): "future"}
    assert oracle.rejected() == {"undecodable": 1, "future": 1}


def test_a_record_that_an_agent_raised_at_counts_nowhere():
    oracle = recompute()
    oracle.failed = frozenset({(0, 0)})
    oracle.add([Raw(0, 0, NOW, json.dumps(view(1, T0)).encode())])
    assert oracle.dead_letters == {(0, 0): "agent_failed"}
    assert not oracle.cells()


def test_a_broken_definition_is_a_dead_letter():
    oracle = Recomputation(
        [], decode, lateness_ms=1, consent_denied=False, folds=[Experiments(consent_denied=False)]
    )
    oracle.expect([0])
    for offset, body in enumerate(("no JSON", None)):
        broken = Control(kind="experiment", name="one", version=1, body=body)
        record = {"tick": MARKER_TIME, "control": control.text(broken)}
        oracle.add([Raw(0, offset, NOW, json.dumps(record).encode())])
    assert oracle.dead_letters == {(0, 0): "invalid_control"}
    assert oracle.counts["ticks"] == 2


def test_a_window_is_final_once_every_partition_has_passed_it():
    closing = T0 + 60_000 + 3_600_000
    records = [(0, view(1, T0)), (0, {"tick": closing})]
    assert not by_name(recompute(*records, parts=2), "1m")["views"].is_final
    records.append((1, {"tick": closing}))
    oracle = recompute(*records, parts=2)
    assert by_name(oracle, "1m")["views"].is_final
    assert not by_name(oracle, "1h")["views"].is_final


@pytest.mark.parametrize(("consent", "default", "users"), [(None, False, 1), (None, True, 0)])
def test_without_consent_an_event_counts_but_not_its_user(consent, default, users):
    oracle = recompute((0, view(1, T0, consent_analytics=consent)), denied=default)
    cell = by_name(oracle, "1m")["views"]
    assert (cell.value, cell.users) == (1.0, users)


def test_consent_denied_in_the_event_beats_the_default():
    oracle = recompute((0, view(1, T0, consent_analytics=False)), (0, view(2, T0)))
    assert by_name(oracle, "1m")["users"].value == 1.0
    oracle = recompute((0, view(1, T0, consent_analytics=True)), denied=True)
    assert by_name(oracle, "1m")["users"].value == 1.0


def test_a_row_without_any_observation_says_nothing():
    definitions = """
extends: none
metrics: [{name: seconds, events: [course_interaction], aggregate: sum, field: duration}]
"""
    oracle = recompute((0, course(1, T0, None)), definitions=definitions)
    assert not oracle.cells()


def test_real_numbers_are_scaled_and_rounded_half_to_even():
    definitions = """
extends: none
metrics: [{name: seconds, events: [course_interaction], aggregate: sum, field: duration}]
"""
    # 0.0000005 → 0, 0.0000015 → 2 millionths; beyond 2^53 millionths: no observation
    values = [0.0000005, 0.0000015, 9.1e9]
    records = [(0, course(n, T0, value)) for n, value in enumerate(values)]
    oracle = recompute(*records, definitions=definitions)
    assert by_name(oracle, "1m")["seconds"].value == 2e-6


def test_dimension_values_are_text_and_null_stays_null():
    definitions = """
extends: none
metrics:
  - {name: calls, events: [request], aggregate: count, dimensions: [cache_hit, status]}
"""
    call = {"event_type": "request", "timestamp": T0, "user_id": "u"}
    oracle = recompute(
        (0, {**call, "event_id": "a", "cache_hit": True, "status": 200}),
        (0, {**call, "event_id": "b"}),
        definitions=definitions,
    )
    assert {key.dimensions for key in oracle.cells()} == {
        '{"cache_hit":"true","status":"200"}',
        '{"cache_hit":null,"status":null}',
    }


def test_derived_fields_mean_what_their_definition_says():
    definitions = """
extends: none
metrics:
  - {name: errors, events: [request], where: {is_error: true}, aggregate: count}
  - {name: hours, events: [playback], aggregate: sum, field: watched_hours}
  - {name: fresh, events: [feed_click], where: {content_age_days: {lt: 30}}, aggregate: count}
"""
    base = {"timestamp": T0, "user_id": "u"}
    play = {**base, "event_type": "playback", "duration_ms": 7_200_000}
    click = {**base, "event_type": "feed_click"}
    day = 86_400_000
    events = [
        {**base, "event_type": "request", "status": 500},
        {**base, "event_type": "request", "status": 200},
        {**base, "event_type": "request", "error_type": "timeout"},
        {**play, "action": "complete"},
        {**play, "action": "skip", "position_ms": 1_800_000},
        {**play, "action": "start", "position_ms": 1},
        {**click, "published_at": T0 - 30 * day + 1},
        {**click, "published_at": T0 - 30 * day},
        click,
    ]
    records = [(0, {**event, "event_id": str(n)}) for n, event in enumerate(events)]
    cells = by_name(recompute(*records, definitions=definitions), "1m")
    assert {name: cell.value for name, cell in cells.items()} == {
        "errors": 2.0,
        "hours": 2.5,
        "fresh": 1.0,
    }


def test_chunks_do_not_change_the_answer(monkeypatch):
    records = [(0, view(n, T0 + 977 * n, user=f"u{n % 7}", page=f"/{n % 3}")) for n in range(200)]
    whole = recompute(*records).cells()
    monkeypatch.setattr("streamgauge.cli.verify.recompute._ROWS", 7)
    assert recompute(*records).cells() == whole


def test_the_watermark_of_the_whole_is_the_furthest():
    assert recompute(parts=2).watermark == 0
    assert recompute((0, {"tick": T0}), (1, {"tick": T0 + 5}), parts=2).watermark == T0 + 5


def test_a_key_reads_as_the_topics_key_with_its_metric():
    assert str(CellKey("views", "1m", T0, "ab", "{}")) == f"views|1m|{T0}|ab|{{}}"


def test_a_tick_of_a_clock_that_is_ahead_makes_nothing_late():
    oracle = recompute((0, view(1, NOW)), (0, {"tick": NOW + 86_400_000}), (0, view(2, NOW - 1)))
    assert oracle.watermark == NOW
    assert oracle.counts["late"] == 0
