"""How groups that come after training are calibrated, found by scoring trained groups as new."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.frame import MetricFrame
from promad.data.windows import Windows
from promad.models import Model
from promad.scoring.calibration import Calibration
from promad.scoring.peers import NO_CAUTION, Caution, find_farthest, find_levels, find_peers
from promad.scoring.scoring import Scoring
from promad.thresholds.fleet import find_usual
from promad.training.fleet_material import FleetMaterial
from promad.training.group_fitting import FEWEST_WINDOWS, pool_scorings
from promad.training.group_scoring import find_errors, fit_group_scoring, keep_newest, spread

Values = NDArray[np.float64]

_GROUPS = 40
"""Groups that are scored as if they were new, evenly over the fleet."""
_QUIET_GROUPS = 0.95
"""The share of groups whose scores, were they new, would be like those of others."""


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
    found = []
    for group in spread(len(material.fleet.groups), _GROUPS):
        windows = keep_newest(material.read_as_new(group), material)
        if len(windows) < FEWEST_WINDOWS:
            continue
        found.append(find_errors(model, windows, material, settings))
    if not found:
        return None
    pooled = pool_scorings([fit_group_scoring(*each, material, settings) for each in found])
    usual = [find_usual(pooled.score(pooled.smooth(*each))) for each in found]
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
    first: list[float] = []
    later: list[float] = []
    for place in spread(len(rows), _GROUPS) if len(rows) > 1 else []:
        others = calibration.take(np.delete(np.arange(len(rows)), place))
        frames = _restore(material, int(rows[place]))
        levels = np.stack([_find_level(frames, material.length, place), calibration.center[place]])
        farthest = find_farthest(others.center, others.scale)
        for found, peers in zip(
            (first, later),
            find_peers(levels, others.center, others.scale, farthest),
            strict=True,
        ):
            if peers[0] >= 0:
                medians = others.take_medians(peers[np.newaxis])
                windows = _scale(frames, medians, material)
                errors, at = find_errors(model, windows, material, settings)
                found.append(_find_usual(errors, at, medians, pooled))
    if not later or not first:
        return NO_CAUTION
    after_a_day = _HEADROOM * max(1.0, _find_quiet(later))
    return Caution(max(after_a_day, _HEADROOM * _find_quiet(first)), after_a_day)


def _find_quiet(usual: list[float]) -> float:
    return float(np.nanquantile(usual, _QUIET_GROUPS, method="higher"))


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


def _find_usual(
    errors: Values, at: NDArray[np.int64], peers: Calibration, pooled: Scoring
) -> float:
    """The 98 % quantile of a group's scores by the calibration of its peers, in their unit."""
    scoring = replace(pooled, normaliser=peers.normaliser[0], baseline=peers.baseline[0])
    return find_usual(scoring.score(scoring.smooth(errors, at))) / float(peers.unit[0])
