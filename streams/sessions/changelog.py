"""What a restart reads of the topics of sessions: what is open, and which events rows are of.

Upstream: rows of one topic, in order, in chunks. Downstream: `branch.py`. Invariant: of a user, all
events up to the greatest `emitted_offset` of any row are in rows, final ones among them; so final
rows are not kept, but how far they are is, until the replay is over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.messages import Messages
from streamgauge.schemas.registry import Registry
from streamgauge.streams.metrics.runs import Runs
from streamgauge.streams.sessions import rows
from streamgauge.streams.sessions.spans import Read

Array = np.ndarray
_NOTHING = Runs(dtypes=(np.int64, np.int32))


class Changelog:
    """Collects rows of partitions that are being restored."""

    def __init__(self, topic: str, registry: Registry, *, by_device: bool) -> None:
        self._topic, self._by_device = topic, by_device
        self._decoder = Decoder(registry, topic)
        self._open: dict[int, dict[bytes, bytes]] = {}
        self._known = _NOTHING

    def add(self, keys: Sequence[bytes], values: Sequence[bytes | None], partition: int) -> None:
        """The next rows of a partition."""
        table = self._decoded(keys, values, partition)
        names = rows.session_keys(table, partition, by_device=self._by_device)
        offset = table["emitted_offset"].to_numpy()
        self._known = self._known.add(names, offset, np.full(len(names), partition, np.int32))
        final = set(table["index"].filter(table["is_final"]).to_list())
        known = self._open.setdefault(partition, {})
        for number, (key, value) in enumerate(zip(keys, values, strict=True)):
            if value is None or number in final:
                known.pop(key, None)
            else:
                known[key] = value

    def taken(self) -> tuple[dict[int, int], list[Read]]:
        """The last offset of each partition, and what is open there; once."""
        found, self._open = self._open, {}
        read = []
        for partition, known in found.items():
            table = self._decoded(list(known), list(known.values()), partition)
            read.append(rows.restored(table, partition, by_device=self._by_device))
        everything = self._known.where(lambda run: np.ones(len(run.key), bool)).columns
        offsets = {
            partition: int(everything[0][everything[1] == partition].max(initial=-1))
            for partition in found
        }
        return offsets, read

    def known(self, keys: Array) -> Array:
        """The offset up to which rows are of all events of each key; -1 where there are none."""
        offset = np.full(len(keys), -1, np.int64)
        which, (offsets, _) = self._known.find(keys)
        np.maximum.at(offset, which, offsets)
        return offset

    def clear(self) -> None:
        """The replay is over."""
        self._known = _NOTHING

    def revoke(self, partitions: set[int]) -> None:
        """Forget these partitions."""
        gone = sorted(partitions)
        self._known = self._known.keep(lambda run: ~np.isin(run.columns[1], gone))
        for partition in partitions:
            self._open.pop(partition, None)

    def _decoded(
        self, keys: Sequence[bytes], values: Sequence[bytes | None], partition: int
    ) -> pl.DataFrame:
        count = len(keys)
        messages = Messages(
            self._topic,
            list(keys),
            list(values),
            np.full(count, partition, np.int32),
            np.arange(count, dtype=np.int64),
            np.zeros(count, np.int64),
        )
        return self._decoder.decode(messages).frame
