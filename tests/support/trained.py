"""A running detector whose bundle is on disk, as `train` leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.bundle import BundleStore, load_detector
from promad.data.frame import single_group
from promad.detection.running_detector import RunningDetector
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.served import NOW, STEP, create_running_detectors
from tests.support.simulated import config_for, write_raw


def create_trained_detector(
    directory: Path, features: Sequence[str], values: NDArray[np.float64]
) -> RunningDetector:
    """A linear model trained on values (samples, features); its status is synthetic."""
    queries = {name: name for name in features}
    config = config_for(
        directory / "trained", queries=queries, training_settings={"model": "linear"}
    )
    write_raw(config, [single_group(0.0, STEP, features, values)], server="http://prometheus")
    preprocess(config)
    train(config, lambda *epoch: None, now=lambda: NOW)
    bundle = BundleStore.of(config).open_current()
    detector = load_detector(bundle)
    (running,) = create_running_detectors(
        directory / "served", features=features, detector=detector
    )
    return replace(running, bundle=bundle)
