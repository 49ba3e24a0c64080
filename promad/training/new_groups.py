"""How groups that come after training are calibrated, found by scoring trained groups as new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.frame import MetricFrame
from promad.data.preparation import Preparation
from promad.data.scaling import Scaler
from promad.data.windows import Windows
from promad.models import Model
from promad.scoring.calibration import Calibration
from promad.scoring.peers import Caution, find_farthest, find_levels, find_peers
from promad.scoring.scoring import Scoring
from promad.thresholds.fleet import find_usual
from promad.training.fleet_material import FleetMaterial, map_groups
from promad.training.group_fitting import FEWEST_WINDOWS, pool_scorings
from promad.training.group_scoring import (
    GroupErrors,
    find_errors,
    fit_group_scoring,
    keep_newest,
    spread,
)

Values = NDArray[np.float64]

_GROUPS = 40
"""Groups that are scored as if they were new, evenly over the fleet."""
_QUIET_GROUPS = 0.95
"""The share of groups whose scores, were they new, would be like those of others."""


_LARGEST = 1e9
_HEADROOM = 1.4
"""The scores of new groups are higher than those of groups that the model has been fitted to."""


def fit_pooled(
    model: Model, material: FleetMaterial, settings: TrainingSettings
) -> tuple[Scoring, float] | None:
    """The scoring and the unit of scores of a group that resembles no trained one.

    Some groups are scored as if they were new, scaled like the whole fleet. The unit is that of one
    of which few have higher scores: how a new group differs from the others is no anomaly. None if
    no group has enough windows.
    """

    def apply(group: int) -> GroupErrors | None:
        windows = keep_newest(material.read_as_new(group), material)
        if len(windows) < FEWEST_WINDOWS:
            return None
        return find_errors(model, windows, material.fleet.preparation, settings)

    chosen = map_groups(apply, spread(len(material.fleet.groups), _GROUPS))
    found = [each for each in chosen if each is not None]
    if not found:
        return None
    pooled = pool_scorings(
        [fit_group_scoring(each.errors, each.at, material, settings) for each in found]
    )
    usual = [find_usual(pooled.score(pooled.smooth(each.counted, each.at))) for each in found]
    return pooled, _find_quiet(usual)


def measure_caution(
    model: Model,
    material: FleetMaterial,
    settings: TrainingSettings,
    rows: NDArray[np.int64],
    calibration: Calibration,
    pooled: Scoring,
) -> Caution:
    """How much higher the scores of groups are that are calibrated by their peers.

    Some trained groups are scored by the peers that they would have without their own row: those
    by one window, and those by a long time.

    Args:
        rows: the groups' places in the fleet, int64 (groups,).
        calibration: of the groups.
        pooled: the scoring, whose numbers those of the peers replace.
    """

    def score(place: int) -> list[float]:
        """By a window's peers and by those of a long time; NaN where there are none."""
        others = calibration.take(np.delete(np.arange(len(rows)), place))
        frames = _restore(material, int(rows[place]))
        levels = np.stack([_find_level(frames, material.length, place), calibration.center[place]])
        farthest = find_farthest(others.center, others.scale)
        found = [float("nan"), float("nan")]
        for kind, peers in enumerate(find_peers(levels, others.center, others.scale, farthest)):
            if peers[0] >= 0:
                medians = others.take_medians(peers[np.newaxis])
                windows = _scale(frames, medians, material)
                own = _prepare(medians, material)
                errors = find_errors(model, windows, own, settings)
                found[kind] = _find_usual(errors, medians, pooled)
        return found

    chosen = spread(len(rows), _GROUPS) if len(rows) > 1 else []
    usual = np.array(map_groups(score, chosen)).reshape(-1, 2)
    if np.isnan(usual).all(axis=0).any():
        return Caution(2 * _HEADROOM, _HEADROOM)
    after_a_day = _HEADROOM * max(1.0, _find_quiet(usual[:, 1]))
    return Caution(max(after_a_day, _HEADROOM * _find_quiet(usual[:, 0])), after_a_day)


def _find_quiet(usual: Sequence[float] | Values) -> float:
    """The unit in which the scores of most groups are usual; finite, whatever the scores."""
    return min(float(np.nanquantile(usual, _QUIET_GROUPS, method="higher")), _LARGEST)


def _restore(material: FleetMaterial, group: int) -> list[MetricFrame]:
    """A group's frames in the features' own units."""
    fleet = material.fleet
    return [
        frame.with_values(frame.values * fleet.scale[group] + fleet.center[group])
        for frame in fleet.read(group)
    ]


def _find_level(frames: list[MetricFrame], length: int, turn: int) -> Values:
    """The level of one window, another one for each turn: (features,)."""
    frame = max(frames, key=lambda each: each.samples)
    places = max(1, frame.samples - length)
    first = int((turn * 0.6180339887 % 1.0) * places)
    levels: Values = find_levels(frame.values[:, first : first + length])[0]
    return levels


def _scale(frames: list[MetricFrame], peers: Calibration, material: FleetMaterial) -> Windows:
    """The windows of a group that is scaled like its peers."""
    center, scale = peers.center[0], peers.scale[0]
    scaled = [frame.with_values((frame.values - center) / scale) for frame in frames]
    return keep_newest(material.fleet.preparation.windows(scaled, material.length), material)


def _prepare(peers: Calibration, material: FleetMaterial) -> Preparation:
    """What makes values of a group that is scaled like its peers."""
    pooled = material.fleet.preparation
    scaler = Scaler(pooled.scaler.kind, peers.center[0], peers.scale[0])
    return replace(pooled, scaler=scaler, possible=peers.possible[0])


def _find_usual(errors: GroupErrors, peers: Calibration, pooled: Scoring) -> float:
    """The 98 % quantile of a group's scores by the calibration of its peers, in their unit."""
    scoring = replace(pooled, normaliser=peers.normaliser[0], baseline=peers.baseline[0])
    smoothed = scoring.smooth(errors.counted, errors.at)
    return find_usual(scoring.score(smoothed)) / float(peers.unit[0])
