"""From definitions to arithmetic: which rows a batch of events changes, and by how much.

Upstream: definitions, and accepted events as a wide frame. Downstream: `source.py` keeps the
sums. A row's key is 64 bits of (grain, source partition, minute, dimensions).
"""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring

import numpy as np
import polars as pl

from streamgauge.schemas.metrics import Definitions, Grain
from streamgauge.streams.metrics.addition import Addition, Groups, lines_of
from streamgauge.streams.metrics.keys import combine, mix
from streamgauge.streams.metrics.parts import grain_parts
from streamgauge.streams.metrics.reading import MINUTE_MS, Events, Reader

Array = np.ndarray

KNOWN_TEXTS = 200_000


class Plan:
    """Definitions, made ready for frames."""

    def __init__(self, definitions: Definitions) -> None:
        self.grains: list[Grain] = definitions.grains()
        self.numbers = {grain.version: number for number, grain in enumerate(self.grains)}
        parts = [grain_parts(grain) for grain in self.grains]
        self._seeds = [mix(np.array([int(grain.version, 16)])) for grain in self.grains]
        self._dimensions = sorted({d for grain in self.grains for d in grain.dimensions})
        selections = list(dict.fromkeys(part.selection for of in parts for part in of))
        numbers = {selection: number for number, selection in enumerate(selections)}
        self._lines = [lines_of(of, numbers) for of in parts]
        self._reader = Reader(selections, self._dimensions)
        self.columns = self._reader.columns
        self.events = self._reader.events
        self._texts: dict[int, str] = {}

    def addition(self, events: Events, since: Mapping[str, Mapping[int, int]]) -> Addition:
        """What events add.

        `since` says from when on a version counts, by partition, where not from the beginning.
        """
        base = combine(events.partition, events.minute)
        groups = Groups(events)
        for number, grain in enumerate(self.grains):

            def key_of(rows: Array, number: int = number) -> Array:
                return combine(self._dimensions_key(events, number, rows), base[rows])

            wanted = None
            if begins := since.get(grain.version):
                first = np.array([begins.get(p, -1) for p in events.partition.tolist()])
                wanted = events.minute * MINUTE_MS >= first
            groups.add(number, key_of, self._lines[number], wanted)
        return groups.addition()

    def _dimensions_key(self, events: Events, number: int, rows: Array) -> Array:
        """A key of a grain and its dimensions, for some rows; one for all without dimensions."""
        key = self._seeds[number]
        for dimension in self.grains[number].dimensions:
            key = combine(events.hashes[dimension][rows], key)
        return key

    def dimension_texts(self, events: Events, grain: Array, rows: Array) -> Array:
        """The `dimensions` of rows, each of the grain beside it."""
        texts = np.full(len(rows), "{}", object)
        for number in np.unique(grain).tolist():
            places = (grain == number).nonzero()[0]
            if self.grains[number].dimensions:
                texts[places] = self._texts_of(events, number, rows[places])
        return texts

    def _texts_of(self, events: Events, number: int, rows: Array) -> list[str]:
        """The same few texts come again with every minute: they are remembered."""
        keys = self._dimensions_key(events, number, rows).tolist()
        known = self._texts
        missing = {
            key: row for key, row in zip(keys, rows.tolist(), strict=True) if key not in known
        }
        if missing:
            if len(known) > KNOWN_TEXTS:
                known = self._texts = {key: known[key] for key in keys if key in known}
            names = self.grains[number].dimensions
            found = events.frame.select(
                pl.col(name).gather(list(missing.values())).cast(pl.String) for name in names
            )
            for key, values in zip(missing, found.rows(), strict=True):
                pairs = zip(names, values, strict=True)
                known[key] = "{" + ",".join(f"{_json(n)}:{_json(v)}" for n, v in pairs) + "}"
        return [known[key] for key in keys]


def _json(text: str | None) -> str:
    return "null" if text is None else encode_basestring(text)
