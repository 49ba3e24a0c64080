"""What can go wrong in a simulated fleet, on which hosts, and which features show it first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from promad.simulation.fleet.hosts import Ints
from promad.simulation.incidents import Scenario
from promad.simulation.noise import Floats

FAULTS = {
    "cpu_saturation": Scenario(
        story="A runaway process takes more than a third of the processor.",
        ramp=45,
        duration=1800,
        recovery=60,
        truth=("host_cpu_busy_ratio", "host_load1", "host_temperature_celsius"),
    ),
    "memory_leak": Scenario(
        story="A memory leak displaces the page cache, so reads reach the disk, until a restart.",
        ramp=1800,
        duration=5400,
        recovery=60,
        truth=("host_memory_used_bytes", "host_disk_read_bytes_per_second"),
    ),
    "slow_disk": Scenario(
        story="Disk operations take more than twice as long at the same request rate.",
        ramp=60,
        duration=2400,
        recovery=120,
        truth=(
            "host_disk_io_busy_ratio",
            "app_latency_p99_seconds",
            "app_latency_p50_seconds",
            "app_queue_length",
        ),
    ),
    "error_burst": Scenario(
        story="Requests fail because a dependency is gone.",
        ramp=20,
        duration=1200,
        recovery=60,
        truth=("app_errors_per_second",),
    ),
    "latency": Scenario(
        story="A dependency answers slowly, so requests wait and pile up.",
        ramp=30,
        duration=1800,
        recovery=60,
        truth=("app_latency_p50_seconds", "app_latency_p99_seconds", "app_queue_length"),
    ),
    "network_loss": Scenario(
        story="Packets are lost, so less is received and sent, and connections stay open.",
        ramp=30,
        duration=1500,
        recovery=60,
        truth=(
            "host_network_receive_bytes_per_second",
            "host_network_transmit_bytes_per_second",
            "host_tcp_connections",
        ),
    ),
}
"""Each kind of fault: its course, and as `truth` the features of its cause."""


@dataclass(frozen=True)
class Fault:
    """A fault that happens on some hosts: the exact truth about it.

    Attributes:
        name: its row in `FAULTS`.
        hosts: the values of `instance`, in the order in which the hosts are affected.
        onsets: unix seconds at which each host is affected.
        duration: seconds from a host's onset to the beginning of its recovery.
        size: how strong it is, 1 in ordinary cases.
    """

    name: str
    hosts: tuple[str, ...]
    onsets: tuple[float, ...]
    duration: float
    size: float = 1.0

    @property
    def scenario(self) -> Scenario:
        """What happens; KeyError if there is no fault of that name."""
        return FAULTS[self.name]

    @property
    def start(self) -> float:
        """Unix seconds of the first host's onset."""
        return min(self.onsets)

    @property
    def end(self) -> float:
        """Unix seconds from which no host shows it."""
        return max(self.onsets) + self.duration + self.scenario.recovery

    @property
    def first_host(self) -> str:
        """The host that is affected first."""
        return self.hosts[int(np.argmin(self.onsets))]

    @property
    def causes(self) -> tuple[str, ...]:
        """The features of its cause."""
        return self.scenario.truth

    def move(self, seconds: float) -> Self:
        """The same fault, later by so many seconds."""
        return replace(self, onsets=tuple(onset + seconds for onset in self.onsets))

    def strength(self, members: Ints, times: Floats) -> Floats:
        """How strong it is on some of its hosts: (members, samples), from 0 to `size`."""
        onsets = np.array(self.onsets)[members, np.newaxis]
        rise = (times - onsets) / self.scenario.ramp
        fall = (onsets + self.duration + self.scenario.recovery - times) / self.scenario.recovery
        return np.asarray(self.size * np.clip(np.minimum(rise, fall), 0.0, 1.0))


def make_fault(
    name: str, hosts: Sequence[str], start: float, *, jitter: float = 0.0, seed: int = 0
) -> Fault:
    """A fault of the usual duration, on the first host at `start` and on all within `jitter` s."""
    delays = np.sort(np.random.default_rng(seed).uniform(0.0, jitter, len(hosts)))
    onsets = np.round(start + delays - delays[0], 3)
    return Fault(name, tuple(hosts), tuple(onsets.tolist()), FAULTS[name].duration)
