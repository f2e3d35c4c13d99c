"""The evidence: five figures at each point, each about one kind of anomaly.

Upstream: `forecast.py`, `scale.py`. Downstream: `tail.py` says how rare each figure is in this
series.

- spike: this point against the near forecast;
- change: the mean departure of the last 5 points from the usual level (a change point, early);
- shift: the same of the last 30 (a small lasting one, a drift);
- climb: the mean of the last 6 residuals from the near forecast (a drift that it runs after);
- unrest: the mean size of the last 10 residuals, whatever their sign (bursts, another variance).

The last four judge the recent distribution against the long one, not single points; a single
residual counts in them for at most so many scales, so that one spike is not also a shift.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamgauge.streams.anomalies.scale import Scale

DETECTORS = ("spike", "change", "shift", "unrest", "climb")
WIDEST = 1e3


@dataclass
class Evidence:
    """The last residuals in scales, from the near forecast and from the usual level."""

    near_scale: Scale
    usual_scale: Scale
    sizes: list[float] = field(default_factory=list)
    departures: list[float] = field(default_factory=list)
    climbs: list[float] = field(default_factory=list)

    def add(self, timestamp: float, value: float, near: float, usual: float) -> tuple[float, ...]:
        """The figures of this point, in the order of DETECTORS."""
        close = (value - near) / self.near_scale.at(timestamp)
        far = (value - usual) / self.usual_scale.at(timestamp)
        if not self.near_scale.seen:
            close = far = 0.0
        self.near_scale.add(timestamp, value - near, value)
        self.usual_scale.add(timestamp, value - usual, value)
        sizes, departures = self.sizes, self.departures
        sizes.append(min(abs(close), 8.0))
        departures.append(max(-8.0, min(far, 8.0)))
        self.climbs.append(max(-8.0, min(close, 8.0)))
        del sizes[:-10], departures[:-30], self.climbs[:-6]
        return (
            min(abs(close), WIDEST),
            abs(sum(departures[-5:])) / 5,
            abs(sum(departures)) / 30,
            sum(sizes) / 10,
            abs(sum(self.climbs)) / 6,
        )
