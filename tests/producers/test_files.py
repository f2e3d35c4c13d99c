import gzip
import io
import json
import os
import threading
from pathlib import Path

import pytest

from streamgauge.producers import (
    RecordProducer,
    Rejected,
    Undelivered,
    UnreadableFile,
    files,
    produce_file,
)
from streamgauge.schemas.records import DeadLetter
from streamgauge.schemas.unknown import UnknownTypes

LOG = Path(__file__).with_name("data") / "access.log"


@pytest.fixture
def client(broker, registry, namespace):
    with RecordProducer(broker, registry, namespace, log_level=0) as client:
        yield client


@pytest.fixture
def produced(client, read, codec):
    """The events in the topic, and the dead letters by line."""

    def decoded():
        events = [codec.decode(message.value()).record for message in read(client.topic)]
        letters = read(client.topic.replace("events", "dead-letters"))
        return events, {
            letter["offset"]: letter
            for letter in (codec.decode(message.value()).record for message in letters)
        }

    return decoded


def write(path, *lines):
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_every_line_of_a_log_is_an_event_or_a_dead_letter(client, produced):
    report = produce_file(client, LOG, "combined")
    lines = LOG.read_bytes().split(b"\n")
    assert report.read == len(lines) == report.produced + report.rejected
    assert report.rejected == 9

    events, letters = produced()
    assert len(events) == report.produced
    assert letters.keys() == {rejected.line for rejected in report.rejects}
    assert all(letters[number]["payload"] == lines[number - 1] for number in letters)
    blank = report.rejects[0]
    assert blank == Rejected(line=44, reason="blank_line", detail="nothing in the line")
    assert DeadLetter(**letters[45]) == DeadLetter(
        topic="file:access.log",
        partition=0,
        offset=45,
        schema_id=None,
        reason="bad_line",
        detail="not in combined log format: 'this is no log line at all'",
        payload=b"this is no log line at all",
        key=None,
        failed_at=letters[45]["failed_at"],
        added=letters[45]["added"],
    )


def test_equal_lines_are_different_events_and_the_same_file_gives_the_same_ids(
    client, produced, tmp_path
):
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(LOG.read_bytes()))
    first = produce_file(client, LOG, "combined")
    again = produce_file(client, packed, "combined")
    assert (again.read, again.produced) == (first.read, first.produced)

    ids = [event["event_id"] for event in produced()[0]]
    assert len(ids) == 2 * len(set(ids)) == 2 * first.produced


def test_one_users_events_keep_the_order_of_the_file(client, produced):
    produce_file(client, LOG, "combined")
    pages = [event["page_url"] for event in produced()[0]]
    mine = [page for page in pages if page in ("/style.css", "/logo.svg", "/cart", "/account")]
    assert mine == ["/style.css", "/style.css", "/logo.svg", "/cart", "/cart", "/account"]


def test_bytes_that_are_no_utf_8_stay_legible(client, produced):
    produce_file(client, LOG, "combined")
    assert r"/caf\xe9" in [event["route"] for event in produced()[0] if "route" in event]


def test_json_lines_keep_their_own_ids_and_the_bad_ones_are_reported(client, produced, tmp_path):
    good = {"event_type": "search", "user_id": "ann", "timestamp": "2024-03-03T09:00:00Z"}
    path = write(
        tmp_path / "events.jsonl",
        json.dumps({**good, "event_id": "mine", "properties": {"query": "cats"}}).encode(),
        b"{",
        json.dumps(good).encode() + b"\r",
        json.dumps({**good, "event_type": "serach"}).encode(),
        json.dumps({**good, "user_id": None}).encode(),
    )
    report = produce_file(client, path, "jsonl")
    assert (report.read, report.produced, report.rejected) == (5, 2, 3)
    assert [(bad.line, bad.reason) for bad in report.rejects] == [
        (2, "bad_json"),
        (4, "unknown_type"),
        (5, "missing_user"),
    ]
    (mine, other), letters = produced()
    assert (mine["event_id"], mine["query"]) == ("mine", "cats")
    assert len(other["event_id"]) == 36
    assert letters[2]["payload"] == b"{"


