"""Several things as one row of bytes, and back: how the parts of a snapshot lie behind each other.

Upstream: the snapshots of tasks and branches. Downstream: a checkpoint's bytes on local disk.
Invariant: what is taken apart is what was put together; nothing says what the parts mean.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl


def together(parts: Sequence[bytes]) -> bytes:
    """Rows of bytes as one."""
    sizes = np.array([len(parts), *map(len, parts)], "<u8")
    return b"".join([sizes.tobytes(), *parts])


def apart(packed: memoryview) -> list[memoryview]:
    """What `together` put together."""
    count = int(np.frombuffer(packed[:8], "<u8")[0])
    ends = 8 + 8 * count + np.frombuffer(packed[8 : 8 + 8 * count], "<u8").cumsum()
    starts = np.r_[8 + 8 * count, ends[:-1]]
    return [packed[start:end] for start, end in zip(starts, ends, strict=True)]


def packed(frames: Mapping[str, pl.DataFrame], content: Any) -> bytes:
    """Frames, and something for JSON, as bytes."""
    parts = [json.dumps([list(frames), content]).encode()]
    for frame in frames.values():
        buffer = io.BytesIO()
        frame.write_ipc(buffer, compression="lz4")
        parts.append(buffer.getvalue())
    return together(parts)


def unpacked(snapshot: memoryview) -> tuple[dict[str, pl.DataFrame], Any]:
    """What `packed` made bytes of."""
    head, *parts = apart(snapshot)
    names, content = json.loads(bytes(head))
    frames = {name: pl.read_ipc(io.BytesIO(part)) for name, part in zip(names, parts, strict=True)}
    return frames, content
