"""What promad requires of a query: one series at each time. And the messages that say so.

Each line reads `PROMQL: what is wrong — what to do`; `add_alias` prepends the query's alias.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import points_between
from promad.data.groups import Labels, list_matchers
from promad.errors import PrometheusError
from promad.prometheus.freshness import find_sources
from promad.prometheus.grid import Span, on_grid
from promad.prometheus.parsing import Answer, Series, TableAnswer

MOST_OVERLAP = 0.1
"""Share of samples at which series may overlap: a restart in an hour costs five minutes of it."""

MOST_PARTS = 100
"""Series that are read for a query that must have one at a time: restarts change its labels."""
_MOST_LABEL_SETS = 5
_MOST_CHARACTERS = 300


def flatten_text(text: str) -> str:
    r"""The text without line breaks and control characters, cut at 300 characters.

    >>> flatten_text("sum(\n  up\n)\x1b")
    'sum( up )'
    """
    printable = (letter if letter.isprintable() else " " for letter in text)
    flat = " ".join("".join(printable).split())
    return flat if len(flat) <= _MOST_CHARACTERS else flat[: _MOST_CHARACTERS - 1] + "…"


def add_alias(alias: str, error: PrometheusError) -> PrometheusError:
    """The same error, with the alias of its query."""
    return type(error)(f"query {alias}: {error}", error.reason, error.fault)


def build_not_asked_error(alias: str, first: str, lost: PrometheusError) -> PrometheusError:
    """The failure of a query that was not asked once the server had failed at another."""
    message = f"query {alias}: not asked after query {first} failed"
    return type(lost)(message, lost.reason, lost.fault)


@dataclass(frozen=True, eq=False)
class OneSeries:
    """The series of an answer as one, whose labels may change from time to time.

    Attributes:
        values: float64 (samples,); NaN where no series has a value, and where several have one.
        overlaps: bool (samples,), where several have one.
        newest: the label sets with a value at the last time.
    """

    values: NDArray[np.float64]
    overlaps: NDArray[np.bool_]
    newest: tuple[Labels, ...]

    def exceeds_overlap(self) -> bool:
        """Whether series overlap at too many of the times with a value."""
        overlaps = int(self.overlaps.sum())
        return overlaps > MOST_OVERLAP * (overlaps + int((~np.isnan(self.values)).sum()))


def take_series(
    expr: str, answer: Answer, span: Span, step: float, allow_partial: bool = False
) -> OneSeries:
    """What the answer has at each time of the span.

    Series that follow one another are one, as when a restart changes a label.

    Raises:
        PrometheusError: if there are too many series for that, or if the server warned and
            `allow_partial` is not set.
        ValueError: if a series has times that are not in the span, or different values at one.
    """
    check_warnings(expr, answer.warnings, allow_partial)
    values = np.full(points_between(span.start, span.end, step), np.nan)
    count = np.zeros(len(values), np.int64)
    newest = []
    for series in answer.series:
        column = on_grid(series, span, step)
        known = ~np.isnan(column)
        values[known] = column[known]
        count += known
        if known[-1]:
            newest.append(series.labels)
    values[count > 1] = np.nan
    return OneSeries(values, count > 1, tuple(newest))


def take_table(
    expr: str, answer: TableAnswer, span: Span, step: float, allow_partial: bool = False
) -> OneSeries:
    """The same as `take_series` for an answer of one series, whose labels are not read.

    Raises:
        PrometheusError, ValueError: as `take_series`.
    """
    check_warnings(expr, answer.warnings, allow_partial)
    values = on_grid(Series((), answer.table.times, answer.table.values), span, step)
    return OneSeries(values, np.zeros(len(values), np.bool_), ())


def require_one(expr: str, seen: Collection[Labels]) -> None:
    """Raise PrometheusError if more label sets were seen than one feature can hold."""
    if len(seen) > 1:
        raise build_several_error(expr, seen, len(seen))


def build_several_error(
    expr: str, labels: Collection[Labels], count: int, *, more: bool = False
) -> PrometheusError:
    """The error of an expression with several series: `count`, or more than that.

    `labels` are those of the first series.
    """
    shown = ", ".join(map(format_labels, list(labels)[:_MOST_LABEL_SETS]))
    rest = count - _MOST_LABEL_SETS
    others = " and others" if more else f" and {rest} more" if rest > 0 else ""
    flat = flatten_text(expr)
    return PrometheusError(
        f"{flat}: {'more than ' if more else ''}{count} series, expected one: {shown}{others} — "
        f"aggregate with sum({flat}) or avg({flat}), or add label matchers",
        "several_series",
    )


def build_no_series_error(expr: str) -> PrometheusError:
    """The error of an expression that yields nothing."""
    return PrometheusError(
        f"{flatten_text(expr)}: no series in the requested period — "
        f"check the metric's name and labels, and that it is scraped{suggest_zero(expr)}",
        "no_series",
    )


def suggest_zero(expr: str) -> str:
    """What else to do about an expression without samples, if that may mean that nothing happened.

    It may where the value comes from a range, as in a rate.

    >>> suggest_zero("sum(rate(errors_total[2m]))"), suggest_zero("up")
    (', or append `or vector(0)` to the expression if no sample means 0', '')
    """
    if find_sources(expr).known:
        return ""
    return ", or append `or vector(0)` to the expression if no sample means 0"


def check_warnings(expr: str, warnings: Sequence[str], allow_partial: bool) -> None:
    """Raise PrometheusError if the server warned and `allow_partial` is not set."""
    if warnings and not allow_partial:
        raise PrometheusError(
            f"{flatten_text(expr)}: warning from the server: "
            f"{flatten_text('; '.join(warnings))} — "
            "fix the cause, or set data_settings.allow_partial to accept such responses",
            "partial",
        )


def format_labels(labels: Labels) -> str:
    """A label set as Prometheus writes it.

    >>> format_labels((("__name__", "up"), ("job", "node")))
    'up{job="node"}'
    """
    name = dict(labels).get("__name__", "")
    inside = list_matchers(tuple(pair for pair in labels if pair[0] != "__name__"))
    return f"{name}{{{inside}}}" if inside or not name else name
