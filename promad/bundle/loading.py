"""The detector in a bundle: whether it is the one that a configuration means, and its parts.

Numbers that are not finite or do not fit together are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from promad.bundle.manifest import (
    CALIBRATION_FILE,
    GROUPS_FILE,
    LARGEST_JSON,
    PREPARATION_FILE,
    SCORING_FILE,
    THRESHOLD_FILE,
    Bundle,
    Manifest,
)
from promad.bundle.store import BundleStore
from promad.config import Config
from promad.config.deviation_rule import EVERYTHING_COUNTS, DeviationRule
from promad.config.model_defaults import FORMER_DEFAULTS, PRESETS
from promad.data.deviations import read_rules
from promad.data.preparation import Preparation
from promad.data.valid_range import format_ranges, read_ranges
from promad.errors import BundleError
from promad.files import DAMAGED, explain_damage, read_plain
from promad.models import load_model
from promad.models.linear_groups import GROUPS_FILE as GROUPS_FILE_OF_LINEAR
from promad.models.linear_groups import load_groups
from promad.models.linear_parts import Linear
from promad.models.loading import LARGEST_FILE, read_arrays
from promad.scoring.calibration import POSSIBLE, CalibrationTable
from promad.scoring.detector import Detector
from promad.scoring.scoring import Scoring
from promad.thresholds import THRESHOLDS, Threshold, ThresholdSettings


def check_fits(bundle: Bundle, config: Config) -> None:
    """Refuse a bundle that was trained for something else than the configuration asks for.

    Raises:
        BundleError: naming what differs and both values.
    """
    manifest = bundle.manifest
    where = f"bundle {bundle.id} does not fit the configuration"
    trained, wanted = tuple(manifest.queries), config.features
    if trained != wanted:
        raise BundleError(
            f"{where}: the bundle has the features {', '.join(trained)}; the configuration has "
            f"{', '.join(wanted)} — train again, or roll back to a bundle that fits"
        )
    _insist_on_equal_promql(where, manifest.queries, config.promql)
    step = config.real_time_anomaly_detection.data_step_duration or config.data_settings.step
    trained_by, wanted_by = manifest.group_by, list(config.group_by)
    path = bundle.directory / PREPARATION_FILE
    with _refuse_damaged(path):
        prepared = _json(path)
        scored = int(prepared["scored"])
        ranges = read_ranges(prepared.get("valid_ranges", ()), len(trained))
        rules = read_rules(prepared.get("rules", ()), scored)
    for key, trained_as, asked_for in (
        ("group_by", ", ".join(trained_by) or "nothing", ", ".join(wanted_by) or "nothing"),
        ("model_scope", *_compare_scopes(manifest, config)),
        ("step", manifest.step_seconds, step),
        ("number of scored features", scored, config.scored),
        ("valid_range", *map(format_ranges, (ranges, config.valid_ranges))),
        ("sequence_length", manifest.sequence_length, config.training_settings.sequence_length),
        ("model", manifest.model, config.training_settings.model),
        ("preset", *_compare_presets(manifest, config)),
        ("scoring", manifest.scoring, config.training_settings.scoring.method),
    ):
        if trained_as != asked_for:
            raise BundleError(
                f"{where}: {key} is {trained_as} in the bundle, {asked_for} in the configuration "
                "— train again, or restore the configuration"
            )
    _insist_on_equal_rules(where, rules, config)


def _insist_on_equal_rules(where: str, trained: Sequence[DeviationRule], config: Config) -> None:
    nothing = (EVERYTHING_COUNTS,) * config.scored
    for alias, own, wanted in zip(
        config.features, trained or nothing, config.rules or nothing, strict=False
    ):
        for key, trained_with, asked_for in zip(own._fields, own, wanted, strict=True):
            if trained_with != asked_for:
                raise BundleError(
                    f"{where}: {alias} was trained with {key} {_show(trained_with)} and has now "
                    f"{_show(asked_for)} — train again, or restore the query"
                )


def _show(value: object) -> str:
    """A value of a rule as the configuration has it."""
    if isinstance(value, tuple):
        below, above = (f"{each:g}" for each in value)
        return below if below == above else f"[{below}, {above}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _compare_presets(manifest: Manifest, config: Config) -> tuple[str, str]:
    """The preset of a bundle, and the one that is asked for.

    Where the default is asked for, a bundle with the former default counts as having it.
    """
    own, wanted = manifest.preset, config.training_settings.preset
    is_former = own == FORMER_DEFAULTS.get(manifest.model)
    return own, own if is_former and wanted == PRESETS[manifest.model][0] else wanted


def _compare_scopes(manifest: Manifest, config: Config) -> tuple[str, str]:
    """The scope of the model in a bundle, and the one that is asked for."""
    own = "per_group" if GROUPS_FILE_OF_LINEAR in manifest.files else "pooled"
    return own, config.training_settings.model_scope if config.group_by else own


def _insist_on_equal_promql(
    where: str, trained: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    for alias in trained:
        if trained[alias] != wanted[alias]:
            raise BundleError(
                f"{where}: {alias} was trained on {trained[alias]} and is now {wanted[alias]} "
                "— train again, or restore the query"
            )


@dataclass(frozen=True)
class Opened:
    """A configuration's current bundle, and the detector in it."""

    config: Config
    bundle: Bundle
    detector: Detector


