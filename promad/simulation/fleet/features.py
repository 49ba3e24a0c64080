"""The features of a fleet's hosts, each from the signals that move it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from promad.simulation.fleet.signals import CORES, Signals
from promad.simulation.host import FEATURES
from promad.simulation.noise import Floats

Feature = Callable[[Signals], Floats]
"""Values (hosts, samples) of a feature."""

GENERIC_PREFIX = "host_metric_"


def name_features(count: int) -> tuple[str, ...]:
    """The names of as many features: those of a host, then generic ones.

    >>> name_features(17)[-2:]
    ('app_queue_length', 'host_metric_017')
    """
    generic = (f"{GENERIC_PREFIX}{number + 1:03d}" for number in range(len(FEATURES), count))
    return (*tuple(FEATURES)[:count], *generic)


def compute_feature(name: str, signals: Signals) -> Floats:
    """Values (hosts, samples) of a feature, rounded as a real gauge is; none is below 0."""
    feature = _FEATURES.get(name)
    values = _compute_generic(name, signals) if feature is None else feature(signals)
    scale = 1.0 if "bytes" in name else 1e6
    values = values * scale
    return np.divide(np.maximum(np.rint(values, out=values), 0.0, out=values), scale, out=values)


def _compute_load(signals: Signals) -> Floats:
    return (CORES * signals.cpu + 3.0 * signals.disk) * signals.spread(4, 0.05)


def _compute_memory(signals: Signals) -> Floats:
    used = 0.42 + 0.10 * signals.load + 0.015 * signals.release
    used = used + 0.3 * signals.strength("memory_leak")
    wander = 0.008 * signals.noise.wander("memory", signals.times, 1800.0)
    return 16e9 * np.minimum(used + wander, 0.97)


def _compute_filesystem(signals: Signals) -> Floats:
    """Share in use: logs pile up for six hours and are then rotated away."""
    period = 6 * 3600.0
    own = signals.noise.uniform("files", np.arange(2))
    logs = 0.04 * ((signals.times + period * own[:, :1]) % period) / period
    wander = 0.002 * signals.noise.wander("files", signals.times, period)
    return 0.35 + 0.3 * own[:, 1:] + logs + wander


def _compute_received(signals: Signals) -> Floats:
    kept = 1.0 - 0.5 * signals.lost
    noise = 1.0 + 0.04 * signals.network
    return (15e3 + 3.2e3 * signals.requests) * kept * noise * signals.spread(5, 0.03)


def _compute_sent(signals: Signals) -> Floats:
    kept = (1.0 - 0.5 * signals.lost) * (1.0 - signals.failing)
    noise = 1.0 + 0.05 * signals.network
    return (30e3 + 21e3 * signals.requests) * kept * noise * signals.spread(6, 0.04)


def _compute_connections(signals: Signals) -> Floats:
    open_ = 60.0 + signals.requests * (1.4 + 8.0 * signals.wait + 1.2 * signals.lost)
    return np.rint(open_ * signals.spread(7, 0.03))


def _compute_temperature(signals: Signals) -> Floats:
    air = 0.4 * signals.noise.wander("air", signals.times, 3600.0)
    return 36.0 + 26.0 * signals.cpu + air + 0.1 * signals.white(8)


def _compute_errors(signals: Signals) -> Floats:
    """A rate as counting over a minute shows it: spread like the square root of the count."""
    rate = signals.requests * signals.failing
    return np.maximum(rate + np.sqrt(rate / 60.0) * signals.white(9), 0.0)


def _compute_p50(signals: Signals) -> Floats:
    return signals.wait * (1.0 + 0.02 * signals.network) * signals.spread(10, 0.04)


def _compute_p99(signals: Signals) -> Floats:
    tail = 3.2 * signals.wait + 0.02 * signals.strength("slow_disk")
    return tail * (1.0 + 0.03 * signals.network) * signals.spread(11, 0.07)


def _compute_queue(signals: Signals) -> Floats:
    return signals.requests * 1.4 * signals.wait * signals.spread(12, 0.06)


_FEATURES: dict[str, Feature] = {
    "host_cpu_busy_ratio": lambda signals: signals.cpu,
    "host_load1": _compute_load,
    "host_memory_used_bytes": _compute_memory,
    "host_disk_read_bytes_per_second": lambda signals: signals.read,
    "host_disk_written_bytes_per_second": lambda signals: signals.written,
    "host_disk_io_busy_ratio": lambda signals: signals.disk,
    "host_filesystem_used_ratio": _compute_filesystem,
    "host_network_receive_bytes_per_second": _compute_received,
    "host_network_transmit_bytes_per_second": _compute_sent,
    "host_tcp_connections": _compute_connections,
    "host_temperature_celsius": _compute_temperature,
    "app_requests_per_second": lambda signals: signals.requests,
    "app_errors_per_second": _compute_errors,
    "app_latency_p50_seconds": _compute_p50,
    "app_latency_p99_seconds": _compute_p99,
    "app_queue_length": _compute_queue,
}


def _compute_generic(name: str, signals: Signals) -> Floats:
    """A mixture of load, processor and disk that belongs to the name."""
    number, (load, cpu, disk, spread) = _describe_generic(name)
    mixture = 5.0 + load * signals.load + cpu * signals.cpu + disk * signals.disk
    return mixture * signals.spread(number, 0.005 * spread)


@lru_cache(maxsize=1024)
def _describe_generic(name: str) -> tuple[int, list[float]]:
    """The number of a generic feature, and its weights: of load, processor, disk and noise."""
    weights = np.random.default_rng(zlib.crc32(name.encode())).uniform(1.0, 10.0, 4)
    return int(name.removeprefix(GENERIC_PREFIX)), weights.tolist()
