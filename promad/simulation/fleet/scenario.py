"""Weeks of a simulated fleet in which the truth is known, to measure accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from promad.simulation.fleet.faults import FAULTS, Fault, make_fault
from promad.simulation.fleet.fleet import Fleet, build_fleet
from promad.simulation.fleet.hosts import Churn, Hosts, Ints

DAY = 86400.0
START = 1_767_571_200.0
"""Monday, 2026-01-05T00:00:00Z."""

JITTER_SECONDS = 120.0
"""Within which a fault reaches all of its hosts."""

OVERLAPPING = 0.25
"""Share of the faults that begin while another one lasts, elsewhere."""

_FEWEST_HOSTS, _MOST_HOSTS = 3, 60


@dataclass(frozen=True)
class FleetScenario:
    """A fleet, and the times (unix seconds) between which it is trained on and tested.

    No fault begins or lasts in training; `fleet.faults` has them in the order of their start.
    """

    fleet: Fleet
    training_start: float
    test_start: float
    end: float


@dataclass(frozen=True)
class ScenarioSize:
    """How large a scenario is: hosts at a time, days, and faults on one host and on several."""

    hosts: int = 200
    training_days: float = 14.0
    test_days: float = 14.0
    single_faults: int = 20
    multi_faults: int = 20


def fleet_scenario(seed: int, size: ScenarioSize | None = None) -> FleetScenario:
    """Two weeks without faults and two with forty, or as `size` has it; the same for each seed."""
    size = size or ScenarioSize()
    test_start = START + size.training_days * DAY
    end = test_start + size.test_days * DAY
    fleet = build_fleet(seed, size.hosts, churn=Churn(0.1, 2 * DAY, START, end))
    faults = draw_faults(fleet.hosts, test_start, end, size, np.random.default_rng([seed, 1]))
    return FleetScenario(replace(fleet, faults=tuple(faults)), START, test_start, end)


def draw_faults(
    hosts: Hosts, start: float, end: float, size: ScenarioSize, chance: np.random.Generator
) -> list[Fault]:
    """Faults between two times, by start: some while another one lasts, never on the same host."""
    counts = _draw_counts(size, chance)
    faults: list[Fault] = []
    for at, count in zip(_draw_starts(start, end, len(counts), chance), counts, strict=True):
        name = list(FAULTS)[chance.integers(len(FAULTS))]
        longest = at + FAULTS[name].duration * 1.3 + FAULTS[name].recovery + JITTER_SECONDS
        free = _find_free(hosts, at, longest, faults)
        members = _choose_members(hosts, free, int(count), chance)
        faults.append(_draw_fault(name, hosts.instance[members], at, chance))
    return sorted(faults, key=lambda fault: fault.start)


def _draw_counts(size: ScenarioSize, chance: np.random.Generator) -> Ints:
    """How many hosts each fault has, in random order; small numbers are as likely as large ones."""
    most = min(_MOST_HOSTS, max(_FEWEST_HOSTS, round(0.3 * size.hosts)))
    several = np.exp(chance.uniform(np.log(_FEWEST_HOSTS), np.log(most), size.multi_faults))
    counts = np.concatenate([np.ones(size.single_faults), np.rint(several)])
    return chance.permutation(counts).astype(np.int64)


def _draw_starts(start: float, end: float, count: int, chance: np.random.Generator) -> list[float]:
    """Unix seconds in order: most in slots of their own, some 5 to 15 minutes after another."""
    late = round(OVERLAPPING * count)
    apart = count - late
    slot = (end - start) / max(apart, 1)
    first = start + slot * (np.arange(apart) + chance.uniform(0.05, 0.6, apart))
    after = chance.choice(first, late, replace=False) + chance.uniform(300.0, 900.0, late)
    return sorted(np.rint(np.concatenate([first, after])).tolist())


def _find_free(hosts: Hosts, start: float, end: float, faults: list[Fault]) -> Ints:
    """Rows of the hosts that live from `start` to `end`, and then have no other fault."""
    taken = {name for fault in faults if fault.end > start - DAY / 24 for name in fault.hosts}
    lives = (hosts.born < start - DAY / 24) & (hosts.gone > end)
    return np.flatnonzero(lives & ~np.isin(hosts.instance, list(taken)))


def _choose_members(hosts: Hosts, free: Ints, count: int, chance: np.random.Generator) -> Ints:
    """Rows of as many hosts, in the order in which a fault reaches them.

    They have the kind or the datacenter in common, or are the first that a deployment reaches.
    """
    if count == 1:
        return chance.choice(free, 1)
    pools = [pool for pool in _list_pools(hosts, free) if len(pool) >= count]
    if not pools:
        return chance.choice(free, min(count, len(free)), replace=False)
    pool = pools[chance.integers(len(pools))]
    if chance.random() < 1 / 3:
        return pool[np.argsort(hosts.order[pool])][:count]
    return chance.choice(pool, count, replace=False)


def _list_pools(hosts: Hosts, free: Ints) -> Iterator[Ints]:
    """The free hosts of each kind, and of each datacenter."""
    for column in (hosts.kind, hosts.datacenter):
        for value in np.unique(column[free]):
            yield free[column[free] == value]


def _draw_fault(name: str, members: object, start: float, chance: np.random.Generator) -> Fault:
    fault = make_fault(
        name,
        [str(member) for member in np.asarray(members)],
        start,
        jitter=chance.uniform(5.0, JITTER_SECONDS),
        seed=int(chance.integers(2**31)),
    )
    duration = round(fault.duration * chance.uniform(0.7, 1.3))
    return replace(fault, duration=duration, size=round(chance.uniform(0.5, 1.2), 2))
