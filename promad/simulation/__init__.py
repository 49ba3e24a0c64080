"""A simulated host, and a simulated Prometheus that serves its past and its future.

noise      chance that belongs to an instant, not to a sequence of calls
incidents  what can go wrong, how fast, and which features show it
host       values of every feature at any times
selection  which series a PromQL expression means
answers    the Prometheus HTTP API's answers about a host, as text
server     those answers on a loopback port
"""

from promad.simulation.host import FEATURES, SimulatedHost
from promad.simulation.incidents import SCENARIOS, Incident, Scenario
from promad.simulation.server import SimulationServer, simulation_app

__all__ = [
    "FEATURES",
    "SCENARIOS",
    "Incident",
    "Scenario",
    "SimulatedHost",
    "SimulationServer",
    "simulation_app",
]
