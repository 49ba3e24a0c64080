"""`Detector`: preparation, model, scoring and threshold put together. Using it changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.data.preparation import Preparation
from promad.data.scaling import Scaler
from promad.data.windows import Windows, batches, windows_per_batch
from promad.models import GroupedModel, Model, Outcome
from promad.scoring.calibration import Calibration, CalibrationTable, pool_calibration
from promad.scoring.held_errors import find_calm
from promad.scoring.peers import Peers
from promad.scoring.scoring import Scoring
from promad.thresholds import Threshold

Values = NDArray[np.float64]

_BATCH = 4096


@dataclass(frozen=True)
class Detector:
    """What a bundle holds, once it is opened.

    Attributes:
        table: the calibration of each group; None in a detector of one group.
    """

    preparation: Preparation
    model: Model
    scoring: Scoring
    threshold: Threshold
    length: int
    table: CalibrationTable | None = None

    @property
    def samples_needed(self) -> int:
        """How many of the newest samples decide the newest score, see `Scoring.memory`."""
        return self.length + self.scoring.memory - 1 + self.preparation.context

    @property
    def scored_features(self) -> tuple[str, ...]:
        """The features that are scored; conditions are left out."""
        return self.preparation.features[: self.preparation.scored]

    @property
    def calm(self) -> float:
        """The score below which an anomaly is over as far as its causes are concerned."""
        return find_calm(self.scoring.calm, self.threshold.value)

    def calibrate(self, groups: Sequence[Labels], peers: Peers | None = None) -> Calibration:
        """The calibration of these groups: each group's own, or its peers', or the pooled one."""
        if self.table is None:
            pooled = pool_calibration(self.preparation, self.scoring)
            return pooled.take(np.zeros(len(groups), np.int64))
        pooled = pool_calibration(self.preparation, self.scoring, self.table.median_unit)
        return self.table.calibrate(groups, pooled, peers)

    def of_group(self, labels: Labels) -> tuple[Detector, float]:
        """The detector with one group's own scoring, and the unit of its scores."""
        own = self.calibrate([labels])
        scoring = replace(self.scoring, normaliser=own.normaliser[0], baseline=own.baseline[0])
        model = self.model
        if isinstance(model, GroupedModel) and self.table is not None:
            model = model.of_group(int(self.table.find([labels])[0]))
        preparation = replace(
            self.preparation,
            scaler=Scaler(self.preparation.scaler.kind, own.center[0], own.scale[0]),
            possible=own.possible[0],
        )
        detector = replace(self, preparation=preparation, model=model, scoring=scoring, table=None)
        return detector, float(own.unit[0])

    def apply(self, windows: Windows, groups: Sequence[Labels], of: NDArray[np.int64]) -> Outcome:
        """The model's outcome for windows of several groups, a batch at a time.

        Args:
            of: the place in `groups` of each window's group, int64 (windows,).
        """
        model, table = self.model, self.table
        if not isinstance(model, GroupedModel) or table is None or not len(windows):
            return apply_model(model, windows)
        rows, size = table.find(groups)[of], windows_per_batch(windows, _BATCH)
        return _join_outcomes(
            [
                model.apply_groups(windows.take(part), rows[part])
                for part in np.split(np.arange(len(windows)), range(size, len(windows), size))
            ]
        )

    def find_pooled(self, groups: Sequence[Labels]) -> NDArray[np.bool_]:
        """Which of these groups have no calibration of their own: bool (groups,)."""
        if self.table is None:
            return np.zeros(len(groups), np.bool_)
        return self.table.find(groups) < 0


def select_errors(outcome: Outcome, method: str) -> Values:
    """The errors that the scoring method starts from: (windows, members * features)."""
    return outcome.window_errors if method == "mse" else outcome.errors


def count_errors(
    errors: Values, outcome: Outcome, windows: Windows, preparation: Preparation
) -> Values:
    """The errors that count: those of deviations that their queries ignore are 0; same shape.

    Args:
        errors: as `select_errors` returns them, of these windows.
        preparation: what made the windows.
    """
    if preparation.least is None:
        return errors
    scored = preparation.scored
    newest = [batch[:, -1, :scored].astype(np.float64) for batch in batches(windows)]
    scaled = np.concatenate([np.empty((0, scored)), *newest])
    ignored = preparation.find_ignored(scaled, outcome.expected)
    return np.where(np.tile(ignored, errors.shape[1] // scored), 0.0, errors)


def apply_model(model: Model, windows: Windows) -> Outcome:
    """The model's outcome for all windows, a batch at a time."""
    outcomes = [model.apply(batch) for batch in batches(windows)]
    if not outcomes:
        outcomes = [model.apply(windows.take(np.empty(0, np.int64)))]
    return _join_outcomes(outcomes)


def _join_outcomes(outcomes: Sequence[Outcome]) -> Outcome:
    if len(outcomes) == 1:
        return outcomes[0]
    return Outcome(
        np.concatenate([outcome.errors for outcome in outcomes]),
        np.concatenate([outcome.expected for outcome in outcomes]),
        np.concatenate([outcome.window_errors for outcome in outcomes]),
    )
