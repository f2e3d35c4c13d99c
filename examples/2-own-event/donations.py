from typing import Literal

from streamgauge.schemas.events import Event


class Donation(Event):
    event_type: Literal["donation"] = "donation"
    campaign: str | None = None
    amount: float | None = None
