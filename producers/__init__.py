"""Getting events into Kafka: the SDK's client, files, and the simulated world.

from streamgauge.producers import Client
"""

from streamgauge.producers.client import Client, Stats
from streamgauge.producers.errors import (
    ClientClosed,
    EventTooLarge,
    ProducerError,
    QueueFull,
    SendRefused,
    Undelivered,
    UnreadableFile,
)
from streamgauge.producers.files import FileReport, Rejected, produce_file

__all__ = [
    "Client",
    "ClientClosed",
    "EventTooLarge",
    "FileReport",
    "ProducerError",
    "QueueFull",
    "Rejected",
    "SendRefused",
    "Stats",
    "Undelivered",
    "UnreadableFile",
    "produce_file",
]
