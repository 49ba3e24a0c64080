"""The values of a query over the whole history, for `init`: how many, and whether they vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.config import format_duration
from promad.data.frame import align_down
from promad.data.groups import Labels
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, on_grid
from promad.prometheus.groups.checking import GroupCheckOptions

_PROBES = 120
_FINE_STEP = 120.0
"""Seconds: no rate of a preset is over less, so that none is overlooked between two of them."""


@dataclass(frozen=True)
class Past:
    """The values of a query at about a hundred times of the history.

    Attributes:
        share: the share of them that are there, of all its groups together; 0 to 1.
        constant: the value if every group has only this one; None if any varies, or they differ.
    """

    share: float
    constant: float | None


def inspect_past(
    client: PrometheusClient, options: GroupCheckOptions, seconds: float, at: float
) -> dict[str, Past]:
    """The past of each query over the `seconds` before `at` (unix seconds); none of one that fails.

    Raises:
        UnreachableError: if the server does not answer.
    """
    step = max(options.step, align_down(seconds / _PROBES, options.step))
    end = align_down(at, options.step)
    span = Span(end - align_down(seconds, step), end)
    found = {}
    for alias, expr in options.queries.items():
        try:
            past = _inspect(client, expr, options, span, step)
            if past.constant is not None and _varies(client, expr, span, options.step):
                past = Past(past.share, None)
            found[alias] = past
        except UnreachableError:
            raise
        except (PrometheusError, ValueError):
            continue
    return found


def _inspect(
    client: PrometheusClient, expr: str, options: GroupCheckOptions, span: Span, step: float
) -> Past:
    answer = client.query_range(expr, span.start, span.end, step, most_series=options.most_series)
    columns: dict[Labels, NDArray[np.float64]] = {}
    for series in answer.series:
        group = options.grouping.find_group(series.labels)
        if group is None:
            continue
        values = on_grid(series, span, step)
        columns[group] = np.fmax(columns[group], values) if group in columns else values
    return _describe(columns)


def _describe(columns: Mapping[Labels, NDArray[np.float64]]) -> Past:
    if not columns:
        return Past(0.0, None)
    values = np.array(list(columns.values()))
    known = values[~np.isnan(values)]
    constant = float(known[0]) if known.size and (known == known[0]).all() else None
    return Past(known.size / values.size, constant)


def _varies(client: PrometheusClient, expr: str, span: Span, step: float) -> bool:
    """Whether a query that is constant at the probes varies between them; if unknown, it does."""
    period = f"[{format_duration(span.end - span.start)}:{format_duration(max(step, _FINE_STEP))}]"
    highest, lowest = (f"{kind}({kind}_over_time(({expr}){period}))" for kind in ("max", "min"))
    try:
        answer = client.query(f"{highest} - {lowest}", span.end)
    except UnreachableError:
        raise
    except PrometheusError:
        return True
    return not all(len(one.values) and one.values[0] == 0.0 for one in answer.series)
