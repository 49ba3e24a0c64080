"""The defaults of each model: the values that `auto` means in `training_settings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

ModelName = Literal["lstm_autoencoder", "linear", "lstm_forecaster", "tranad", "fusion"]
MemberName = Literal["lstm_autoencoder", "linear", "lstm_forecaster", "tranad"]
PresetName = Literal["standard", "residual", "improved", "original", "strict", "paper"]

DEFAULT_MODEL = "linear"
"""What `model: auto` means: as accurate as the networks on public data (benchmarks/accuracy.md), at
a fraction of their cost."""

PRESETS: Mapping[str, tuple[str, ...]] = {
    "lstm_autoencoder": ("residual", "improved", "original"),
    "linear": ("standard",),
    "lstm_forecaster": ("standard",),
    "tranad": ("strict", "paper"),
    "fusion": ("standard",),
}
"""The presets of each model, its default first."""

FORMER_DEFAULTS: Mapping[str, str] = {"lstm_autoencoder": "improved"}
"""What was a model's default preset before; its bundles are used until the next training."""

_COMMON: Mapping[str, Any] = {
    "sequence_length": 30,
    "epochs": 50,
    "batch_size": 64,
    "learning_rate": 0.001,
    "early_stopping_patience": 10,
    "lstm_units_encoder1": 64,
    "lstm_units_encoder2_latent": 32,
    "lstm_units_decoder1": 32,
    "lstm_units_decoder2": 64,
    "scoring": {},
}

_OWN: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("lstm_autoencoder", "residual"): {
        "sequence_length": 20,
        "epochs": 30,
        "batch_size": 128,
        "early_stopping_patience": 5,
        "scoring": {"smoothing_samples": 20},
    },
    ("lstm_autoencoder", "improved"): {
        "sequence_length": 20,
        "epochs": 15,
        "batch_size": 128,
        "early_stopping_patience": 3,
        "lstm_units_encoder2_latent": 12,
    },
    ("lstm_autoencoder", "original"): {"scoring": {"method": "mse"}},
    ("linear", "standard"): {"sequence_length": 20, "scoring": {"smoothing_samples": 20}},
    ("lstm_forecaster", "standard"): {
        "sequence_length": 101,
        "epochs": 25,
        "batch_size": 8,
        "learning_rate": 0.004,
        "early_stopping_patience": 25,
    },
    ("tranad", "strict"): {
        "sequence_length": 10,
        "epochs": 6,
        "batch_size": 128,
        "learning_rate": 0.0005,
        "early_stopping_patience": 3,
    },
    ("tranad", "paper"): {
        "sequence_length": 11,
        "epochs": 5,
        "batch_size": 128,
        "learning_rate": 0.0001,
        "scoring": {"method": "mse"},
    },
    ("fusion", "standard"): {"scoring": {"smoothing_samples": 20}},
}

DEFAULT_MEMBERS: tuple[MemberName, ...] = ("linear", "lstm_autoencoder")


def fill_defaults(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `training_settings`, with the model's defaults for `auto` and missing keys."""
    given = {key: value for key, value in keys.items() if value != "auto"}
    model = given.get("model", _find_model(given.get("preset")))
    presets = PRESETS.get(model) if isinstance(model, str) else None
    if presets is None:
        model, presets = DEFAULT_MODEL, PRESETS[DEFAULT_MODEL]
    preset = given.get("preset", presets[0])
    own = _OWN.get((model, preset)) if isinstance(preset, str) else None
    defaults = {**_COMMON, **(own or {})}
    if model == "fusion":
        defaults["sequence_length"] = max(map(_default_length, _find_members(given)))
    return {
        "model": model,
        "preset": presets[0],
        **defaults,
        **given,
        "scoring": _fill_scoring(defaults, given),
    }


def _find_model(preset: object) -> str:
    """The model that `auto` means beside a preset: the one that has it, else the default."""
    owners = [name for name, presets in PRESETS.items() if preset in presets]
    return owners[0] if len(owners) == 1 else DEFAULT_MODEL


def _find_members(given: Mapping[str, Any]) -> list[str]:
    """The members of a fusion that exist, else the default ones."""
    fusion = given.get("fusion")
    named = fusion.get("members") if isinstance(fusion, Mapping) else None
    known = [name for name in named if name in PRESETS] if isinstance(named, list | tuple) else []
    return known or list(DEFAULT_MEMBERS)


def _default_length(model: str) -> int:
    """The default window length of a model, in samples."""
    own = _OWN.get((model, PRESETS[model][0]), {})
    return int(own.get("sequence_length", _COMMON["sequence_length"]))


def _fill_scoring(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    scoring = given.get("scoring")
    scoring = {} if scoring is None else scoring
    if isinstance(scoring, str):
        scoring = {"method": scoring}
    if not isinstance(scoring, Mapping):
        return scoring
    return {
        **defaults["scoring"],
        **{key: value for key, value in scoring.items() if value != "auto"},
    }
