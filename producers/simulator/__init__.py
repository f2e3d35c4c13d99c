"""A world of users whose events, faults and experiments are known: `simulate` and its truth."""

from streamgauge.producers.simulator.faults import Rates
from streamgauge.producers.simulator.simulation import Simulation, simulate
from streamgauge.producers.simulator.truth import Truth
from streamgauge.producers.simulator.world import World

__all__ = ["Rates", "Simulation", "Truth", "World", "simulate"]
