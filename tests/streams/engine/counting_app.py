"""An app for the engine's tests: forwards every record, counts by key, and dead-letters poison.

Run as `python counting_app.py BROKER NAMESPACE WORKER_ID [until-end]`. The task keeps the counts in
a changelog; the outputs `forwarded` (one row a record) and `counts` (one a changed key) tell a
reader whether anything was lost, doubled or torn. With RELAY=1 a second task copies `forwarded` to
`relayed`, and says so where it happens between two barriers.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl

from streamgauge.streams.engine import App, Output, Task
from streamgauge.streams.engine.engine import RawDeadLetters


class JsonLines:
    """Decodes values like {"key": "a", "n": 1}; anything else is a reject."""

    def __init__(self, topic, columns):
        self.topic = topic

    def decode(self, messages):
        rows, rejects = [], []
        for index, message in enumerate(messages):
            try:
                value = json.loads(message.value())
            except ValueError:
                reject = SimpleNamespace(
                    key=message.key(), payload=message.value(), reason="undecodable"
                )
                rejects.append(reject)
                continue
            rows.append((index, message.partition(), message.offset(), value["key"], value["n"]))
        names = ["index", "partition", "offset", "key", "n"]
        frame = pl.DataFrame(rows, schema=names, orient="row").sort("partition", "offset")
        return SimpleNamespace(frame=frame, rejects=rejects)


class Texts:
    """Decodes values as texts."""

    def decode(self, messages):
        rows = [
            (index, message.partition(), message.offset(), message.value().decode())
            for index, message in enumerate(messages)
        ]
        frame = pl.DataFrame(rows, schema=["index", "partition", "offset", "text"], orient="row")
        return SimpleNamespace(frame=frame.sort("partition", "offset"), rejects=[])


class Relaying(Task):
    topic = "forwarded"
    relays = True

    def __init__(self, counting):
        self.counting, self.flushes, self.rows = counting, 0, []

    def process(self, batch):
        self.rows += batch.frame.select("partition", "text").rows()

    def flush(self, now):
        if self.rows and self.counting.flushes == self.flushes:
            print("relayed between barriers", flush=True)
        self.flushes = self.counting.flushes
        texts = [text.encode() for _, text in self.rows]
        yield Output(
            topic="relayed", keys=texts, values=texts, partitions=[place for place, _ in self.rows]
        )

    def commit(self):
        self.rows = []

    abort = commit


class Counting(Task):
    topic = "numbers"
    changelogs = ("counts",)
    flushes = 0

    def __init__(self):
        self.stable = self.working = {}
        self.rows = []
        self.raises = int(os.environ.get("RAISES", "0"))

    def process(self, batch):
        if self.raises:
            self.raises -= 1
            raise RuntimeError("an agent that raises")
        if os.environ.get("POISON") and batch.frame["n"].is_in([666]).any():
            raise ValueError("poison")
        counts = dict(self.working)
        for _, partition, offset, key, n in batch.frame.rows():
            counts[partition, key] = counts.get((partition, key), 0) + n
            self.rows.append((partition, f"{partition}/{offset}".encode()))
        self.working = counts

    def flush(self, now):
        self.flushes += 1
        rows, self.rows = self.rows, []
        if os.environ.get("TOO_LARGE") and any(n == 777 for n in self.working.values()):
            yield Output(topic="forwarded", keys=[b"x"], values=[b"x" * 2_000_000], partitions=0)
        changed = [k for k in self.working if self.working[k] != self.stable.get(k)]
        yield Output(
            topic="forwarded",
            keys=[place for _, place in rows],
            values=[place for _, place in rows],
            partitions=[partition for partition, _ in rows],
        )
        yield Output(
            topic="counts",
            keys=[key.encode() for _, key in changed],
            values=[str(self.working[k]).encode() for k in changed],
            partitions=[partition for partition, _ in changed],
        )

    def commit(self):
        self.stable = self.working

    def abort(self):
        self.working, self.rows = self.stable, []

    def snapshot(self):
        stable = self.stable
        return lambda partition: json.dumps(
            {key: n for (of, key), n in stable.items() if of == partition}
        ).encode()

    def load(self, partition, snapshot, at, offset, text):
        counts = json.loads(bytes(snapshot))
        self.working = self.working | {(partition, key): n for key, n in counts.items()}
        return True

    def restore(self, changelog, keys, values, partition):
        counts = dict(self.working)
        for key, value in zip(keys, values, strict=True):
            counts[partition, key.decode()] = int(value)
        self.working = counts

    def revoke(self, partitions):
        keep = {k: v for k, v in self.stable.items() if k[0] not in partitions}
        self.stable = self.working = keep


def main():
    broker, namespace, worker_id = sys.argv[1:4]
    app = App(
        f"{namespace}.counting",
        broker=f"kafka://{broker}",
        namespace=namespace,
        worker_id=worker_id,
        decoder=lambda topic, columns: JsonLines(topic, columns) if topic == "numbers" else Texts(),
        commit_interval=float(os.environ.get("COMMIT_INTERVAL", "0.1")),
        until_end="until-end" in sys.argv,
        kafka={"debug": os.environ["KAFKA_DEBUG"]} if os.environ.get("KAFKA_DEBUG") else {},
        batch_size=int(os.environ.get("BATCH", "500")),
        topic_allow_declare=False,
        dead_letters=RawDeadLetters("dead"),
        checkpoints=Path(folder) if (folder := os.environ.get("CHECKPOINTS")) else None,
        checkpoint_interval=0.5,
    )
    counting = Counting()
    app.attach(counting)
    if os.environ.get("RELAY"):
        app.attach(Relaying(counting))
    sys.argv = [sys.argv[0], "worker", "-l", "info", "--without-web"]
    app.main()


if __name__ == "__main__":
    main()
