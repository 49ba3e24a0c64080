"""A simulated web host: sixteen gauges that depend on each other as on a real one.

Requests follow the day and the week, with bursts and wandering noise. Everything else follows from
them: processor and disk get busy, busy queues make requests wait, waiting requests fill the
run queue, the sockets and the memory, and work warms the host. An incident changes one cause and
leaves the consequences to the same relations.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from promad.simulation.incidents import Incident
from promad.simulation.noise import Floats, Noise

FEATURES = {
    "host_cpu_busy_ratio": "Share of processor time spent working.",
    "host_load1": "Processes running or waiting, mean of a minute.",
    "host_memory_used_bytes": "Memory in use, page cache left out.",
    "host_disk_read_bytes_per_second": "Bytes read from the disk.",
    "host_disk_written_bytes_per_second": "Bytes written to the disk.",
    "host_disk_io_busy_ratio": "Share of time in which the disk had work.",
    "host_filesystem_used_ratio": "Share of the file system in use.",
    "host_network_receive_bytes_per_second": "Bytes received.",
    "host_network_transmit_bytes_per_second": "Bytes sent.",
    "host_tcp_connections": "Open TCP connections.",
    "host_temperature_celsius": "Temperature of the processor.",
    "app_requests_per_second": "Requests that arrive.",
    "app_errors_per_second": "Requests that are answered with an error.",
    "app_latency_p50_seconds": "Median time to answer a request.",
    "app_latency_p99_seconds": "Time within which 99 of 100 requests are answered.",
    "app_queue_length": "Requests waiting for a worker, mean of a scrape.",
}
"""Each feature's name and meaning, in the order of the columns."""

PEAK_REQUESTS = 140.0  # per second, at an ordinary day's height
CORES = 8.0
OUTAGE_SECONDS = 75.0  # how long a restart keeps the host from being scraped
RESTART_PERIOD = 5 * 86400.0  # between restarts, before the one that is asked for
HOUR, DAY = 3600.0, 86400.0

LAGS = np.array([0.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 900.0])
"""Seconds back at which causes are looked up whose effects lag behind."""


class Host(Hashable, Protocol):
    """Anything with the features' values at unix times: (samples,) -> (samples, features)."""

    def values(self, times: Floats) -> Floats: ...


