"""`promad reload`: ask a running daemon to load what is there now."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from promad.cli.options import ConfigOption, load_configs
from promad.cli.output import print_lines
from promad.config import Config


def reload(context: typer.Context, config: ConfigOption = None) -> None:
    """Let the running daemon load the configuration files and the current bundles.

    The daemon is the promad detect that runs on the artifacts_dir of the configuration, on this
    machine. Waits for the result. A file with mistakes is refused here, and the daemon not asked.
    """
    run_reload(load_configs(context, config))


def run_reload(configs: Sequence[Config]) -> None:
    """Reload the daemons of these configurations, and print what has reloaded."""
    from promad.stages.reload import reload as stage

    for process in stage([config.artifacts_dir for config in configs]):
        print_lines([f"reload: process {process} has loaded the configuration and the bundles"])
