"""`promad collect`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.backend_options import (
    BackendOption,
    JobsOption,
    RequestsOption,
    SchedulerOption,
    SendSecretsOption,
    choose_backend,
    choose_fetching,
)
from promad.cli.losses import format_losses
from promad.cli.options import load_one_config
from promad.cli.output import format_count, format_outside, group_names, print_lines
from promad.cli.progress import show_progress
from promad.config import Config
from promad.parallel.engine import Backend

if TYPE_CHECKING:
    from promad.stages.collect import Collected


def collect(
    context: typer.Context,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", metavar="", help="Fetch everything again; ignore the cache."),
    ] = False,
    backend: BackendOption = None,
    scheduler: SchedulerOption = None,
    jobs: JobsOption = None,
    requests: RequestsOption = 4,
    send_secrets: SendSecretsOption = False,
) -> None:
    """Fetch the history of every query into a Parquet file.

    Only what is not in the cache is fetched. If a query fails or returns more or less than one
    series, the command fails and changes nothing.

    With --backend, workers fetch the history of groups. They need access to the server.
    """
    config = load_one_config(context)
    where = choose_backend(backend, scheduler, jobs)
    where = choose_fetching(config, where, requests, send_secrets)
    run_collect(config, refresh=refresh, backend=where)


def run_collect(
    config: Config,
    now: Callable[[], float] = time.time,
    *,
    refresh: bool = False,
    backend: Backend | None = None,
) -> None:
    """Collect up to `now` and print what was fetched.

    Args:
        backend: what fetches, in place of this process.
    """
    from promad.stages.collect import collect as stage

    with show_progress("collect") as update:
        asked_at = now()
        collected = stage(config, now=asked_at, progress=update, refresh=refresh, backend=backend)
    print_lines(format_collected(collected))
    print_lines(_format_shortfall(collected, config, asked_at))


def _format_shortfall(collected: Collected, config: Config, now: float) -> Iterator[str]:
    """How much of the requested time has samples, if that is less than nine tenths."""
    from promad.stages.collect import choose_periods

    data = config.data_settings
    requested = sum(end - start for start, end in choose_periods(data, now, latency_offset=0.0))
    known = 1.0 - min(collected.missing_share.values(), default=0.0)
    found = collected.samples * known * data.step
    if found < 0.9 * requested:
        yield (
            f"  {found / 3600:.3g} h of data for {requested / 3600:.3g} h requested "
            "— the server has no other samples of these queries"
        )


def format_collected(collected: Collected) -> Iterator[str]:
    """Missing samples per feature, then what was written and what it took."""
    shares = {name: f"{share:.2%}" for name, share in collected.missing_share.items() if share}
    for share, names in group_names(shares):
        yield f"  {share} of samples missing: {names}"
    yield from format_outside(collected.outside)
    for expr, marks in collected.marks.items():
        yield f"  marked for exclusion: {format_count(len(marks), 'period')} by {expr}"
    yield from format_losses(collected.losses)
    if collected.overlaps:
        names = ", ".join(f"{count} of {name}" for name, count in collected.overlaps.items())
        yield f"  missing, because several series of a group overlap: {names}"
    if collected.groups_refused:
        yield (
            f"  warning: {format_count(collected.groups_refused, 'group')} more than max_groups "
            f"({collected.groups}) left out — raise max_groups"
        )
    groups = f" in {format_count(collected.groups, 'group')}" if collected.groups else ""
    yield (
        f"collect: {format_count(collected.samples, 'sample')} of "
        f"{format_count(len(collected.features), 'feature')}{groups} → {collected.path} "
        f"({format_count(collected.requests, 'request')}, "
        f"{format_count(collected.points, 'value')} fetched, "
        f"{format_count(collected.chunks_from_cache, 'chunk')} from cache, "
        f"{collected.seconds:.1f} s)"
    )
