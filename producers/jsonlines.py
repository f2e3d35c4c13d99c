"""JSON lines as events: one object a line, in any of the shapes that `parse_event` accepts.

Upstream: `files.py` reads the lines. Invariant: nothing but InvalidEvent is raised, with reason
bad_json where the line is no JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from streamgauge.schemas.errors import InvalidEvent


def parse_line(line: str) -> Mapping[str, Any]:
    """The object that a line holds."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent("bad_json", None, f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        kind = type(fields).__name__
        raise InvalidEvent("not_an_object", None, f"an event is an object, not {kind}")
    return fields
