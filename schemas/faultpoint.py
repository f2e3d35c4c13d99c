"""Named places where a test can make the process fail; in production each is an empty call.

`FAULTPOINT=after_flush:3:kill` sends the process SIGKILL the third time it gets to
`after_flush`; `stop` sends SIGSTOP, `raise` raises RuntimeError. Upstream: the engine and the
sinks, once a batch; this is the layer below both.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "mid_batch",
    "before_flush",
    "after_flush",
    "after_send_offsets",
    "after_commit",
    "during_restore",
    "during_checkpoint",
    "sink_before_write",
    "sink_before_commit",
    "sink_after_commit",
)


def reached(point: str) -> None:
    """The process has come to `point`."""


def _armed(spec: str) -> None:
    global reached
    point, _, rest = spec.partition(":")
    if point not in POINTS:
        raise ValueError(f"FAULTPOINT: no point {point!r}; there are {', '.join(POINTS)}")
    count, _, action = rest.partition(":")
    left = int(count or 1)

    def fire(name: str) -> None:
        nonlocal left
        if name != point:
            return
        left -= 1
        if left:
            return
        if action == "raise":
            raise RuntimeError(f"fault injected at {point}")
        os.kill(os.getpid(), signal.SIGSTOP if action == "stop" else signal.SIGKILL)

    reached = fire  # type: ignore[assignment]


if os.environ.get("FAULTPOINT"):
    _armed(os.environ["FAULTPOINT"])
