"""`Judgements`: what a step yields for all groups at one time, column by column.

A `Verdict` is built only where one row is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.events.events import AnomalyEvent
from promad.events.verdict import (
    STATES,
    State,
    Verdict,
    describe_missing,
    find_unknown,
    list_names,
    view_features,
)

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

WARMING, OK, ANOMALOUS, BLIND = (
    STATES.index(state) for state in (State.WARMING, State.OK, State.ANOMALOUS, State.BLIND)
)


@dataclass(frozen=True)
class Judgements:
    """The judgement of each group at one time.

    Attributes:
        at: unix seconds of the sample judged.
        names: all features; those scored are the first.
        length: samples of a window.
        plain: whether scores are the mean squared error itself (`scoring: mse`).
        state: positions in `STATES`, uint8 (groups,).
        score: float64 (groups,), NaN without a score.
        recent: the score of a short average, by which events end, float64 (groups,); NaN without.
        limit: what it is held to, float64 (groups,).
        mse: the mean squared error over window and features, float64 (groups,).
        errors: what each scored feature adds to the score, float64 (groups, features).
        held_errors: the largest error of late of each scored feature, which fades, float64 (groups,
            features), and `baseline`, what errors stayed below for 95 % of training.
        features: per scored feature what `FEATURE_COLUMNS` names, float64 (groups, features, 6);
            NaN for a feature that is not known.
        largest: where each deviated most, as `LARGEST_COLUMNS`, float64 (groups, features, 4); NaN
            for a feature that does not deviate. None if no group nears an event.
        missing: which features, conditions included, were not measured: bool (groups, features).
        measured: whether enough scored features were measured for a score, bool (groups,).
        in_window: usable samples in a row, at most `length`: int64 (groups,).
        fresh: whether the sample was judged now; a score that was judged before counts no more.
        began: the groups whose event began with this sample, bool (groups,).
        ended: by group the event that ended with this sample.
        unmuted: the groups whose open event began while they were muted, which they are no longer
            since this sample, bool (groups,).
    """

    at: float
    names: Sequence[str]
    length: int
    plain: bool
    state: NDArray[np.uint8]
    score: Values
    recent: Values
    limit: Values
    mse: Values
    errors: Values
    held_errors: Values
    baseline: Values
    features: Values
    largest: Values | None
    missing: Flags
    measured: Flags
    in_window: NDArray[np.int64]
    fresh: Flags
    began: Flags
    ended: Mapping[int, AnomalyEvent]
    unmuted: Flags

    @property
    def excess(self) -> Values:
        """How far held errors are above their baselines; features are ranked by it."""
        return np.maximum(self.held_errors - self.baseline, 0.0)

    def verdict(self, group: int) -> Verdict:
        """One group's judgement, in full."""
        if np.isnan(self.score[group]):
            return self._unscored(group)
        largest = None if self.largest is None else self.largest[group]
        views = view_features(self.names, self.features[group], largest)
        missing = find_unknown(self.names[: self.features.shape[1]], views)
        return Verdict(
            at=self.at,
            state=STATES[self.state[group]],
            threshold=float(self.limit[group]),
            score=float(self.score[group]),
            mse=float(self.mse[group]),
            plain=self.plain,
            features=views,
            missing=missing,
            why=describe_missing(missing),
        )

    def _unscored(self, group: int) -> Verdict:
        in_window, missing = int(self.in_window[group]), ()
        if in_window == 0 or not self.measured[group]:
            missing = tuple(np.asarray(self.names)[self.missing[group]].tolist())
            why = f"no sample of {list_names(missing)}"
        elif in_window < self.length:
            why = f"{in_window} of {self.length} samples of a window"
        else:
            why = "too few features are known for a score"
        state = STATES[self.state[group]]
        return Verdict(self.at, state, float(self.limit[group]), missing=missing, why=why)
