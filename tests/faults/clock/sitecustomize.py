"""A wall clock that jumps every three seconds: right, a day ahead, a day behind.

Python imports it at the start of any process that has this folder on its PYTHONPATH.
"""

import time

DAY = 86_400.0
_right, _started = time.time, time.monotonic()


def _jumping() -> float:
    return _right() + (0.0, DAY, -DAY)[int((time.monotonic() - _started) / 3) % 3]


time.time = _jumping
