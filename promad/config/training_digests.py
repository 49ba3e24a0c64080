"""What of a configuration decides the result of a training, in short."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from promad.config.settings import Config

_SOURCE = {"params", "http_headers"}
"""Of `prometheus`: what selects the data. Secrets are dumped as asterisks: they may be rotated."""
_THRESHOLD = {
    *("anomaly_threshold_mse", "threshold", "threshold_tuning", "alert_budget", "event_end"),
    *("enter_after_samples", "leave_after_samples"),
}
"""Of `real_time_anomaly_detection`: what the threshold is chosen by."""
_WITHOUT_EFFECT: dict[str, set[str]] = {
    "data_settings": {"output_filename", "cache_chunk_hours"},
    "preprocessing_settings": {
        *("input_filename", "processed_output_filename", "scaler_output_filename"),
    },
    "training_settings": {
        *("input_processed_filename", "model_output_filename", "filtered_model_output_filename"),
        *("gate", "keep_bundles"),
    },
}
"""Names of files, and settings that change no value of a bundle."""


def digest_training(config: Config) -> dict[str, str]:
    """By section a digest of the settings that a training depends on.

    Settings at their defaults are left out, so that a version with further keys changes none.
    """
    chosen: dict[str, Any] = {
        "prometheus_url": config.prometheus_url,
        "prometheus": _dump(config.prometheus, include=_SOURCE),
        "queries": {name: _dump(query) for name, query in config.queries.items()},
        "group_by": config.group_by,
        "group_relabel_configs": [_dump(rule) for rule in config.group_relabel_configs],
        "max_groups": config.max_groups,
        "data_filtering_settings": _dump(
            config.data_filtering_settings, include={"trim_share", "trim_rounds"}
        ),
        "real_time_anomaly_detection": _dump(
            config.real_time_anomaly_detection, include=_THRESHOLD
        ),
    }
    for section, ignored in _WITHOUT_EFFECT.items():
        chosen[section] = _dump(getattr(config, section), exclude=ignored)
    return {section: _digest(values) for section, values in chosen.items()}


def _dump(section: Any, **which: set[str]) -> dict[str, Any]:
    dumped: dict[str, Any] = section.model_dump(mode="json", exclude_defaults=True, **which)
    return dumped


def _digest(values: Any) -> str:
    return sha256(json.dumps(values).encode()).hexdigest()[:16]
