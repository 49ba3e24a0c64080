"""`promad bench`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.extras import require_training
from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.cli.output import format_count, print_lines
from promad.errors import ConfigError
from promad.files import write_whole

if TYPE_CHECKING:
    from promad.evaluation.capacity import Fit, Measured


class ModelScope(StrEnum):
    """Which groups share a model."""

    POOLED = "pooled"
    PER_GROUP = "per_group"


def bench(
    groups: Annotated[
        int, typer.Option("--groups", metavar="G", min=1, help="How many groups to watch.")
    ] = 100,
    features: Annotated[
        int, typer.Option("--features", metavar="F", min=1, help="How many queries.")
    ] = 16,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=1.0, help="Time between ticks.")
    ] = 30.0,
    ticks: Annotated[
        int, typer.Option("--ticks", metavar="N", min=3, help="How many ticks to measure.")
    ] = 20,
    fit: Annotated[
        bool,
        typer.Option("--fit", metavar="", help="Report how many groups fit this machine."),
    ] = False,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="Model to train, see config.yaml.")
    ] = "linear",
    model_scope: Annotated[
        ModelScope,
        typer.Option(
            "--model-scope", help="One model for all groups, or weights of each (linear only)."
        ),
    ] = ModelScope.POOLED,
    prometheus: Annotated[
        str | None,
        typer.Option(
            "--prometheus",
            metavar="URL",
            help="Poll this server, which has the simulated fleet, instead of the embedded one.",
        ),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to this file.")
    ] = None,
) -> None:
    """Measure what watching a fleet costs on this machine.

    A daemon polls simulated hosts as fast as it can. With --fit, two fleets are measured, and the
    number of groups that fit this machine follows.
    """
    _check_model(model, model_scope)
    require_training("bench", [model])
    from promad.stages.bench import BenchOptions, measure
    from promad.stages.bench import fit as find_fit

    configure_logging(LogLevel.ERROR, LogFormat.LOGFMT)
    options = BenchOptions(groups, features, interval, ticks, prometheus, model, model_scope.value)
    with TemporaryDirectory(prefix="promad-bench-") as folder:
        path = Path(folder).resolve()
        if fit:
            fitted = find_fit(options, path)
            lines, figures = _format_fit(fitted), fitted.to_json()
        else:
            measured = measure(options, path)
            lines, figures = _format_measured(measured), measured.to_json()
    print_lines(lines)
    if json_path is not None:
        with write_whole(json_path) as aside:
            aside.write_text(json.dumps(figures, indent=2) + "\n")


def _check_model(model: str, scope: ModelScope) -> None:
    """Raise ConfigError if there is no such model, or it cannot be of each group."""
    from promad.config.model_defaults import PRESETS

    if model not in PRESETS:
        raise ConfigError([f"--model {model}: no such model — use one of {', '.join(PRESETS)}"])
    if scope is ModelScope.PER_GROUP and model != "linear":
        raise ConfigError(
            [
                f"--model-scope per_group supports the model linear only; --model is {model} "
                "— use --model-scope pooled"
            ]
        )


def _format_measured(found: Measured) -> Iterator[str]:
    server = found.server_cpu_seconds_p50
    yield (
        f"bench: {format_count(found.groups, 'group')} of "
        f"{format_count(found.features, 'feature')}, every {found.interval_seconds:g} s, "
        f"{format_count(found.ticks, 'tick')}; {found.model}, {found.model_scope}"
    )
    yield (
        f"  tick: {found.tick_wall_seconds_p50:.3f} s wall (p90 {found.tick_wall_seconds_p90:.3f}, "
        f"max {found.tick_wall_seconds_max:.3f}), {found.tick_cpu_seconds_p50:.3f} s CPU of promad"
        + ("" if server is None else f", {server:.3f} s CPU of the server")
    )
    yield (
        f"  read per tick: {found.samples_read_per_tick:,} new samples, "
        f"{found.bytes_read_per_tick / 2**20:.1f} MiB"
    )
    yield (
        f"  /metrics: {found.metrics_series:,} series, {found.metrics_bytes / 2**20:.1f} MiB, "
        f"scraped in {1000 * found.scrape_seconds_p50:.1f} ms; memory: {found.rss_mb:.0f} MB"
    )
    yield (
        f"  first to run out: {found.limiting_resource} "
        f"({found.limiting_share:.1%} of what may be used)"
    )


def _format_fit(found: Fit) -> Iterator[str]:
    for measured in found.measured:
        yield from _format_measured(measured)
    largest = found.measured[-1]
    yield (
        f"bench: {format_count(found.groups_that_fit, 'group')} of "
        f"{format_count(largest.features, 'feature')} fit this machine at "
        f"{largest.interval_seconds:g} s; first to run out: {found.limiting_resource}"
    )
