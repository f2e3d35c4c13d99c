"""The partition of a key: murmur2, as Java's clients and librdkafka's `murmur2_random` have it.

The client leaves partitioning to librdkafka; the simulator must know beforehand which
partition's watermark an event meets. Keys are never empty here.
"""

from __future__ import annotations

PARTITIONER = "murmur2_random"
"""librdkafka's name of it; every producer of ours sets it, as its default is another."""

MASK = 0xFFFFFFFF
M = 0x5BD1E995


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that a keyed record goes to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 (seed 0x9747b28c), unsigned."""
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * M & MASK
        k = (k ^ k >> 24) * M & MASK
        h = (h * M & MASK) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * M & MASK
    h = (h ^ h >> 13) * M & MASK
    return h ^ h >> 15
