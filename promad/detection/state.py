"""`State`: what a detector at work remembers of each group; `promad.detection.step` writes it.

Struct of arrays over groups, but for what a threshold keeps, which is its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config.mute_settings import Mute
from promad.data.groups import Labels, name_group
from promad.data.rows import move_rows, plan_move
from promad.events.event_book import EventBook
from promad.events.hysteresis import Hysteresis
from promad.events.mutes import Mutes
from promad.scoring.detector import Detector
from promad.scoring.held_errors import HeldErrors
from promad.scoring.onset import Onsets
from promad.scoring.peers import Peers
from promad.scoring.streaming import ScoringState
from promad.thresholds import ThresholdSettings, ThresholdState

Values = NDArray[np.float64]

HOLD_WINDOWS = 6
"""For so many windows an event is compared with the state before it, if that is longer."""


@dataclass
class State:
    """What is remembered of each group.

    Attributes:
        labels: of the groups.
        scoring: fills, windows and moving averages.
        seen_until: unix seconds of the newest sample that `scoring` has seen; None before.
        limits: the threshold at work.
        events: which are open, and their peaks.
        judged_from: samples up to this time, in unix seconds, are not judged: float64 (groups,).
        scored_until: unix seconds of each group's newest judged sample, float64 (groups,); NaN
            before the first.
        deviating_since: since when each feature has deviated, unix seconds, float64
            (groups, features); NaN if it does not.
        restarted_at: unix seconds of the sample with which the newest event of each group was over,
            after which its average restarted, float64 (groups,); NaN before the first.
        onsets: what was before events that are open or may begin.
        held: the errors by which features are ranked.
        peers: by which groups that came after training are calibrated.
        mutes: which groups are muted.
    """

    labels: tuple[Labels, ...]
    scoring: ScoringState
    seen_until: float | None
    limits: ThresholdState
    events: EventBook
    judged_from: Values
    scored_until: Values
    deviating_since: Values
    restarted_at: Values
    onsets: Onsets
    held: HeldErrors
    peers: Peers
    mutes: Mutes

    @property
    def names(self) -> tuple[str, ...]:
        """The groups' names."""
        return self.events.groups

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.labels)

    def adopt(self, other: State) -> None:
        """Continue the groups that are in another state of the same detector too.

        It must not be used any more.
        """
        move = plan_move(other.labels, self.labels)
        self.seen_until = other.seen_until
        self.scoring.adopt(other.scoring, move)
        self.limits.adopt(other.limits, move)
        self.events.adopt(other.events, move)
        self.peers.adopt(other.peers, move)
        self.onsets.adopt(other.onsets, move)
        self.held.adopt(other.held, move)
        self.mutes.adopt(other.mutes)
        move_rows(
            move,
            (other.judged_from, self.judged_from),
            (other.scored_until, self.scored_until),
            (other.deviating_since, self.deviating_since),
            (other.restarted_at, self.restarted_at),
        )

    def continue_events(self, other: State) -> None:
        """Continue events and deviations of groups of another detector with the same features.

        Its windows and threshold are its own. It must not be used any more.
        """
        move = plan_move(other.labels, self.labels)
        self.events.adopt(other.events, move)
        move_rows(
            move,
            (other.scored_until, self.scored_until),
            (other.deviating_since, self.deviating_since),
            (other.restarted_at, self.restarted_at),
        )

    def to_json(self, group: int) -> dict[str, Any]:
        """Plain values of one group, from which `resume` continues as if nothing was between."""
        until, since = float(self.scored_until[group]), self.deviating_since[group]
        restarted_at = float(self.restarted_at[group])
        deviating = zip(self.events.features, since.tolist(), strict=True)
        return {
            "scored_until": None if np.isnan(until) else until,
            "deviating": {name: at for name, at in deviating if not np.isnan(at)},
            "restarted_at": None if np.isnan(restarted_at) else restarted_at,
            "onset": self.onsets.to_json(group),
            "held": self.held.largest[group].tolist(),
            **self.events.to_json(group),
        }

    def resume(self, group: int, content: Mapping[str, Any]) -> None:
        """Continue a group from what `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: if `content` is no such description; nothing has
                changed then.
        """
        until = float(content["scored_until"])
        restarted_at = content.get("restarted_at")
        restarted_at = np.nan if restarted_at is None else float(restarted_at)
        deviating = {str(name): float(at) for name, at in content["deviating"].items()}
        features, onset = self.events.features, content.get("onset")
        nothing = np.zeros(len(features))  # as earlier versions wrote
        held = np.asarray(content.get("held", nothing), np.float64).reshape(nothing.shape)
        onsets = Onsets.begin(1, len(features))
        onsets.resume(0, onset)
        self.events.resume(group, content)
        self.onsets.resume(group, onset)
        self.held.largest[group] = held
        self.scored_until[group], self.restarted_at[group] = until, restarted_at
        self.deviating_since[group] = [deviating.get(name, np.nan) for name in features]


def choose_rule(detector: Detector, how: ThresholdSettings) -> ThresholdSettings:
    """The settings with what a detector has of the rule that ends events.

    A detector without a short average ends them by its score.
    """
    if detector.scoring.recent_samples is None:
        return replace(how, leave_below=None, hold_seconds=0.0, typical=0.0)
    unit = 1.0 if detector.table is None else detector.table.median_unit
    shortest = HOLD_WINDOWS * detector.length * detector.preparation.step
    hold = max(how.hold_seconds, shortest) if how.hold_seconds else 0.0
    return replace(how, hold_seconds=hold, typical=detector.scoring.typical / unit)


def begin_hysteresis(how: ThresholdSettings, groups: int) -> Hysteresis:
    """The counters of events before the first sample, by what `choose_rule` gave."""
    counts = how.enter_after, how.leave_after
    hold = 0.0 if how.leave_below is None else how.hold_seconds
    return Hysteresis.begin(groups, *counts, how.leave_below, hold, how.typical)


def begin_state(
    detector: Detector,
    limits: ThresholdState,
    name: str,
    groups: Sequence[Labels],
    hysteresis: Hysteresis,
    mute: Sequence[Mute] = (),
) -> State:
    """The state before the first sample.

    Args:
        limits: the threshold at work on these groups.
        name: of the detector.
        hysteresis: its counters, before the first sample.
        mute: when anomalies are expected.
    """
    count, features = len(groups), detector.scored_features
    names = [name_group(name, group) for group in groups]
    return State(
        labels=tuple(groups),
        scoring=ScoringState.begin(detector, count),
        seen_until=None,
        limits=limits,
        events=EventBook.begin(
            names, features, hysteresis, detector.scoring.method == "mse", groups
        ),
        judged_from=np.full(count, -np.inf),
        scored_until=np.full(count, np.nan),
        deviating_since=np.full((count, len(features)), np.nan),
        restarted_at=np.full(count, np.nan),
        onsets=Onsets.begin(count, len(features)),
        held=HeldErrors.begin(count, len(features)),
        peers=Peers.begin(
            detector.find_pooled(groups),
            len(detector.table.groups) if detector.table else 0,
            len(detector.preparation.features),
        ),
        mutes=Mutes(mute, groups),
    )
