"""A counting app or a sink with one bug in it, which the fault tests must find.

Run as `python planted.py BUG app BROKER NAMESPACE WORKER_ID [until-end]`, or with
`sink SETTINGS` (JSON); BUG `none` is the product as it is. A bug says so in the log once it has
done its work: a patch that no longer meets anything is no test.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ENGINE = Path(__file__).parents[1] / "streams" / "engine"
DONE = "the planted bug was met"


def done() -> None:
    print(DONE, flush=True)


# -- the engine ----------------------------------------------------------------------------------


def commit_before_flush() -> None:
    """Offsets are committed before what was made of the input is written."""
    from streamgauge.streams.engine.transaction import Transactions

    write, commit = Transactions.write, Transactions.commit
    waiting: list[Any] = []

    def early(self: Transactions, *where: Any) -> None:
        done()
        commit(self, *where)
        while waiting:
            write(self, waiting.pop(0))

    Transactions.write = lambda self, output: waiting.append(output)  # type: ignore[method-assign]
    Transactions.commit = early  # type: ignore[method-assign]


def offsets_outside() -> None:
    """Offsets are committed after the transaction, not in it."""
    from streamgauge.streams.engine.transaction import Transactions

    commit = Transactions.commit

    def apart(self: Transactions, offsets: Any, group: Any, consumer: Any) -> None:
        done()
        commit(self, [], group, consumer)
        consumer.commit(offsets=list(offsets), asynchronous=False)

    Transactions.commit = apart  # type: ignore[method-assign]


def empty_offsets() -> None:
    """Where nothing was read, no offsets are sent: then nothing fences a zombie."""
    from streamgauge.streams.engine.transaction import Transactions

    commit = Transactions.commit
    last: list[Any] = []

    def unfenced(self: Transactions, offsets: Any, group: Any, consumer: Any) -> None:
        at = sorted((tp.topic, tp.partition, tp.offset) for tp in offsets)
        if at == last:
            done()
            offsets = []
        commit(self, offsets, group, consumer)
        last[:] = at

    Transactions.commit = unfenced  # type: ignore[method-assign]


def state_kept_after_abort() -> None:
    """An abort leaves the working state as it is."""
    from counting_app import Counting

    def forgetful(self: Counting) -> None:
        done()
        self.rows = []

    Counting.abort = forgetful


def exception_swallowed() -> None:
    """What an agent raises is logged and forgotten."""
    from streamgauge.streams.engine.consumer import Consumer

    Consumer.failed = lambda self, exc: done()  # type: ignore[method-assign]


def restore_to_the_read_committed_end() -> None:
    """A changelog is read up to its last stable offset."""
    from confluent_kafka import IsolationLevel
    from confluent_kafka.admin import AdminClient

    ask = AdminClient.list_offsets

    def stable(self: AdminClient, asked: Any, **options: Any) -> Any:
        done()
        return ask(self, asked, **{**options, "isolation_level": IsolationLevel.READ_COMMITTED})

    AdminClient.list_offsets = stable  # type: ignore[method-assign]


# -- the sinks -----------------------------------------------------------------------------------


def no_fence_in_postgres() -> None:
    """Whoever has rows writes them, whatever epoch and position say."""
    from streamgauge.sinks.postgres import fence

    def unfenced(connection: Any, schema: str, topic: str, owned: Any, ranges: Any) -> bool:
        done()
        for partition, span in ranges.items():
            connection.execute(
                f'UPDATE "{schema}".sink_offsets SET next_offset = %s'
                " WHERE topic = %s AND partition = %s",
                [span.end, topic, partition],
            )
        return True

    fence.move = unfenced


def no_fence_in_redis() -> None:
    """The script looks neither at the epoch nor at the position."""
    from streamgauge.sinks.redis import sink

    scripts = sink._HERE

    class Unfenced:
        def __truediv__(self, name: str) -> Any:
            text = (scripts / name).read_text()
            if name == "fence.lua":
                text = text[: text.index("if epoch and epoch > mine")]
                done()
            return SimpleNamespace(read_text=lambda: text)

    sink._HERE = Unfenced()  # type: ignore[assignment]


BUGS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    **{
        bug.__name__: bug
        for bug in (
            commit_before_flush,
            offsets_outside,
            empty_offsets,
            state_kept_after_abort,
            exception_swallowed,
            restore_to_the_read_committed_end,
            no_fence_in_postgres,
            no_fence_in_redis,
        )
    },
}


# -- what runs -----------------------------------------------------------------------------------


def app(arguments: list[str]) -> None:
    """The counting app. With REPEAT it writes its counts again while nothing comes, as throttled
    outputs are written; `stop` stops the process when it is about to."""
    import counting_app

    if repeat := os.environ.get("REPEAT"):
        flush = counting_app.Counting.flush
        last = {"at": float("inf")}

        def repeating(self: Any, now: float) -> Iterator[Any]:
            outputs = [output for output in flush(self, now) if output.keys]
            if outputs:
                last["at"] = now
            elif now - last["at"] > 0.5:
                last["at"] = float("inf")
                if repeat == "stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
                outputs = [
                    counting_app.Output(
                        topic="counts",
                        keys=[key.encode() for _, key in self.stable],
                        values=[str(n).encode() for n in self.stable.values()],
                        partitions=[partition for partition, _ in self.stable],
                    )
                ]
            yield from outputs

        counting_app.Counting.flush = repeating
    sys.argv = ["counting_app.py", *arguments]
    counting_app.main()


def sink(arguments: list[str]) -> None:
    """One sink."""
    from streamgauge.sinks.runner import SinkConfig, run

    logging.basicConfig(level="INFO")
    sys.exit(run(SinkConfig(**json.loads(arguments[0]))))


if __name__ == "__main__":
    sys.path.insert(0, str(ENGINE))
    BUGS[sys.argv[1]]()
    {"app": app, "sink": sink}[sys.argv[2]](sys.argv[3:])
