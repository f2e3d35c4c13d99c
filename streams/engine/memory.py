"""What a worker's process does about its memory; an app is a process of its own."""

from __future__ import annotations

import ctypes
import gc

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of glibc's mallopt


def ignore_messages() -> None:
    """Messages live for a moment, in chunks that are larger than the collector's first threshold:
    by default it looks at each of them, for 0.2 µs."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def bound() -> None:
    """Return what large arrays held at once.

    glibc raises the threshold to 32 MB by itself and keeps what was freed, in a heap for each
    thread: 600 MB at the end of a replay of a million events, against 340. A mapping costs page
    faults, though: 0.9 µs a record where batches are of 50,000.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 256 << 10)
        mallopt(M_ARENA_MAX, 2)
