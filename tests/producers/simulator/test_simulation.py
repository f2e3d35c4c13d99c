import json
import os
import signal
import threading
import time
from collections import Counter

import pytest

from streamgauge.producers import QueueFull, RecordProducer, Undelivered
from streamgauge.producers.simulator import Rates, Simulation, simulate, simulation
from streamgauge.producers.simulator.faults import FAR_FUTURE_MS, Record
from streamgauge.schemas.errors import UndecodableRecord

NO_FAULTS = Rates(duplicates=0, late=0, out_of_order=0, broken=0)


@pytest.fixture
def client(broker, registry, namespace):
    with RecordProducer(broker, registry, namespace, log_level=0) as client:
        yield client


@pytest.fixture
def nowhere(registry, monkeypatch):
    """A client whose Kafka never answers, with a small queue."""
    monkeypatch.setattr(simulation, "FLUSH_S", 0.1)
    client = RecordProducer("127.0.0.1:1", registry, max_queue=100, block_ms=50, log_level=0)
    yield client
    with pytest.raises(Undelivered):
        client.close(0.1)


def test_the_truth_is_what_is_in_the_topic(client, read, codec, tmp_path):
    truth_file = tmp_path / "truth.json"
    wanted = Simulation(events=3000, rates=Rates(broken=0.02, duplicates=0.03))
    truth = simulate(client, wanted, truth_file=truth_file)

    messages = read(client.topic)
    assert len(messages) == truth.records == truth.acknowledged == 3000
    good, bad = Counter(), Counter()
    for message in messages:
        try:
            event = codec.decode(message.value()).record
        except UndecodableRecord as error:
            bad[error.reason] += 1
            continue
        if not (event["user_id"] or event["anonymous_id"]):
            bad["invalid"] += 1
        elif event["timestamp"] >= FAR_FUTURE_MS:
            bad["future"] += 1
        else:
            good[event["event_type"]] += 1
    assert good == truth.accepted + truth.duplicates + truth.late

    written = json.loads(truth_file.read_text())
    assert written["dead_letters"] == bad
    assert written["complete"] is True
    assert written["totals"]["records"] == sum(
        count for name, count in written["totals"].items() if name != "records"
    )
    assert written["totals"]["late"] > 0 < written["out_of_order"]
    assert written["parameters"]["seed"] == 1
    assert {e["experiment_id"] for e in written["experiments"]} == {
        "feed-ranking",
        "quiz-hints",
        "player-theme",
    }
    assert {anomaly["kind"] for anomaly in written["anomalies"]} == {
        "spike",
        "drop",
        "errors",
        "slow",
        "bot",
    }
    assert written["baselines"]["click_through_rate"] == 0.023


def test_equal_simulations_send_equal_records(client, broker, registry, read):
    wanted = Simulation(events=500, start_ms=1_760_000_000_000)
    simulate(client, wanted)
    with RecordProducer(broker, registry, f"{client.topic}-again", log_level=0) as other:
        simulate(other, wanted)
        first, second = (
            [(m.partition(), m.key(), m.value()) for m in read(topic)]
            for topic in (client.topic, other.topic)
        )
    assert first == second


def test_the_events_end_about_now_and_never_after(client):
    before = int(time.time() * 1000)
    truth = simulate(client, Simulation(events=5000, span_ms=3_600_000))
    assert before - 3_600_000 <= truth.first_timestamp
    # How near depends on how busy the hour is: a quarter of an hour is not rare after midnight.
    assert before - 1_800_000 < truth.last_timestamp <= int(time.time() * 1000)


def test_event_time_never_overtakes_the_clock():
    now = int(time.time() * 1000)
    records = [
        Record(b"k", b"v", "accepted", "search", now + wait) for wait in (-1000, 150, 300, 0)
    ]
    paced = simulation._paced(
        iter(records), Simulation(events=4), None, None, threading.Event(), None
    )
    for record in paced:
        assert record.timestamp <= time.time() * 1000


