"""How a worker's process keeps its memory: batches come and go, and should leave nothing behind.

Upstream: the app, once, before it starts. The effects are the process's: an app is one of its own.
"""

from __future__ import annotations

import ctypes
import gc

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of glibc's mallopt


def settle() -> None:
    """Return what large arrays held at once; let the garbage collector leave messages alone."""
    # glibc raises the threshold to 32 MB by itself and then keeps what was freed, in a heap for
    # each thread: 600 MB at the end of a replay of a million events, 340 with these settings
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 256 << 10)
        mallopt(M_ARENA_MAX, 2)
    # Messages live for a moment, in chunks that are larger than the collector's first threshold:
    # by default it looks at each of them, for 0.2 µs
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
