"""Webhooks of an alert file as sinks, each complete with its secret and its connections.

Upstream: the runner. Invariant: what is missing is told before anything is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from streamgauge.schemas.alerts import Policies, load_policies
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.metrics import builtin, load_definitions
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.webhooks import Webhook
from streamgauge.sinks.errors import Fatal
from streamgauge.sinks.webhook.delivery import Delivery
from streamgauge.sinks.webhook.ended import Results
from streamgauge.sinks.webhook.letters import Letters
from streamgauge.sinks.webhook.request import Answer, post
from streamgauge.sinks.webhook.sink import Offsets, WebhookSink


def webhooks(alerts: str, definitions: str | None) -> Policies:
    """The file's; raises Fatal where there are none, or a secret is missing."""
    known = load_definitions(Path(definitions)) if definitions else builtin()
    policies = load_policies(Path(alerts), known)
    if not policies.webhooks:
        raise Fatal(f"{alerts} has no webhooks: add some (docs/webhooks.md)")
    for webhook in policies.webhooks:
        secret(webhook)
    return policies


def secret(webhook: Webhook) -> str | None:
    """From the environment."""
    if webhook.secret_env is None:
        return None
    found = os.environ.get(webhook.secret_env)
    if not found:
        raise Fatal(
            f"webhook {webhook.name}: its secret is to be in the variable {webhook.secret_env}, "
            "which is not set: set it, or take secret_env out of the file"
        )
    return found


def sink(
    name: str,
    policies: Policies,
    *,
    kafka: Mapping[str, Any],
    group: str,
    namespace: str,
    registry: Registry,
) -> WebhookSink:
    """One of them."""
    webhook = next(each for each in policies.webhooks if each.name == name)
    codec = Codec(registry)
    return WebhookSink(
        webhook,
        policies,
        post=partial(_post, webhook.url, secret(webhook)),
        keep=Letters(kafka, namespace, codec),
        committed=Offsets({**kafka, "group.id": group}, namespace),
        results=Results(kafka, namespace, codec),
    )


def _post(url: str, key: str | None, delivery: Delivery) -> Answer:
    return post(url, delivery, key)
