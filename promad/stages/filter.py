"""`promad filter`: split the windows of the processed data into normal and anomalous ones.

Either by the threshold, to look at them; or, to train again, into those that trimming keeps and
those that it drops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.bundle import open_detector
from promad.config import Config
from promad.data.artifacts import end_times_path, write_array, write_small_array
from promad.data.windows import ChosenWindows, Windows, batches
from promad.errors import DataError
from promad.training.filtering import (
    TrimmedStretch,
    TrimReport,
    WorstWindow,
    list_worst,
    report_trimmed,
    score_windows,
    trim_training_part,
)
from promad.training.processed_file import locate_processed, read_processed
from promad.training.processing import ProcessingOptions
from promad.training.trimming import NOT_TRIMMED, NOTHING_TRIMMED

__all__ = ["FilterReport", "TrimReport", "TrimmedStretch", "WorstWindow", "filter_windows"]


@dataclass(frozen=True)
class FilterReport:
    """What `filter` did; `worst` lists anomalous windows that share no sample, worst first.

    With `trimmed`, the anomalous windows are those that were dropped. `method` is that of the
    threshold.

    Attributes:
        dropped: unix seconds of the last sample of each window that trimming dropped.
        not_trimmed: the model, if it is one that is not trimmed.
    """

    normal: int
    anomalous: int
    threshold: float
    normal_path: Path
    anomalous_path: Path
    errors_path: Path | None
    worst: tuple[WorstWindow, ...]
    trimmed: TrimReport | None = None
    method: str = ""
    dropped: tuple[float, ...] = ()
    not_trimmed: str = ""


def filter_windows(
    config: Config, *, trimming: bool = False, dropped_before: Sequence[float] = ()
) -> FilterReport:
    """Score every window with the current bundle and write both sides, with their end times.

    Args:
        trimming: drop the worst windows of the training part (at most `trim_share` of it) in place
            of everything above the threshold. A linear model gains nothing by it, so none are
            dropped.
        dropped_before: what an earlier round of trimming dropped; it stays dropped.

    Raises:
        DataError: if the processed data is missing or was not prepared as the bundle's was.
        BundleError: if there is no bundle, or it does not fit the configuration.
    """
    names, folder = config.data_filtering_settings, config.artifacts_dir
    source = read_processed(locate_processed(config), ProcessingOptions.of(config))
    opened = open_detector(config)
    detector = opened.detector
    if detector.preparation.to_json() != source.preparation.to_json():
        raise DataError(
            f"the processed data was not prepared as that of bundle {opened.bundle.id} "
            "— run promad train again"
        )
    scored = score_windows(detector, source.build_windows(detector.length))
    windows, anomalous, trimmed = scored.windows, scored.anomalous, None
    model = config.training_settings.model
    if trimming:
        trimmed = NOTHING_TRIMMED
        if model not in NOT_TRIMMED:
            before = np.array(dropped_before, np.float64)
            ends = source.training_ends_at
            trimmed = trim_training_part(scored, ends, names.trim_share, before)
        anomalous = np.isin(np.arange(len(windows)), trimmed.rows)
    normal_path = folder / names.normal_sequences_output_filename
    anomalous_path = folder / names.anomalous_sequences_output_filename
    errors_name = names.all_sequence_errors_output_filename
    errors_path = None if errors_name is None else folder / errors_name
    _write_windows(normal_path, windows, ~anomalous)
    _write_windows(anomalous_path, windows, anomalous)
    if errors_path is not None:
        write_small_array(errors_path, scored.scores)
        _write_end_times(errors_path, windows.times)
    return FilterReport(
        normal=int((~anomalous).sum()),
        anomalous=int(anomalous.sum()),
        threshold=scored.threshold.value,
        method=scored.threshold.method,
        normal_path=normal_path,
        anomalous_path=anomalous_path,
        errors_path=errors_path,
        worst=tuple(list_worst(scored)),
        trimmed=None if trimmed is None else report_trimmed(scored, trimmed),
        dropped=() if trimmed is None else tuple(windows.times[trimmed.rows].tolist()),
        not_trimmed=model if trimming and model in NOT_TRIMMED else "",
    )


def _write_windows(path: Path, windows: Windows, chosen: NDArray[np.bool_]) -> None:
    selected = ChosenWindows(windows, np.flatnonzero(chosen))
    shape = (len(selected), windows.length, windows.width)
    write_array(path, shape, batches(selected))
    _write_end_times(path, selected.times)


def _write_end_times(path: Path, times: NDArray[np.float64]) -> None:
    write_small_array(end_times_path(path), np.round(times * 1000).astype("datetime64[ms]"))
