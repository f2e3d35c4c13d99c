"""The app: Faust's app on this engine.

    from streamgauge.streams.engine import App
    app = App("hello-app", broker="kafka://localhost:9092")

Agents, topics, timers, signals, web and worker are Faust's own. What the engine replaces: the
transport (librdkafka), commits (one transaction a barrier), and tables (`Task`, state in frames).
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import faust
from faust.transport import base
from faust.transport.consumer import Fetcher
from faust.types import TP

from streamgauge.streams.engine import memory
from streamgauge.streams.engine.consumer import Consumer
from streamgauge.streams.engine.engine import DeadLetters, Decoder, Engine
from streamgauge.streams.engine.errors import Unsupported
from streamgauge.streams.engine.lane import in_thread
from streamgauge.streams.engine.producer import Producer
from streamgauge.streams.engine.task import Task

logger = logging.getLogger(__name__)


class Transport(base.Transport):
    """Faust's transport on librdkafka."""

    Consumer = Consumer
    Producer = Producer
    Fetcher = Fetcher
    default_port = 9092
    driver_version = "streamgauge"


class Frames(faust.Topic):
    """A topic whose messages are batches, decoded before they get here."""

    def _compile_decode(self) -> None:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return self.app.create_event(None, message.value, {}, message)

        self.decode = decode  # type: ignore[method-assign]


class App(faust.App):
    """A Faust app with exactly-once barriers.

    Arguments beyond Faust's own: `kafka` (librdkafka settings, as for security), `worker_id`
    (stable over restarts, unique among the app's workers), `namespace`, `exactly_once`,
    `commit_interval` (seconds), `batch_size` (records), `until_end` (stop at the topics' end),
    `decoder` (topic, columns) -> Decoder for tasks, `dead_letters`, `topics` (other names),
    `checkpoints` (folder on local disk) and `checkpoint_interval` (seconds).
    """

    def __init__(
        self,
        id: str,
        *,
        kafka: Mapping[str, Any] | None = None,
        worker_id: str = "0",
        namespace: str = "",
        exactly_once: bool = True,
        commit_interval: float = 0.1,
        batch_size: int = 50_000,
        until_end: bool = False,
        decoder: Callable[[str, frozenset[str] | None], Decoder] | None = None,
        dead_letters: DeadLetters | None = None,
        topics: Mapping[str, str] | None = None,
        checkpoints: Path | None = None,
        checkpoint_interval: float = 30.0,
        **options: Any,
    ) -> None:
        options.setdefault("web_enabled", False)
        options.setdefault("topic_disable_leader", True)
        options.setdefault("topic_partitions", 4)
        options.setdefault("stream_wait_empty", False)
        super().__init__(id, **options)
        self.decoder = decoder
        self._engine: Engine | None = None
        self._engine_options = {
            "kafka": kafka or {},
            "worker_id": worker_id,
            "namespace": namespace,
            "exactly_once": exactly_once,
            "commit_interval": commit_interval,
            "batch_size": batch_size,
            "until_end": until_end,
            "dead_letters": dead_letters,
            "renamed": topics or {},
            "checkpoints": checkpoints,
            "checkpoint_interval": checkpoint_interval,
        }

    @property
    def engine(self) -> Engine:
        """What the parts of this app share."""
        if self._engine is None:
            options: dict[str, Any] = dict(self._engine_options)
            brokers = ",".join(f"{url.host}:{url.port or 9092}" for url in self.conf.broker)
            options["kafka"] = {"bootstrap.servers": brokers, **options["kafka"]}
            self._engine = Engine(group=self.conf.id, **options)
        return self._engine

    @property
    def status(self) -> dict[str, Any]:
        """Progress, ownership, restoring; of little to tell before the start."""
        return self._driver.status() if self._consumer is not None else {"ready": False}

    @property
    def _driver(self) -> Consumer:
        return cast(Consumer, self.consumer)

    # -- agents ------------------------------------------------------------------------------

    def attach(self, task: Task, name: str | None = None) -> Any:
        """Run a task: an agent on its topic that takes batches."""
        if self.decoder is None:
            raise Unsupported("App(decoder=…) is needed to run tasks: it decodes their topics")
        topic = Frames(self, topics=[self.engine.add(task)], allow_empty=True)

        async def run(stream: Any) -> None:
            async for batch in stream:
                self._driver.computing += 1
                try:
                    await in_thread(task.process, batch)
                except Exception as exc:  # noted rather than raised: a restart takes seconds
                    logger.exception("%s failed", run.__name__)
                    self._driver.failed(exc)
                finally:
                    self._driver.computing -= 1

        run.__name__ = run.__qualname__ = name or type(task).__name__
        run.__module__ = type(task).__module__
        return self.agent(topic, name=run.__name__)(run)

    def agent(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Faust's decorator; an exception in the body is noted before Faust acknowledges."""
        decorate = super().agent(*args, **kwargs)
        return lambda fun: decorate(self._watched(fun))

    def _watched(self, fun: Any) -> Any:
        if inspect.isasyncgenfunction(fun):

            @functools.wraps(fun)
            async def replies(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                try:
                    async for reply in fun(*args, **kwargs):
                        yield reply
                except Exception as exc:
                    self._driver.failed(exc)
                    raise

            return replies

        @functools.wraps(fun)
        async def body(*args: Any, **kwargs: Any) -> Any:
            try:
                return await fun(*args, **kwargs)
            except Exception as exc:
                self._driver.failed(exc)
                raise

        return body

    # -- tables: replaced ----------------------------------------------------------------------

    def Table(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: N802 (Faust's name)
        """Not on this engine."""
        raise Unsupported(
            "app.Table is not available on this engine: its state would not be in the "
            "transaction. Keep state in a Task (streamgauge.streams.engine.Task)."
        )

    GlobalTable = SetTable = SetGlobalTable = Table

    # -- life --------------------------------------------------------------------------------

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    _new_producer_transport = _new_transport

    def _create_directories(self) -> None:
        """Faust's data directory is for tables, which there are none of here."""

    async def on_start(self) -> None:
        if self.engine.tasks:
            assert self.decoder is not None
            self.engine.open_decoders(self.decoder)
        memory.ignore_messages()
        await super().on_start()

    async def _wait_for_table_recovery_completed(self) -> bool:
        """Timers start once the first assignment has been taken over."""
        taken_over = self._driver.membership.taken_over
        return await self.wait_for_stopped(taken_over)  # type: ignore[arg-type]

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.unassigned = not assigned
        revoked, newly_assigned = self._update_assignment(assigned)
        await self.agents.on_rebalance(revoked, newly_assigned)
        await self.topics.maybe_wait_for_subscriptions()
        await self.topics.on_partitions_assigned(assigned)
        await self.on_partitions_assigned.send(assigned)

    async def _on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.on_partitions_revoked.send(revoked)

    async def _stop_consumer(self) -> None:
        if self._consumer is not None:
            await self._driver.shutdown()
