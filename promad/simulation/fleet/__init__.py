"""A simulated fleet: hundreds of hosts of a few kinds, at any time, with known faults.

noise     chance of many sources at once
kinds     what hosts of a kind have in common
hosts     labels, sizes and lifetimes, as columns
faults    what can go wrong, on which hosts, and the truth about it
signals   load, jobs, deployments, shared noise and faults
features  every feature from the signals
fleet     values of every feature of every host at any times
scenario  training and test weeks with faults, to measure accuracy
"""

from promad.simulation.fleet.faults import FAULTS, Fault, make_fault
from promad.simulation.fleet.fleet import Fleet, build_fleet
from promad.simulation.fleet.hosts import Churn, Hosts
from promad.simulation.fleet.kinds import DATACENTERS, KINDS
from promad.simulation.fleet.noise import FleetNoise, make_seeds
from promad.simulation.fleet.scenario import FleetScenario, ScenarioSize, fleet_scenario

__all__ = [
    "DATACENTERS",
    "FAULTS",
    "KINDS",
    "Churn",
    "Fault",
    "Fleet",
    "FleetNoise",
    "FleetScenario",
    "Hosts",
    "ScenarioSize",
    "build_fleet",
    "fleet_scenario",
    "make_fault",
    "make_seeds",
]
