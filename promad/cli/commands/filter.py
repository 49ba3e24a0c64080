"""`promad filter`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promad.cli.commands.train import format_low_threshold
from promad.cli.options import load_one_config
from promad.cli.output import format_count, format_ratio, format_shares, print_lines
from promad.config import Config
from promad.config.durations import format_instant

if TYPE_CHECKING:
    from promad.stages.filter import (
        FilterReport,
        FleetFilterReport,
        TrimmedStretch,
        TrimReport,
    )

_MOST_STRETCHES = 10


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
    dropped, at most trim_share of them; a pattern that recurs on another day is kept. With
    group_by, each group is filtered and trimmed by itself, and a file beside the windows has the
    group of each.
    """
    run_filter(load_one_config(context), trim)


def run_filter(config: Config, trimming: bool = False) -> None:
    """Filter and print the result."""
    _filter(config, trimming, ())


def run_trimming(config: Config, dropped_before: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Trim and print the result; what was dropped so far, to be passed to the next round."""
    return _filter(config, True, dropped_before)


def _filter(config: Config, trimming: bool, dropped_before: Sequence[Any]) -> tuple[Any, ...]:
    from promad.stages.filter import filter_fleet, filter_windows

    if config.group_by:
        fleet = filter_fleet(config, trimming=trimming, dropped_before=dropped_before)
        print_lines(format_fleet_filtering(fleet))
        return fleet.dropped
    report = filter_windows(config, trimming=trimming, dropped_before=dropped_before)
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


def format_fleet_filtering(report: FleetFilterReport) -> Iterator[str]:
    """The worst windows with their groups, or what trimming dropped, then the counts."""
    if report.trimmed:
        yield from _format_not_trimmed(report.not_trimmed)
        for word, stretches in (
            ("dropped", report.dropped_stretches),
            ("kept, recurs", report.recurring),
        ):
            for group, stretch in stretches[:_MOST_STRETCHES]:
                yield _format_stretch(f"{word}: {group}: ", stretch)
            if len(stretches) > _MOST_STRETCHES:
                more = format_count(len(stretches) - _MOST_STRETCHES, "more period")
                yield f"  {word}: {more}"
    for group, window, count in report.worst:
        yield (
            f"  {group}: {format_count(count, 'anomalous window')}, the worst ending "
            f"{format_instant(window.end)}: {format_ratio(window.ratio)}× threshold, "
            f"{format_shares(window.top_features)}"
        )
    yield from format_low_threshold(report.method, _share_anomalous(report))
    total = report.normal + report.anomalous
    what = (
        f"{report.anomalous} of {total} windows dropped ({_share_anomalous(report):.1%}) in "
        f"{report.affected} of {format_count(report.groups, 'group')}, "
        f"{format_count(len(report.recurring), 'recurring period')} kept"
        if report.trimmed
        else f"{report.normal} normal and {report.anomalous} anomalous windows "
        f"({_share_anomalous(report):.1%}) of {format_count(report.groups, 'group')}, "
        f"{report.affected} of them with anomalous windows, at threshold {report.threshold:.4g}"
    )
    some = f" ({report.written} normal windows)" if report.written < report.normal else ""
    yield f"filter: {what} → {report.normal_path}{some}, {report.anomalous_path}"


def _format_not_trimmed(model: str) -> Iterator[str]:
    if model:
        yield (
            f"  model {model} is not trimmed, because trimming does not improve it — "
            "to leave an incident out of training, use data_settings.exclude"
        )


def _format_stretch(prefix: str, stretch: TrimmedStretch) -> str:
    return (
        f"  {prefix}{format_count(stretch.windows, 'window')} ending "
        f"{format_instant(stretch.first)}/{format_instant(stretch.last)}, "
        f"{format_ratio(stretch.ratio)}× threshold, {format_shares(stretch.top_features)}"
    )


def _format_trimming(report: FilterReport, trimmed: TrimReport) -> Iterator[str]:
    yield from _format_not_trimmed(report.not_trimmed)
    for word, stretches in (("dropped", trimmed.dropped), ("kept, recurs", trimmed.recurring)):
        for stretch in stretches:
            yield _format_stretch(f"{word}: ", stretch)
    yield (
        f"filter: {report.anomalous} of {report.normal + report.anomalous} windows dropped "
        f"({_share_anomalous(report):.1%}), "
        f"{format_count(len(trimmed.recurring), 'recurring period')} kept → "
        f"{report.normal_path}, {report.anomalous_path}"
    )


def _share_anomalous(report: FilterReport | FleetFilterReport) -> float:
    total = report.normal + report.anomalous
    return report.anomalous / total if total else 0.0
