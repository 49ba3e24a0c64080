"""The world of `benchmarks.fleet_live` and `.fleet_growth`: hosts that come, fail and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from promad.simulation.fleet import FAULTS, Fault, Fleet, Hosts, build_fleet, make_fault
from promad.simulation.fleet.hosts import build_hosts

SEED = 7
_FAULT_JITTER_SECONDS = 20.0


@dataclass(frozen=True)
class Plan:
    """What happens to a fleet.

    Attributes:
        hosts: alive at any time.
        features: of each host.
        interval: seconds between samples, and between ticks.
        ticks: how long it lasts.
        churn_ticks, churn_share: this share of the hosts is replaced every so many ticks.
        fault_ticks: a fault begins every so many ticks, on one host or on up to 4 % of them, and
            lasts a third of that.
    """

    hosts: int
    features: int
    interval: float
    ticks: int
    churn_ticks: int
    churn_share: float = 0.01
    fault_ticks: int = 50

    def build_history(self, known: int) -> Fleet:
        """The first `known` hosts, before anything happens to the fleet."""
        fleet = build_fleet(SEED, self.hosts, features=self.features)
        return replace(fleet, hosts=fleet.hosts.take(np.arange(min(known, self.hosts))))

    def build_fleet(self, start: float, known: int) -> Fleet:
        """The fleet with all that happens from `start` on; hosts after `known` begin then."""
        fleet = build_fleet(SEED, self.hosts, features=self.features)
        born = np.where(np.arange(self.hosts) < known, -np.inf, start)
        gone, newcomers = fleet.hosts.gone.copy(), []
        order = np.random.default_rng(SEED).permutation(self.hosts)
        for number, rows in enumerate(self._list_replaced(order)):
            at = start + (number + 1) * self.churn_ticks * self.interval
            gone[rows] = at
            newcomers.append(_build_newcomers(number, len(rows), at))
        hosts = _join([replace(fleet.hosts, born=born, gone=gone), *newcomers])
        faults = self._make_faults(hosts, start)
        return replace(fleet, hosts=hosts, faults=faults)

    def _list_replaced(self, order: np.ndarray) -> list[np.ndarray]:
        """The rows that are replaced together; each host is replaced once at most."""
        count = max(1, round(self.hosts * self.churn_share))
        times = min((self.ticks - 1) // self.churn_ticks, self.hosts // count)
        return [order[number * count : (number + 1) * count] for number in range(times)]

    def _make_faults(self, hosts: Hosts, start: float) -> tuple[Fault, ...]:
        chance, faults = np.random.default_rng(SEED), []
        sizes = [1, max(1, round(0.012 * self.hosts)), max(1, round(0.04 * self.hosts))]
        for number, tick in enumerate(range(self.fault_ticks // 2, self.ticks, self.fault_ticks)):
            at = start + tick * self.interval
            alive = hosts.instance[(hosts.born <= at) & (hosts.gone > at)]
            members = chance.choice(alive, sizes[number % 3], replace=False).tolist()
            name = list(FAULTS)[number % len(FAULTS)]
            fault = make_fault(name, members, at, jitter=_FAULT_JITTER_SECONDS, seed=number)
            faults.append(replace(fault, duration=self.fault_ticks / 3 * self.interval))
        return tuple(faults)


def _build_newcomers(number: int, count: int, born: float) -> Hosts:
    """Hosts that did not exist before."""
    hosts = build_hosts(SEED + 1 + number, count)
    names = [f"new-{number + 1}-{name}" for name in hosts.instance]
    return replace(hosts, instance=np.array(names, object), born=np.full(count, born))


def _join(parts: Sequence[Hosts]) -> Hosts:
    columns = [[getattr(part, each.name) for part in parts] for each in fields(Hosts)]
    return Hosts(*map(np.concatenate, columns))


def find_alive(fleet: Fleet, first: float, last: float) -> set[str]:
    """The instances that are scraped all the time from `first` to `last`, in unix seconds."""
    hosts = fleet.hosts
    return set(hosts.instance[(hosts.born <= first) & (hosts.gone > last)].tolist())


def find_ever_alive(fleet: Fleet, first: float, last: float) -> set[str]:
    """The instances that are scraped at some time from `first` to `last`, in unix seconds."""
    hosts = fleet.hosts
    return set(hosts.instance[(hosts.born <= last) & (hosts.gone > first)].tolist())
