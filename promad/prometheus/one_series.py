"""What promad requires of a query: exactly one series. And the messages that say so.

Each line reads `PROMQL: what is wrong — what to do`; `add_alias` prepends the query's alias.
"""

from __future__ import annotations

from collections.abc import Collection

from promad.data.groups import Labels, list_matchers
from promad.errors import PrometheusError
from promad.prometheus.parsing import Answer, Series

MOST_PARTS = 20
"""Series that are read for a query that must have one: a server may send it in parts."""
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
    return type(error)(f"query {alias}: {error}", error.reason)


def build_not_asked_error(alias: str, first: str, lost: PrometheusError) -> PrometheusError:
    """The failure of a query that was not asked once the server had failed at another."""
    return type(lost)(f"query {alias}: not asked after query {first} failed", lost.reason)


def take_series(
    expr: str, answer: Answer, seen: dict[Labels, None], allow_partial: bool = False
) -> Series | None:
    """The one series of the answer, or None if there is none.

    `seen` collects the label sets of this query over several answers.

    Raises:
        PrometheusError: if there are several, now or with what was seen before, or if the server
            warned and `allow_partial` is not set.
    """
    check_warnings(expr, answer, allow_partial)
    seen.update(dict.fromkeys(series.labels for series in answer.series))
    require_one(expr, seen)
    return answer.series[0] if answer.series else None


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
        "check the metric's name and labels, and that it is scraped",
        "no_series",
    )


def check_warnings(expr: str, answer: Answer, allow_partial: bool) -> None:
    """Raise PrometheusError if the server warned and `allow_partial` is not set."""
    if answer.warnings and not allow_partial:
        raise PrometheusError(
            f"{flatten_text(expr)}: warning from the server: "
            f"{flatten_text('; '.join(answer.warnings))} — "
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
