"""Whether a control can be used at all: its body, whatever has been defined before.

Upstream: markers in `events`. Downstream: the worker, which puts what is broken into the dead
letters, and `verify`, which expects it there. What a body that can be read may change is up to who
keeps what is in force.
"""

from __future__ import annotations

from streamgauge.schemas import exclusions, experiments, segments
from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.records import Control

REASON = "invalid_control"
"""Of such a dead letter."""


def problem_of(control: Control) -> str | None:
    """What is wrong with it; None if nothing is, or if its kind is not known here."""
    try:
        if control.kind == segments.KIND:
            segments.rules_of(control)
        elif control.kind == experiments.KIND and control.body is not None:
            experiments.of_body(control.name, control.body)
        elif control.kind == exclusions.KIND:
            exclusions.of_control(control)
    except SchemaError as error:
        return str(error)
    return None
