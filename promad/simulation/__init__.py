"""Simulated hosts, and a simulated Prometheus that serves their past and their future.

noise       chance that belongs to an instant, not to a sequence of calls
incidents   what can go wrong with a host, how fast, and which features show it
host        values of every feature of one host at any times
fleet       the same of many hosts, with faults on one or several of them
targets     what is scraped: a host or a fleet
selection   which series a PromQL expression means
scraper     the samples of a target, by selector
numbers     numbers as Prometheus writes them
answers     the answers of the Prometheus HTTP API, as text
exposition  what a real Prometheus can scrape or import
server      the answers and the exposition on a loopback port
process     the server of a fleet in a process of its own
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