def test_types_that_nobody_declared_are_accepted_kept_or_refused(client, produced, tmp_path):
    given = {"user_id": "ann", "timestamp": "2024-03-03T09:00:00Z", "total": 5}
    path = write(
        tmp_path / "events.jsonl",
        *(json.dumps({**given, "event_type": name}).encode() for name in ("a", "b", "c")),
    )
    report = produce_file(client, path, "jsonl", unknown=UnknownTypes.parse("a=custom,b=reject"))
    assert [bad.line for bad in report.rejects] == [2, 3]
    (event,), letters = produced()
    assert (event["event_type"], event["name"]) == ("custom", "a")
    assert list(letters) == [3]


def test_a_line_too_long_is_kept_in_part_and_the_next_one_is_read(
    client, produced, tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "MAX_LINE", 200)
    good = b'{"event_type": "search", "user_id": "ann", "timestamp": 1709456703000}'
    path = write(tmp_path / "long.jsonl", good, b"x" * 1000, good, good.ljust(200), good.ljust(201))
    report = produce_file(client, path, "jsonl")
    assert (report.read, report.produced) == (5, 3)
    assert [(bad.line, bad.reason) for bad in report.rejects] == [(2, "too_long"), (5, "too_long")]
    assert "1000 bytes" in report.rejects[0].detail
    assert produced()[1][2]["payload"] == b"x" * 200


def test_an_event_that_kafka_would_not_take_is_a_dead_letter(broker, registry, namespace, tmp_path):
    # Within a property's list the letters become \u00e9: three times as long.
    event = {"event_type": "custom", "name": "n", "user_id": "ann", "timestamp": 1}
    event["properties"] = {"list": ["é" * 1000]}
    path = write(tmp_path / "large", json.dumps(event, ensure_ascii=False).encode())
    with RecordProducer(broker, registry, namespace, message_max_bytes=4000) as client:
        report = produce_file(client, path, "jsonl")
    assert [(bad.line, bad.reason) for bad in report.rejects] == [(1, "too_long")]
    assert client.stats.acknowledged == 1


def test_only_the_first_rejects_are_listed_but_all_are_counted(client, tmp_path):
    report = produce_file(client, write(tmp_path / "bad", *[b"?"] * 150), "combined")
    assert report.rejected == 150
    assert [bad.line for bad in report.rejects] == list(range(1, 101))


def test_standard_input_is_read_to_its_end(client, produced, monkeypatch):
    class Stdin:
        buffer = io.BufferedReader(io.BytesIO(LOG.read_bytes()))

    monkeypatch.setattr("sys.stdin", Stdin)
    report = produce_file(client, "-", "combined")
    assert report.produced == len(produced()[0])
    assert produced()[1][45]["topic"] == "file:stdin"


def test_a_pipe_is_read_like_a_file(client, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(LOG.read_bytes()))
    writer.start()
    assert produce_file(client, pipe, "combined").produced == 51
    writer.join()


def test_an_empty_file_has_no_lines(client, tmp_path):
    (tmp_path / "empty").touch()
    assert produce_file(client, tmp_path / "empty", "jsonl").read == 0


def test_progress_is_told_on_the_way_and_at_the_end(client, monkeypatch):
    monkeypatch.setattr(files, "PROGRESS_LINES", 25)
    told = []
    report = produce_file(client, LOG, "combined", progress=lambda now: told.append(now.read))
    assert told == [25, 50, report.read]


def test_a_file_that_cannot_be_read_is_an_error_that_says_why(client, tmp_path):
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(LOG.read_bytes())[:-20])
    for path in (tmp_path / "missing", tmp_path, torn):
        with pytest.raises(UnreadableFile, match="cannot read"):
            produce_file(client, path, "combined")
    with pytest.raises(UnreadableFile, match="use one of jsonl, combined"):
        produce_file(client, LOG, "csv")


def test_events_that_kafka_does_not_acknowledge_are_an_error(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FLUSH_S", 0.1)
    client = RecordProducer("127.0.0.1:1", registry, log_level=0)
    with pytest.raises(Undelivered):
        produce_file(client, write(tmp_path / "one", b"?"), "jsonl")
    with pytest.raises(Undelivered):
        client.close(0.1)
