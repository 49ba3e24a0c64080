"""`init`: a configuration for what a Prometheus scrapes, of the presets whose metrics are there.

One configuration monitors one kind of group, so each preset becomes a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promad.config import Config, PrometheusSettings, read_config
from promad.config.http_config import has_secrets, move_paths, read_http_config
from promad.config.values import check_label_name, check_server_url
from promad.errors import ConfigError, DataError, PromadError
from promad.files import write_whole
from promad.presets import PRESETS, Draft, choose_timing, list_metrics, load_preset, render_config
from promad.presets.fitting import Fit, fit_preset
from promad.presets.timing import DEFAULT_INTERVAL, LONGEST_HISTORY_HOURS
from promad.prometheus import PrometheusClient
from promad.prometheus.discovery import Discovery, discover

AUTO = "auto"


@dataclass(frozen=True)
class InitRequest:
    """What is to be written.

    Attributes:
        output: the file; of several presets that of the first.
        preset: a name, or `AUTO` for those whose metrics are there.
        url: of the server; None writes a preset as it is.
        group_by: the labels of a group; None for those of the preset.
        http_config: a file of HTTP client settings.
        force: whether files may be overwritten.
    """

    output: Path
    preset: str = AUTO
    url: str | None = None
    group_by: tuple[str, ...] | None = None
    http_config: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class WrittenConfig:
    """A configuration that was written.

    Attributes:
        path: the file.
        draft: what is in it.
        queries: how many queries it has.
        fit: what was found on the server; None without one.
    """

    path: Path
    draft: Draft
    queries: int
    fit: Fit | None = None


@dataclass(frozen=True)
class InitReport:
    """What was found and written.

    Attributes:
        written: the configurations.
        server: what is known of the server; None without one.
        skipped: by preset why it was not written though its metrics are there.
    """

    written: tuple[WrittenConfig, ...]
    server: Discovery | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)


def init(request: InitRequest, now: float) -> InitReport:
    """Write a configuration for each preset; `now` is unix seconds.

    Raises:
        ConfigError: if what the request names is unusable.
        PrometheusError: if the server does not answer.
        DataError: if no preset fits it.
        PromadError: if a file exists.
    """
    _check_request(request)
    settings, keys = _read_http_config(request)
    if request.url is None:
        draft = _draft(request, request.preset, keys)
        return InitReport((_write(draft, request.output, request.force),))
    with closing(PrometheusClient(request.url, settings)) as client:
        return _write_for_server(client, request, keys, now)


def _check_request(request: InitRequest) -> None:
    """Refuse what cannot work before anything is asked."""
    _require_free(request.output, request.force)
    try:
        what = "--prometheus"
        if request.url is not None:
            check_server_url(request.url)
        for label in request.group_by or ():
            what = f"--group-by {label}"
            check_label_name(label)
    except ValueError as error:
        raise ConfigError([f"init: {what}: {error}"]) from None
    if request.url is None and request.preset == AUTO:
        presets = ", ".join(PRESETS)
        raise ConfigError(
            [f"init: --preset auto needs --prometheus URL — set it, or name a preset: {presets}"]
        )


def _read_http_config(request: InitRequest) -> tuple[PrometheusSettings, Mapping[str, Any]]:
    """The HTTP client settings, and their keys for a file at the place of the output."""
    if request.http_config is None:
        return PrometheusSettings(), {}
    settings, keys = read_http_config(request.http_config)
    return settings, move_paths(keys, request.http_config.parent, request.output.parent)


def _read_defaults() -> Config:
    return Config.model_validate({"queries": {"any": "up"}})


def _write_for_server(
    client: PrometheusClient, request: InitRequest, keys: Mapping[str, Any], now: float
) -> InitReport:
    wanted = PRESETS if request.preset == AUTO else (request.preset,)
    metrics = {name for preset in wanted for name in list_metrics(load_preset(preset))}
    found = discover(client, metrics, now)
    there = [name for name in wanted if load_preset(name).is_there(found.names)]
    if not there:
        raise DataError(_explain_nothing(client.url, wanted))
    drafts = (_draft(request, name, keys) for name in there)
    fits = [fit_preset(client, draft, found, _read_defaults(), now) for draft in drafts]
    empty = (fit.draft for fit in fits if fit.is_empty)
    skipped = {draft.name: next(iter(draft.left_out.values())) for draft in empty}
    usable = [fit for fit in fits if not fit.is_empty]
    if not usable:
        reasons = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        raise DataError(f"{client.url}: no query can be used: {reasons}")
    return InitReport(tuple(_write_all(usable, request)), found, skipped)


def _write_all(fits: Sequence[Fit], request: InitRequest) -> Iterator[WrittenConfig]:
    """Write a file for each, or none if one of the files exists."""
    paths = [_name_file(request.output, fit.draft.name, at) for at, fit in enumerate(fits)]
    for path in paths:
        _require_free(path, request.force)
    for path, fit in zip(paths, fits, strict=True):
        yield _write(fit.draft, path, request.force, fit)


def _draft(request: InitRequest, name: str, keys: Mapping[str, Any]) -> Draft:
    """The draft of a preset with the times of a server that is not known."""
    preset = load_preset(name)
    group_by = preset.group_by if request.group_by is None else request.group_by
    length = _read_defaults().training_settings.sequence_length
    timing = choose_timing(DEFAULT_INTERVAL, LONGEST_HISTORY_HOURS * 3600, length)
    url = None if request.url is None else request.url.rstrip("/")
    return Draft(name, preset, url, keys, group_by, timing)


def _write(draft: Draft, path: Path, force: bool, fit: Fit | None = None) -> WrittenConfig:
    """Write the configuration, readable by its owner alone if it holds secrets."""
    text = render_config(draft)
    config = read_config(text, str(path), path.absolute().parent)
    with write_whole(path) as aside:
        aside.touch(0o600 if has_secrets(draft.http_config) else 0o666)
        aside.write_text(text, encoding="utf-8")
        _require_free(path, force)
    return WrittenConfig(path, draft, len(config.queries), fit)


def _require_free(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise PromadError(
            f"init: {path} exists — overwrite it with --force, or write another file with -o"
        )


def _name_file(output: Path, preset: str, place: int) -> Path:
    """The output for the first preset, a name beside it for each other one."""
    return output.with_name(f"{output.stem}-{preset}{output.suffix}") if place else output


def _explain_nothing(url: str, wanted: Sequence[str]) -> str:
    looked_for = ", ".join(f"{name} ({load_preset(name).find_metric(())})" for name in wanted)
    return (
        f"{url}: no metrics of {looked_for} in the last hour — scrape one of their exporters, or "
        "write your own queries: promad config > config.yaml"
    )
