"""The preset `original`: the system whose configuration keys and metrics promad took over.

A file that looks like that system's is read with its defaults in place of promad's, so that it
means what it meant there as far as possible. `list_differences` names the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from promad.config.document import NotYamlError, parse_document
from promad.config.settings import Config

PRESET = "original"
MODEL = "lstm_autoencoder"

SECTION_KEYS: Mapping[str, frozenset[str]] = {
    "data_settings": frozenset(
        {
            *("collection_period_hours", "collection_periods_iso", "start_time_iso"),
            *("end_time_iso", "cache_chunk_hours", "step", "output_filename"),
        }
    ),
    "preprocessing_settings": frozenset(
        {
            *("input_filename", "nan_fill_strategy", "scaler_type"),
            *("processed_output_filename", "scaler_output_filename"),
        }
    ),
    "training_settings": frozenset(
        {
            *("input_processed_filename", "model_output_filename", "sequence_length"),
            *("train_split_ratio", "epochs", "batch_size", "learning_rate"),
            *("early_stopping_patience", "lstm_units_encoder1", "lstm_units_encoder2_latent"),
            *("lstm_units_decoder1", "lstm_units_decoder2"),
            *("train_on_filtered_sequences", "filtered_model_output_filename"),
        }
    ),
    "data_filtering_settings": frozenset(
        {
            *("normal_sequences_output_filename", "anomalous_sequences_output_filename"),
            "all_sequence_errors_output_filename",
        }
    ),
    "real_time_anomaly_detection": frozenset(
        {
            *("query_interval_seconds", "anomaly_threshold_mse", "exporter_port"),
            *("metrics_prefix", "data_step_duration"),
        }
    ),
}
"""The keys of the original system, by section."""

_OTHER_KEYS = frozenset({"preset", "prometheus_url", "artifacts_dir", "queries"})
_OWN_VALUES = frozenset({"auto", "ParetoScaler", "RobustScaler"})
"""Values that only promad has."""

_NEEDED = frozenset(SECTION_KEYS) - {"data_filtering_settings"}
"""The sections without which the original system does not run."""

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "preprocessing_settings": {
        "scaler_type": "MinMaxScaler",
        "time_features": ["hour_of_day", "day_of_week"],
    },
    "training_settings": {
        "model": MODEL,
        "preset": PRESET,
        "sequence_length": 20,
        "epochs": 50,
    },
    "real_time_anomaly_detection": {
        "query_interval_seconds": 60,
        "enter_after_samples": 1,
        "leave_after_samples": 1,
    },
}
"""The defaults of the original system, where they differ from promad's."""


def is_original(values: Mapping[str, Any]) -> bool:
    """Whether a file looks like the original system's: its keys and values, and no others.

    >>> is_original({"queries": {"cpu": "up"}})
    False
    """
    if values.get("preset", "auto") != "auto" or not values.keys() >= _NEEDED:
        return False
    if not values.keys() <= _OTHER_KEYS | SECTION_KEYS.keys():
        return False
    sections = {name: values.get(name) or {} for name in SECTION_KEYS}
    return (
        all(map(_has_original_keys, sections, sections.values()))
        and _has_plain_queries(values.get("queries"))
        and _is_typical(sections)
    )


def _has_original_keys(section: str, keys: Any) -> bool:
    return isinstance(keys, Mapping) and all(
        key in SECTION_KEYS[section] and not (isinstance(value, str) and value in _OWN_VALUES)
        for key, value in keys.items()
    )


def _has_plain_queries(queries: Any) -> bool:
    return isinstance(queries, Mapping) and all(isinstance(each, str) for each in queries.values())


def _is_typical(sections: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether it has what a short configuration of promad does not have."""
    threshold = sections["real_time_anomaly_detection"].get("anomaly_threshold_mse")
    units = any(key.startswith("lstm_units_") for key in sections["training_settings"])
    return units or isinstance(threshold, int | float)


def fill_preset(values: Mapping[str, Any], implied: bool) -> dict[str, Any]:
    """The values of a file with the original system's defaults, if that is its preset.

    Args:
        implied: whether the file looks like the original system's.
    """
    preset = values.get("preset", "auto")
    if preset != PRESET and not (preset == "auto" and implied):
        return dict(values)
    filled = {name: _fill_section(name, values.get(name)) for name in _DEFAULTS}
    return {**values, **filled, "preset": PRESET}


def _fill_section(name: str, given: Any) -> Any:
    """A section with its defaults; as it is if it is no section or chooses another model."""
    keys = {} if given is None else given
    if not isinstance(keys, Mapping) or keys.get("model", MODEL) != MODEL:
        return given
    filled = {**_DEFAULTS[name], **keys}
    if filled.get("early_stopping_patience") == 0:  # there: never stops early
        filled["early_stopping_patience"] = filled["epochs"]
    return filled


def find_implied_preset(path: Path, config: Config) -> Iterator[str]:
    """A block of lines if a file means `preset: original` without saying so: what is different."""
    try:
        document = parse_document(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, NotYamlError):  # a pipe can be read only once
        return
    if is_original(document.values):
        yield f"{path}: looks like a configuration of the original system: using preset: original"
        yield "  As there: LSTM layers, mean squared error of the window as score, calendar inputs."
        yield "  Different:"
        yield from (f"  - {line}" for line in list_differences(config))
        yield "  Write preset: original to hide this, or preset: standard for promad's defaults."


def list_differences(config: Config) -> Iterator[str]:
    """What is different from the original system in spite of the preset, one sentence a line."""
    live = config.real_time_anomaly_detection
    threshold = live.anomaly_threshold_mse
    if threshold == "auto":
        yield "anomaly_threshold_mse is not set: train chooses it (there: 0.0025)."
    else:
        yield (
            f"anomaly_threshold_mse ({threshold:g}) is compared with errors of a newly trained "
            "network: check it against reconstruction_error_histogram.png in the bundle, or set it "
            "to auto."
        )
    yield "The series of the flag and of the errors are absent without a score (there: 0 or -1)."
    yield "The counter of anomalies counts events (there: polls above the threshold)."
    yield "Every series has the label detector."
    yield "hour_of_day and day_of_week are inputs of the network, but not part of the error."
    yield (
        "The output of the network is not limited to the range of the training data; the scaler "
        "is fitted to the training part only."
    )
    yield (
        f"Gaps of more than {config.preprocessing_settings.max_fill_steps} steps are not filled, "
        "and no window spans one."
    )
    offset = "at least 10" if live.latency_offset == "auto" else f"{live.latency_offset:g}"
    yield f"Samples are read {offset} s after their time (latency_offset)."
    if config.training_settings.gate:
        yield "train rejects a network that is no better than an untrained baseline (gate)."
