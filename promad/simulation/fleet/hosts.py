"""The hosts of a simulated fleet as columns: labels, kind, place, seed, size and lifetime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from promad.simulation.fleet.kinds import DATACENTERS, KINDS
from promad.simulation.fleet.noise import FleetNoise, Words, make_seeds
from promad.simulation.noise import Floats

Ints = NDArray[np.int64]
POD_KINDS = ("web", "batch")
"""Kinds whose hosts may be pods, which are replaced from time to time."""

LONGEST_GAP_SECONDS = 90.0
"""Between the end of a pod and the start of the next one in its place."""


@dataclass(frozen=True, eq=False)
class Hosts:
    """One row per host: all columns are (hosts,).

    Attributes:
        instance: the value of the label `instance`.
        kind: row of `KINDS`.
        datacenter: row of `DATACENTERS`.
        order: 0 to 1, when a deployment reaches the host, relative to the others of its kind.
        size: its load relative to the mean of its kind.
        seed: of its own noise.
        born: unix seconds of its first scrape, at the earliest.
        gone: unix seconds from which it is not scraped.
    """

    instance: NDArray[np.object_]
    kind: Ints
    datacenter: Ints
    order: Floats
    size: Floats
    seed: Words
    born: Floats
    gone: Floats

    def __len__(self) -> int:
        return len(self.instance)

    def take(self, rows: Ints) -> Self:
        """These hosts alone, in the order of `rows`."""
        return type(self)(*(getattr(self, each.name)[rows] for each in fields(self)))

    def labels(self, row: int) -> dict[str, str]:
        """The labels of all series of a host, without the name, in the order of the alphabet."""
        return {
            "datacenter": DATACENTERS[self.datacenter[row]],
            "instance": self.instance[row],
            "job": KINDS[self.kind[row]].name,
        }


@dataclass(frozen=True)
class Churn:
    """How pods come and go.

    Attributes:
        share: of the hosts that are pods, replaced again and again; they are web or batch hosts.
        lifetime: mean seconds from a pod's start to its end.
        start: unix seconds from which pods are replaced.
        end: unix seconds until which they are.
    """

    share: float
    lifetime: float
    start: float
    end: float


def build_hosts(seed: int, count: int, churn: Churn | None = None) -> Hosts:
    """As many hosts at any time but in the gaps of pods, and all that replace them."""
    kind = np.searchsorted(np.cumsum([each.share for each in KINDS]), _spread_evenly(count))
    noise = FleetNoise(make_seeds(seed, "slots", count))
    where, order, size = noise.uniform("place", np.arange(3)).T
    lives = list(_list_lives(noise, kind, churn))
    slot, born, gone = (np.array(column) for column in zip(*lives, strict=True))
    number = _count_within_kind(kind)
    return Hosts(
        instance=_name_hosts(kind[slot], number[slot], born, seed),
        kind=kind[slot],
        datacenter=(where * len(DATACENTERS)).astype(np.int64)[slot],
        order=order[slot],
        size=(0.75 + 0.5 * size)[slot],
        seed=make_seeds(seed, "hosts", len(slot)),
        born=born,
        gone=gone,
    )


def _spread_evenly(count: int) -> Floats:
    return (np.arange(count) + 0.5) / count


def _list_lives(
    noise: FleetNoise, kind: Ints, churn: Churn | None
) -> Iterator[tuple[int, float, float]]:
    """The slot, first and last second of each host, slot by slot."""
    pods = _choose_pods(kind, churn.share) if churn else np.array([], dtype=np.int64)
    lives = set(pods.tolist())
    for slot in range(len(kind)):
        if churn and slot in lives:
            yield from _list_pods(noise, slot, churn)
        else:
            yield slot, -np.inf, np.inf


def _choose_pods(kind: Ints, share: float) -> Ints:
    """The slots of pods: the same share of the whole fleet at any size."""
    able = np.flatnonzero(np.isin(kind, [n for n, k in enumerate(KINDS) if k.name in POD_KINDS]))
    most = min(round(share * len(kind)), len(able))
    return able[np.linspace(0, len(able) - 1, most).astype(np.int64)] if most else able[:0]


def _list_pods(noise: FleetNoise, slot: int, churn: Churn) -> Iterator[tuple[int, float, float]]:
    """The lives of the pods of a slot: the first began long ago, the last does not end."""
    count = int(3 * (churn.end - churn.start) / churn.lifetime) + 8
    chance = FleetNoise(noise.seeds[slot : slot + 1]).uniform("lives", np.arange(2 * count))[0]
    ends = (
        churn.start
        + np.cumsum(churn.lifetime * (0.5 + chance[:count]))
        - churn.lifetime * chance[0]
    )
    ends = np.rint(ends[ends < churn.end])
    born = ends + np.rint(chance[count : count + len(ends)] * LONGEST_GAP_SECONDS)
    for first, last in zip([-np.inf, *born], [*ends, np.inf], strict=True):
        yield slot, float(first), float(last)


def _count_within_kind(kind: Ints) -> Ints:
    """The number of each host among those of its kind, from 1."""
    starts = np.searchsorted(kind, kind)
    return np.arange(len(kind)) - starts + 1


def _name_hosts(kind: Ints, number: Ints, born: Floats, seed: int) -> NDArray[np.object_]:
    """Names such as `web-007:9100`, or `web-007-3fa9c:9100` of the pods that replace others."""
    suffixes = make_seeds(seed, "suffixes", len(kind)) >> np.uint64(44)
    names = [
        f"{KINDS[k].name}-{n:03d}{'' if b == -np.inf else f'-{s:05x}'}:9100"
        for k, n, b, s in zip(kind, number, born, suffixes.tolist(), strict=True)
    ]
    return np.array(names, dtype=object)
