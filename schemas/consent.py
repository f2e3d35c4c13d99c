"""The consent rule: who denied analytics counts only in totals without identity.

Upstream: `consent_analytics` of an event and the setting `consent_default`. Downstream: every
computation per user, and `verify`. On frames: `consent_columns.py`.
"""

from __future__ import annotations

from typing import Literal

ConsentDefault = Literal["granted", "denied"]
"""What holds where an event says nothing."""


def identifiable(consent_analytics: bool | None, default: ConsentDefault) -> bool:
    """Whether this event may count for its user: as a distinct one, or under their key."""
    return default == "granted" if consent_analytics is None else consent_analytics
