"""A simulated fleet: values of many hosts at any times, past or future."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from promad.errors import DataError
from promad.simulation.fleet.faults import Fault
from promad.simulation.fleet.features import compute_feature, name_features
from promad.simulation.fleet.hosts import Churn, Hosts, Ints, build_hosts
from promad.simulation.fleet.signals import Effect, Signals
from promad.simulation.host import FEATURES
from promad.simulation.noise import Floats

CHUNK = 32_768
"""Hosts × samples that are computed at once: few enough to stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Fleet:
    """Hosts and what goes wrong with them; the same arguments always give the same fleet.

    Attributes:
        seed: which fleet of all possible ones.
        hosts: every host that is ever alive, as columns.
        features: names, in the order of the columns.
        faults: what goes wrong, in the fleet's own time.
        ahead: seconds by which the fleet's own time is ahead of the times that it is asked about.
    """

    seed: int
    hosts: Hosts
    features: tuple[str, ...] = tuple(FEATURES)
    faults: tuple[Fault, ...] = ()
    ahead: float = 0.0

    def values(
        self, times: Floats, hosts: Ints | None = None, features: Sequence[int] | None = None
    ) -> Floats:
        """Values at unix `times` (samples,) -> (hosts, samples, features).

        `hosts` and `features` select rows and columns. NaN means that the host is not alive.

        Raises:
            DataError: if a fault is on a host that the fleet does not have.
        """
        own = np.asarray(times, dtype=np.float64) + self.ahead
        rows = np.arange(len(self.hosts)) if hosts is None else np.asarray(hosts, dtype=np.int64)
        columns = range(len(self.features)) if features is None else features
        values = np.full((len(columns), len(rows), len(own)), np.nan)
        for start in range(0, len(own), width := max(1, CHUNK // max(1, len(rows)))):
            part = slice(start, start + width)
            self._fill(values[:, :, part], rows, own[part], columns)
        return np.moveaxis(values, 0, 2)

    @cached_property
    def labels(self) -> Sequence[Mapping[str, str]]:
        """The labels of each host's series, without the name, in alphabetical order."""
        return [self.hosts.labels(row) for row in range(len(self.hosts))]

    def find_alive(self, times: Floats) -> Ints:
        """Rows of the hosts that are alive at one of the unix `times` or between them."""
        rows = np.arange(len(self.hosts))
        return rows[self._live(rows, np.asarray(times) + self.ahead)]

    def _live(self, rows: Ints, times: Floats) -> NDArray[np.bool_]:
        """Whether each row is alive at one of the times, in the fleet's own, or between them."""
        born, gone = self.hosts.born[rows], self.hosts.gone[rows]
        return np.asarray((born <= times.max()) & (gone > times.min()))

    def _fill(self, part: Floats, rows: Ints, times: Floats, columns: Iterable[int]) -> None:
        """Write the values of the rows that live into `part` (features, hosts, samples)."""
        live = np.flatnonzero(self._live(rows, times))
        if not live.size:
            return
        hosts = self.hosts.take(rows[live])
        signals = Signals(self.seed, hosts, times, self._find_effects(rows[live], times))
        dead = (times < hosts.born[:, np.newaxis]) | (times >= hosts.gone[:, np.newaxis])
        for row, column in enumerate(columns):
            values = compute_feature(self.features[column], signals)
            values[dead] = np.nan
            part[row, live] = values

    def _find_effects(self, rows: Ints, times: Floats) -> list[Effect]:
        """The faults that concern some of the rows at some of the times."""
        first, last = times.min(), times.max()
        place = np.full(len(self.hosts), -1)
        place[rows] = np.arange(len(rows))
        effects = []
        for fault, all_rows in zip(self.faults, self._fault_rows, strict=True):
            if fault.start <= last and fault.end > first:
                members = np.flatnonzero(place[all_rows] >= 0)
                effects.append(Effect(fault, place[all_rows][members], members))
        return effects

    @cached_property
    def _fault_rows(self) -> list[Ints]:
        """The rows of each fault's hosts."""
        row = {name: number for number, name in enumerate(self.hosts.instance)}
        missing = [name for fault in self.faults for name in fault.hosts if name not in row]
        if missing:
            raise DataError(
                f"no host {missing[0]} in the simulated fleet — choose one of its hosts"
            )
        return [np.array([row[name] for name in fault.hosts]) for fault in self.faults]


def build_fleet(
    seed: int,
    hosts: int,
    *,
    features: int = len(FEATURES),
    faults: Sequence[Fault] = (),
    churn: Churn | None = None,
    ahead: float = 0.0,
) -> Fleet:
    """A fleet of that many hosts at a time; more features than a host has are generic ones."""
    names = name_features(features)
    return Fleet(seed, build_hosts(seed, hosts, churn), names, tuple(faults), ahead)
