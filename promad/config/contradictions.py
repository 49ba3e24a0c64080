"""What is wrong between keys that are each sound by themselves."""

from __future__ import annotations

from collections.abc import Iterator

from promad.config.durations import format_duration
from promad.config.model_defaults import PRESETS
from promad.config.settings import Config, KeyPath

Contradiction = tuple[tuple[KeyPath, ...], str]
"""The keys that do not go together, the one to mend first, and `what is wrong — what to do`."""

_STEP = ("data_settings", "step")
_LENGTH = ("training_settings", "sequence_length")


def contradictions(config: Config) -> Iterator[Contradiction]:
    """Every contradiction in a configuration whose keys are all sound; `queries` have no part."""
    yield from _of_models(config)
    yield from _of_periods(config)
    yield from _of_steps(config)
    yield from _of_file_names(config)
    yield from _of_authentication(config)
    yield from _of_encryption(config)


def _of_models(config: Config) -> Iterator[Contradiction]:
    model, preset = config.training_settings.model, config.training_settings.preset
    if preset not in PRESETS[model]:
        yield (
            (("training_settings", "preset"), ("training_settings", "model")),
            f"{preset} does not belong to {model} (it has {', '.join(PRESETS[model])}) "
            "— use one of these, or auto",
        )


def _of_periods(config: Config) -> Iterator[Contradiction]:
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
                yield (key, at_periods), "collection_periods_iso is given too — keep one of the two"
    elif start is not None and end is not None:
        seconds, decisive = end - start, "end_time_iso"
        if end <= start:
            yield (at_end, at_start), "is not after start_time_iso — swap the two"
            return
    elif (start is None) != (end is None):
        alone = at_end if start is None else at_start
        yield (alone, at_start, at_end), "stands alone — give both start_time_iso and end_time_iso"
    if seconds < 2 * length * data.step:
        yield (
            (("data_settings", decisive), _STEP, _LENGTH),
            f"is too short ({format_duration(seconds)} at a step of {format_duration(data.step)} "
            f"hold fewer than two windows of {length} samples) — collect more, "
            "or lower step or sequence_length",
        )


def _of_steps(config: Config) -> Iterator[Contradiction]:
    data, live = config.data_settings, config.real_time_anomaly_detection
    steps = data.cache_chunk_hours * 3600 / data.step
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-9 * steps:
        yield (
            (("data_settings", "cache_chunk_hours"), _STEP),
            f"is no multiple of step ({data.cache_chunk_hours:g} h, "
            f"{format_duration(data.step)}) — choose hours that a whole number of steps fills",
        )
    if live.data_step_duration not in {None, data.step}:
        yield (
            (("real_time_anomaly_detection", "data_step_duration"), _STEP),
            f"differs from data_settings.step ({format_duration(live.data_step_duration)}, "
            f"{format_duration(data.step)}) — a model sees only the step it was trained on; "
            "make them equal or leave this out",
        )
    most, length = (
        config.preprocessing_settings.max_fill_steps,
        config.training_settings.sequence_length,
    )
    if length <= most:
        yield (
            (("preprocessing_settings", "max_fill_steps"), _LENGTH),
            f"reaches over a whole window ({most} steps, sequence_length {length}) "
            "— make it smaller",
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


def _of_file_names(config: Config) -> Iterator[Contradiction]:
    written: dict[str, KeyPath] = {}
    for section, key in _WRITTEN:
        name = getattr(getattr(config, section), key)
        if name in written:
            first = written[name]
            yield (
                ((section, key), first),
                f"is written to by {'.'.join(first)} too ({name}) — give each a name of its own",
            )
        elif name is not None:
            written[name] = (section, key)


def _of_authentication(config: Config) -> Iterator[Contradiction]:
    server = config.prometheus
    basic, bearer = server.basic_auth, server.authorization
    at_basic, at_bearer = ("prometheus", "basic_auth"), ("prometheus", "authorization")
    if basic and bearer:
        yield (at_bearer, at_basic), "basic_auth is given too — keep one of the two"
    if basic and basic.password is not None and basic.password_file is not None:
        yield ((*at_basic, "password"),), "password_file is given too — keep one of the two"
    if bearer and (bearer.credentials is None) == (bearer.credentials_file is None):
        yield (at_bearer,), "needs either credentials or credentials_file — give exactly one"
    for name in server.http_headers:
        if name.lower() == "authorization" and (basic or bearer):
            yield (
                (("prometheus", "http_headers", name), at_basic, at_bearer),
                "basic_auth or authorization sets this header too — keep one of the two",
            )


def _of_encryption(config: Config) -> Iterator[Contradiction]:
    tls, at = config.prometheus.tls_config, ("prometheus", "tls_config")
    if tls.key_file is not None and tls.cert_file is None:
        yield ((*at, "key_file"),), "is of no use without cert_file — name the certificate too"
    if tls != type(tls)() and config.prometheus_url.startswith("http:"):
        yield (
            (at, ("prometheus_url",)),
            "has no effect while prometheus_url is plain http — write https there",
        )
