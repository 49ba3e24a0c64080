"""`filter`: split the windows of the processed data into normal and anomalous ones.

By the threshold, to look at; or, to train again, into what trimming keeps and what it drops.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.bundle import open_detector
from promad.config import Config
from promad.data.artifacts import end_times_path, write_array, write_small_array
from promad.data.windows import ChosenWindows, SampleWindows, batches, sample_numbers
from promad.errors import DataError
from promad.scoring.attribution import shares, shares_of_excess
from promad.scoring.detector import apply_model, select_errors
from promad.stages.preprocess import read_processed
from promad.thresholds import Threshold
from promad.training.trimming import NOT_TRIMMED, Trimmed, trim

_WORST = 5


@dataclass(frozen=True)
class WorstWindow:
    """A window far above the threshold: its end, its score over threshold, and what made it."""

    end: float
    ratio: float
    top_features: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TrimmedStretch:
    """Windows that stand out: the first one's and the last one's end, how many, and why.

    `ratio` is the highest score over the threshold; the features have their mean contributions.
    """

    first: float
    last: float
    windows: int
    ratio: float
    top_features: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TrimReport:
    """What trimming dropped of the training part, and what it kept because it recurs."""

    dropped: tuple[TrimmedStretch, ...]
    recurring: tuple[TrimmedStretch, ...]


@dataclass(frozen=True)
class FilterReport:
    """What `filter` did; `worst` lists anomalous windows that share no sample, worst first.

    With `trimmed`, what counts as anomalous is what was dropped.
    """

    normal: int
    anomalous: int
    threshold: float
    normal_path: Path
    anomalous_path: Path
    errors_path: Path | None
    worst: tuple[WorstWindow, ...]
    trimmed: TrimReport | None = None


def filter_windows(config: Config, *, trimming: bool = False) -> FilterReport:
    """Score every window with the current bundle and write both sides, with their end times.

    Args:
        trimming: drop the worst of the training part alone, at most `trim_share` of it, in place
            of everything above the threshold. Of a linear model nothing is dropped, as it does
            not gain by it.

    Raises:
        DataError: if the processed data is missing or was prepared otherwise than the bundle's.
        BundleError: if there is no bundle, or it does not fit the configuration.
    """
    frames, preparation, metadata = read_processed(config)
    opened = open_detector(config)
    bundle, detector = opened.bundle, opened.detector
    if detector.preparation.to_json() != preparation.to_json():
        raise DataError(
            f"the processed data was prepared otherwise than bundle {bundle.id} was trained on "
            "— run promad train again"
        )
    windows = preparation.windows(frames, detector.length)
    outcome = apply_model(detector.model, windows)
    smoothed = detector.scoring.smooth(
        select_errors(outcome, detector.scoring.method),
        sample_numbers(windows.times, preparation.step),
    )
    scores, errors = detector.scoring.score(smoothed), detector.scoring.by_feature(smoothed)
    contributions = shares_of_excess(errors, detector.scoring.baseline)
    scored = _Scored(windows, scores, errors, contributions, detector.threshold)
    if not trimming:
        return _write(config, scored, scored.anomalous)
    ends_at = float(metadata["training_ends_at"]) + preparation.step / 2
    trimmed = _trimmed(config, scored, ends_at, preparation.step)
    dropped = np.zeros(len(windows), np.bool_)
    dropped[trimmed.rows] = True
    return _write(config, scored, dropped, trimmed)


@dataclass(frozen=True)
class _Scored:
    """All windows and their scores (windows,).

    What each feature adds, and its share of what is above its baseline, is (windows, features).
    """

    windows: SampleWindows
    scores: NDArray[np.float64]
    errors: NDArray[np.float64]
    contributions: NDArray[np.float64]
    threshold: Threshold

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        return self.scores > self.threshold.limit(self.scores)


def _trimmed(config: Config, scored: _Scored, ends_at: float, step: float) -> Trimmed:
    """What trimming makes of the windows up to `ends_at`, unix seconds."""
    if config.training_settings.model in NOT_TRIMMED:
        return Trimmed((), ())
    count = int((scored.windows.times <= ends_at).sum())
    return trim(
        scored.scores[:count],
        scored.contributions[:count],
        scored.windows.times[:count],
        scored.threshold.value,
        config.data_filtering_settings.trim_share,
        scored.windows.length * step,
    )


def _write(
    config: Config,
    scored: _Scored,
    anomalous: NDArray[np.bool_],
    trimmed: Trimmed | None = None,
) -> FilterReport:
    windows = scored.windows
    names, directory = config.data_filtering_settings, config.artifacts_dir
    normal_path = directory / names.normal_sequences_output_filename
    anomalous_path = directory / names.anomalous_sequences_output_filename
    _write_windows(normal_path, windows, np.flatnonzero(~anomalous))
    _write_windows(anomalous_path, windows, np.flatnonzero(anomalous))
    errors_path = None
    if names.all_sequence_errors_output_filename is not None:
        errors_path = directory / names.all_sequence_errors_output_filename
        write_small_array(errors_path, scored.scores)
        _write_end_times(errors_path, windows.times)
    return FilterReport(
        normal=int((~anomalous).sum()),
        anomalous=int(anomalous.sum()),
        threshold=scored.threshold.value,
        normal_path=normal_path,
        anomalous_path=anomalous_path,
        errors_path=errors_path,
        worst=tuple(_worst(config.features, scored)),
        trimmed=None if trimmed is None else _report(config.features, scored, trimmed),
    )


def _report(features: tuple[str, ...], scored: _Scored, trimmed: Trimmed) -> TrimReport:
    def stretch(rows: NDArray[np.int64]) -> TrimmedStretch:
        times, highest = scored.windows.times[rows], float(scored.scores[rows].max())
        return TrimmedStretch(
            float(times[0]),
            float(times[-1]),
            len(rows),
            highest / scored.threshold.value,
            _top(features, scored.contributions[rows].mean(axis=0)),
        )

    dropped, recurring = (map(stretch, each) for each in (trimmed.dropped, trimmed.recurring))
    return TrimReport(tuple(dropped), tuple(recurring))


def _top(features: tuple[str, ...], share: NDArray[np.float64]) -> tuple[tuple[str, float], ...]:
    """The three features with the largest shares."""
    return tuple((features[i], float(share[i])) for i in np.argsort(-share)[:3])


def _write_windows(path: Path, windows: SampleWindows, chosen: NDArray[np.int64]) -> None:
    selected = ChosenWindows(windows, chosen)
    shape = (len(selected), windows.length, windows.width)
    write_array(path, shape, batches(selected))
    _write_end_times(path, selected.times)


def _write_end_times(path: Path, times: NDArray[np.float64]) -> None:
    write_small_array(end_times_path(path), np.round(times * 1000).astype("datetime64[ms]"))


def _worst(features: tuple[str, ...], scored: _Scored) -> Iterator[WorstWindow]:
    windows = scored.windows
    scores = np.where(scored.anomalous, scored.scores, -np.inf)
    for _ in range(_WORST):
        worst = int(np.argmax(scores)) if len(scores) else 0
        if len(scores) == 0 or scores[worst] == -np.inf:
            return
        top = _top(features, shares(scored.errors[worst]))
        yield WorstWindow(
            float(windows.times[worst]), float(scores[worst]) / scored.threshold.value, top
        )
        near = np.abs(windows.starts - windows.starts[worst]) < windows.length
        scores = np.where(near, -np.inf, scores)
