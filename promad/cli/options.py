"""What several commands take: configuration files, a listen address, times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from promad.cli.output import print_warnings
from promad.config import Config, load_config, parse_duration, parse_instant, read_config
from promad.config.original import find_implied_preset
from promad.config.warnings import find_lost_text
from promad.errors import ConfigError, PromadError

DEFAULT_CONFIG = Path("config.yaml")

TIME_HELP = "ISO 8601 time, age such as 2h or 7d, or now."

ConfigOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help=f"Configuration file (default: {DEFAULT_CONFIG}); repeat it for several detectors.",
        envvar="PROMAD_CONFIG",
    ),
]
ListenOption = Annotated[
    str | None,
    typer.Option(
        "--web.listen-address",
        metavar="[HOST]:PORT",
        help="Address to listen on (default: every interface, exporter_port).",
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force",
        metavar="",
        help="Train even on few complete rows; promote the model even if the gate rejects it.",
    ),
]
FromOption = Annotated[str, typer.Option("--from", metavar="TIME", help=f"Start: {TIME_HELP}")]
ToOption = Annotated[str, typer.Option("--to", metavar="TIME", help=f"End: {TIME_HELP}")]

GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="NAME",
        help="Only this group: its name, its labels or one label value (default: all).",
    ),
]


def load_configs(
    context: typer.Context, given: list[Path] | None = None, overrides: Sequence[str] = ()
) -> list[Config]:
    """Every configuration that the command line names.

    Args:
        overrides: `section.key=value` each, in place of the values of every file.

    Raises:
        ConfigError: with every mistake in any of them, or if two share a name or a directory.
    """
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
        same = [value.resolve() if isinstance(value, Path) else value for value in values]
        for path, value, seen in zip(paths, values, same, strict=True):
            if same.count(seen) > 1:
                raise ConfigError(
                    [
                        f"{path}: {key}: another configuration file has the same value ({value}) "
                        "— set a different one in each file"
                    ]
                )
    return configs


def load_one_config(context: typer.Context, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a command that accepts one.

    Args:
        overrides: `section.key=value` each, in place of the file's values.

    Raises:
        ConfigError: with every mistake in it, or if the command line names several files.
    """
    first, *others = context.obj
    if others:
        raise ConfigError(
            [f"{others[0]}: this command accepts one configuration file — use -c once"]
        )
    config = load_config(first, overrides)
    print_warnings(find_lost_text(first))
    print_warnings(find_implied_preset(first, config))
    return config


def load_config_or_defaults(context: typer.Context, overrides: Sequence[str] = ()) -> Config:
    """As `load_one_config`; without -c and without a config.yaml, all keys have their defaults.

    For a command that does not use the queries.

    Raises:
        ConfigError: with every mistake in it, or if the command line names several files.
    """
    named = context.find_root().params.get("config_")
    if not named and not DEFAULT_CONFIG.exists():
        return read_config(_WITHOUT_FILE, str(DEFAULT_CONFIG), Path.cwd(), overrides)
    return load_one_config(context, overrides)


_WITHOUT_FILE = "queries: {any: up}"


def parse_listen_address(address: str | None) -> tuple[str, int | None]:
    """The interface and the port of a listen address; an empty one and None without one."""
    if address is None:
        return "", None
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise typer.BadParameter(
            f"invalid address {address}; write [HOST]:PORT, such as 127.0.0.1:8001 or :8001"
        )
    return host.strip("[]"), int(port)


def parse_time(text: str, now: float) -> float:
    """Unix seconds of `now`, of ISO 8601, or of an age before `now`, such as `2h` or `7d`.

    >>> parse_time("now", 100.0), parse_time("1m", 100.0)
    (100.0, 40.0)
    >>> parse_time("1970-01-01T00:01:00Z", 100.0)
    60.0
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
            f"invalid time {text}; write it like 2026-11-22T06:00:00Z, 2h (ago) or now"
        ) from None


def parse_period(start: str, end: str, now: float) -> tuple[float, float]:
    """Unix seconds of --from and --to; the end is at most `now`."""
    return parse_time(start, now), min(parse_time(end, now), now)


def require_groups(command: str, config: Config, group: str | None) -> None:
    """Refuse --group where there is one group only.

    Raises:
        PromadError: naming the key that is missing.
    """
    if group is not None and not config.group_by:
        raise PromadError(
            f"{command}: --group {group} needs group_by in the configuration — set it, or omit "
            "--group"
        )
