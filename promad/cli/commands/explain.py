"""`promad explain`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.options import TIME_HELP, load_configs, parse_time
from promad.cli.output import format_ratio, print_lines
from promad.config import Config
from promad.config.durations import format_instant
from promad.errors import PromadError

if TYPE_CHECKING:
    from promad.events.verdict import FeatureView, LargestDeviation
    from promad.stages.explain import Explained


def explain(
    context: typer.Context,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help=TIME_HELP)] = "now",
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            metavar="NAME",
            help="Only this group: a detector's name, or with group_by a group's name, its labels "
            "or one label value.",
        ),
    ] = None,
) -> None:
    """Explain the score of a sample: which features deviate, since when, what was expected.

    With group_by, name the group with --group.

    The samples are fetched again from Prometheus, so any time that it still has samples for works.
    The page and the API of the daemon show the same for the samples that it scored itself.
    """
    from promad.stages.explain import explain_at

    moment = parse_time(at, time.time())
    for config, own in _choose_groups(load_configs(context), group):
        print_lines(format_explained(explain_at(config, moment, own)))


def _choose_groups(
    configs: Sequence[Config], group: str | None
) -> Iterator[tuple[Config, str | None]]:
    """The configurations that a name concerns, each with the name of one of its groups.

    Raises:
        PromadError: if the name is no detector's and no configuration has groups.
    """
    plain = [config for config in configs if not config.group_by]
    grouped = [config for config in configs if config.group_by]
    named = [config for config in plain if group in {None, config.name}]
    detector = (group or "").partition("{")[0]
    own = [config for config in grouped if config.name == detector] or grouped
    if not named and not own:
        known = ", ".join(config.name for config in configs)
        raise PromadError(f"explain: unknown group {group} — use one of {known}")
    yield from ((config, None) for config in named)
    if group is None or not named:
        yield from ((config, None if group == config.name else group) for config in own)


def format_explained(explained: Explained) -> Iterator[str]:
    """State and paragraph, then a line for each feature that contributes."""
    verdict, explanation = explained.explanation.verdict, explained.explanation
    yield f"{explained.group} at {format_instant(verdict.at)}: {verdict.state}"
    yield f"  {explanation.paragraph}"
    width = max((len(view.name) for view in explanation.features), default=0)
    for view in explanation.features:
        yield f"    {view.name:{width}}  {_format_feature(view)}"
    for name, words in explained.counts.items():
        yield f"  {name} counts {words}"
    if verdict.missing:
        yield f"  missing: {', '.join(verdict.missing)}"


def _format_feature(view: FeatureView) -> str:
    observed = "missing" if math.isnan(view.observed) else f"{view.observed:.4g}"
    since = "" if view.since is None else f"  since {format_instant(view.since)}"
    newest = (
        f"{view.contribution:4.0%}  {view.direction:5}  observed {observed:>10}  "
        f"expected {view.expected:10.4g}  error {format_ratio(view.elevation):>5}× baseline{since}"
    )
    return newest if view.largest is None else f"{newest}  {_format_largest(view.largest)}"


def _format_largest(largest: LargestDeviation) -> str:
    """Where the feature deviated most."""
    return (
        f"largest at {format_instant(largest.at)}: observed {largest.observed:.4g}, "
        f"expected {largest.expected:.4g}"
    )
