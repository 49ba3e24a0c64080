"""What the simulated Prometheus scrapes: one host, or a fleet."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from promad.simulation.host import FEATURES, Host
from promad.simulation.noise import Floats

Ints = NDArray[np.int64]

LABELS = {"instance": "demo-host:9100", "job": "demo"}
"""The labels of every series of a single host, besides its name."""


class Target(Hashable, Protocol):
    """Anything with the same features on one or more hosts, at any time."""

    @property
    def features(self) -> tuple[str, ...]:
        """The metric names."""
        ...

    @property
    def labels(self) -> Sequence[Mapping[str, str]]:
        """The labels of each host's series, without the name, in alphabetical order."""
        ...

    def find_alive(self, times: Floats) -> Ints:
        """Rows of the hosts that are scraped at one of the unix `times`, in order."""
        ...

    def values(self, times: Floats, hosts: Ints, features: Sequence[int]) -> Floats:
        """(hosts, samples, features); NaN where a host is not scraped."""
        ...


@dataclass(frozen=True)
class HostTarget:
    """A single host as a target."""

    host: Host

    @property
    def features(self) -> tuple[str, ...]:
        """The features of every host."""
        return tuple(FEATURES)

    @property
    def labels(self) -> Sequence[Mapping[str, str]]:
        """The labels of the only host."""
        return (LABELS,)

    def find_alive(self, times: Floats) -> Ints:
        """The only row."""
        return np.arange(1)

    def values(self, times: Floats, hosts: Ints, features: Sequence[int]) -> Floats:
        """(hosts, samples, features)."""
        return self.host.values(times)[np.newaxis][hosts][:, :, features]
