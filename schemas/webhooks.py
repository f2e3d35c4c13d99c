"""Webhooks: who outside is told of flags and experiments, as data from the alert file.

Upstream: the key `webhooks` of an alert file, and `webhook` of its policies. Downstream: the
webhook sink, which is told here what it is to send to whom. In the file:

    webhooks:
      - name: ops
        url: https://ops.example.com/streamgauge
        secret_env: OPS_WEBHOOK_SECRET    # the variable that holds the key of the signature
        experiments: true                 # also told of experiments that have ended
        retry_minutes: 15                 # how long it is tried before it is given up
    policies:
      - {detector: bot, severity: red, webhook: ops}
      - {detector: "threshold:error_rate", webhook: ops}

Invariant: a file never holds a secret, only the name of a variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from streamgauge.schemas.metric_file import Fault, suggest

USER_DETECTORS = ("cap", "burst", "bot", "impossible")
SERIES_DETECTORS = ("spike", "change", "shift", "unrest", "climb", "missing")
THRESHOLD = "threshold:"
OURS = "STREAMGAUGE_"

Severity = Literal["yellow", "red"]


class Webhook(BaseModel):
    """An address that is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=60)]
    url: str
    secret_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds the secret; none: what is sent is not signed."""
    experiments: bool = False
    retry_minutes: Annotated[float, Field(ge=0, le=1440, allow_inf_nan=False)] = 15.0

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        try:
            at = urlsplit(value)
            usable = at.scheme in ("http", "https") and bool(at.hostname) and at.port != 0
        except ValueError:
            usable = False
        if not usable or not value.isascii() or any(c <= " " for c in value):
            raise ValueError("no address: use https://HOST[:PORT][/PATH]")
        if at.username is not None or at.fragment:
            raise ValueError("an address without a user, password or #: give a secret_env instead")
        return value

    @field_validator("secret_env")
    @classmethod
    def _secret_env(cls, value: str | None) -> str | None:
        if value is not None and value.upper().startswith(OURS):
            raise ValueError(f"names that begin with {OURS} are settings: use another one")
        return value


class Telling(Protocol):
    """A policy, as far as webhooks are concerned."""

    @property
    def detector(self) -> str: ...
    @property
    def severity(self) -> Severity: ...
    @property
    def webhook(self) -> str | None: ...


def told_of(
    webhook: str, policies: Iterable[Telling], detector: str | None, severity: str | None
) -> bool:
    """Whether a webhook is to hear of a flag of this detector, as severe as it is now."""
    return any(
        policy.webhook == webhook
        and policy.detector == detector
        and (policy.severity == "yellow" or severity == "red")
        for policy in policies
    )


def detectors(alerts: Iterable[str]) -> list[str]:
    """All that flags can come from, by the names of the alert levels."""
    return [*USER_DETECTORS, *SERIES_DETECTORS, *(THRESHOLD + name for name in alerts)]


def faults_of(webhooks: Sequence[Webhook], policies: Sequence[Telling]) -> Iterator[Fault]:
    """What is wrong with names: of webhooks, and in policies."""
    names = [webhook.name for webhook in webhooks]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("webhooks", index, "name"), "there is already a webhook of this name"
    named = {policy.webhook for policy in policies}
    for index, webhook in enumerate(webhooks):
        if not webhook.experiments and webhook.name not in named:
            yield (
                ("webhooks", index),
                "nothing would be told to it: name it in a policy, or set experiments: true",
            )
    for index, policy in enumerate(policies):
        if policy.webhook is not None and policy.webhook not in names:
            there = suggest(policy.webhook, names) if names else "the file has no webhooks"
            yield ("policies", index, "webhook"), f"no webhook {policy.webhook}: {there}"
