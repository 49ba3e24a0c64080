"""`promad preprocess`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import typer

from promad.cli.losses import format_losses
from promad.cli.options import load_one_config
from promad.cli.output import format_count, format_outside, group_names, join_first, print_lines
from promad.config import Config
from promad.config.durations import format_instant
from promad.data.groups import Labels, list_matchers

if TYPE_CHECKING:
    from promad.data.sentinels import Sentinels
    from promad.stages.preprocess import Preprocessed

_MOST_PERIODS = 5
"""How many excluded periods are listed one by one."""
_MOST_GROUPS = 5


def preprocess(context: typer.Context) -> None:
    """Fill short gaps, split the data at long ones, and scale it.

    The scaler is fitted on the training part only. For each feature, the command reports how many
    missing samples it filled and how many are in gaps too long to fill. No window spans such a gap.
    """
    config = load_one_config(context)
    run_preprocess(config)


def run_preprocess(config: Config) -> None:
    """Preprocess the collected data and print what was filled, dropped and excluded."""
    from promad.stages.preprocess import preprocess as stage

    print_lines(format_preprocessed(stage(config)))


def format_preprocessed(done: Preprocessed) -> Iterator[str]:
    """Per feature what was filled and what was not, then the totals."""
    gaps = {
        name: f"{feature.missing} missing, {feature.filled} filled, "
        f"{feature.in_long_gaps} in gaps too long to fill"
        for name, feature in done.features.items()
        if feature.missing
    }
    for gap, names in group_names(gaps):
        yield f"  {gap}: {names}"
    yield from format_outside({name: each.outside for name, each in done.features.items()})
    for name, feature in done.features.items():
        if feature.sentinels is not None:
            yield _format_sentinels(name, feature.sentinels)
        if feature.constant:
            yield f"  {name}: constant so far; any change raises the score"
    yield from _format_excluded(done)
    yield from format_losses(done.losses)
    yield from format_left_out(done.groups_left_out)
    if done.scaler_path is None:
        yield (
            "  scikit-learn scaler not written: scikit-learn is not installed — pip install "
            "'promad-exporter[linear]' if another program needs it"
        )
    groups = f" of {format_count(done.groups, 'group')}" if done.groups else ""
    yield (
        f"preprocess: {format_count(done.rows, 'sample')}{groups}, {done.dropped} dropped, "
        f"{format_count(done.parts, 'segment')} without gaps → {done.path} "
        f"(scaler fitted on the first {format_count(done.training_rows, 'sample')})"
    )


def format_left_out(groups: Mapping[Labels, str]) -> Iterator[str]:
    """The groups without a calibration of their own, and why."""
    for labels, why in list(groups.items())[:_MOST_GROUPS]:
        yield f"  {{{list_matchers(labels)}}} has no calibration of its own: {why}"
    if len(groups) > _MOST_GROUPS:
        yield f"  and {format_count(len(groups) - _MOST_GROUPS, 'other group')}"


def _format_sentinels(name: str, found: Sentinels) -> str:
    """What looks like a sentinel, what the other values are, and what to do."""
    noun = "sample looks" if found.count == 1 else "samples look"
    return (
        f"  {name}: {found.count} {noun} like a sentinel value ({found.example:.3g}; all others "
        f"are {found.low:.3g} to {found.high:.3g}) — set valid_range in queries.{name}"
    )


def _format_excluded(done: Preprocessed) -> Iterator[str]:
    """What was excluded: the total, then the first periods of each reason."""
    if not done.excluded:
        return
    share = done.rows_excluded / done.rows
    samples = format_count(done.rows_excluded, "sample")
    by = "data_settings.exclude"
    if any(stretch.why.startswith("mute ") for stretch in done.excluded):
        by += " and mute"
    yield f"  excluded by {by}: {samples} ({share:.2%})"
    for why in dict.fromkeys(stretch.why for stretch in done.excluded):
        own = [stretch for stretch in done.excluded if stretch.why == why]
        spans = [f"{format_instant(each.start)}/{format_instant(each.end)}" for each in own]
        count = format_count(len(own), "period")
        yield f"    {why}: {count}, {join_first(spans, _MOST_PERIODS)}"
