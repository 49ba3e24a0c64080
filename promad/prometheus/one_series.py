"""What promad asks of a query: exactly one series. And the lines that say so.

Each line reads `PROMQL: what is wrong — what to do`; `about` puts the query's alias before it.
"""

from __future__ import annotations

from collections.abc import Collection

from promad.data.frame import Labels
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.parsing import Answer, Series

_MOST_LABEL_SETS = 5
_MOST_CHARACTERS = 300


def one_line(text: str) -> str:
    r"""The text without line breaks, cut at 300 characters.

    >>> one_line("sum(\n  up\n)")
    'sum( up )'
    """
    flat = " ".join(text.split())
    return flat if len(flat) <= _MOST_CHARACTERS else flat[: _MOST_CHARACTERS - 1] + "…"


def about(alias: str, error: PrometheusError) -> PrometheusError:
    """The same error, naming the alias of the query that it befell."""
    message = f"query {alias}: {error}"
    if isinstance(error, UnreachableError):
        return UnreachableError(message)
    return PrometheusError(message, error.reason)


def the_series(
    expr: str, answer: Answer, seen: dict[Labels, None], allow_partial: bool = False
) -> Series | None:
    """The one series of the answer, or None if there is none.

    `seen` collects the label sets of this query over several answers.

    Raises:
        PrometheusError: if there are several, now or with what was seen before, or if the server
            warned and `allow_partial` is not set.
    """
    if answer.warnings and not allow_partial:
        raise warned(expr, answer.warnings)
    seen.update(dict.fromkeys(series.labels for series in answer.series))
    require_one(expr, seen)
    return answer.series[0] if answer.series else None


def require_one(expr: str, seen: Collection[Labels]) -> None:
    """Raise PrometheusError if more label sets were seen than one feature can hold."""
    if len(seen) <= 1:
        return
    shown = ", ".join(label_text(labels) for labels in list(seen)[:_MOST_LABEL_SETS])
    rest = len(seen) - _MOST_LABEL_SETS
    more = f" and {rest} more" if rest > 0 else ""
    flat = one_line(expr)
    raise PrometheusError(
        f"{flat}: {len(seen)} series where one is needed: {shown}{more} — "
        f"write sum({flat}) or avg({flat}), or add label matchers that leave one series",
        "several_series",
    )


def no_series(expr: str) -> PrometheusError:
    """Nothing at all was found."""
    return PrometheusError(
        f"{one_line(expr)}: no series in the whole time asked for — "
        "check the metric's name and labels, and that it is scraped",
        "no_series",
    )


def warned(expr: str, warnings: Collection[str]) -> PrometheusError:
    """The server answered, but with a reservation."""
    return PrometheusError(
        f"{one_line(expr)}: the server warns: {one_line('; '.join(warnings))} — "
        "mend the cause, or set data_settings.allow_partial to take such answers",
        "partial",
    )


def label_text(labels: Labels) -> str:
    """A label set as Prometheus writes it.

    >>> label_text((("__name__", "up"), ("job", "node")))
    'up{job="node"}'
    """
    name = dict(labels).get("__name__", "")
    inside = ", ".join(f'{key}="{value}"' for key, value in labels if key != "__name__")
    return f"{name}{{{inside}}}" if inside or not name else name
