"""`backtest`: every table from a file, checked by code that knows nothing of ours."""

import csv
import gzip
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import Result

from streamgauge.cli.backtest import log as logs
from streamgauge.cli.verify.cells import Bound, CellKey, canonical
from streamgauge.cli.verify.recompute import Raw, Recomputation, Tick
from streamgauge.producers.partitioner import partition_of
from streamgauge.schemas.events import parse_event
from streamgauge.schemas.metrics import builtin

Run = Callable[..., Result]
Row = dict[str, Any]
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T = 1_760_000_400_000


def iso(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def write(path: Path, rows: Iterable[Row | str]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def read(out: Path, name: str) -> list[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)
    with (out / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def visits(seed: int, users: int = 40) -> list[Row]:
    """Visits with gaps around half an hour, over midnights, beyond a day, on several devices."""
    r = random.Random(seed)
    gaps = [1, 40_000, 29 * MINUTE, 30 * MINUTE - 1, 30 * MINUTE, 30 * MINUTE + 1, 31 * MINUTE]
    rows = []
    for user in range(users):
        time = T // DAY * DAY - r.randrange(3 * HOUR)
        steady = user % 10 == 0
        for _ in range(200 if steady else r.randrange(1, 40)):
            time += r.randrange(20 * MINUTE, 30 * MINUTE) if steady else r.choice([*gaps, 9 * HOUR])
            rows.append(
                {
                    "event_type": r.choice(["page_view", "search", "form_submit"]),
                    "user_id": f"user {user}",
                    "timestamp": r.choice([time, iso(time)]),
                    "device": r.choice(["mobile", "desktop", "tv"]),
                    "page_url": f"/{r.randrange(9)}?utm=x",
                }
            )
    return rows


def sessions_of(rows: Iterable[Row], *by: str) -> list[tuple[str, ...]]:
    """The script that everybody would write."""
    times: dict[tuple[str, ...], list[int]] = {}
    for row in rows:
        time = row["timestamp"]
        if isinstance(time, str):
            time = round(datetime.fromisoformat(time).timestamp() * 1000)
        times.setdefault(tuple(row[name] for name in by), []).append(time)
    found = []
    for whose, mine in times.items():
        session: list[int] = []
        for time in [*sorted(mine), 1 << 60]:
            if session and (time - session[-1] > 1_800_000 or time - session[0] >= 86_400_000):
                found.append((*whose, iso(session[0]), iso(session[-1]), str(len(session))))
                session = []
            session.append(time)
    return sorted(found)


ORDERS: dict[str, Callable[[list[Row]], Any]] = {
    "by user": lambda rows: None,
    "shuffled": lambda rows: random.Random(5).shuffle(rows),
    "newest first": lambda rows: rows.reverse(),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", [1, 2])
def test_sessions_are_what_ten_lines_find(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, order: str
) -> None:
    monkeypatch.setattr(logs, "BATCH", 300)
    rows = visits(seed)
    ORDERS[order](rows)
    file = write(tmp_path / "events.jsonl", rows)
    done = run("backtest", "--file", str(file), "--out", "out", "--csv", "--json")
    told = json.loads(done.stdout)
    assert (told["read"], told["accepted"]) == (len(rows), len(rows))

    columns = ("started_at", "ended_at", "events")
    sessions = [(s["user_id"], *(s[c] for c in columns)) for s in read(Path("out"), "sessions")]
    assert sorted(sessions) == sessions_of(rows, "user_id")
    by_device = [
        (s["user_id"], s["device_type"], *(s[c] for c in columns))
        for s in read(Path("out"), "device_sessions")
    ]
    assert sorted(by_device) == sessions_of(rows, "user_id", "device")
    assert told["tables"]["sessions"] == len(sessions)


def test_a_sessions_row_says_all_of_it(run: Run, tmp_path: Path) -> None:
    event = {"user_id": "ann", "device": "tv"}
    rows = [
        event | {"event_type": "search", "timestamp": T},
        event | {"event_type": "page_view", "timestamp": T + 1500, "page_url": "/in?x"},
        event | {"event_type": "task_update", "action": "created", "timestamp": T + 61_250},
    ]
    file = write(tmp_path / "events.jsonl", rows)
    flags = ("--csv", "--conversion", "search", "--conversion", "task_update:created")
    run("backtest", "--file", str(file), "--out", "out", *flags)
    assert read(Path("out"), "sessions") == [
        {
            "user_id": "ann",
            "started_at": "2025-10-09T09:00:00.000Z",
            "ended_at": "2025-10-09T09:01:01.250Z",
            "duration_seconds": "61.25",
            "events": "3",
            "page_views": "1",
            "entry_page": "/in",
            "exit_page": "/in",
            "conversions": "2",
            "playbacks": "0",
            "is_bounce": "false",
            "is_binge": "false",
            "is_final": "false",
        }
    ]


def test_metrics_are_what_verify_computes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "BATCH", 170)
    r = random.Random(3)
    rows = []
    for number in range(600):
        row: Row = {
            "event_id": str(r.randrange(500)),
            "user_id": f"u{r.randrange(30)}",
            # Up to 90 minutes behind the ones before, some of them from the future.
            "timestamp": T + number * 20_000 - r.choice([0, 0, r.randrange(90 * MINUTE)]),
            "consent_analytics": r.choice([None, True, False]),
        }
        row |= r.choice(
            [
                {"event_type": "page_view", "page_url": f"/{r.randrange(4)}?{number}"},
                {"event_type": "quiz_attempt", "score": r.randrange(11), "total_questions": 10},
                {"event_type": "playback", "action": "skip", "position_ms": r.randrange(10**6)},
                {"event_type": "request", "method_name": "get", "duration_ms": r.random() * 900},
                {"event_type": "feed_view", "section": "top", "creator_id": f"c{r.randrange(3)}"},
            ]
        )
        rows.append(row)
    arrived = T + 580 * 20_000 - 300_000
    file = write(tmp_path / "events.jsonl", rows)
    flags = ("--order", "file", "--arrived-at", str(arrived), "--json")
    told = json.loads(run("backtest", "--file", str(file), "--out", "out", *flags).stdout)

    def decode(value: bytes | None) -> Any:
        said = json.loads(value or b"")
        return Tick(said) if isinstance(said, int) else parse_event(said).model_dump()

    oracle = Recomputation(builtin().grains(), decode, lateness_ms=HOUR, consent_denied=False)
    oracle.expect(range(4))
    for number, row in enumerate(rows, 1):
        place = partition_of(row["user_id"].encode(), 4)
        oracle.add([Raw(place, number, arrived, json.dumps(row).encode())])
    end = oracle.watermark
    oracle.add([Raw(p, 10_000, end, json.dumps(end).encode()) for p in range(4)])

    assert told["duplicates"] == oracle.counts["duplicate"] > 0
    assert told["late"] == oracle.counts["late"] > 0
    assert told["rejected"] == oracle.rejected()["future"] > 0
    late = pl.read_parquet("out/late_events.parquet")
    assert late["line"].to_list() == sorted(line for _, line in oracle.late_events)
    assert (late["watermark"] - late["timestamp"]).min() > timedelta(hours=1)

    expected = oracle.cells()
    found = {
        CellKey(m["metric"], m["window_size"], _ms(m["window_start"]), m["version"], d): m
        for m in pl.read_parquet("out/metrics.parquet").to_dicts()
        if (d := canonical(m["dimensions"]))
    }
    assert found.keys() == expected.keys()
    near = {Bound.EXACT: 0, Bound.USERS: 0.02, Bound.QUANTILE: 0.021}
    for key, cell in expected.items():
        row = found[key]
        assert row["value"] == pytest.approx(cell.value, rel=near[cell.bound], abs=0), key
        assert row["users"] == (cell.users and pytest.approx(cell.users, rel=0.02)), key
        assert row["is_final"] == cell.is_final, key
        if cell.bound is Bound.EXACT:
            assert (row["numerator"], row["denominator"]) == (cell.numerator, cell.denominator)
    assert {row["is_final"] for row in found.values()} == {True, False}


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def test_views_by_page_and_hour_of_a_web_log(run: Run, tmp_path: Path) -> None:
    log = Path(__file__).parents[2] / "producers" / "data" / "access.log"
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    flags = ("--format", "combined", "--csv", "--json")
    done = run("backtest", "--file", str(packed), "--out", "out", *flags)
    assert json.loads(done.stdout)["rejected"] == 9
    assert "line 44: blank_line" in done.stderr
    letters = read(Path("out"), "dead_letters")
    assert letters[1] == {
        "topic": "file:access.log.gz",
        "partition": "0",
        "offset": "45",
        "line": "45",
        "reason": "bad_line",
        "detail": "not in combined log format: 'this is no log line at all'",
        "payload": "this is no log line at all",
    }
    views = sum(
        float(row["value"])
        for row in read(Path("out"), "metrics")
        if (row["metric"], row["window_size"]) == ("page_views", "1h")
        and "page" in row["dimensions"]
    )
    users = Counter(row["user_id"] for row in read(Path("out"), "sessions"))
    assert views > 0
    assert max(users.values()) > 1


def test_bad_lines_are_kept_with_their_number_and_reason_and_stop_nothing(
    run: Run, tmp_path: Path
) -> None:
    good = {"event_type": "search", "user_id": "u", "timestamp": T}
    file = tmp_path / "events.jsonl"
    lines = [
        json.dumps(good).encode(),
        b"{not json",
        b"",
        b"\xff\xfe\x00",
        b"[1, 2]",
        json.dumps(good | {"event_type": "serch"}).encode(),
        json.dumps(good | {"user_id": ""}).encode(),
        json.dumps(good | {"timestamp": "yesterday"}).encode(),
        json.dumps(good | {"\ud800": 1, "properties": {"\ud800": 2}}).encode(),
        b"[" * 100_000,
        json.dumps(good | {"query": "x" * 600_000}).encode(),
        json.dumps(good | {"timestamp": T + 1}).encode(),
    ]
    file.write_bytes(b"\n".join(lines))
    for form in ((), ("--csv",)):
        done = run("backtest", "--file", str(file), "--out", "out", "--json", *form)
        told = json.loads(done.stdout)
        assert (told["read"], told["accepted"], told["rejected"]) == (12, 2, 10)
    assert [(row["line"], row["reason"]) for row in read(Path("out"), "dead_letters")] == [
        ("2", "bad_json"),
        ("3", "blank_line"),
        ("4", "bad_json"),
        ("5", "not_an_object"),
        ("6", "unknown_type"),
        ("7", "missing_user"),
        ("8", "wrong_value"),
        ("9", "conflicting_field"),
        ("10", "bad_json"),
        ("11", "too_long"),
    ]
    payloads = pl.read_parquet("out/dead_letters.parquet")["payload"].to_list()
    assert payloads[:3] == lines[1:4]


def test_types_that_nobody_declared_may_be_custom_events(run: Run, tmp_path: Path) -> None:
    rows = [{"event_type": name, "user_id": "u", "timestamp": T} for name in ("cart", "search")]
    line = ("backtest", "--file", str(write(tmp_path / "events.jsonl", rows)), "--out", "out")
    assert json.loads(run(*line, "--json").stdout)["rejected"] == 1
    told = json.loads(run(*line, "--json", "--unknown-events", "cart=custom").stdout)
    assert (told["accepted"], told["rejected"]) == (2, 0)


def test_events_that_come_twice_count_once(run: Run, tmp_path: Path) -> None:
    rows = [row | {"event_id": f"e{n}"} for n, row in enumerate(visits(4, users=5))]
    file = write(tmp_path / "events.jsonl", rows + rows[::-2])
    done = run("backtest", "--file", str(file), "--out", "out", "--csv", "--json")
    told = json.loads(done.stdout)
    assert (told["accepted"], told["duplicates"]) == (len(rows), len(rows[::-2]))
    events = sum(int(row["events"]) for row in read(Path("out"), "sessions"))
    assert events == len(rows)


def test_who_denied_analytics_is_in_totals_only(run: Run, tmp_path: Path) -> None:
    rows = [
        {"event_type": "page_view", "user_id": user, "timestamp": T, "consent_analytics": given}
        for user, given in (("yes", True), ("no", False), ("silent", None))
    ]
    file = write(tmp_path / "events.jsonl", rows)
    for default, users in (("granted", {"yes", "silent"}), ("denied", {"yes"})):
        run("backtest", "--file", str(file), "--out", "o", "--csv", "--consent-default", default)
        assert {row["user_id"] for row in read(Path("o"), "sessions")} == users
        [views] = [
            row["value"]
            for row in read(Path("o"), "metrics")
            if (row["metric"], row["window_size"], row["dimensions"]) == ("page_views", "1d", "{}")
        ]
        assert float(views) == 3


def test_definitions_are_tried_and_wrong_ones_refused(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "events.jsonl", visits(1, users=3))
    mine = tmp_path / "metrics.yaml"
    mine.write_text("extends: none\nmetrics: [{name: all_of_it, aggregate: count}]\n")
    flags = ("--file", str(file), "--out", "out", "--csv", "--definitions", str(mine))
    run("backtest", *flags)
    assert {row["metric"] for row in read(Path("out"), "metrics")} == {"all_of_it"}
    mine.write_text("extends: none\nmetrics: [{name: all_of_it, aggregate: cuont}]\n")
    assert "cuont" in run("backtest", *flags, exit_code=1).output


def test_events_of_ones_own_may_have_fields_of_any_name(run: Run, tmp_path: Path) -> None:
    types = tmp_path / "tram.py"
    types.write_text(
        "from typing import Literal\n"
        "from streamgauge.schemas.envelope import Event\n\n\n"
        "class Tram(Event):\n"
        '    event_type: Literal["tram"] = "tram"\n'
        "    line: str | None = None\n"
    )
    mine = tmp_path / "metrics.yaml"
    mine.write_text(
        "extends: none\nmetrics: [{name: rides, events: [tram], aggregate: count, by: [[line]]}]\n"
    )
    row = {"event_type": "tram", "user_id": "u", "timestamp": T, "line": "M10"}
    file = write(tmp_path / "events.jsonl", [row, "?"])
    flags = ("--event-modules", str(types), "--definitions", str(mine))
    script = "import sys; from streamgauge.cli import main; main(sys.argv[1:])"  # its types stay
    command = ("backtest", "--file", str(file), "--out", str(tmp_path / "out"), "--csv", *flags)
    subprocess.run([sys.executable, "-c", script, *command], check=True, cwd=tmp_path)
    dimensions = {row["dimensions"] for row in read(tmp_path / "out", "metrics")}
    assert dimensions == {'{"line":"M10"}'}
    assert [row["line"] for row in read(tmp_path / "out", "dead_letters")] == ["2"]


def test_a_file_without_events_gives_empty_tables(run: Run, tmp_path: Path) -> None:
    for text in ("", "no event\n"):
        (tmp_path / "events.jsonl").write_text(text)
        run("backtest", "--file", "events.jsonl", "--out", "out", "--csv")
        run("backtest", "--file", "events.jsonl", "--out", "out")
        for name in ("metrics", "sessions", "device_sessions", "late_events"):
            assert read(Path("out"), name) == []
            assert pl.read_parquet(f"out/{name}.parquet").height == 0
    assert [row["reason"] for row in read(Path("out"), "dead_letters")] == ["bad_json"]


def test_what_cannot_be_read_or_written_is_told(run: Run, tmp_path: Path) -> None:
    assert (
        "nothing.jsonl"
        in run("backtest", "--file", "nothing.jsonl", "--out", "out", exit_code=1).output
    )
    write(tmp_path / "events.jsonl", visits(1, users=1))
    (tmp_path / "taken").write_text("")
    flags = ("--file", "events.jsonl", "--out", "taken/out")
    assert "cannot write to taken/out" in run("backtest", *flags, exit_code=1).output
    flags = ("--file", "events.jsonl", "--out", "out", "--arrived-at", "noon")
    assert "--arrived-at" in run("backtest", *flags, exit_code=2).output
