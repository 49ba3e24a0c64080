"""Bundling: what training has made becomes a bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import promad
from promad.bundle import (
    CALIBRATION_FILE,
    FORMAT,
    GROUPS_FILE,
    HISTOGRAM_PLOT,
    HISTORY_PLOT,
    PREPARATION_FILE,
    SCORING_FILE,
    THRESHOLD_FILE,
    Bundle,
    BundleStore,
    Manifest,
    Range,
)
from promad.config import TrainingSettings
from promad.config.durations import format_instant
from promad.data.windows import Windows
from promad.models import TrainingHistory
from promad.training.fitting import Fitted
from promad.training.fleet_material import FleetMaterial
from promad.training.material import Material
from promad.training.plots import draw_histogram, draw_history

_LEVELS = (0.5, 0.9, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class Provenance:
    """What a bundle is for and what it was made from; the manifest holds it.

    Attributes:
        name: of the detector.
        created: unix seconds.
        queries: the PromQL of each feature.
        server: the URL of the server that the values come from.
        trained_on: which windows, in words.
        excluded: a line for each range of samples that was excluded.
        training: the settings of the model.
        group_by: the label names whose values make one group.
        settings: digests of the settings that the training depends on, by section.
    """

    name: str
    created: float
    queries: Mapping[str, str]
    server: str
    trained_on: str
    excluded: Sequence[str]
    training: TrainingSettings
    group_by: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NativeFiles:
    """What other programs open: the training library's model, and any scikit-learn scaler."""

    model_name: str
    scaler_name: str
    scaler: bytes | None


def write_bundle(
    store: BundleStore,
    material: Material | FleetMaterial,
    fitted: Fitted,
    provenance: Provenance,
    native: NativeFiles,
) -> Bundle:
    """Write a bundle, whole or not at all, and make it the current one.

    Raises:
        BundleError: if it cannot be written; nothing has changed then.
    """
    detector = fitted.detector
    with store.writing() as directory:
        fitted.trained.save(directory, native.model_name)
        if native.scaler is not None:
            (directory / native.scaler_name).write_bytes(native.scaler)
        _write_json(directory / PREPARATION_FILE, detector.preparation.to_json())
        _write_json(directory / SCORING_FILE, detector.scoring.to_json())
        _write_json(directory / THRESHOLD_FILE, detector.threshold.to_json())
        if detector.table is not None:
            _write_json(directory / GROUPS_FILE, detector.table.list_groups())
            with (directory / CALIBRATION_FILE).open("wb") as file:
                np.savez(file, allow_pickle=False, **detector.table.to_arrays())
        if find_spec("matplotlib") is not None:
            draw_history(fitted.trained.history, directory / HISTORY_PLOT)
            draw_histogram(fitted.scores, detector.threshold.value, directory / HISTOGRAM_PLOT)
        return store.keep(directory, _build_manifest(material, fitted, provenance))


def _write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _build_manifest(
    material: Material | FleetMaterial, fitted: Fitted, provenance: Provenance
) -> Manifest:
    detector, settings = fitted.detector, provenance.training
    return Manifest(
        format=FORMAT,
        created=datetime.fromtimestamp(provenance.created, UTC).isoformat(timespec="seconds"),
        name=provenance.name,
        model=settings.model,
        preset=settings.preset,
        trained_on=provenance.trained_on,
        server=provenance.server,
        queries=dict(provenance.queries),
        step_seconds=material.step,
        sequence_length=detector.length,
        scaler=detector.preparation.scaler.kind,
        scoring=detector.scoring.method,
        threshold=replace(detector.threshold, parameters={}).to_json(),
        training=_range(material.split.training, material.step),
        validation=_range(material.split.validation, material.step),
        seed=settings.seed,
        versions={
            "promad": promad.__version__,
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            **fitted.trained.versions,
        },
        figures=_figures(fitted.trained.history, fitted.scores),
        excluded=list(provenance.excluded),
        gate=fitted.gate.to_json(),
        group_by=list(provenance.group_by),
        groups=0 if detector.table is None else len(detector.table.groups),
        settings=dict(provenance.settings),
    )


def _range(windows: Windows, step: float) -> Range:
    first = windows.times[0] - step * (windows.length - 1)
    return Range(
        start=format_instant(first), end=format_instant(windows.times[-1]), windows=len(windows)
    )


def _figures(history: TrainingHistory, scores: NDArray[np.float64]) -> dict[str, Any]:
    """The figures of a training, as plain numbers."""
    return {
        "epochs": len(history.training_loss),
        "best_epoch": history.best_epoch,
        "training_loss": history.training_loss[history.best_epoch - 1],
        "validation_loss": history.validation_loss[history.best_epoch - 1],
        "validation_score_quantiles": {
            f"{level:g}": float(np.quantile(scores, level)) for level in _LEVELS
        },
    }
