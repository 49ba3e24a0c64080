"""`promad filter`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.commands.train import format_low_threshold
from promad.cli.options import load_one_config
from promad.cli.output import format_count, format_ratio, format_shares, print_lines
from promad.config import Config
from promad.config.durations import format_instant

if TYPE_CHECKING:
    from promad.stages.filter import FilterReport, TrimReport


def filter_(
    context: typer.Context,
    trim: Annotated[
        bool,
        typer.Option(
            "--trim", metavar="", help="Drop the worst training windows (at most trim_share)."
        ),
    ] = False,
) -> None:
    """Split the windows of the processed data into normal and anomalous ones.

    Check the worst windows, which the command lists. To train without them, set
    train_on_filtered_sequences and train again. With --trim, only windows of the training part are
    dropped, at most trim_share of them; a pattern that recurs on another day is kept.
    """
    run_filter(load_one_config(context), trim)


def run_filter(config: Config, trimming: bool = False) -> None:
    """Filter and print the result."""
    from promad.stages.filter import filter_windows

    print_lines(format_filtering(filter_windows(config, trimming=trimming)))


def run_trimming(config: Config, dropped_before: Sequence[float] = ()) -> tuple[float, ...]:
    """Trim and print the result; the times of all dropped windows, with those dropped before."""
    from promad.stages.filter import filter_windows

    report = filter_windows(config, trimming=True, dropped_before=dropped_before)
    print_lines(format_filtering(report))
    return report.dropped


def format_filtering(report: FilterReport) -> Iterator[str]:
    """The worst windows, then the counts; of trimming, what was dropped and what recurs."""
    if report.trimmed is not None:
        yield from _format_trimming(report, report.trimmed)
        return
    for window in report.worst:
        yield (
            f"  window ending {format_instant(window.end)}: {format_ratio(window.ratio)}× "
            f"threshold, {format_shares(window.top_features)}"
        )
    yield from format_low_threshold(report.method, _share_anomalous(report))
    yield (
        f"filter: {report.normal} normal and {report.anomalous} anomalous windows "
        f"({_share_anomalous(report):.1%}) at threshold {report.threshold:.4g} → "
        f"{report.normal_path}, {report.anomalous_path}"
    )


def _format_trimming(report: FilterReport, trimmed: TrimReport) -> Iterator[str]:
    if report.not_trimmed:
        yield (
            f"  model {report.not_trimmed} is not trimmed, because trimming does not improve it — "
            "to leave an incident out of training, use data_settings.exclude"
        )
    for word, stretches in (("dropped", trimmed.dropped), ("kept, recurs", trimmed.recurring)):
        for stretch in stretches:
            yield (
                f"  {word}: {format_count(stretch.windows, 'window')} ending "
                f"{format_instant(stretch.first)}/{format_instant(stretch.last)}, "
                f"{format_ratio(stretch.ratio)}× threshold, {format_shares(stretch.top_features)}"
            )
    yield (
        f"filter: {report.anomalous} of {report.normal + report.anomalous} windows dropped "
        f"({_share_anomalous(report):.1%}), "
        f"{format_count(len(trimmed.recurring), 'recurring period')} kept → "
        f"{report.normal_path}, {report.anomalous_path}"
    )


def _share_anomalous(report: FilterReport) -> float:
    total = report.normal + report.anomalous
    return report.anomalous / total if total else 0.0
