"""`filter`: split the windows of the processed data into normal and anomalous ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.artifacts import end_times_path, write_array, write_small_array
from promad.attribution import shares
from promad.bundle import BundleStore, check_fits, load_detector
from promad.config import Config
from promad.detector import errors_and_expected
from promad.errors import DataError
from promad.stages.preprocess import read_processed
from promad.windows import ChosenWindows, SampleWindows, batches

_WORST = 5


@dataclass(frozen=True)
class WorstWindow:
    """A window far above the threshold: its end, its error over threshold, and what made it."""

    end: float
    ratio: float
    top_features: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class FilterReport:
    """What `filter` did; `worst` lists anomalous windows that share no sample, worst first."""

    normal: int
    anomalous: int
    threshold: float
    normal_path: Path
    anomalous_path: Path
    errors_path: Path | None
    worst: tuple[WorstWindow, ...]


def filter_windows(config: Config) -> FilterReport:
    """Score every window with the current bundle and write both sides, with their end times.

    Raises:
        DataError: if the processed data is missing or was prepared otherwise than the bundle's.
        BundleError: if there is no bundle, or it does not fit the configuration.
    """
    frames, preparation, _ = read_processed(config)
    bundle = BundleStore.of(config).open_current()
    check_fits(bundle, config)
    given = config.real_time_anomaly_detection.anomaly_threshold_mse
    detector = load_detector(bundle, None if given == "auto" else given)
    if detector.preparation.to_json() != preparation.to_json():
        raise DataError(
            f"the processed data was prepared otherwise than bundle {bundle.id} was trained on "
            "— run promad train again"
        )
    windows = preparation.windows(frames, detector.length)
    errors, _ = errors_and_expected(detector.model, windows, len(preparation.features))
    scores = errors.mean(axis=1)
    anomalous = scores > detector.threshold.limit(scores)
    return _write(config, windows, errors, anomalous, detector.threshold.value)


def _write(
    config: Config,
    windows: SampleWindows,
    errors: NDArray[np.float64],
    anomalous: NDArray[np.bool_],
    threshold: float,
) -> FilterReport:
    names, directory = config.data_filtering_settings, config.artifacts_dir
    normal_path = directory / names.normal_sequences_output_filename
    anomalous_path = directory / names.anomalous_sequences_output_filename
    _write_windows(normal_path, windows, np.flatnonzero(~anomalous))
    _write_windows(anomalous_path, windows, np.flatnonzero(anomalous))
    errors_path = None
    if names.all_sequence_errors_output_filename is not None:
        errors_path = directory / names.all_sequence_errors_output_filename
        write_small_array(errors_path, errors.mean(axis=1))
        _write_end_times(errors_path, windows.times)
    return FilterReport(
        normal=int((~anomalous).sum()),
        anomalous=int(anomalous.sum()),
        threshold=threshold,
        normal_path=normal_path,
        anomalous_path=anomalous_path,
        errors_path=errors_path,
        worst=tuple(_worst(config.features, windows, errors, anomalous, threshold)),
    )


def _write_windows(path: Path, windows: SampleWindows, chosen: NDArray[np.int64]) -> None:
    selected = ChosenWindows(windows, chosen)
    shape = (len(selected), windows.length, windows.width)
    write_array(path, shape, batches(selected))
    _write_end_times(path, selected.times)


def _write_end_times(path: Path, times: NDArray[np.float64]) -> None:
    write_small_array(end_times_path(path), np.round(times * 1000).astype("datetime64[ms]"))


def _worst(
    features: tuple[str, ...],
    windows: SampleWindows,
    errors: NDArray[np.float64],
    anomalous: NDArray[np.bool_],
    threshold: float,
) -> Iterator[WorstWindow]:
    scores = np.where(anomalous, errors.mean(axis=1), -np.inf)
    for _ in range(_WORST):
        worst = int(np.argmax(scores)) if len(scores) else 0
        if len(scores) == 0 or scores[worst] == -np.inf:
            return
        share = shares(errors[worst])
        top = tuple((features[i], float(share[i])) for i in np.argsort(-share)[:3])
        yield WorstWindow(float(windows.times[worst]), float(scores[worst]) / threshold, top)
        near = np.abs(windows.starts - windows.starts[worst]) < windows.length
        scores = np.where(near, -np.inf, scores)
