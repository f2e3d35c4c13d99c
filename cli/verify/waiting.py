"""Waits until the worker and the sinks have read what is to be compared.

Upstream: committed offsets of the worker's group, `sink_offsets`, Redis' fences, the archive's
files. Downstream: the verification. Invariant: bounded: who stands still for `timeout` seconds is
named in an error.
"""

import time
from collections.abc import Callable

from streamgauge.cli.verify.errors import NotReachedError
from streamgauge.cli.verify.log import Log, Offsets

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and of how much."""

_PAUSE = 0.25
_FEW = 1_000


class Waiting:
    """Patience with everybody who reads topics."""

    def __init__(self, log: Log, timeout: float, progress: Progress) -> None:
        self._log = log
        self._timeout = timeout
        self._progress = progress

    def group(self, group: str, topic: str, cut: Offsets) -> None:
        """Until the workers of a group have committed a topic up to the cut."""
        who = f"the worker (group {group})"
        self.reader(who, topic, cut, lambda: self._log.committed(group, topic))

    def reader(self, who: str, topic: str, cut: Offsets, positions: Callable[[], Offsets]) -> None:
        """Until somebody's positions (next offsets) have passed the cut."""
        total = sum(cut.values())
        least, moved = total + 1, time.monotonic()
        while True:
            at = positions()
            behind = sum(max(0, end - at.get(p, 0)) for p, end in cut.items())
            if behind < least:
                least, moved = behind, time.monotonic()
            # The tail may be markers of transactions, which nobody ever commits.
            if behind <= _FEW and self._log.remaining(topic, at, cut) == 0:
                return
            if time.monotonic() - moved > self._timeout:
                raise NotReachedError(
                    f"{who} is {behind:,} records of {topic} before the cut and has not moved "
                    f"for {self._timeout:.0f} s: is it running?"
                )
            self._progress(f"waiting for {who} on {topic}", total - behind, total)
            time.sleep(_PAUSE)
