"""The fate of records, drawn; and a property test against ten obvious lines."""

from hypothesis import given
from hypothesis import strategies as st

from streamgauge.cli.verify import fate
from streamgauge.cli.verify.fate import FUTURE_MS, Fate, SourcePartition

ACCEPTED, DUPLICATE, LATE, FUTURE = Fate.ACCEPTED, Fate.DUPLICATE, Fate.LATE, Fate.FUTURE
NEVER = 10**15  # an append time that makes nothing come from the future


def fates(lateness: int, *events: tuple[str, int]) -> list[Fate]:
    partition = SourcePartition(lateness)
    return [partition.event(event_id, ts, NEVER) for event_id, ts in events]


def test_an_event_is_late_only_when_more_than_the_lateness_behind_the_watermark():
    #  time  0 ─── 90 ── 100        L = 10, so the horizon is 90 once the watermark is 100
    #        │     │      a          accepted, watermark 100
    #        │     b                 at the horizon: accepted
    #        c (89)                  one before it: late
    assert fates(10, ("a", 100), ("b", 90), ("c", 89)) == [ACCEPTED, ACCEPTED, LATE]


def test_a_repeated_id_is_a_duplicate_while_its_event_is_within_the_lateness():
    #  a@100, then watermark 110 (L = 10): a@100 is at the horizon, still remembered;
    #  watermark 111: forgotten, the id counts anew.
    assert fates(10, ("a", 100), ("b", 110), ("a", 110)) == [ACCEPTED, ACCEPTED, DUPLICATE]
    assert fates(10, ("a", 100), ("b", 111), ("a", 111)) == [ACCEPTED, ACCEPTED, ACCEPTED]


def test_a_late_repetition_is_a_duplicate_when_its_first_event_is_remembered():
    assert fates(10, ("a", 100), ("a", 50))[-1] is DUPLICATE
    assert fates(10, ("a", 100), ("c", 50))[-1] is LATE


def test_late_events_and_duplicates_do_not_advance_the_watermark():
    partition = SourcePartition(10)
    for event_id, timestamp in [("a", 100), ("a", 105), ("b", 20)]:
        partition.event(event_id, timestamp, NEVER)
    assert partition.watermark == 100


def test_an_event_from_the_future_is_refused_and_moves_nothing():
    partition = SourcePartition(10)
    assert partition.event("a", 1_000 + FUTURE_MS, append_time=1_000) is ACCEPTED
    assert partition.event("b", 1_001 + FUTURE_MS, append_time=1_000) is FUTURE
    assert partition.watermark == 1_000 + FUTURE_MS


def test_a_tick_only_ever_advances_the_watermark():
    partition = SourcePartition(10)
    partition.tick(100)
    partition.tick(50)
    assert partition.watermark == 100
    assert partition.event("a", 89, NEVER) is LATE


def test_a_window_closes_when_the_watermark_passes_its_end_by_the_lateness():
    partition = SourcePartition(10)
    assert not partition.closed(60)
    partition.tick(69)
    assert not partition.closed(60)
    partition.tick(70)
    assert partition.closed(60)


steps = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 60), st.integers(0, 5), st.booleans()),
    max_size=60,
)


@given(steps, st.integers(0, 30))
def test_the_loop_agrees_with_a_search_through_everything_before(steps, lateness):
    fate._PRUNE_AT_LEAST, kept = 2, fate._PRUNE_AT_LEAST
    try:
        partition = SourcePartition(lateness)
        watermark, accepted = None, []
        for event_id, ts, behind, is_tick in steps:
            append_time = ts - FUTURE_MS - 2 + behind
            if is_tick:
                partition.tick(ts)
                watermark = max(watermark or 0, ts)
                continue
            if ts > append_time + FUTURE_MS:
                expected = FUTURE
            elif watermark is not None and any(
                i == event_id and t >= watermark - lateness for i, t in accepted
            ):
                expected = DUPLICATE
            elif watermark is not None and ts < watermark - lateness:
                expected = LATE
            else:
                expected = ACCEPTED
                accepted.append((event_id, ts))
                watermark = max(watermark or 0, ts)
            assert partition.event(event_id, ts, append_time) is expected
            assert partition.watermark == watermark
    finally:
        fate._PRUNE_AT_LEAST = kept
