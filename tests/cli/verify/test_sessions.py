"""The fold of `verify` says of any log what the worker's own logic says of it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.cli.verify.sessions import Sessions
from tests.streams.sessions.conftest import L, Log, Row, event

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T = 1_760_000_400_000


@st.composite
def logs(draw: st.DrawFn) -> list[Row]:
    rows, time = [], T
    steps = st.sampled_from([0, MINUTE, 20 * MINUTE, 30 * MINUTE, 31 * MINUTE, 3 * HOUR, DAY])
    for number, step in enumerate(draw(st.lists(steps, max_size=60))):
        time += step
        user = draw(st.sampled_from(["ann", "b|b"]))
        more: dict[str, Any] = {
            "event_id": f"{draw(st.integers(0, 9))}-{number}",
            "event_type": draw(
                st.sampled_from(["page_view", "form_submit", "course_interaction", "playback"])
            ),
            "action": draw(st.sampled_from([None, "enroll", "complete"])),
            "series_id": draw(st.sampled_from([None, "s"])),
            "episode": draw(st.sampled_from([None, "1", "2", "3"])),
            "item_id": draw(st.sampled_from([None, "1"])),
            "device_type": draw(st.sampled_from([None, "tv"])),
            "page_url": draw(st.sampled_from([None, "/a?x#y", "/b#y?x"])),
            "consent_analytics": draw(st.sampled_from([None, True, False])),
            "partition": int(user == "ann"),
        }
        rows.append(event(time - draw(st.sampled_from([0, 0, 40 * MINUTE, L])), user, **more))
    return rows


@settings(max_examples=60, deadline=None)
@given(rows=logs(), ticks=st.lists(st.integers(0, 5)))
def test_both_say_the_same(rows: list[Row], ticks: list[int]) -> None:
    fold = Sessions(lateness_ms=L, consent_denied=False)
    worker = {by_device: Log(by_device=by_device) for by_device in (False, True)}
    accepted = []
    watermark = dict.fromkeys((0, 1), 0)
    for row in rows:
        if row["timestamp"] >= watermark[row["partition"]] - L:
            watermark[row["partition"]] = max(watermark[row["partition"]], row["timestamp"])
            accepted.append(row)
    for number, row in enumerate(accepted):
        fold.event(row["partition"], number, row | {"user_id": row["user_key"]})
        for log in worker.values():
            log.add([row])
    for hours in ticks:
        for partition in {row["partition"] for row in accepted}:
            fold.tick(partition, watermark[partition] + hours * HOUR)
            for log in worker.values():
                log.tick(partition, watermark[partition] + hours * HOUR)
    for by_device, log in worker.items():
        log.add([])
        log.flush()
        told = {
            "|".join(str(part or "") for part in (key if by_device else (key[0], key[2]))): row
            for key, row in log.table.items()
        }
        if not by_device:
            for row in told.values():
                del row["device_type"]
        assert fold.rows(by_device=by_device) == told
