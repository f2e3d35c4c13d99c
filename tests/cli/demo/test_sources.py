"""Sources at work: their errors come out, and a stop is heeded between two lines."""

import threading
from pathlib import Path

import pytest

from streamgauge.cli.demo.sources import File, Sending, Sent
from streamgauge.cli.settings import Settings, load
from streamgauge.cli.stack.brake import Brake
from streamgauge.producers import UnreadableFile


@pytest.fixture
def settings(embedded: str, registry_url: str, namespace: str) -> Settings:
    given = {"kafka": embedded, "registry": registry_url, "namespace": namespace}
    return load({**given, "transactional": False}, use_running_stack=False)


def test_what_a_source_raises_comes_out_at_the_end(settings: Settings) -> None:
    sending = Sending(File("missing.log", "combined"), settings)
    sending.start()
    with pytest.raises(UnreadableFile, match=r"missing\.log"):
        sending.finish()


def test_a_stop_ends_a_file_early_and_in_order(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[threading.Event | None] = []
    monkeypatch.setattr(Brake, "wait", lambda self, stop=None: waited.append(stop))
    path = tmp_path / "events.jsonl"
    path.write_text('{"event_type": "search", "user_id": "u", "timestamp": 1}\n' * 2_000)
    source = File(str(path), "jsonl")
    sending = Sending(source, settings)
    sending.stop.set()
    sending.start()
    sending.finish()
    assert waited == [sending.stop]
    assert source.sent == Sent(read=500, produced=500)
