"""What a worker's process does about its memory; an app is a process of its own."""

from __future__ import annotations

import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's mallopt


def ignore_messages() -> None:
    """Messages live for a moment, in chunks that are larger than the collector's first threshold:
    by default it looks at each of them, for 0.2 µs."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def bound() -> None:
    """Keep what arrays of a batch held for the next batch, return what greater ones held.

    A mapping of its own has to be cleared, with a page fault for each 4 KB or 2 MB: where every
    array of more than 256 KB had one, a replay took 7 % more CPU on a quiet machine, and a third
    more on a crowded one; from 4 MB on, as the rows of a batch have, profiles took 5 % more. But
    glibc raises the threshold by itself and keeps what was freed, in a heap for each thread: 600 MB
    at the end of a replay of a million events, against 340 with one heap that is trimmed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 16 << 20)
        mallopt(M_TRIM_THRESHOLD, 64 << 20)
        mallopt(M_ARENA_MAX, 1)
