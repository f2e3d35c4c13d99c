"""What types and actions of events mean for profiles: counts and points, as tables to look up.

Upstream: `schemas/profile_records.py` names the counts; the points are in docs/profiles.md.
Downstream: `digest.py`, which reads a whole column at once. An event's kind is the place of its
type in `TYPES_READ`, its action the place in `ACTIONS_READ`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streamgauge.schemas.profile_records import ACTIONS, DEVICES, OTHERS, STATUSES, TYPES
from streamgauge.streams.metrics.numbers import Numbers
from streamgauge.streams.profiles.rows import COUNT

Array = np.ndarray

POINTS = {
    **dict.fromkeys(("page_view", "search", "button_click", "link_click", "feed_click"), 1),
    **dict.fromkeys(("form_submit", "rating", "task_update", "course_interaction"), 2),
    "content_interaction": 3,
    "learning_session": 4,
    "quiz_attempt": 4,
    "custom": 1,
}
"""Points of activity by type; an action's come in place of them. Types without have none."""
ACTION_POINTS = {("playback", "start"): 1, ("playback", "complete"): 3}

GENRE_POINTS = {"feed_click": 2}
CONTENT_POINTS = {
    "content_interaction": 3,
    "course_interaction": 2,
    "learning_session": 3,
    "feed_click": 1,
}
"""What an event says about what its user likes; of playback, the action as above."""

TYPES_READ = (*TYPES, OTHERS)
ACTIONS_READ = (
    "",
    *sorted({action for _, action in (*ACTIONS, *ACTION_POINTS)}),
    "status",
    "progress",
)


def _grid(types: Mapping[str, int], actions: Mapping[tuple[str, str], int]) -> Array:
    """A number by type and action; where an action has none of its own, the type's."""
    grid = np.zeros((len(TYPES_READ), len(ACTIONS_READ)), np.int64)
    for name, value in types.items():
        grid[TYPES_READ.index(name)] = value
    for (name, action), value in actions.items():
        grid[TYPES_READ.index(name), ACTIONS_READ.index(action)] = value
    return grid


TYPE = Numbers(list(TYPES), other=len(TYPES))
ACTION = Numbers(ACTIONS_READ, other=ACTIONS_READ.index("progress"))
DEVICE, STATUS = Numbers(DEVICES), Numbers(STATUSES)
POINTS_OF = _grid(POINTS, ACTION_POINTS)
GENRE_OF, CONTENT_OF = _grid(GENRE_POINTS, ACTION_POINTS), _grid(CONTENT_POINTS, {})
COUNTED_AS = _grid({}, {at: COUNT[name] + 1 for at, name in ACTIONS.items()}) - 1
TYPE_COUNT = np.array([COUNT[TYPES.get(name, OTHERS)] for name in TYPES_READ])
DEVICE_COUNT = np.array([COUNT[f"{device}_events"] for device in DEVICES])
STATUS_COUNT = np.array([COUNT[f"tasks_{status}"] for status in STATUSES])


def places_of(kind: Array, action: Array, name: str, did: str) -> Array:
    """Places of a type's events with an action."""
    return ((kind == TYPES_READ.index(name)) & (action == ACTIONS_READ.index(did))).nonzero()[0]
