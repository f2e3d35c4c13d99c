"""Getting events in: the SDK's clients, files, and the simulated world.

    from streamgauge.producers import Client

Each name is imported when it is first asked for, so that `Client` costs its user next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamgauge.schemas.lazy import attributes

if TYPE_CHECKING:
    from streamgauge.producers.aio import AsyncClient
    from streamgauge.producers.ambient import context
    from streamgauge.producers.client import Client
    from streamgauge.producers.errors import (
        ClientClosed,
        EventTooLarge,
        ProducerError,
        QueueFull,
        SendRefused,
        SpoolFull,
        SpoolUnusable,
        TargetingUnavailable,
        Unavailable,
        Undelivered,
        UnreadableFile,
    )
    from streamgauge.producers.files import FileReport, Rejected, produce_file
    from streamgauge.producers.outcomes import Outcome, Stats
    from streamgauge.producers.records import RecordProducer
    from streamgauge.producers.targeting import RedisTargeting
    from streamgauge.producers.transport import Transport

__all__ = [
    "AsyncClient",
    "Client",
    "ClientClosed",
    "EventTooLarge",
    "FileReport",
    "Outcome",
    "ProducerError",
    "QueueFull",
    "RecordProducer",
    "RedisTargeting",
    "Rejected",
    "SendRefused",
    "SpoolFull",
    "SpoolUnusable",
    "Stats",
    "TargetingUnavailable",
    "Transport",
    "Unavailable",
    "Undelivered",
    "UnreadableFile",
    "context",
    "produce_file",
]

__getattr__ = attributes(
    __name__,
    {
        "aio": ("AsyncClient",),
        "ambient": ("context",),
        "client": ("Client",),
        "errors": (
            *("ClientClosed", "EventTooLarge", "ProducerError", "QueueFull", "SendRefused"),
            *("SpoolFull", "SpoolUnusable", "TargetingUnavailable", "Unavailable"),
            *("Undelivered", "UnreadableFile"),
        ),
        "files": ("FileReport", "Rejected", "produce_file"),
        "outcomes": ("Outcome", "Stats"),
        "records": ("RecordProducer",),
        "targeting": ("RedisTargeting",),
        "transport": ("Transport",),
    },
)
