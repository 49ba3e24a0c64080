"""Which faults happen at which tick: the same for the same seed, whatever happened before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.support.soak.faults import EMPTY, HUGE, LOST, REFUSED
from tests.support.soak.truth import QUERIES

CALM = 0.975
"""Share of ticks at which no fault of the server begins."""
_SLOW_TO_NOTICE = frozenset({"drips", "stalls"})
_KINDS: tuple[tuple[str, float], ...] = (
    *((name, 1.0) for name in LOST),
    *((name, 2.0) for name in REFUSED),
    *((name, 3.0) for name in EMPTY),
    *((name, 0.5) for name in HUGE),
    ("refuses connections", 3.0),
    ("vanishes", 5.0),
)
_RARE = {
    "clock forward": 1 / 400,
    "clock far forward": 1 / 1500,
    "clock back": 1 / 400,
    "slow tick": 1 / 200,
    "reload": 1 / 300,
    "damaged reload": 1 / 600,
    "other bundle": 1 / 900,
    "disk full": 1 / 250,
    "log reader gone": 1 / 400,
    "daemon restart": 1 / 2500,
    "anomaly": 1 / 60,
}
"""How often other things begin, per tick."""


@dataclass(frozen=True)
class Fault:
    """A fault of the server: its kind, whose queries, and for how many ticks."""

    kind: str
    aliases: frozenset[str]
    ticks: int


@dataclass(frozen=True)
class Plan:
    """What begins at a tick. `amount` is between 0 and 1, for what has a size."""

    fault: Fault | None
    events: tuple[str, ...]
    amount: float


def plan_tick(seed: int, tick: int) -> Plan:
    """What begins at a tick."""
    rng = np.random.default_rng([seed, tick])
    events = tuple(name for name, share in _RARE.items() if rng.random() < share)
    return Plan(_plan_fault(rng) if rng.random() > CALM else None, events, float(rng.random()))


def _plan_fault(rng: np.random.Generator) -> Fault:
    weights = np.array([weight for _, weight in _KINDS])
    kind = _KINDS[rng.choice(len(_KINDS), p=weights / weights.sum())][0]
    longest = 2 if kind in _SLOW_TO_NOTICE else 40 if kind == "vanishes" else 9
    aliases = [alias for alias in QUERIES if rng.random() < 0.4]
    everything = rng.random() < 0.4 or not aliases
    chosen = frozenset(QUERIES if everything else aliases)
    return Fault(kind, chosen, 1 if kind in HUGE else int(rng.integers(1, longest + 1)))
