"""A preset made to fit a server: step and windows, and the queries that hold there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from promad.config import Config, format_duration
from promad.data.groups import Grouping
from promad.presets.loading import Preset
from promad.presets.selection import find_unfit
from promad.presets.timing import (
    DEFAULT_INTERVAL,
    LONGEST_HISTORY_HOURS,
    Timing,
    choose_timing,
)
from promad.presets.writing import Draft
from promad.prometheus import PrometheusClient
from promad.prometheus.checking import inspect_latency
from promad.prometheus.discovery import Discovery, find_history, find_interval
from promad.prometheus.groups.checking import GroupCheckOptions, inspect_groups, list_groups
from promad.prometheus.groups.past import inspect_past
from promad.prometheus.sample_gaps import CheckLimits


@dataclass(frozen=True)
class Fit:
    """A draft that fits a server.

    Attributes:
        draft: with the reason of each query that is left out.
        groups: how many groups the other queries have.
        history: seconds of history that were found.
    """

    draft: Draft
    groups: int
    history: float

    @property
    def is_empty(self) -> bool:
        """Whether no query holds."""
        return len(self.draft.left_out) == len(self.draft.preset.queries)


def fit_preset(
    client: PrometheusClient, draft: Draft, found: Discovery, defaults: Config, now: float
) -> Fit:
    """The draft with the times and queries that fit the server at `now` (unix seconds).

    Args:
        draft: of which times and queries are still to be chosen.
        found: what is known of the server.
        defaults: what the keys are that the file will not have.

    Raises:
        PrometheusError: if the server does not answer.
    """
    preset = draft.preset
    metric = preset.find_metric(found.names)
    interval = find_interval(client, metric, found.intervals, now) or DEFAULT_INTERVAL
    history = find_history(client, metric, now)
    timing = choose_timing(interval, history, defaults.training_settings.sequence_length)
    draft = replace(draft, timing=timing)
    missing = _find_missing(preset, found)
    queries = {alias: draft.fill(alias) for alias in preset.queries if alias not in missing}
    latency = inspect_latency(client, "auto", now)
    options = GroupCheckOptions(
        queries=queries,
        grouping=Grouping(tuple(draft.group_by)),
        step=timing.step,
        limits=_choose_limits(defaults, timing, latency.offset),
        max_groups=defaults.max_groups,
    )
    checks = inspect_groups(client, options, now - latency.offset)
    period = min(history, timing.hours * 3600)
    past = inspect_past(client, options, period, now - latency.offset)
    unfit = {**missing, **find_unfit(queries, draft.group_by, checks, past, period)}
    groups = len(list_groups([check for check in checks if check.alias not in unfit]))
    draft = replace(
        draft,
        max_groups=_choose_max_groups(groups, defaults.max_groups),
        left_out={alias: unfit[alias] for alias in preset.queries if alias in unfit},
        found=describe_server(draft.url or "", found, timing, groups, history),
    )
    return Fit(draft, groups, history)


def _find_missing(preset: Preset, found: Discovery) -> dict[str, str]:
    """By alias which metrics of a query the server does not have."""
    missing = {alias: query.list_missing(found.names) for alias, query in preset.queries.items()}
    return {
        alias: f"the server has no {' and no '.join(names)}".replace("|", " or ")
        for alias, names in missing.items()
        if names
    }


def _choose_max_groups(groups: int, default: int) -> int | None:
    """A fifth more than there are, in thousands; None if the default fits."""
    return None if groups <= default else ceil(1.2 * groups / 1000) * 1000


def _choose_limits(defaults: Config, timing: Timing, latency_offset: float) -> CheckLimits:
    """What `detect` and `preprocess` will require of samples."""
    default = defaults.real_time_anomaly_detection.stale_after
    return CheckLimits(
        stale_after=timing.stale_after or default,
        max_fill_steps=defaults.preprocessing_settings.max_fill_steps,
        length=defaults.training_settings.sequence_length,
        latency_offset=latency_offset,
    )


def describe_server(url: str, found: Discovery, timing: Timing, groups: int, history: float) -> str:
    """What the head of the file says about the server."""
    parts = [
        f"{groups} {'group' if groups == 1 else 'groups'}",
        f"scrape interval {format_duration(timing.interval)}",
        f"{format_history(history)} of history",
    ]
    if found.retention:
        parts.append(f"retention {found.retention}")
    return f"Found on {url}: {', '.join(parts)}."


def format_history(seconds: float) -> str:
    """The length of a history, to the minute; no more than a week is looked for.

    >>> format_history(3 * 86400.0), format_history(7 * 86400.0)
    ('3d', '7d or more')
    """
    longest = LONGEST_HISTORY_HOURS * 3600
    if seconds >= 0.99 * longest:
        return f"{format_duration(longest)} or more"
    unit = 3600 if seconds >= 2 * 86400 else 60
    return format_duration(seconds // unit * unit)
