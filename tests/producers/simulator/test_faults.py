from collections import Counter, defaultdict
from itertools import islice

import pytest

from streamgauge.producers.partitioner import partition_of
from streamgauge.producers.simulator.encoding import EventEncoder
from streamgauge.producers.simulator.faults import BROKEN, FAR_FUTURE_MS, Faults, Rates
from streamgauge.schemas.errors import UndecodableRecord

RATES = Rates(duplicates=0.05, late=0.04, out_of_order=0.06, broken=0.03)
PARTITIONS = 4


@pytest.fixture
def records(make_world, registry):
    def make(events=8000, *, rates=RATES, lateness_ms=3_600_000, seed=1):
        faults = Faults(
            rates,
            seed=seed,
            encode=EventEncoder(registry),
            partitions=PARTITIONS,
            lateness_ms=lateness_ms,
        )
        return list(islice(faults.records(make_world(events).events()), events))

    return make


def fates(records, codec, lateness_ms):
    """What becomes of each record by the rules of the log, one partition at a time."""
    watermarks, seen = {}, defaultdict(dict)
    for record in records:
        partition = partition_of(record.key, PARTITIONS)
        watermark = watermarks.get(partition, 0)
        try:
            event = codec.decode(record.value).record
        except UndecodableRecord as error:
            yield error.reason
            continue
        if not (event["user_id"] or event["anonymous_id"]):
            yield "invalid"
        elif event["timestamp"] >= FAR_FUTURE_MS:
            yield "future"
        elif seen[partition].get(event["event_id"], -lateness_ms - 1) >= watermark - lateness_ms:
            yield "duplicate"
        elif event["timestamp"] < watermark - lateness_ms:
            yield "late"
        else:
            seen[partition][event["event_id"]] = event["timestamp"]
            watermarks[partition] = max(watermark, event["timestamp"])
            yield "accepted"


@pytest.mark.parametrize("lateness_ms", [3_600_000, 60_000, 1000])
def test_each_record_has_the_fate_that_it_is_said_to_have(records, codec, lateness_ms):
    made = records(lateness_ms=lateness_ms)
    said = [BROKEN[record.kind][0] if record.fate == "broken" else record.fate for record in made]
    assert list(fates(made, codec, lateness_ms)) == said


def test_faults_come_at_their_rates(records):
    made = records(20_000)
    fates = Counter(record.fate for record in made)
    assert fates["duplicate"] / 20_000 == pytest.approx(0.05, rel=0.2)
    assert fates["late"] / 20_000 == pytest.approx(0.04, rel=0.2)
    assert fates["broken"] / 20_000 == pytest.approx(0.03, rel=0.2)
    assert sum(record.out_of_order for record in made) / 20_000 == pytest.approx(0.06, rel=0.2)
    assert {record.kind for record in made if record.fate == "broken"} == set(BROKEN)


def test_without_faults_the_records_are_the_worlds_events(records, make_world, registry):
    made = records(1000, rates=Rates(duplicates=0, late=0, out_of_order=0, broken=0))
    encode = EventEncoder(registry)
    events = islice(make_world(1000).events(), 1000)
    assert [record.fate for record in made] == ["accepted"] * 1000
    assert [record.value for record in made] == [encode(event) for event in events]


def test_the_bytes_say_what_the_event_says(make_world, registry, codec):
    encode = EventEncoder(registry)
    for event in islice(make_world().events(), 500):
        record = codec.decode(encode(event)).record
        assert {name: value for name, value in record.items() if value is not None} == {
            name: value for name, value in event.items() if value is not None
        }


def test_a_duplicate_is_the_very_record_sent_before(records):
    sent = set()
    for record in records():
        if record.fate == "duplicate":
            assert (record.key, record.value) in sent
        sent.add((record.key, record.value))


def test_what_is_out_of_order_comes_after_later_events(records):
    latest = 0
    behind = []
    for record in records():
        if record.out_of_order:
            behind.append(latest - record.timestamp)
        if record.fate == "accepted":
            latest = max(latest, record.timestamp)
    assert sum(gap > 1000 for gap in behind) > 0.9 * len(behind)
    assert max(behind) <= 130_000


def test_the_same_seed_gives_the_same_records_and_another_does_not(records):
    assert records() == records()
    assert records() != records(seed=2)


@pytest.mark.parametrize("rate", [-0.1, 0.6, 2])
def test_a_rate_is_a_share(rate):
    with pytest.raises(ValueError, match=r"late must be between 0 and 0\.5"):
        Rates(late=rate)
