"""The events that all contenders read: skewed users, 5 % out of order, in Confluent's wire format.

The n-th event is the same in every run, whatever the number of events: a longer topic begins as a
shorter one. Downstream: `load` fills a topic, `oracle.py` folds the columns.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from confluent_kafka import Producer

SCHEMA = Path(__file__).with_name("event.avsc").read_text()
TYPES = ("page_view", "button_click", "search", "course_interaction", "learning_session")
TYPES += ("quiz_attempt", "link_click", "form_submit")
SHARES = (0.4, 0.2, 0.1, 0.1, 0.08, 0.05, 0.05, 0.02)
DEVICES = ("mobile", "desktop", "tablet")
START = 1_760_000_040_000  # a full minute
PER_MINUTE = 66_667
CHUNK = 100_000


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many keys there are."""

    users: int = 200_000
    pages: int = 50


USUAL = Shape()


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Columns of up to CHUNK events; `type` and `device` are indices into the tuples above."""

    number: int
    user: np.ndarray
    ts: np.ndarray
    type: np.ndarray
    page: np.ndarray
    device: np.ndarray
    country: np.ndarray
    duration: np.ndarray  # -1: null
    value: np.ndarray  # nan: null
    exposed: np.ndarray
    id_high: np.ndarray
    id_low: np.ndarray

    def head(self, count: int) -> "Chunk":
        """The first of them."""
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "number"}
        return replace(self, **{name: column[:count] for name, column in columns.items()})


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What a topic holds: so many events of a shape."""

    count: int
    partitions: int = 4
    shape: Shape = USUAL

    def chunks(self) -> Iterator[Chunk]:
        """The events, in order."""
        for number in range(-(-self.count // CHUNK)):
            yield chunk(number, self.shape).head(self.count - number * CHUNK)


def one_each(users: int) -> Iterator[Chunk]:
    """An event of every user, in order: after it each of them has a state."""
    for number in range(-(-users // CHUNK)):
        names = np.arange(number * CHUNK, (number + 1) * CHUNK) + 1
        yield replace(chunk(number), user=names).head(users - number * CHUNK)


def chunk(number: int, shape: Shape = USUAL) -> Chunk:
    """The events from number * CHUNK on."""
    rng = np.random.default_rng([7, number])
    index = np.arange(number * CHUNK, (number + 1) * CHUNK)
    spread = rng.integers(0, shape.users, CHUNK) * (rng.random(CHUNK) < 0.7)
    behind = rng.integers(0, 30_000, CHUNK) * (rng.random(CHUNK) < 0.05)
    kind = rng.choice(len(TYPES), CHUNK, p=SHARES)
    return Chunk(
        number=number,
        user=np.minimum(rng.zipf(1.2, CHUNK) + spread, shape.users),
        ts=START + index * 60_000 // PER_MINUTE - behind,
        type=kind,
        page=rng.integers(0, shape.pages, CHUNK),
        device=rng.integers(0, len(DEVICES), CHUNK),
        country=rng.integers(0, 30, CHUNK),
        duration=np.where(kind > 2, rng.exponential(8000, CHUNK).astype(np.int64), -1),
        value=np.where(kind > 4, rng.random(CHUNK), np.nan),
        exposed=rng.random(CHUNK) < 0.3,
        id_high=rng.integers(0, 2**63, CHUNK),
        id_low=rng.integers(0, 2**63, CHUNK),
    )


def records(part: Chunk, schema_id: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each event of a chunk."""
    head = b"\0" + struct.pack(">I", schema_id)
    types = [_text(t) for t in TYPES]
    pages = [_text(page(n)) for n in range(int(part.page.max()) + 1)]
    devices, countries = [_text(d) for d in DEVICES], [_text(f"C{n:02d}") for n in range(30)]
    exposures = [b"\0\0", *(b"\2" + _text("checkout") + b"\2" + _text(v) for v in "AB")]
    columns = (part.user, part.ts, part.type, part.page, part.device, part.country, part.duration)
    columns += (part.value, part.exposed, part.id_high, part.id_low)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        user, ts, kind, seen, device, country, duration, value, exposed, high, low = row
        key = user_id(user)
        yield (
            key.encode(),
            b"".join(
                (
                    head,
                    _text(f"{high:016x}-{low:016x}"),
                    types[kind],
                    _text(key),
                    _text(f"s{user:07d}-{(ts - START) // 600_000}"),
                    _long(ts),
                    pages[seen],
                    devices[device],
                    countries[country],
                    exposures[(1 + user % 2) if exposed else 0],
                    b"\0" if duration < 0 else b"\2" + _long(duration),
                    b"\0" if value != value else b"\2" + struct.pack("<d", value),
                )
            ),
        )


def user_id(number: int) -> str:
    """A user's name and the key of his events."""
    return f"u{number:07d}"


def page(number: int) -> str:
    """A page's name."""
    return f"/page/{number}"


def producer(bootstrap: str) -> Producer:
    """A producer that keeps the order of each user's events, come what may."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "log_level": 3,
            "linger.ms": 20,
            "compression.type": "lz4",
            "batch.size": 1 << 19,
            "queue.buffering.max.messages": 200_000,
            "partitioner": "murmur2_random",
        }
    )


def load(bootstrap: str, topic: str, schema_id: int, chunks: Iterable[Chunk]) -> None:
    """Append events to a topic, by user."""
    sender = producer(bootstrap)
    for part in chunks:
        for key, value in records(part, schema_id):
            while True:
                try:
                    sender.produce(topic, value, key)
                    break
                except BufferError:
                    sender.poll(0.1)
        sender.poll(0)
    if left := sender.flush(60):
        raise RuntimeError(f"{left} events did not reach {topic}")


def _long(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(text: str) -> bytes:
    return _long(len(text)) + text.encode()
