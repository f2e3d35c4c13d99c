"""Faust agents over columnar batches on librdkafka, exactly once.

Upstream: Kafka topics. Downstream: Kafka topics, in the transaction that moves the offsets.
`task.py` is what a computation sees; `consumer.py` has the state diagram.
"""

from streamgauge.streams.engine.app import App
from streamgauge.streams.engine.errors import EngineError, Fenced, Poisoned, Rollback, Unsupported
from streamgauge.streams.engine.task import Batch, Output, Task

__all__ = [
    "App",
    "Batch",
    "EngineError",
    "Fenced",
    "Output",
    "Poisoned",
    "Rollback",
    "Task",
    "Unsupported",
]
