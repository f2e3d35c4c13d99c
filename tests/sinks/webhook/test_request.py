"""One request: what is sent, how it is signed, and what answers mean."""

import hashlib
import hmac
import json
import socket
from typing import Any

import pytest

from streamgauge.sinks.webhook.delivery import Delivery, body
from streamgauge.sinks.webhook.request import judged, post


@pytest.fixture
def delivery() -> Delivery:
    return Delivery(
        event="anomaly_opened",
        key="3f9a-1",
        body=body({"event": "anomaly_opened", "user_id": "żółw"}),
        topic="anomalies",
        partition=1,
        offset=7,
        written_at=0,
    )


def test_a_request_can_be_known_again_and_checked(receiver: Any, delivery: Delivery) -> None:
    assert post(receiver.url, delivery, "s3cret").outcome == "delivered"
    ((headers, sent),) = receiver.got
    assert json.loads(sent) == {"event": "anomaly_opened", "user_id": "żółw"}
    assert headers["Idempotency-Key"] == "3f9a-1"
    assert headers["Streamgauge-Event"] == "anomaly_opened"
    assert headers["Content-Type"] == "application/json"
    time, mac = (part.split("=")[1] for part in headers["Streamgauge-Signature"].split(","))
    signed = hmac.new(b"s3cret", time.encode() + b"." + sent, hashlib.sha256)
    assert mac == signed.hexdigest()


def test_without_a_secret_there_is_no_signature(receiver: Any, delivery: Delivery) -> None:
    post(receiver.url, delivery, None)
    assert "Streamgauge-Signature" not in receiver.got[0][0]


@pytest.mark.parametrize(
    ("outcome", "statuses"),
    [
        ("delivered", (200, 202, 204)),
        ("refused", (301, 400, 401, 404, 410)),
        ("again", (408, 429, 500, 503)),
    ],
)
def test_statuses(outcome: str, statuses: tuple[int, ...]) -> None:
    assert {judged(status, None, "").outcome for status in statuses} == {outcome}


def test_the_receiver_may_ask_to_be_left_alone() -> None:
    assert judged(503, "7", "").retry_after == 7
    assert judged(429, "soon", "").retry_after == 0
    assert judged(429, "999999", "").retry_after == 3600
    assert judged(200, "7", "").retry_after == 0


def test_a_redirect_is_not_followed(receiver: Any, delivery: Delivery) -> None:
    receiver.answers = [(302, {"Location": receiver.url})]
    answer = post(receiver.url, delivery, None)
    assert (answer.outcome, len(receiver.got)) == ("refused", 1)
    assert "redirects are not followed" in answer.said and "not so" in answer.said


def test_nobody_there_and_no_answer_mean_again(delivery: Delivery) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/?token=abc"
        nobody = post(url, delivery, None)
        silent.listen()
        slow = post(url, delivery, None, timeout=0.2)
        tls = post(url.replace("http", "https"), delivery, None, timeout=0.2)
    assert {nobody.outcome, slow.outcome, tls.outcome} == {"again"}
    assert "token" not in nobody.said + slow.said + tls.said
