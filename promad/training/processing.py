"""Processing: short gaps filled, long ones cut out, and everything scaled by the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.config.deviation_rule import DeviationRule
from promad.config.durations import format_instant
from promad.config.mute_settings import Mute
from promad.config.settings import Exclusion, PreprocessingSettings
from promad.data.filling import Filled, fill
from promad.data.frame import MetricFrame
from promad.data.gaps import find_long_gaps
from promad.data.possible_range import find_possible
from promad.data.preparation import Preparation, usable_parts
from promad.data.scaling import fit_scaler
from promad.data.sentinels import Sentinels, count_too_large, find_sentinels
from promad.data.valid_range import Range, count_outside, drop_outside
from promad.errors import DataError

Values = NDArray[np.float64]


@dataclass(frozen=True)
class ProcessingOptions:
    """What processed data depends on, beside the collected values.

    Attributes:
        queries: the PromQL of each feature, in the order of the columns.
        scored: how many of the features, from the first, are scored; the rest are conditions.
        step: seconds between samples.
        settings: how to fill and to scale.
        exclude: which samples training must not see.
        train_split_ratio: the share of the complete rows that is the training part.
        length: samples per window.
        valid_ranges: the limits of each feature's valid values; empty if there are none.
        rules: which deviations of each scored feature count; empty if all do. Processed data does
            not depend on them, what is trained on it does.
        mute: when anomalies are expected, which training must not see either.
    """

    queries: Mapping[str, str]
    scored: int
    step: float
    settings: PreprocessingSettings
    exclude: tuple[Exclusion, ...]
    train_split_ratio: float
    length: int
    valid_ranges: tuple[Range, ...] = ()
    rules: tuple[DeviationRule, ...] = ()
    mute: tuple[Mute, ...] = ()

    @staticmethod
    def of(config: Config) -> ProcessingOptions:
        """The options in a configuration."""
        return ProcessingOptions(
            queries=config.promql,
            scored=config.scored,
            step=config.data_settings.step,
            settings=config.preprocessing_settings,
            exclude=config.data_settings.exclude,
            train_split_ratio=config.training_settings.train_split_ratio,
            length=config.training_settings.sequence_length,
            valid_ranges=config.valid_ranges,
            rules=config.rules,
            mute=config.mute,
        )

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.queries)


@dataclass(frozen=True)
class FeatureReport:
    """What became of one feature's missing values, in samples.

    Attributes:
        outside: how many were outside of the valid range; they are among the missing.
        sentinels: what looks like a sentinel and is not missing, in training and validation part.
        blind: whether such values are in the training part, so that the scale hides all others.
    """

    missing: int
    filled: int
    in_long_gaps: int
    constant: bool
    outside: int = 0
    sentinels: Sentinels | None = None
    blind: bool = False

    def join(self, other: FeatureReport) -> FeatureReport:
        """What became of the feature in two groups."""
        return FeatureReport(
            self.missing + other.missing,
            self.filled + other.filled,
            self.in_long_gaps + other.in_long_gaps,
            self.constant and other.constant,
            self.outside + other.outside,
            self.sentinels or other.sentinels,
            self.blind or other.blind,
        )


@dataclass(frozen=True)
class Processed:
    """Scaled data, and what made it.

    Attributes:
        scaled: one frame per collected one; a row in which a value is missing is NaN throughout.
        parts: the stretches without a missing value; no window spans two of them.
        preparation: fitted on the training part.
        estimator: the same scaling as a scikit-learn object.
        training_ends_at: unix seconds of the last sample of the training part.
        features: by name, what became of its missing values.
    """

    scaled: tuple[MetricFrame, ...]
    parts: tuple[MetricFrame, ...]
    preparation: Preparation
    estimator: Any
    training_ends_at: float
    features: Mapping[str, FeatureReport]

    @property
    def training_rows(self) -> int:
        """How many complete rows belong to the training part."""
        ends = self.training_ends_at
        return sum(int((part.times <= ends + part.step / 2).sum()) for part in self.parts)


def process(
    collected: Sequence[MetricFrame],
    options: ProcessingOptions,
    training_ends_at: float | None = None,
) -> Processed:
    """Fill and scale collected frames of one group, from which excluded samples have been cut.

    Args:
        training_ends_at: unix seconds of the last sample of the training part, if others decide
            that.

    Raises:
        DataError: if there is too little data, or a feature has no value or too large ones.
    """
    ranges = options.valid_ranges
    frames = [frame.with_values(drop_outside(frame.values, ranges)) for frame in collected]
    _require_values(frames, options)
    _require_computable(frames)
    if training_ends_at is None:
        training_ends_at = _find_end_of_training(frames, options)
    preparation, estimator = _fit_preparation(frames, training_ends_at, options)
    scaled = tuple(preparation.scale(frame) for frame in frames)
    parts = tuple(part for frame in scaled for part in usable_parts(frame))
    _require_two_windows(parts, options.length)
    features = _report_features(frames, collected, preparation, training_ends_at)
    return Processed(scaled, parts, preparation, estimator, training_ends_at, features)


def _require_values(frames: Sequence[MetricFrame], options: ProcessingOptions) -> None:
    if not frames:
        what = "excludes every sample — narrow it"
        if options.mute:
            what = "and mute exclude every sample — narrow them"
        raise DataError(f"data_settings.exclude {what}, or collect a longer period")
    for column, feature in enumerate(frames[0].features):
        if all(np.isnan(frame.values[0, :, column]).all() for frame in frames):
            raise DataError(
                f"{feature} has no value at all — check its query and valid_range, or remove it"
            )


def _require_computable(frames: Sequence[MetricFrame]) -> None:
    for column, feature in enumerate(frames[0].features):
        values = np.concatenate([frame.values[0, :, column] for frame in frames])
        if found := count_too_large(values):
            raise DataError(
                f"{feature} has values that are too large to compute with ({found} of "
                f"{len(values)} samples, up to {np.nanmax(np.abs(values)):.3g}) — set valid_range "
                f"in queries.{feature}"
            )


def _find_end_of_training(frames: Sequence[MetricFrame], options: ProcessingOptions) -> float:
    """The last time that training may see: `train_split_ratio` of the complete rows are before."""
    times = find_usable_times(frames, options)
    if len(times) == 0:
        raise DataError(
            "no sample has a value for every query — check which queries overlap in time, "
            "or raise max_fill_steps"
        )
    last = max(1, int(len(times) * options.train_split_ratio))
    return float(times[last - 1])


def find_usable_times(frames: Sequence[MetricFrame], options: ProcessingOptions) -> Values:
    """The times at which no value is missing once gaps are filled: unix seconds, (samples,)."""
    nothing = np.zeros(len(options.features))
    usable = (
        frame.times[_fill(frame.values[0], options.settings, nothing).usable] for frame in frames
    )
    return np.concatenate([np.empty(0), *usable])


def _fill(values: Values, settings: PreprocessingSettings, substitutes: Values) -> Filled:
    return fill(values, settings.nan_fill_strategy, settings.max_fill_steps, substitutes)


def _fit_preparation(
    frames: Sequence[MetricFrame], training_ends_at: float, options: ProcessingOptions
) -> tuple[Preparation, Any]:
    """Learn from the training part what filling and scaling need."""
    settings = options.settings
    training = [
        np.asarray(frame.values[0][frame.times <= training_ends_at + frame.step / 2], np.float64)
        for frame in frames
        if frame.start <= training_ends_at
    ]
    if not training:
        raise DataError(
            f"no sample in the training part, which ends at {format_instant(training_ends_at)} "
            "— collect a longer period"
        )
    _require_training_values(np.concatenate(training), training_ends_at, options.features)
    substitutes = _substitutes(training, settings.nan_fill_strategy)
    filled = [_fill(values, settings, substitutes) for values in training]
    rows = np.concatenate([part.values[part.usable] for part in filled])
    scaler, estimator = fit_scaler(settings.scaler_type, rows, options.features)
    preparation = Preparation(
        features=options.features,
        scored=options.scored,
        step=frames[0].step,
        fill_strategy=settings.nan_fill_strategy,
        max_fill_steps=settings.max_fill_steps,
        substitutes=substitutes,
        scaler=scaler,
        time_features=settings.time_features,
        time_zone=settings.time_zone,
        valid_ranges=options.valid_ranges,
        possible=find_possible(
            np.array([rows.min(axis=0), rows.max(axis=0)]), options.valid_ranges
        ),
    )
    return preparation, estimator


def _require_training_values(
    values: Values, training_ends_at: float, features: Sequence[str]
) -> None:
    for column, feature in enumerate(features):
        if np.isnan(values[:, column]).all():
            raise DataError(
                f"{feature} has no value in the training part, which ends at "
                f"{format_instant(training_ends_at)} — raise train_split_ratio, "
                "or collect a longer period"
            )


def _substitutes(training: Sequence[Values], strategy: str) -> Values:
    """The mean or median of each feature in the training part: float64 (features,)."""
    values = np.concatenate(training)
    of_feature = np.nanmedian if strategy == "median" else np.nanmean
    return np.asarray(of_feature(values, axis=0), np.float64)


def _require_two_windows(parts: Sequence[MetricFrame], length: int) -> None:
    usable = sum(part.samples for part in parts)
    longest = max((part.samples for part in parts), default=0)
    if usable < 2 * length or longest < length:
        raise DataError(
            f"{usable} complete rows, at most {longest} of them consecutive, are fewer than two "
            f"windows of {length} — collect a longer period, raise max_fill_steps, "
            "or lower sequence_length"
        )


def _report_features(
    frames: Sequence[MetricFrame],
    collected: Sequence[MetricFrame],
    preparation: Preparation,
    training_ends_at: float,
) -> dict[str, FeatureReport]:
    """What became of each feature's values; `collected` are the frames as they were."""
    missing = [np.isnan(frame.values[0]) for frame in frames]
    counts = np.sum([mask.sum(axis=0) for mask in missing], axis=0)
    filled = np.sum([preparation.fill(frame).filled for frame in frames], axis=0)
    long = [find_long_gaps(mask, preparation.max_fill_steps).sum(axis=0) for mask in missing]
    in_long = np.sum(long, axis=0)
    everything = np.concatenate([frame.values[0] for frame in frames])
    constant = np.nanmin(everything, axis=0) == np.nanmax(everything, axis=0)
    outside = np.sum(
        [count_outside(frame.values, preparation.valid_ranges) for frame in collected], axis=0
    )
    times = np.concatenate([frame.times for frame in frames])
    training = everything[times <= training_ends_at + preparation.step / 2]
    return {
        feature: FeatureReport(
            missing=int(counts[column]),
            filled=int(filled[column]),
            in_long_gaps=int(in_long[column]),
            constant=bool(constant[column]),
            outside=int(outside[column]),
            sentinels=find_sentinels(everything[:, column]),
            blind=find_sentinels(training[:, column]) is not None,
        )
        for column, feature in enumerate(preparation.features)
    }
