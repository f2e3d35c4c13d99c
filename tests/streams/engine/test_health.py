"""The file in which a worker says how it is."""

import json
import time

from streamgauge.streams.engine import health


def test_a_worker_says_how_it_is_until_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "REPORT_EVERY", 0.01)
    folder, counts = tmp_path / "new" / "status", iter(range(10**9))
    path = folder / "ns.group-w%2F0.json"
    with health.reporting(folder, "ns.group-w/0", lambda: {"ready": True, "n": next(counts)}):
        deadline = time.monotonic() + 20
        while not path.exists() or json.loads(path.read_text())["n"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        told = json.loads(path.read_text())
        assert (told["name"], told["ready"]) == ("ns.group-w/0", True)
        assert abs(time.time() - told["at"]) < 20
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with health.reporting(tmp_path / "file" / "status", "w", dict):
        time.sleep(0.1)
    assert "cannot be" in caplog.text
    with health.reporting(None, "w", dict):
        pass
