"""What is known of many groups after a tick, and the status of one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.detection.judgements import BLIND, Judgements
from promad.detection.state import State
from promad.errors import PrometheusError
from promad.events.mutes import Muted
from promad.events.status import GroupStatus
from promad.events.verdict import STATES, Verdict
from promad.exposition.fleet import FleetSnapshot

Values = NDArray[np.float64]


@dataclass
class Published:
    """What is known of the groups after a tick; it is not changed once it is published."""

    at: float
    labels: tuple[Labels, ...]
    judgements: Judgements | None
    states: NDArray[np.uint8]
    limits: Values
    why: Mapping[int, str]
    failures: Mapping[str, PrometheusError]
    muted: Muted


def make_build_status(state: State, published: Published) -> Callable[[int], GroupStatus]:
    """What makes the status of one group as it is now, also once later ticks have passed."""
    open_rows = np.flatnonzero(state.events.hysteresis.open)
    events = state.events.take(open_rows)
    place_of = {row: place for place, row in enumerate(open_rows.tolist())}
    begun, until = state.events.begun.copy(), state.scored_until.copy()
    usable, muted = state.scoring.usable_for[:, 0].copy(), published.muted

    def build(row: int) -> GroupStatus:
        return GroupStatus(
            verdict=_build_verdict(published, row),
            group=published.labels[row],
            events_begun=int(begun[row]),
            event=events.event(place_of[row]) if row in place_of else None,
            last_scored_at=None if isnan(until[row]) else float(until[row]),
            samples_in_window=int(usable[row]),
            muted=bool(muted.flags[row]) if muted.is_configured else None,
            muted_by=muted.find_title(row),
        )

    return build


def withhold_snapshot(snapshot: FleetSnapshot, at: float, why: str) -> FleetSnapshot:
    """The same groups and events, all blind; only what is published already is read."""
    columns, build = snapshot.columns, snapshot.build_status
    unknown = np.full(len(columns.labels), np.nan)

    def build_blind(row: int) -> GroupStatus:
        status = build(row)
        verdict = Verdict(at, STATES[BLIND], status.verdict.threshold, why=why)
        return replace(status, verdict=verdict)

    blind = replace(
        columns,
        state=np.full(len(columns.labels), BLIND, np.uint8),
        score=unknown,
        mse=unknown,
        known_share=unknown,
        anomalous_since=unknown,
        features=np.full_like(columns.features, np.nan),
    )
    return replace(snapshot, columns=blind, build_status=build_blind)


def _build_verdict(published: Published, row: int) -> Verdict:
    if published.judgements is None:
        state = STATES[published.states[row]]
        return Verdict(
            published.at, state, float(published.limits[row]), why=published.why.get(row, "")
        )
    verdict = published.judgements.verdict(row)
    why = published.why.get(row)
    return verdict if why is None else replace(verdict, why=why)
