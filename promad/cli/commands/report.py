"""`promad report`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from promad.cli.options import FromOption, ToOption, load_one_config, parse_period
from promad.cli.output import format_count, print_lines
from promad.cli.progress import show_replay_progress


def report(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.")
    ],
    start: FromOption = "24h",
    end: ToOption = "now",
) -> None:
    """Write a report about a period as one HTML file, which needs no network.

    It shows the score, every event with the features that drive it, and the observed and expected
    values of these features.
    """
    from promad.stages.report import write_report

    config = load_one_config(context)
    first, last = parse_period(start, end, time.time())
    with show_replay_progress(config, first, last) as progress:
        found = write_report(config, first, last, output, [progress])
    events = format_count(len(found.events), "event")
    print_lines([f"report: {events} in {format_count(len(found.times), 'sample')} → {output}"])
