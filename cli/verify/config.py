"""What to verify, against what, and how long to wait."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from streamgauge.schemas import topics


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """One namespace and its targets; a target that is None is not compared."""

    kafka: Mapping[str, Any]  # librdkafka settings, bootstrap.servers among them
    registry: str
    namespace: str = ""
    postgres: str | None = None
    redis: str | None = None
    archive: Path | None = None  # read the raw records from here, not from the topic
    lateness_ms: int = 3_600_000
    consent_default: Literal["granted", "denied"] = "granted"
    definitions: Path | None = None  # None: the built-in catalogue
    alerts: Path | None = None  # None: the default preset
    segments: Path | None = None  # rules to begin with; None: the built-in set
    event_modules: tuple[str, ...] = ()
    events_topic: str | None = None  # qualified; None: the namespace's own
    cut: Mapping[int, int] | None = None  # partition → first offset not read; None: the end
    timeout: float = 60.0  # seconds without any progress
    closed_only: bool = False
    schema: str | None = None  # of Postgres; None: by the namespace
    prefix: str | None = None  # of Redis keys; None: by the namespace
    shown: int = 50  # differences in the report

    @property
    def events(self) -> str:
        """The raw topic."""
        return self.events_topic or self.topic(topics.EVENTS.name)

    @property
    def sources(self) -> tuple[str, str]:
        """The raw topic as dead letters and late events name it: with or without a namespace."""
        return (topics.EVENTS.name, self.events)

    @property
    def postgres_schema(self) -> str:
        """The schema of the namespace's tables."""
        return self.schema or self.namespace.replace("-", "_") or "streamgauge"

    @property
    def redis_prefix(self) -> str:
        """What the namespace's Redis keys begin with."""
        return self.prefix if self.prefix is not None else f"{self.namespace or 'sg'}:"

    @property
    def worker_group(self) -> str:
        """The consumer group of the workers."""
        return self.topic("streamgauge-worker")

    def topic(self, name: str) -> str:
        """The name on the broker."""
        return topics.qualified(self.namespace, name)
