"""`promad collect`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.options import load_one_config
from promad.cli.output import format_count, group_names, print_lines
from promad.cli.progress import show_progress
from promad.config import Config

if TYPE_CHECKING:
    from promad.stages.collect import Collected


def collect(
    context: typer.Context,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", metavar="", help="Fetch everything again; ignore the cache."),
    ] = False,
) -> None:
    """Fetch the history of every query into a Parquet file.

    Only what is not in the cache is fetched. If a query fails or returns more or less than one
    series, the command fails and changes nothing.
    """
    run_collect(load_one_config(context), refresh=refresh)


def run_collect(
    config: Config, now: Callable[[], float] = time.time, *, refresh: bool = False
) -> None:
    """Collect up to `now` and print what was fetched."""
    from promad.stages.collect import collect as stage

    with show_progress("collect") as update:
        collected = stage(config, now=now(), progress=update, refresh=refresh)
    print_lines(format_collected(collected))


def format_collected(collected: Collected) -> Iterator[str]:
    """Missing samples per feature, then what was written and what it took."""
    shares = {name: f"{share:.2%}" for name, share in collected.missing_share.items() if share}
    for share, names in group_names(shares):
        yield f"  {share} of samples missing: {names}"
    for expr, marks in collected.marks.items():
        yield f"  marked for exclusion: {format_count(len(marks), 'period')} by {expr}"
    yield (
        f"collect: {format_count(collected.samples, 'sample')} of "
        f"{format_count(len(collected.features), 'feature')} → {collected.path} "
        f"({format_count(collected.requests, 'request')}, "
        f"{format_count(collected.points, 'value')} fetched, "
        f"{format_count(collected.chunks_from_cache, 'chunk')} from cache, "
        f"{collected.seconds:.1f} s)"
    )