def test_a_rate_is_kept(client):
    truth = simulate(client, Simulation(events=600, rate=1000))
    assert 0.5 < truth.seconds < 60


def test_live_events_happen_now_at_their_rate(client, read, codec):
    began = int(time.time() * 1000)
    wanted = Simulation(
        events=400, live=True, rate=300, users=5000, rates=NO_FAULTS, anomalies=False
    )
    truth = simulate(client, wanted)
    assert truth.first_timestamp >= began
    assert truth.seconds < 60
    for message in read(client.topic):
        event = codec.decode(message.value()).record
        assert event["timestamp"] == pytest.approx(message.timestamp()[1], abs=30_000)


def test_a_stop_ends_an_endless_run_and_the_truth_says_so(client, read, tmp_path):
    stop = threading.Event()
    truth = simulate(
        client,
        Simulation(live=True, rate=500),
        stop=stop,
        progress=lambda truth: stop.set() if truth.records else None,
        truth_file=tmp_path / "truth.json",
    )
    assert truth.records == truth.acknowledged == len(read(client.topic)) > 0
    assert json.loads((tmp_path / "truth.json").read_text())["complete"] is False


def test_sigterm_ends_the_run_in_order_and_the_handlers_are_put_back(client):
    before = signal.getsignal(signal.SIGTERM)

    def terminate(truth):
        if signal.getsignal(signal.SIGTERM) is not before:
            os.kill(os.getpid(), signal.SIGTERM)

    truth = simulate(client, Simulation(live=True, rate=200), progress=terminate)
    assert truth.records == truth.acknowledged
    assert not truth.complete
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_a_thread_leaves_the_signals_alone(client):
    truths = []
    thread = threading.Thread(target=lambda: truths.append(simulate(client, Simulation(events=10))))
    thread.start()
    thread.join()
    assert truths[0].records == 10


def test_the_brake_holds_the_records_back(client, monkeypatch):
    monkeypatch.setattr(simulation, "LOOK_S", 0.0)
    answers = iter([True, True, True])
    sent = []

    def brake():
        sent.append(client.stats.produced)
        return next(answers, False)

    truth = simulate(client, Simulation(events=500), pause_when=brake)
    assert truth.complete
    assert sent[:4] == [0, 0, 0, 0]


def test_progress_is_told_on_the_way_and_at_the_end(client, monkeypatch):
    monkeypatch.setattr(simulation, "LOOK_S", 0.0)
    told = []
    simulate(client, Simulation(events=900), progress=lambda truth: told.append(truth.records))
    assert told == [0, 200, 400, 600, 800, 900]


def test_an_unreachable_kafka_is_an_error_and_the_truth_is_written(nowhere, tmp_path):
    with pytest.raises(Undelivered):
        simulate(nowhere, Simulation(events=50), truth_file=tmp_path / "truth.json", partitions=4)
    written = json.loads((tmp_path / "truth.json").read_text())
    assert (written["records"], written["acknowledged"]) == (50, 0)


def test_while_the_queue_is_full_the_run_waits_until_it_is_stopped(nowhere, monkeypatch):
    stop = threading.Event()
    refused = []
    send = nowhere.send

    def stop_at_the_third_refusal(key, value):
        try:
            send(key, value)
        except QueueFull as error:
            refused.append(error)
            if len(refused) == 3:
                stop.set()
            raise

    monkeypatch.setattr(nowhere, "send", stop_at_the_third_refusal)
    with pytest.raises(Undelivered, match="100 events"):
        simulate(nowhere, Simulation(events=500), partitions=4, stop=stop)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"live": True}, "needs a rate"),
        ({}, "how many events"),
        ({"events": 0}, "at least 1"),
        ({"events": 1, "span_ms": 10}, "at least a second"),
    ],
)
def test_a_senseless_simulation_is_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Simulation(**settings)
