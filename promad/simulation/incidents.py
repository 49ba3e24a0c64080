"""What can go wrong with the simulated host, how fast, and which features show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scenario:
    """One way to fail.

    Attributes:
        story: what happens, in a sentence for people.
        ramp: seconds from the first effect to the full one.
        duration: seconds from the first effect to the beginning of the recovery, `ramp` included.
        recovery: seconds from there until nothing is left of it.
        truth: the features that it drives, strongest first, measured against their usual spread.
    """

    story: str
    ramp: float
    duration: float
    recovery: float
    truth: tuple[str, ...]


SCENARIOS = {
    "slow_disk": Scenario(
        story="Disk operations take almost twice as long at the same request rate.",
        ramp=240,
        duration=2400,
        recovery=180,
        truth=(
            "app_latency_p99_seconds",
            "host_disk_io_busy_ratio",
            "app_queue_length",
            "app_latency_p50_seconds",
        ),
    ),
    "memory_leak": Scenario(
        story="A memory leak displaces the page cache, so reads reach the disk, until a restart.",
        ramp=5400,
        duration=5400,
        recovery=60,
        truth=("host_memory_used_bytes", "host_disk_read_bytes_per_second"),
    ),
    "retry_storm": Scenario(
        story="Requests fail and are retried, so more requests arrive and hold connections open.",
        ramp=120,
        duration=1500,
        recovery=300,
        truth=("app_errors_per_second", "host_tcp_connections"),
    ),
}


@dataclass(frozen=True)
class Incident:
    """A scenario that happens: `name` is its row in `SCENARIOS`, `start` is in unix seconds."""

    name: str
    start: float

    @property
    def scenario(self) -> Scenario:
        """What happens; KeyError if there is no scenario of that name."""
        return SCENARIOS[self.name]

    @property
    def end(self) -> float:
        """Unix seconds from which nothing is left of it."""
        return self.start + self.scenario.duration + self.scenario.recovery

    def strength(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """How strong it is at each time, 0 to 1, in the shape of `times`; 0 outside start..end."""
        scenario = self.scenario
        rise = (times - self.start) / scenario.ramp
        fall = (self.end - times) / scenario.recovery
        return np.clip(np.minimum(rise, fall), 0.0, 1.0)