@dataclass(frozen=True)
class SimulatedHost:
    """Sixteen features at any time, past or future; the same arguments always give the same host.

    Attributes:
        seed: which host of all possible ones.
        restarted_at: unix seconds of the restart; the host is not scraped for 75 s from then on.
        incidents: what goes wrong, and when.
    """

    seed: int
    restarted_at: float
    incidents: tuple[Incident, ...] = ()

    def values(self, times: Floats) -> Floats:
        """Values at unix `times` (samples,) -> (samples, features), in the order of `FEATURES`.

        NaN means not scraped. Nothing is negative, and ratios lie within 0 and 1.
        """
        features = self._features(np.asarray(times, dtype=np.float64))
        columns = _round(np.stack([features[name] for name in FEATURES], axis=1))
        down = (times >= self.restarted_at) & (times < self.restarted_at + OUTAGE_SECONDS)
        columns[down] = np.nan
        return columns

    def _features(self, times: Floats) -> dict[str, Floats]:
        """Every feature by name, each (samples,)."""
        noise = Noise(self.seed)
        past = times - LAGS[:, np.newaxis]
        requests = self._requests(past, noise)
        cpu = self._cpu(past, requests, noise)
        disk = self._disk(past, requests, noise)
        now = requests[0]
        p50, p99 = _latencies(times, cpu[0], disk.wait[0], noise)
        failing = self._failing(times, p99)
        queue = now * (0.5 * p50 + 0.3 * p99) * _spread(noise.white("queue", times), 0.06)
        held_open = 1.6 + 0.6 * self._strength("retry_storm", times)
        sockets = 60.0 + held_open * _smooth(requests, 120.0) + 2.0 * queue
        running = CORES * cpu + 3.0 * disk.busy
        received = (15e3 + 4.2e3 * now) * _spread(noise.white("receive", times), 0.03)
        sent = (30e3 + 31e3 * now * (1.0 - failing)) * _spread(noise.white("sent", times), 0.04)
        air = 0.3 * noise.wander("air", times, HOUR)
        return {
            "host_cpu_busy_ratio": cpu[0],
            "host_load1": _smooth(running, 60.0) * _spread(noise.white("load", times), 0.03),
            "host_memory_used_bytes": self._memory(times, _smooth(requests, 300.0), noise),
            "host_disk_read_bytes_per_second": disk.read[0],
            "host_disk_written_bytes_per_second": disk.written[0],
            "host_disk_io_busy_ratio": disk.busy[0],
            "host_filesystem_used_ratio": _filesystem(times, noise),
            "host_network_receive_bytes_per_second": received,
            "host_network_transmit_bytes_per_second": sent,
            "host_tcp_connections": np.rint(sockets + 4.0 * noise.wander("sockets", times, 300.0)),
            "host_temperature_celsius": 36.0 + 26.0 * _smooth(cpu, 300.0) + air,
            "app_requests_per_second": now,
            "app_errors_per_second": _count(now * failing, noise.white("errors", times)),
            "app_latency_p50_seconds": p50,
            "app_latency_p99_seconds": p99,
            "app_queue_length": queue,
        }

    def _strength(self, name: str, times: Floats) -> Floats:
        """How strong the incidents of that name are together, in the shape of `times`."""
        strength = np.zeros(times.shape)
        for incident in self.incidents:
            if incident.name == name:
                strength = np.maximum(strength, incident.strength(times))
        return strength

    def _requests(self, times: Floats, noise: Noise) -> Floats:
        """Requests per second: what people want, and what is tried again."""
        wandering = 0.09 * noise.wander("requests", times, 1800.0)
        jitter = 0.03 * noise.white("requests", times)
        wanted = _week(times) * _day(times) * np.exp(wandering + jitter) + _bursts(times, noise)
        return PEAK_REQUESTS * wanted * (1.0 + 0.35 * self._strength("retry_storm", times))

    def _cpu(self, times: Floats, requests: Floats, noise: Noise) -> Floats:
        """Share of processor time: requests, the hourly job, and the work of a full memory."""
        work = 0.04 + 0.0041 * requests + 0.05 * _hourly_job(times)
        work += 0.05 * self._strength("memory_leak", times)
        return np.clip(work * _spread(noise.white("cpu", times), 0.03), 0.0, 0.98)

    def _disk(self, times: Floats, requests: Floats, noise: Noise) -> Disk:
        """The disk's work: reads that miss the cache, writes of each request, flushes, the job."""
        cold = np.exp(-np.maximum(self._uptime(times), 0.0) / 1200.0)
        misses = 1.0 + 1.5 * cold + 1.5 * self._strength("memory_leak", times)
        read = 0.2e6 + 9e3 * requests * misses + 1.5e6 * _hourly_job(times)
        read *= _spread(noise.wander("read", times, 120.0), 0.08)
        written = 0.3e6 + 22e3 * requests + 0.5e6 * noise.uniform("flush", _scrapes(times))
        written *= _spread(noise.wander("write", times, 120.0), 0.06)
        slowness = 1.0 + 0.8 * self._strength("slow_disk", times)
        busy = 1.0 - np.exp(-(read / 15e6 + written / 12e6) * slowness)
        return Disk(read, written, busy, wait=0.004 * slowness / (1.0 - busy))

    def _failing(self, times: Floats, p99: Floats) -> Floats:
        """Share of requests that fail: few always, more when slow, many in a retry storm."""
        slow = 0.02 * np.maximum(p99 - 0.1, 0.0)
        return 0.004 + slow + 0.012 * self._strength("retry_storm", times)

    def _memory(self, times: Floats, requests: Floats, noise: Noise) -> Floats:
        """Bytes: a floor, what requests hold, and what has piled up since the last restart."""
        piled_up = 1.2e9 * (1.0 - np.exp(-self._uptime(times) / (30 * HOUR)))
        held = 0.9e9 * requests / PEAK_REQUESTS
        leaked = 1.8e9 * self._strength("memory_leak", times)
        return 2.1e9 + held + piled_up + leaked + 1.5e7 * noise.wander("memory", times, 900.0)

    def _uptime(self, times: Floats) -> Floats:
        """Seconds since the last restart."""
        since = times - self.restarted_at
        return np.where(since >= 0.0, since, since % RESTART_PERIOD)


