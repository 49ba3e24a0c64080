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
from promad.data.groups import Labels, name_group
from promad.data.preparation import Preparation
from promad.data.windows import ChosenWindows, Windows, batches
from promad.errors import DataError
from promad.scoring.detector import Detector
from promad.training.filtered_groups import write_groups_of
from promad.training.filtering import (
    TrimmedStretch,
    TrimReport,
    WorstWindow,
    list_worst,
    report_trimmed,
    score_windows,
    trim_training_part,
)
from promad.training.fleet_filtering import (
    Selection,
    SortedFleet,
    Trimming,
    select_anomalous,
    select_normal,
    sort_windows,
)
from promad.training.processed_file import (
    ProcessedFleet,
    locate_processed,
    read_fleet,
    read_processed,
)
from promad.training.processing import ProcessingOptions
from promad.training.trimming import NOT_TRIMMED, NOTHING_TRIMMED

__all__ = [
    "FilterReport",
    "FleetFilterReport",
    "TrimReport",
    "TrimmedStretch",
    "WorstWindow",
    "filter_fleet",
    "filter_windows",
]


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
    detector = _open_detector_of(config, source.preparation)
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


@dataclass(frozen=True)
class FleetFilterReport:
    """What `filter` did for many groups; with trimming, the anomalous windows are those dropped.

    Attributes:
        normal, anomalous: windows of all groups.
        written: normal windows that were written; `max_training_windows` limits them.
        groups: how many groups there are, and `affected` of them have anomalous windows.
        worst: groups with the highest scores, each with its worst window and how many of its
            windows are anomalous.
        trimmed: whether the training part was trimmed.
        dropped_stretches, recurring: what trimming dropped and kept, with the names of the groups.
        dropped: group and unix seconds of the last sample of each window that trimming dropped.
        not_trimmed: the model, if it is one that is not trimmed.
    """

    normal: int
    written: int
    anomalous: int
    groups: int
    affected: int
    threshold: float
    normal_path: Path
    anomalous_path: Path
    errors_path: Path | None
    worst: tuple[tuple[str, WorstWindow, int], ...]
    method: str = ""
    trimmed: bool = False
    dropped_stretches: tuple[tuple[str, TrimmedStretch], ...] = ()
    recurring: tuple[tuple[str, TrimmedStretch], ...] = ()
    dropped: tuple[tuple[Labels, float], ...] = ()
    not_trimmed: str = ""


def filter_fleet(
    config: Config, *, trimming: bool = False, dropped_before: Sequence[tuple[Labels, float]] = ()
) -> FleetFilterReport:
    """Score every window of every group with the current bundle and write both sides.

    Beside each file are the end times of its windows, and the group that each is of. Trimming drops
    at most `trim_share` of each group's training windows.

    Raises:
        PromadError: as `filter_windows`.
    """
    names, settings = config.data_filtering_settings, config.training_settings
    source = read_fleet(locate_processed(config), ProcessingOptions.of(config))
    detector = _open_detector_of(config, source.preparation)
    skipped = settings.model in NOT_TRIMMED
    trim = Trimming(0.0 if skipped else names.trim_share, _group_times(dropped_before))
    found = sort_windows(detector, source, trim if trimming else None)
    anomalous = select_anomalous(found)
    normal = select_normal(found, settings.max_training_windows, settings.seed)
    paths = [
        config.artifacts_dir / name
        for name in (
            names.normal_sequences_output_filename,
            names.anomalous_sequences_output_filename,
        )
    ]
    for path, selection in zip(paths, (normal, anomalous), strict=True):
        _write_selection(path, selection, source, detector)
    errors_path = _write_fleet_errors(config, found, source.groups)
    total = sum(len(each.scores) for each in found.groups)

    def name(labels: Labels) -> str:
        return name_group(config.name, labels)

    return FleetFilterReport(
        normal=total - len(anomalous),
        written=len(normal),
        anomalous=len(anomalous),
        groups=len(found.groups),
        affected=sum(bool(each.anomalous.any()) for each in found.groups),
        threshold=detector.threshold.value,
        normal_path=paths[0],
        anomalous_path=paths[1],
        errors_path=errors_path,
        worst=tuple((name(labels), worst, n) for labels, worst, n in found.list_worst()),
        method=detector.threshold.method,
        trimmed=trimming,
        dropped_stretches=tuple((name(labels), each) for labels, each in found.dropped),
        recurring=tuple((name(labels), each) for labels, each in found.recurring),
        dropped=tuple(
            (source.groups[group], at)
            for group, at in zip(anomalous.of.tolist(), anomalous.times.tolist(), strict=True)
        )
        if trimming
        else (),
        not_trimmed=settings.model if trimming and skipped else "",
    )


def _group_times(
    dropped: Sequence[tuple[Labels, float]],
) -> dict[Labels, NDArray[np.float64]]:
    times: dict[Labels, list[float]] = {}
    for labels, at in dropped:
        times.setdefault(labels, []).append(at)
    return {labels: np.array(own) for labels, own in times.items()}


def _write_selection(
    path: Path, selection: Selection, source: ProcessedFleet, detector: Detector
) -> None:
    width = len(source.preparation.features) + source.preparation.calendar(np.zeros(1)).shape[1]
    shape = (len(selection), detector.length, width)
    write_array(path, shape, selection.read(source, detector.length))
    _write_end_times(path, selection.times)
    write_groups_of(path, selection.of, source.groups)


def _write_fleet_errors(
    config: Config, found: SortedFleet, groups: Sequence[Labels]
) -> Path | None:
    """Write the scores of all windows, if the configuration names a file."""
    name = config.data_filtering_settings.all_sequence_errors_output_filename
    if name is None:
        return None
    path = config.artifacts_dir / name
    write_small_array(path, np.concatenate([each.scores for each in found.groups]))
    _write_end_times(path, np.concatenate([each.times for each in found.groups]))
    of = [np.full(len(each.times), each.group) for each in found.groups]
    write_groups_of(path, np.concatenate(of), groups)
    return path


def _open_detector_of(config: Config, preparation: Preparation) -> Detector:
    """The detector of the current bundle.

    Raises:
        DataError: if the processed data was prepared otherwise.
    """
    opened = open_detector(config)
    if opened.detector.preparation.to_json() != preparation.to_json():
        raise DataError(
            f"the processed data was not prepared as that of bundle {opened.bundle.id} "
            "— run promad train again"
        )
    return opened.detector


def _write_windows(path: Path, windows: Windows, chosen: NDArray[np.bool_]) -> None:
    selected = ChosenWindows(windows, np.flatnonzero(chosen))
    shape = (len(selected), windows.length, windows.width)
    write_array(path, shape, batches(selected))
    _write_end_times(path, selected.times)


def _write_end_times(path: Path, times: NDArray[np.float64]) -> None:
    write_small_array(end_times_path(path), np.round(times * 1000).astype("datetime64[ms]"))
