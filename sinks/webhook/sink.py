"""Tells one webhook of flags and of experiments that have ended, one request after the other.

Upstream: the runner, with a consumer group for each webhook, so that one which is away delays no
other. Downstream: `request.py`; `letters.py` for what is not taken.

    delivered ───────────────────────────────> next        (then the position is committed)
    5xx, 429, no answer ──> again, by and by ──┐
    `retry_minutes` after it was written ──────┴> dead letter, next
    3xx, 4xx ────────────> dead letter ───────> next

Invariants: the position is the group's own offset, committed by the session after a batch is done,
so everything is sent at least once; a webhook that is away holds back what is newer than
`retry_minutes`, and nothing for ever. There is no fence: a request cannot be taken back.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamgauge.schemas.alerts import Policies
from streamgauge.schemas.anomaly_records import Anomaly
from streamgauge.schemas.topics import qualified
from streamgauge.schemas.webhooks import Webhook
from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.sink import Batch, Log, Partition
from streamgauge.sinks.telemetry import DELIVERIES
from streamgauge.sinks.webhook import ended
from streamgauge.sinks.webhook.delivery import Delivery, of_words
from streamgauge.sinks.webhook.letters import GIVEN_UP, REFUSED
from streamgauge.sinks.webhook.request import Answer

log = logging.getLogger(__name__)

STALE_MS = 86_400_000
"""What is older when its turn comes is not sent: a new webhook is not told of the past."""

Post = Callable[[Delivery], Answer]
Keep = Callable[[str, Delivery, str, str], None]
Committed = Callable[[list[Partition]], dict[Partition, int | None]]


class WebhookSink:
    """One webhook. What it needs of the world is given: `post`, `keep`, `committed`, `results`."""

    types: Mapping[str, frozenset[str]] = {}

    def __init__(
        self,
        webhook: Webhook,
        policies: Policies,
        *,
        post: Post,
        keep: Keep,
        committed: Committed,
        results: ended.Read,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._webhook = webhook
        self._policies = policies
        self._post, self._keep = post, keep
        self._committed, self._results = committed, results
        self._now = now
        self._patience = webhook.retry_minutes * 60_000
        self._batch: Batch | None = None
        self._left: deque[Delivery | ended.End] = deque()
        self._until = 0.0
        topics: dict[str, frozenset[str] | None] = {}
        if any(policy.webhook == webhook.name for policy in policies.policies):
            topics["anomalies"] = frozenset(Anomaly.__slots__)
        if webhook.experiments:
            topics["control"] = frozenset({"kind", "name", "version", "body"})
        self.topics: Mapping[str, frozenset[str] | None] = topics

    def open(self, partitions: Mapping[Partition, Log]) -> dict[Partition, int | None]:
        """Where the group is."""
        self._batch, self._left = None, deque()
        return self._committed(list(partitions))

    def write(self, batch: Batch) -> None:
        """Send what is to be sent of it. The same batch given again goes on where it stopped."""
        if batch is not self._batch:
            self._left = deque(self._fresh(batch))
            self._batch = batch
        while self._left:
            self._send(self._left[0])
            self._left.popleft()
        self._batch = None

    def close(self) -> None:
        """Nothing is held open."""

    def _fresh(self, batch: Batch) -> Iterator[Delivery | ended.End]:
        found: Iterator[Delivery | ended.End] = (
            of_words(batch.frame, self._webhook, self._policies)
            if batch.topic == "anomalies"
            else ended.ends(batch.frame)
        )
        for each in found:
            if self._age(each) <= STALE_MS:
                yield each
            else:
                event = each.event if isinstance(each, Delivery) else "experiment_completed"
                self._count(event, "stale")
                log.info("webhook %s: %s is more than a day old", self._webhook.name, event)

    def _send(self, each: Delivery | ended.End) -> None:
        if (wait := self._until - self._now()) > 0:
            raise Retryable(f"{self._webhook.name} asked to be left alone for {wait:.0f} s")
        delivery = self._complete(each) if isinstance(each, ended.End) else each
        answer = self._post(delivery)
        what = f"webhook {self._webhook.name}: {delivery.event} {delivery.key}"
        if answer.outcome == "delivered":
            self._count(delivery.event, "delivered")
            log.info("%s: delivered (%s)", what, answer.said)
            return
        left = (self._patience - self._age(delivery)) / 1000
        if answer.outcome == "again" and left > 0:
            self._count(delivery.event, "again")
            log.warning("%s: to be sent again: %s", what, answer.said)
            self._until = self._now() + min(answer.retry_after, left)
            raise Retryable(f"{what}: {answer.said}")
        reason = GIVEN_UP if answer.outcome == "again" else REFUSED
        self._keep(self._webhook.name, delivery, reason, answer.said)
        self._count(delivery.event, reason.removeprefix("webhook_"))
        log.error("%s: %s, kept as a dead letter: %s", what, reason, answer.said)

    def _complete(self, end: ended.End) -> Delivery:
        """With its last figures, or after a while with those that there are."""
        rows = self._results(end.experiment, end.written_at - ended.TOGETHER_MS)
        if not ended.settled(rows, int(self._now() * 1000)) and self._age(end) < self._patience:
            raise Retryable(f"{end.experiment} was stopped: its last figures are awaited")
        return ended.delivery(end, rows)

    def _age(self, each: Delivery | ended.End) -> float:
        return self._now() * 1000 - each.written_at

    def _count(self, event: str, outcome: str) -> None:
        DELIVERIES.labels(self._webhook.name, event, outcome).inc()


class Offsets:
    """What a group has committed, asked from outside of it."""

    def __init__(self, conf: Mapping[str, Any], namespace: str) -> None:
        self._conf, self._namespace = conf, namespace

    def __call__(self, partitions: list[Partition]) -> dict[Partition, int | None]:
        """By partition; None where there is none."""
        asked = [TopicPartition(qualified(self._namespace, t), p) for t, p in partitions]
        consumer = Consumer({**self._conf, "enable.auto.commit": False, "logger": log})
        try:
            found = consumer.committed(asked, 10.0)
        except KafkaException as error:
            raise Retryable(f"Kafka: {error.args[0].str()}") from error
        finally:
            consumer.close()
        by_place = {(each.topic, each.partition): each for each in found}
        resume: dict[Partition, int | None] = {}
        for at, place in zip(partitions, asked, strict=True):
            told = by_place[place.topic, place.partition]
            if told.error is not None:
                raise Retryable(f"Kafka: {place.topic}/{place.partition}: {told.error}")
            resume[at] = told.offset if told.offset >= 0 else None
        return resume
