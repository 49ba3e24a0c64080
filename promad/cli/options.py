"""What several commands take: configuration files, an address to listen on, a moment in time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from promad.config import Config, load_config, parse_duration, parse_instant
from promad.errors import ConfigError

DEFAULT_CONFIG = Path("config.yaml")

ConfigOption = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="Configuration file.", envvar="PROMAD_CONFIG"),
]
ListenOption = Annotated[
    str | None,
    typer.Option(
        "--web.listen-address",
        metavar="[HOST]:PORT",
        help="Where to serve metrics, in place of exporter_port on every interface.",
    ),
]


def configs_of(
    context: typer.Context, given: list[Path] | None = None, overrides: Sequence[str] = ()
) -> list[Config]:
    """Every configuration that the command line names, or every mistake in them."""
    paths = given or context.obj
    configs: list[Config] = []
    problems: list[str] = []
    for path in paths:
        try:
            configs.append(load_config(path, overrides))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    for key in ("name", "artifacts_dir"):
        values = [getattr(config, key) for config in configs]
        for path, value in zip(paths, values, strict=True):
            if values.count(value) > 1:
                raise ConfigError(
                    [f"{path}: {key}: another file has it too ({value}) — give each its own"]
                )
    return configs


def config_of(context: typer.Context, overrides: Sequence[str] = ()) -> Config:
    """The one configuration of a command that takes one."""
    configs = configs_of(context, overrides=overrides)
    if len(configs) > 1:
        raise ConfigError(
            [f"{context.obj[1]}: only detect and mixin take several files — give one -c"]
        )
    return configs[0]


def host_and_port(address: str | None) -> tuple[str, int | None]:
    """The interface and the port of a listen address; an empty one and None without one."""
    if address is None:
        return "", None
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise typer.BadParameter(f"{address} is not [HOST]:PORT, as in 127.0.0.1:8001 or :8001")
    return host.strip("[]"), int(port)


def moment(text: str, now: float) -> float:
    """Unix seconds of `now`, of ISO 8601, or of so long ago, as in `2h` or `7d`.

    >>> moment("now", 100.0), moment("1m", 100.0), moment("1970-01-01T00:01:00Z", 100.0)
    (100.0, 40.0, 60.0)
    """
    if text == "now":
        return now
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        return parse_instant(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text} is no time — write it like 2026-11-22T06:00:00Z, 2h (ago) or now"
        ) from None
