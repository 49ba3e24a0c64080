"""What is wrong between keys that are each sound by themselves."""

from __future__ import annotations

from collections.abc import Iterator

from promad.config.durations import format_duration
from promad.config.model_defaults import PRESETS
from promad.config.server_contradictions import Contradiction, find_server_contradictions
from promad.config.settings import Config, KeyPath

_STEP = ("data_settings", "step")
_LENGTH = ("training_settings", "sequence_length")


def find_contradictions(config: Config) -> Iterator[Contradiction]:
    """Every contradiction in a configuration whose keys are all sound; `queries` have no part."""
    yield from _check_models(config)
    yield from _check_periods(config)
    yield from _check_steps(config)
    yield from _check_file_names(config)
    yield from find_server_contradictions(config)
    yield from _check_scope(config)
    yield from _check_mute(config)
    yield from _check_shards(config)


def _check_models(config: Config) -> Iterator[Contradiction]:
    model, preset = config.training_settings.model, config.training_settings.preset
    if preset not in PRESETS[model]:
        yield (
            (("training_settings", "preset"), ("training_settings", "model")),
            f"{model} has no preset {preset} — use one of auto, {', '.join(PRESETS[model])}",
        )
    scope = config.training_settings.model_scope
    if config.group_by and scope == "per_group" and model != "linear":
        yield (
            (("training_settings", "model_scope"), ("training_settings", "model")),
            f"per_group supports the model linear only; this is {model} — set model_scope: pooled, "
            "which scales and calibrates each group by itself",
        )


def _check_periods(config: Config) -> Iterator[Contradiction]:
    data, length = config.data_settings, config.training_settings.sequence_length
    start, end = data.start_time_iso, data.end_time_iso
    at_start, at_end = ("data_settings", "start_time_iso"), ("data_settings", "end_time_iso")
    at_periods, decisive = ("data_settings", "collection_periods_iso"), "collection_period_hours"
    seconds = data.collection_period_hours * 3600
    if data.collection_periods_iso:
        seconds = sum(period.end - period.start for period in data.collection_periods_iso)
        decisive = "collection_periods_iso"
        for key, given in ((at_start, start), (at_end, end)):
            if given is not None:
                yield (key, at_periods), "collection_periods_iso is set too — remove one of the two"
    elif start is not None and end is not None:
        seconds, decisive = end - start, "end_time_iso"
        if end <= start:
            yield (at_end, at_start), "must be after start_time_iso — swap the two"
            return
    elif (start is None) != (end is None):
        alone = at_end if start is None else at_start
        yield (alone, at_start, at_end), "is set alone — set both start_time_iso and end_time_iso"
    if seconds < 2 * length * data.step:
        yield (
            (("data_settings", decisive), _STEP, _LENGTH),
            f"too short ({format_duration(seconds)} at step {format_duration(data.step)} is less "
            f"than two windows of {length} samples) — collect a longer period, "
            "or lower step or sequence_length",
        )


def _check_steps(config: Config) -> Iterator[Contradiction]:
    data, live = config.data_settings, config.real_time_anomaly_detection
    steps = data.cache_chunk_hours * 3600 / data.step
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-9 * steps:
        yield (
            (("data_settings", "cache_chunk_hours"), _STEP),
            f"must be a multiple of step ({data.cache_chunk_hours:g} h, step "
            f"{format_duration(data.step)}) — set it to a whole number of steps",
        )
    if live.data_step_duration not in {None, data.step}:
        yield (
            (("real_time_anomaly_detection", "data_step_duration"), _STEP),
            f"must equal data_settings.step ({format_duration(live.data_step_duration)}, step "
            f"{format_duration(data.step)}) — remove it, or set both to the same value",
        )
    most, length = (
        config.preprocessing_settings.max_fill_steps,
        config.training_settings.sequence_length,
    )
    if length <= most:
        yield (
            (("preprocessing_settings", "max_fill_steps"), _LENGTH),
            f"must be less than sequence_length ({most}, sequence_length {length}) — lower it",
        )


_WRITTEN = (
    ("data_settings", "output_filename"),
    ("preprocessing_settings", "processed_output_filename"),
    ("preprocessing_settings", "scaler_output_filename"),
    ("data_filtering_settings", "normal_sequences_output_filename"),
    ("data_filtering_settings", "anomalous_sequences_output_filename"),
    ("data_filtering_settings", "all_sequence_errors_output_filename"),
)
"""The keys that name what the stages write beside each other."""


def _check_file_names(config: Config) -> Iterator[Contradiction]:
    written: dict[str, KeyPath] = {}
    for section, key in _WRITTEN:
        name = getattr(getattr(config, section), key)
        if name in written:
            first = written[name]
            yield (
                ((section, key), first),
                f"{'.'.join(first)} writes to this file too ({name}) — use a different file name",
            )
        elif name is not None:
            written[name] = (section, key)


def _check_scope(config: Config) -> Iterator[Contradiction]:
    for label in config.incidents.scope:
        if label not in config.group_by:
            yield (
                (("incidents", "scope"), ("group_by",)),
                f"{label} is not a label of the groups — add it to group_by, or remove it here",
            )


def _check_mute(config: Config) -> Iterator[Contradiction]:
    for number, entry in enumerate(config.mute):
        for label in entry.groups:
            if label not in config.group_by:
                yield (
                    (("mute", number, "groups", label), ("group_by",)),
                    f"{label} is not a label of the groups — add it to group_by, or remove it here",
                )


def _check_shards(config: Config) -> Iterator[Contradiction]:
    for label in config.shard_by:
        if label not in config.group_by:
            yield (
                (("shard_by",), ("group_by",)),
                f"{label} is not a label of the groups — add it to group_by, or remove it here",
            )
