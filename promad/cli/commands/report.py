"""`promad report`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from promad.cli.options import (
    FromOption,
    GroupOption,
    ToOption,
    load_one_config,
    parse_period,
    require_groups,
)
from promad.cli.output import format_count, print_lines
from promad.cli.progress import show_replay_progress


def report(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.")
    ],
    start: FromOption = "24h",
    end: ToOption = "now",
    group: GroupOption = None,
) -> None:
    """Write a report about a period as one HTML file, which needs no network.

    It shows the score, every event with the features that drive it, and the observed and expected
    values of these features. With group_by, it shows every incident and the groups with the
    highest peaks; --group shows one group.
    """
    from promad.stages.report import write_fleet_report, write_report

    config = load_one_config(context)
    require_groups("report", config, group)
    first, last = parse_period(start, end, time.time())
    with show_replay_progress(config, first, last) as show:
        if config.group_by and group is None:
            fleet = write_fleet_report(
                config, first, last, output, [lambda sample: show(sample.judgements.at)]
            )
            groups = sum(bool(tally.events) for tally in fleet.groups)
            what = (
                f"{format_count(len(fleet.found), 'incident')}, "
                f"{format_count(len(fleet.events), 'event')} in {format_count(groups, 'group')}"
            )
            samples = len(fleet.times)
        else:
            found = write_report(
                config, first, last, output, [lambda status: show(status.verdict.at)], group
            )
            what, samples = format_count(len(found.events), "event"), len(found.times)
    print_lines([f"report: {what} in {format_count(samples, 'sample')} → {output}"])
