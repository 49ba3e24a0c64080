"""`promad [-c FILE] COMMAND`: wiring only. What is slow to import is imported by its command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, NoReturn

import typer

import promad
from promad.cli.commands import datasets, models
from promad.cli.commands.backtest import backtest
from promad.cli.commands.bench import bench
from promad.cli.commands.check_config import check_config
from promad.cli.commands.collect import collect
from promad.cli.commands.config import config
from promad.cli.commands.demo import demo
from promad.cli.commands.detect import detect
from promad.cli.commands.doctor import doctor
from promad.cli.commands.evaluate import evaluate
from promad.cli.commands.explain import explain
from promad.cli.commands.filter import filter_
from promad.cli.commands.init import init
from promad.cli.commands.mixin import mixin
from promad.cli.commands.openapi import openapi
from promad.cli.commands.preprocess import preprocess
from promad.cli.commands.reload import reload
from promad.cli.commands.report import report
from promad.cli.commands.run import run
from promad.cli.commands.serve import serve
from promad.cli.commands.train import train
from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.cli.options import DEFAULT_CONFIG, ConfigOption
from promad.errors import ConfigError, PromadError

Commands = Mapping[str, Callable[..., None]]
"""The function of each command, by its name on the command line."""

COMMANDS: Commands = {
    "init": init,
    "config": config,
    "check-config": check_config,
    "doctor": doctor,
    "collect": collect,
    "preprocess": preprocess,
    "train": train,
    "filter": filter_,
    "run": run,
    "detect": detect,
    "reload": reload,
    "serve": serve,
    "explain": explain,
    "backtest": backtest,
    "report": report,
    "mixin": mixin,
    "openapi": openapi,
    "evaluate": evaluate,
    "demo": demo,
    "bench": bench,
}

GROUPS: Mapping[str, tuple[str, Commands]] = {
    "models": (models.HELP, models.COMMANDS),
    "datasets": (datasets.HELP, datasets.COMMANDS),
}
"""Commands that have commands of their own: their help, and these."""


def main() -> NoReturn:
    """Run a command; an error is one line on standard error and an exit code."""
    try:
        build_app()()
    except PromadError as error:
        prefix = "" if isinstance(error, ConfigError) else "promad: "
        print(f"{prefix}{error.summary}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def build_app() -> typer.Typer:
    """The command line with every command."""
    app = typer.Typer(
        name="promad",
        help="Detect anomalies in Prometheus metrics and show which metrics drive them.",
        epilog=(
            "Exit codes: 0 success, 1 runtime error, 2 usage or configuration error, "
            "3 problems found by check-config --online, findings of doctor, or groups that failed "
            "in train."
        ),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_set_globals)
    _register(app, COMMANDS)
    for name, (text, commands) in GROUPS.items():
        group = typer.Typer(help=text, no_args_is_help=True)
        _register(group, commands)
        app.add_typer(group, name=name)
    return app


def _register(app: typer.Typer, commands: Commands) -> None:
    for name, command in commands.items():
        app.command(name)(command)


def _set_globals(
    context: typer.Context,
    config_: ConfigOption = None,
    log_level: Annotated[
        LogLevel, typer.Option("--log-level", help="Log messages of this severity and above.")
    ] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="Format of log lines.")
    ] = LogFormat.LOGFMT,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            is_eager=True,
            callback=_show_version,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    context.obj = config_ or [DEFAULT_CONFIG]
    configure_logging(log_level, log_format)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"promad {promad.__version__}")
        raise typer.Exit
