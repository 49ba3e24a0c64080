"""A configuration of a preset, with a comment for each choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

from promad.config import format_duration
from promad.config.document import format_document
from promad.errors import escape_control_characters
from promad.presets.loading import Preset, PresetQuery
from promad.presets.timing import LONGEST_HISTORY_HOURS, Timing

_WIDTH = 100


@dataclass(frozen=True)
class Draft:
    """What goes into a configuration.

    Attributes:
        name: of the preset and of the detector.
        url: of the server; None if it is not known.
        http_config: the keys of `prometheus`.
        group_by: the labels of a group.
        timing: step, windows and periods.
        max_groups: how many groups to admit; None for the default.
        left_out: by alias why a query is left out.
        found: what was found on the server, in one sentence.
    """

    name: str
    preset: Preset
    url: str | None
    http_config: Mapping[str, Any]
    group_by: Sequence[str]
    timing: Timing
    max_groups: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    found: str = ""

    def fill(self, alias: str) -> str:
        """The PromQL of a query."""
        return self.preset.queries[alias].fill(self.group_by, self.timing.window)


def render_config(draft: Draft) -> str:
    """The text of config.yaml."""
    sections = (
        _render_head(draft),
        _render_server(draft),
        _render_queries(draft),
        _render_groups(draft),
        _render_data(draft),
        _render_live(draft.timing),
    )
    return "\n".join("\n".join([*lines, ""]) for lines in map(list, sections) if lines)


def _comment(text: str, indent: str = "") -> Iterator[str]:
    printable = escape_control_characters(text)  # YAML has more line ends than wrap knows
    width = _WIDTH - len(indent) - 2
    lines = wrap(printable, width, break_long_words=False, break_on_hyphens=False)
    yield from (f"{indent}# {line}" for line in lines)


def _render_head(draft: Draft) -> Iterator[str]:
    yield from _comment(
        f"Configuration of promad for {draft.preset.title} ({draft.preset.exporter}), written by "
        "promad init. Check it on the server: promad check-config --online. A key that is missing "
        "has its default: promad config prints all keys."
    )
    yield from _comment(draft.found)


def _render_server(draft: Draft) -> Iterator[str]:
    yield "# Name of the detector: label `detector` of its metrics, and part of every bundle."
    yield f"name: {draft.name}"
    yield ""
    if draft.url is None:
        yield "# Set this to the URL of your Prometheus."
    yield f"prometheus_url: {draft.url or 'http://localhost:9090'}"
    yield ""
    yield "# Directory for data, cache, bundles and events. Each detector needs its own."
    yield f"artifacts_dir: artifacts/{draft.name}"
    if draft.http_config:
        yield ""
        yield "# HTTP client settings."
        yield format_document({"prometheus": draft.http_config}).rstrip("\n")


def _render_queries(draft: Draft) -> Iterator[str]:
    timing = draft.timing
    yield from _comment(
        f"Rates are over {format_duration(timing.window)}: at least four scrapes, at a scrape "
        f"interval of {format_duration(timing.interval)}."
    )
    if draft.left_out:
        yield "# To use a query that was left out, remove the # of its lines."
    yield "queries:"
    for alias, query in draft.preset.queries.items():
        why = draft.left_out.get(alias)
        yield from _comment(f"{query.meaning.rstrip('.')} ({query.unit}).", "  ")
        lines = _render_query(alias, query, draft.fill(alias))
        if why is None:
            yield from (f"  {line}" for line in lines)
        else:
            yield from _comment(f"Left out: {why}.", "  ")
            yield from (f"  #{line}" for line in lines)


def _render_query(alias: str, query: PresetQuery, expr: str) -> Iterator[str]:
    yield f"{alias}:"
    parts = wrap(expr, _WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    if len(expr) <= _WIDTH - 12:
        yield f"  expr: {expr}"
    else:
        yield "  expr: >-"
        yield from (f"    {part}" for part in parts)
    low, high = (_format_limit(limit) for limit in query.valid_range)
    yield f"  valid_range: [{low}, {high}]"
    if query.direction != "both":
        yield f"  direction: {query.direction}"


def _format_limit(limit: float | None) -> str:
    return "null" if limit is None else f"{limit:g}"


def _render_groups(draft: Draft) -> Iterator[str]:
    if draft.group_by:
        yield "# Labels whose values make one group, with its own score, state and events."
    else:
        yield "# Everything is one group."
    yield f"group_by: [{', '.join(draft.group_by)}]"
    if draft.max_groups is not None:
        yield ""
        yield "# Maximum number of groups: more than the default, because there are as many."
        yield f"max_groups: {draft.max_groups}"


def _render_data(draft: Draft) -> Iterator[str]:
    timing = draft.timing
    yield "data_settings:"
    yield f"  # Length of the history up to now, in hours.{_explain_hours(draft)}"
    yield f"  collection_period_hours: {timing.hours:g}"
    yield "  # Time between two samples; at least the scrape interval."
    yield f"  step: {format_duration(timing.step)}"


def _explain_hours(draft: Draft) -> str:
    if draft.url is None or draft.timing.hours >= LONGEST_HISTORY_HOURS:
        return ""
    return f"\n  # Raise it to {LONGEST_HISTORY_HOURS:g} once the server has a week of it."


def _render_live(timing: Timing) -> Iterator[str]:
    if timing.step == 30.0 and timing.stale_after is None:
        return
    yield "real_time_anomaly_detection:"
    yield "  # Time between two polls, in seconds."
    yield f"  query_interval_seconds: {timing.step:g}"
    if timing.stale_after is not None:
        yield "  # Samples older than this are missing: three scrapes."
        yield f"  stale_after: {format_duration(timing.stale_after)}"
