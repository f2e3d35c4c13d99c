"""Some profiles apart from their table: for snapshots, for restoring, for moving on.

Upstream: snapshots, records. Downstream: `taken`, which puts them into a table, under new slots
and codes. Invariant: keys are hashes of this process, so none leaves it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamgauge.streams import packing
from streamgauge.streams.metrics.keys import combine, of_strings
from streamgauge.streams.profiles import profiles
from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.packed import Packed
from streamgauge.streams.profiles.profiles import Selection, State
from streamgauge.streams.profiles.tags import NO_TAGS, Names, code_of

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Part:
    """Profiles with their names as texts."""

    rows: Array
    users: pl.Series
    country: pl.Series
    texts: list[str]
    owner: Array
    """Of each tag: whose it is."""
    codes: Array
    """Its place in `texts`."""
    columns: tuple[Array, ...]

    def to_bytes(self) -> bytes:
        packed = Packed.of(self.rows)
        arrays = (packed.marks, packed.words, self.owner, self.codes, *self.columns)
        texts = io.BytesIO()
        pl.DataFrame({"user": self.users, "country": self.country}).write_ipc(texts)
        names = io.BytesIO()
        pl.DataFrame({"text": pl.Series(self.texts, dtype=pl.String)}).write_ipc(names)
        tables = [texts.getvalue(), names.getvalue()]
        return packing.together([*(array.tobytes() for array in arrays), *tables])

    @staticmethod
    def of_bytes(data: memoryview) -> Part:
        *arrays, users, named = packing.apart(data)
        marks, words, owner, codes, *columns = (
            np.frombuffer(array, dtype) for array, dtype in zip(arrays, _ARRAYS, strict=True)
        )
        texts, names = (pl.read_ipc(io.BytesIO(table)) for table in (users, named))
        packed = Packed.placed(marks, words)
        return Part(
            rows=packed.rows(np.arange(len(packed))),
            users=texts["user"],
            country=texts["country"],
            texts=names["text"].to_list(),
            owner=owner,
            codes=codes,
            columns=tuple(columns),
        )


_ARRAYS = (np.uint64, np.uint64, np.uint32, np.uint32, *NO_TAGS.dtypes)
"""What `to_bytes` writes: marks, words, owners, codes, and the columns of tags."""


def of_selection(selection: Selection, names: Names) -> Part:
    known, codes = names.each(code_of(selection.tags.key))
    rows = selection.rows
    return Part(
        rows=rows,
        users=selection.users,
        country=names.all(rows["country"]),
        texts=[names.texts[code] for code in known.tolist()],
        owner=selection.place.astype(np.uint32),
        codes=codes.astype(np.uint32),
        columns=selection.tags.columns,
    )


def of_partition(state: State, partition: int, names: Names) -> Part:
    keys = profiles.keys_of(state, partition)
    return of_selection(profiles.select(state, keys), names)


def keys(part: Part) -> Array:
    """The users' keys in this process."""
    return combine(of_strings(part.users), part.rows["partition"])


def taken(state: State, part: Part, names: Names) -> State:
    """With these profiles in place of any that the users have."""
    if not len(part.rows):
        return state
    rows = profile.copied(part.rows)
    slots = len(state.users) + np.arange(len(rows), dtype=np.uint32)
    rows["slot"] = slots
    rows["country"] = names.codes(text or "" for text in part.country)
    codes = names.codes(part.texts)
    known = keys(part)
    order = np.argsort(known)
    there, _ = state.rows.find(known[order])
    tag = slots[part.owner].astype(np.uint64) << np.uint64(32)
    if len(codes):
        tag |= codes[part.codes]
    return State(
        rows=state.rows.put(known[order], Packed.of(rows.take(order)), len(rows) - len(there)),
        tags=state.tags.add(tag, *part.columns),
        users=pl.concat([state.users, part.users]),
    )


def without(state: State, partitions: set[int], names: Names) -> State:
    """Only the profiles of other partitions, under new slots."""
    kept = state.rows.partitions() - partitions
    rest = State()
    for partition in sorted(kept):
        rest = taken(rest, of_partition(state, partition, names), names)
    return rest


def snapshot(state: State, names: Names) -> Callable[[int], bytes]:
    """The bytes of a partition, to be made in another thread."""
    return lambda partition: of_partition(state, partition, names).to_bytes()
