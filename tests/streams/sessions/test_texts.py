"""Texts by number: what is added keeps its number, and what nothing names goes."""

import numpy as np
import polars as pl
import pytest

from streamgauge.streams.sessions import sessions
from streamgauge.streams.sessions.texts import Texts
from tests.streams.sessions import oracle
from tests.streams.sessions.conftest import Log, event, ordered


def test_a_number_means_the_same_text_whatever_is_added_later() -> None:
    texts = Texts()
    names = [f"text {number}" for number in range(100)]
    at = 0
    for size in (1, 1, 3, 50, 2, 43):
        before, known = texts, at
        texts = texts.add(pl.Series(names[at : at + size]))
        at += size
        assert texts.of(np.arange(1, at + 1)).to_list() == names[:at]
        assert len(before) == known + 1
    assert texts.of(np.array([0, 7])).to_list() == [None, "text 6"]


def test_what_is_left_has_other_numbers() -> None:
    texts = Texts().add(pl.Series(["a", "b", None, "c"]))
    used = np.zeros(len(texts), bool)
    used[[2, 3, 4]] = True
    left, number = texts.only(used)
    assert left.of(number[np.array([0, 2, 3, 4])]).to_list() == [None, "b", None, "c"]
    assert len(left) == left.kept == 4


@pytest.mark.parametrize("by_device", [False, True])
def test_leaving_texts_out_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, by_device: bool
) -> None:
    monkeypatch.setattr(sessions, "_FEW", 0)
    random = np.random.default_rng(3)
    rows = [
        event(
            1_760_000_000_000 + 600_000 * number,
            f"u{random.integers(0, 5)}",
            device_type=str(random.choice(["tv", "mobile"])),
            event_type="playback",
            action="complete",
            series_id="s",
            episode=str(random.integers(0, 9)),
        )
        for number in range(300)
    ]
    log, most = Log(by_device=by_device), 0
    for number in range(0, len(rows), 7):
        log.add(rows[number : number + 7])
        log.flush({number % 8, number % 3})
        most = max(most, len(log.state.texts))
    log.flush()
    by = ("user_key", "device_type") if by_device else ("user_key",)
    assert log.sessions() == ordered(oracle.sessions(rows, by))
    assert most < 600
