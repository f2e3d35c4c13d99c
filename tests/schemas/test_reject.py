"""A reject becomes a dead letter that is the same whenever the log is read."""

from streamgauge.schemas.records import DeadLetter
from streamgauge.schemas.reject import Reject, dead_letter


def test_a_dead_letter_keeps_place_reason_and_bytes_and_the_logs_time() -> None:
    reject = Reject(
        topic="events",
        partition=3,
        offset=7,
        reason="invalid",
        detail="event_id: missing",
        schema_id=1,
        key=b"k",
        payload=b"p",
        append_time=5,
    )
    assert dead_letter(reject) == DeadLetter(
        topic="events",
        partition=3,
        offset=7,
        schema_id=1,
        reason="invalid",
        detail="event_id: missing",
        payload=b"p",
        key=b"k",
        failed_at=5,
    )
