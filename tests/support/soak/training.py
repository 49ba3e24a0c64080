"""A configuration for the world and two bundles for it, trained on what its server would say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from promad.bundle import BundleStore, load_detector
from promad.config import Config
from promad.data.artifacts import write_frames
from promad.data.frame import single_group
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.soak.oracle import REQUIRED_SHARE
from tests.support.soak.truth import QUERIES, STALE_AFTER, START, STEP, Truth

LENGTH = 8
TIMEOUT_SECONDS = 0.2
_SAMPLES = 2400
_MARGIN = 3.0


def train_bundles(directory: Path, url: str) -> tuple[Config, tuple[str, str]]:
    """The configuration, with a threshold well above all that is normal, and two bundles' ids."""
    config = Config.model_validate(
        {
            "prometheus_url": url,
            "prometheus": {"timeout": f"{TIMEOUT_SECONDS * 1000:.0f}ms"},
            "artifacts_dir": directory,
            "queries": QUERIES,
            "data_settings": {"step": f"{STEP:.0f}s"},
            "training_settings": {
                "model": "linear",
                "sequence_length": LENGTH,
                "gate": False,
                "scoring": {"required_share": REQUIRED_SHARE},
            },
            "real_time_anomaly_detection": {
                "query_interval_seconds": STEP,
                "latency_offset": "5s",
                "stale_after": f"{STALE_AFTER:.0f}s",
            },
        }
    )
    ids = tuple(_train_on(config, samples) for samples in (_SAMPLES // 2, _SAMPLES))
    found = load_detector(BundleStore.of(config).open_current()).threshold.value
    live = config.real_time_anomaly_detection.model_copy(
        update={"anomaly_threshold_mse": _MARGIN * found}
    )
    return config.model_copy(update={"real_time_anomaly_detection": live}), (ids[0], ids[1])


def _train_on(config: Config, samples: int) -> str:
    truth, start = Truth(), START - samples * STEP
    values = np.array(
        [[truth.value(alias, start + STEP * n) for alias in QUERIES] for n in range(samples)]
    )
    frames = [single_group(start, STEP, tuple(QUERIES), values)]
    path = config.artifacts_dir / config.data_settings.output_filename
    write_frames(path, frames, {"server": config.prometheus_url})
    preprocess(config)
    return train(config, lambda *_: None, now=lambda: START + samples).bundle.id
