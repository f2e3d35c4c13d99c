"""Ids and the clock of events, with nothing to import: what `track()` needs in the caller.

Upstream: nothing. Downstream: `envelope.py`, whose defaults they are, and the SDK.
"""

from __future__ import annotations

import os
import random
from time import time_ns

# Its own generator: nobody's random.seed(42) may make two processes draw the same ids.
_random = random.Random()
_bits = _random.getrandbits
os.register_at_fork(after_in_child=_random.seed)

_VERSION_7 = 0x7000_8000_0000_0000_0000


def uuid7() -> str:
    """A UUIDv7: sorts by time, and 74 random bits keep it unique across processes and forks."""
    number = (time_ns() // 1_000_000 << 80) | _VERSION_7 | (_bits(12) << 64) | _bits(62)
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def now_ms() -> int:
    return time_ns() // 1_000_000
