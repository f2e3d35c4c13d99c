"""Which log a topic is."""

import time
from concurrent.futures import Future
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from streamgauge.sinks import logs as module
from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.logs import Logs
from streamgauge.sinks.sink import Log


class Admin:
    def __init__(self, cluster: Any, answer: Any = None) -> None:
        self.cluster, self.answer = cluster, answer

    def __call__(self, conf: Any) -> "Admin":
        return self

    def list_topics(self, timeout: float) -> Any:
        if isinstance(self.cluster, Exception):
            raise self.cluster
        return SimpleNamespace(cluster_id=self.cluster)

    def describe_topics(self, topics: Any, request_timeout: float) -> Any:
        future: Future[Any] = Future()
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        else:
            future.set_result(SimpleNamespace(topic_id=self.answer))
        return {"metrics": future}


def ask(monkeypatch: pytest.MonkeyPatch, admin: Admin) -> Log:
    monkeypatch.setattr(module, "AdminClient", admin)
    return Logs({}).of(["metrics"])["metrics"]


def error(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


def test_a_log_has_the_ids_of_cluster_and_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, Admin("c", "t")) == Log(cluster_id="c", topic_id="t")


def test_the_embedded_broker_is_not_asked_what_it_never_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = ask(monkeypatch, Admin("mockCluster1", error(KafkaError._TIMED_OUT)))
    assert log == Log(cluster_id="mockCluster1", topic_id="")


def test_a_broker_that_will_never_tell_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin("c", error(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    assert ask(monkeypatch, admin) == Log(cluster_id="c", topic_id="")


@pytest.mark.parametrize(
    "admin", [Admin(error(KafkaError._TRANSPORT)), Admin("c", error(KafkaError._TIMED_OUT))]
)
def test_a_broker_that_does_not_answer_now_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, admin: Admin
) -> None:
    with pytest.raises(Retryable, match="Kafka"):
        ask(monkeypatch, admin)


def test_no_topics_need_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AdminClient", Admin(error(KafkaError._TRANSPORT)))
    assert Logs({}).of([]) == {}


@pytest.mark.kafka
def test_a_topic_made_anew_is_another_log(kafka: str, namespace: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    seen = set()
    for _ in range(2):
        admin.create_topics([NewTopic(namespace, 1, 1)])[namespace].result(30)
        seen.add(patiently(Logs({"bootstrap.servers": kafka}), namespace))
        admin.delete_topics([namespace])[namespace].result(30)
        gone(Logs({"bootstrap.servers": kafka}), namespace)
    assert len(seen) == 2
    assert all(log.cluster_id and log.topic_id for log in seen)


def patiently(logs: Logs, topic: str) -> Log:
    """A topic is not known everywhere the moment it is made."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return logs.of([topic])[topic]
        except Retryable:
            assert time.monotonic() < deadline, f"{topic} is not there"
            time.sleep(0.1)


def gone(logs: Logs, topic: str) -> None:
    """Nor is it forgotten everywhere the moment it is deleted."""
    deadline = time.monotonic() + 60
    with suppress(Retryable):
        while logs.of([topic]):
            assert time.monotonic() < deadline, f"{topic} is still there"
            time.sleep(0.1)