def open_detector(config: Config) -> Opened:
    """The detector that a configuration means: its current bundle, its threshold if it gives one.

    Raises:
        BundleError: if the bundle is missing, damaged or does not fit the configuration.
    """
    bundle = BundleStore.of(config).open_current()
    check_fits(bundle, config)
    given = config.real_time_anomaly_detection.anomaly_threshold_mse
    return Opened(config, bundle, load_detector(bundle, None if given == "auto" else given))


def load_detector(bundle: Bundle, threshold_value: float | None = None) -> Detector:
    """The detector in a bundle, from its code-free files.

    Args:
        threshold_value: a limit to use in place of the bundle's own.

    Raises:
        BundleError: if a file in it cannot be understood.
    """
    directory, manifest = bundle.directory, bundle.manifest
    with _refuse_damaged(directory):
        preparation = Preparation.from_json(_json(directory / PREPARATION_FILE))
        scoring = Scoring.from_json(_json(directory / SCORING_FILE))
        threshold = Threshold.from_json(_json(directory / THRESHOLD_FILE))
        _require_agreement(manifest, preparation, scoring)
        if threshold.method not in THRESHOLDS:
            raise ValueError(f"unknown threshold {threshold.method}")
        width = len(preparation.features) + preparation.calendar(np.zeros(1)).shape[1]
    if threshold_value is not None:
        given = ThresholdSettings(step=preparation.step, value=threshold_value)
        threshold = THRESHOLDS["fixed"](np.empty(0), given)
    shape = (manifest.sequence_length, width)
    members = None if scoring.method == "mse" else scoring.members
    model = load_model(manifest.model, directory, shape, preparation.scored, members)
    table = _load_table(bundle, preparation, scoring) if manifest.group_by else None
    if table is not None and GROUPS_FILE_OF_LINEAR in manifest.files and isinstance(model, Linear):
        model = load_groups(directory, model, len(table.groups))
    return Detector(preparation, model, scoring, threshold, manifest.sequence_length, table)


def _load_table(bundle: Bundle, preparation: Preparation, scoring: Scoring) -> CalibrationTable:
    """The calibration of each group.

    Raises:
        BundleError: if its files cannot be understood.
    """
    path = bundle.directory / CALIBRATION_FILE
    with _refuse_damaged(path):
        content = BytesIO(read_plain(path, LARGEST_FILE))
        arrays = read_arrays(content, CalibrationTable.NUMBERS, optional=[POSSIBLE])
        table = CalibrationTable.from_parts(_json(bundle.directory / GROUPS_FILE), arrays)
        widths = (len(preparation.features), len(scoring.normaliser), len(scoring.baseline))
        rows = table.rows
        found = tuple(each.shape[1] for each in (rows.center, rows.normaliser, rows.baseline))
        if found != widths or len(table.groups) != bundle.manifest.groups:
            raise ValueError("calibration is not of these features or groups")
        return table


def _require_agreement(manifest: Manifest, preparation: Preparation, scoring: Scoring) -> None:
    """Refuse parts that are each sound but not of one detector.

    Raises:
        ValueError: naming what differs.
    """
    for name, found, wanted in (
        ("features", preparation.features, tuple(manifest.queries)),
        ("step", preparation.step, manifest.step_seconds),
        ("scaler", preparation.scaler.kind, manifest.scaler),
        ("scoring", scoring.method, manifest.scoring),
        ("weights", scoring.weights is None, preparation.weights is None),
        ("normalisers", len(scoring.normaliser), scoring.members * preparation.scored),
        ("baselines", len(scoring.baseline), preparation.scored),
    ):
        if found != wanted:
            raise ValueError(f"{name}: {found}, expected {wanted}")


@contextmanager
def _refuse_damaged(path: Path) -> Iterator[None]:
    """Make a BundleError that names the path of any error that damaged content causes."""
    try:
        yield
    except DAMAGED as error:
        raise BundleError(
            f"{path}: invalid content ({explain_damage(error)}) — train again or roll back"
        ) from error


def _json(path: Path) -> Any:
    """The content of a JSON file of a bounded size, in which every number is finite.

    Raises:
        OSError, ValueError, RecursionError: if it is anything else.
    """
    content = read_plain(path, LARGEST_JSON)
    return json.loads(content, parse_constant=_read_finite, parse_float=_read_finite)


def _read_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