@dataclass(frozen=True)
class MovedHost:
    """A host whose life is `ahead` seconds further on than the times that it is asked about."""

    host: SimulatedHost
    ahead: float

    def values(self, times: Floats) -> Floats:
        """Values at unix `times` (samples,) -> (samples, features), as the host has them."""
        return self.host.values(times + self.ahead)


@dataclass(frozen=True)
class Disk:
    """Bytes read and written per second, share of time busy, and seconds that a request waits."""

    read: Floats
    written: Floats
    busy: Floats
    wait: Floats


def _day(times: Floats) -> Floats:
    """The day's shape: lowest before dawn, highest in the afternoon, a second rise at night."""
    hour = times % DAY / HOUR
    main = np.cos(2.0 * np.pi * (hour - 15.5) / 24.0)
    evening = np.cos(4.0 * np.pi * (hour - 9.0) / 24.0)
    return np.asarray(0.58 + 0.30 * main + 0.08 * evening)


def _week(times: Floats) -> Floats:
    """1 on weekdays and 0.78 at weekends, changing over half a day around midnight."""
    monday_first = (times / DAY + 3.0) % 7.0  # the unix epoch was a Thursday
    corners, levels = (0.25, 4.75, 5.25, 6.75), (1.0, 1.0, 0.78, 0.78)
    return np.interp(monday_first, corners, levels, period=7.0)


def _bursts(times: Floats, noise: Noise, slot: float = 2700.0) -> Floats:
    """Short rushes of a few minutes: one in three slots holds one, somewhere in its middle half."""
    number = np.floor(times / slot).astype(np.int64)
    chance = noise.uniform("burst/chance", number)
    middle = (number + 0.25 + 0.5 * noise.uniform("burst/middle", number)) * slot
    height = 0.1 + 0.16 * noise.uniform("burst/height", number)
    width = 50.0 + 80.0 * noise.uniform("burst/width", number)
    bell = height * np.exp(-0.5 * ((times - middle) / width) ** 2)
    return np.asarray(np.where(chance < 1 / 3, bell, 0.0))


def _hourly_job(times: Floats) -> Floats:
    """1 while the job that starts at minute 17 is at work, with soft edges; else 0."""
    minute = times % HOUR / 60.0
    return np.clip(np.minimum(minute - 17.0, 22.0 - minute), 0.0, 1.0)


def _latencies(times: Floats, cpu: Floats, wait: Floats, noise: Noise) -> tuple[Floats, Floats]:
    """Median and 99th percentile in seconds: queueing for the processor, and for the disk."""
    computing = 0.012 * (1.0 + 0.5 * cpu / (1.15 - cpu))
    p50 = (computing + 0.28 * wait) * _spread(noise.white("p50", times), 0.03)
    tail = (2.4 * computing + 7.0 * wait) * _spread(noise.white("p99", times), 0.06)
    return p50, tail


def _filesystem(times: Floats, noise: Noise) -> Floats:
    """Share in use: logs pile up for six hours and are then rotated away."""
    logs = 0.04 * (times % (6 * HOUR)) / (6 * HOUR)
    return np.asarray(0.52 + logs + 0.002 * noise.wander("files", times, 6 * HOUR))


def _count(rate: Floats, white: Floats) -> Floats:
    """A rate as counting over a minute shows it: spread like the square root of the count."""
    return np.asarray(np.maximum(rate + np.sqrt(rate / 60.0) * white, 0.0))


def _spread(noise: Floats, size: float) -> Floats:
    """A factor around 1 that is never negative; `size` is its relative spread."""
    return np.asarray(np.exp(size * noise))


def _scrapes(times: Floats) -> NDArray[np.int64]:
    """Whole milliseconds: the key of a scrape's own chance."""
    return np.rint(times * 1000.0).astype(np.int64)


def _smooth(past: Floats, seconds: float) -> Floats:
    """What follows `past` (lags, samples) with a time constant of `seconds`: (samples,)."""
    weights = np.exp(-LAGS / seconds) * np.gradient(LAGS)
    return np.asarray((weights[:, np.newaxis] * past).sum(axis=0) / weights.sum())


def _round(columns: Floats) -> Floats:
    """Whole bytes, six decimals of anything else; no more than a real gauge has."""
    scale = np.array([1.0 if "bytes" in name else 1e6 for name in FEATURES])
    return np.asarray(np.rint(columns * scale) / scale)
