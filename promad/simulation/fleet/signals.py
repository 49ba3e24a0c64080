"""What moves the features of a fleet's hosts: load, jobs, deployments, shared noise and faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from promad.simulation.fleet.faults import Fault
from promad.simulation.fleet.hosts import Hosts, Ints
from promad.simulation.fleet.kinds import DATACENTERS, KINDS, Kind
from promad.simulation.fleet.noise import PER_WORD, FleetNoise, Words, look_up_normal, make_seeds
from promad.simulation.noise import Floats

HOUR, DAY = 3600.0, 86400.0
DEPLOYMENT_PERIOD = 3.5 * DAY
"""Mean seconds between two deployments to the hosts of a kind."""
ROLLOUT_SECONDS = 1800.0
"""From the first host that a deployment reaches to the last."""

CORES = 8.0


@dataclass(frozen=True)
class Effect:
    """A fault as far as it concerns some hosts: their rows, and which of its members they are."""

    fault: Fault
    rows: Ints
    members: Ints


class Signals:
    """The causes behind the features of some hosts at some times, computed when first asked for.

    All are (hosts, samples), or a number where nothing happens. `hosts` are those that are asked
    about, `times` (samples,) unix seconds.
    """

    def __init__(
        self, seed: int, hosts: Hosts, times: Floats, effects: Sequence[Effect] = ()
    ) -> None:
        self.hosts, self.times, self._effects = hosts, times, effects
        self.noise = FleetNoise(hosts.seed)
        self._kinds = FleetNoise(make_seeds(seed, "kinds", len(KINDS)))
        self._datacenters = FleetNoise(make_seeds(seed, "datacenters", len(DATACENTERS)))
        self._scrapes = np.rint(times * 1000.0).astype(np.int64)
        self._words: dict[int, Words] = {}

    def white(self, number: int) -> Floats:
        """Standard normal noise without memory: the stream of that number."""
        block, quarter = divmod(number, PER_WORD)
        if block not in self._words:
            self._words[block] = self.noise.words(f"white/{block}", self._scrapes)
        return look_up_normal(self._words[block], quarter)

    def spread(self, number: int, size: float) -> Floats:
        """A factor around 1 and above 0, whose relative spread is `size`."""
        return 1.0 + size * np.maximum(self.white(number), -0.9 / size)

    def of_kind(self, attribute: str) -> Floats:
        """An attribute of each host's kind: (hosts, 1)."""
        return np.array([getattr(kind, attribute) for kind in KINDS])[self.hosts.kind, np.newaxis]

    def strength(self, name: str) -> Floats | float:
        """How strong the faults of that name are together, 0 where there is none."""
        total: Floats | float = 0.0
        for effect in self._effects:
            if effect.fault.name == name:
                whole = np.zeros((len(self.hosts), len(self.times)))
                whole[effect.rows] = effect.fault.strength(effect.members, self.times)
                total = np.maximum(total, whole)
        return total

    @cached_property
    def load(self) -> Floats:
        """Load relative to the peak of an ordinary host: the day, the week, and what wanders."""
        shared = np.stack([_shape_load(kind, self.times) for kind in KINDS])
        shared *= np.exp(0.07 * self._kinds.wander("load", self.times, 1800.0))
        own = self.noise.wander("load", self.times, 2400.0)
        scaled = shared[self.hosts.kind] * self.hosts.size[:, np.newaxis]
        return scaled * np.exp(0.05 * own + 0.02 * self.white(0))

    @cached_property
    def job(self) -> Floats:
        """1 while the daily job runs, with soft edges, else 0; at the same time every day."""
        own = self.noise.uniform("job", np.zeros(1, dtype=np.int64)) * 40.0
        minutes = self.times / 60.0 - self.of_kind("job_hour") * 60.0 - own
        minutes %= 1440.0
        return np.clip(np.minimum(minutes, self.of_kind("job_minutes") - minutes) / 2.0, 0.0, 1.0)

    @cached_property
    def release(self) -> Floats:
        """The level of the version that runs: changes host by host with each deployment."""
        delays = ROLLOUT_SECONDS * self.hosts.order[:, np.newaxis]
        position = (self.times - delays) / DEPLOYMENT_PERIOD
        number = np.floor(position)
        first, last = int(number.min()) - 1, int(number.max())
        keys = np.arange(first, last + 1)
        begins = 0.1 + 0.8 * self._kinds.uniform("deployment/start", keys)
        levels = np.clip(self._kinds.normal("deployment/level", keys), -2.0, 2.0)
        kind = self.hosts.kind[:, np.newaxis]
        index = number.astype(np.int64) - first
        return levels[kind, index - (position - number < begins[kind, index])]

    @cached_property
    def network(self) -> Floats:
        """Noise that all hosts of a datacenter share, standard normal."""
        return self._datacenters.wander("network", self.times, 600.0)[self.hosts.datacenter]

    @cached_property
    def cpu(self) -> Floats:
        """Share of processor time spent working."""
        per_load = self.of_kind("cpu") * (1.0 + 0.06 * self.release)
        work = 0.04 + per_load * self.load + self.of_kind("job_cpu") * self.job
        work = work * self.spread(1, 0.03) + 0.38 * self.strength("cpu_saturation")
        return np.clip(work, 0.0, 0.98)

    @cached_property
    def read(self) -> Floats:
        """Bytes read per second: what misses the cache, and the daily job."""
        misses = 1.0 + 2.0 * self.strength("memory_leak")
        read = 0.1e6 + self.of_kind("read") * self.load * misses
        return (read + self.of_kind("job_read") * self.job) * self.spread(2, 0.10)

    @cached_property
    def written(self) -> Floats:
        """Bytes written per second."""
        return (0.3e6 + self.of_kind("written") * self.load) * self.spread(3, 0.08)

    @cached_property
    def slowness(self) -> Floats | float:
        """How long an operation of the disk takes, relative to an ordinary day."""
        return 1.0 + 1.5 * self.strength("slow_disk")

    @cached_property
    def disk(self) -> Floats:
        """Share of time in which the disk has work."""
        return 1.0 - np.exp(-(self.read / 30e6 + self.written / 25e6) * self.slowness)

    @cached_property
    def requests(self) -> Floats:
        """Requests per second that arrive."""
        return self.of_kind("requests") * self.load

    @cached_property
    def wait(self) -> Floats:
        """Seconds of an ordinary request: for the processor, the disk and what it depends on."""
        computing = (
            0.012 * (1.0 + 0.15 * self.cpu / (1.15 - self.cpu)) * (1.0 + 0.04 * self.release)
        )
        disk = 0.0015 * self.slowness / (1.0 - self.disk)
        return computing + disk + 0.01 * self.strength("latency") + 0.0003 * self.lost

    @cached_property
    def lost(self) -> Floats | float:
        """How strongly packets are lost, 0 to 1."""
        return self.strength("network_loss")

    @cached_property
    def failing(self) -> Floats | float:
        """Share of requests that fail."""
        return 0.004 + 0.02 * self.strength("error_burst") + 0.0005 * self.lost


def _shape_load(kind: Kind, times: Floats) -> Floats:
    """Load of a kind in a day and a week: (samples,), 1 at an ordinary weekday's peak."""
    hour = times % DAY / HOUR - kind.peak_hour
    day = np.cos(2.0 * np.pi * hour / 24.0) + 0.25 * np.cos(4.0 * np.pi * (hour + 1.0) / 24.0)
    shape = (1.0 + kind.swing * day) / (1.0 + 1.2 * kind.swing)
    return np.asarray(shape * _shape_week(times, kind.weekend))


def _shape_week(times: Floats, weekend: float) -> Floats:
    """1 on weekdays, `weekend` at weekends, changing over half a day around midnight."""
    monday_first = (times / DAY + 3.0) % 7.0  # the unix epoch was a Thursday
    levels = (1.0, 1.0, weekend, weekend)
    return np.interp(monday_first, (0.25, 4.75, 5.25, 6.75), levels, period=7.0)
