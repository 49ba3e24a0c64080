"""How many groups a machine can watch, from what ticks of fleets took."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_WALL_SHARE, _MEMORY_SHARE, _CPU_SHARE = 0.5, 0.8, 0.8
"""How much of the interval, the memory and the processors may be used."""


@dataclass(frozen=True)
class Measured:
    """What ticks took; times in seconds, quantiles over the ticks.

    `server_cpu_seconds_p50` is None if the server does not tell.
    """

    groups: int
    features: int
    interval_seconds: float
    ticks: int
    tick_wall_seconds_p50: float
    tick_wall_seconds_p90: float
    tick_wall_seconds_max: float
    tick_cpu_seconds_p50: float
    server_cpu_seconds_p50: float | None
    rss_mb: float
    samples_read_per_tick: int
    bytes_read_per_tick: int
    metrics_bytes: int
    metrics_series: int
    scrape_seconds_p50: float
    limiting_resource: str
    limiting_share: float
    model: str = "linear"
    model_scope: str = "pooled"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Fit:
    """How many groups fit, and which resource ends first."""

    groups_that_fit: int
    limiting_resource: str
    measured: tuple[Measured, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values: those of the largest measurement, and what was concluded."""
        return {
            **self.measured[-1].to_json(),
            "groups_that_fit": self.groups_that_fit,
            "limiting_resource": self.limiting_resource,
        }


def conclude(found: Sequence[Measured]) -> Fit:
    """How many groups fit, from the measurements of a small fleet and a large one."""
    limits = {
        name: _extrapolate([each.groups for each in found], shares)
        for name, shares in _list_shares(found).items()
    }
    limiting = min(limits, key=lambda name: limits[name])
    return Fit(int(limits[limiting] + 1e-6), limiting, tuple(found))


def _list_shares(found: Sequence[Measured]) -> dict[str, list[float]]:
    """By resource the share of what may be used, for each measurement."""
    return {name: [shares(each)[name] for each in found] for name in shares(found[0])}


def shares(measured: Measured) -> dict[str, float]:
    """Which share of what may be used of each resource a measured fleet takes."""
    interval, cores = measured.interval_seconds, os.cpu_count() or 1
    found = {
        "time of a tick": measured.tick_wall_seconds_p90 / (interval * _WALL_SHARE),
        "processor": measured.tick_cpu_seconds_p50 / (interval * _CPU_SHARE),
        "memory": measured.rss_mb / (_read_memory_mb() * _MEMORY_SHARE),
    }
    if measured.server_cpu_seconds_p50 is not None:
        found["processor of the server"] = measured.server_cpu_seconds_p50 / (
            interval * cores * _CPU_SHARE
        )
    return found


def _extrapolate(groups: Sequence[int], used: Sequence[float]) -> float:
    """How many groups use all of what may be used, on the line through two measurements."""
    if len(groups) < 2 or used[-1] <= used[0]:
        return groups[-1] / max(used[-1], 1e-9)
    slope = (used[-1] - used[0]) / (groups[-1] - groups[0])
    return max(0.0, groups[-1] + (1.0 - used[-1]) / slope)


def _read_memory_mb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
