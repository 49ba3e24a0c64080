"""What a query costs: its time, and the samples that the server reads for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient


@dataclass(frozen=True)
class QueryCost:
    """The cost of one query for one tick.

    Attributes:
        seconds: from the question to the answer.
        samples: how many the server read for it; None if the server does not report that.
    """

    seconds: float
    samples: int | None


def measure_costs(
    client: PrometheusClient,
    queries: Mapping[str, str],
    at: float,
    most_series: int,
    elapsed: Callable[[], float] = time.perf_counter,
) -> dict[str, QueryCost]:
    """The cost of each query (alias → PromQL) at one time; those that fail are left out.

    Raises:
        UnreachableError, BusyError: if the server does not answer.
    """
    costs = {}
    for alias, expr in queries.items():
        began = elapsed()
        try:
            data = client.fetch_with_stats(expr, at, most_series)
        except (UnreachableError, BusyError):
            raise
        except PrometheusError:
            continue
        costs[alias] = QueryCost(elapsed() - began, _read_samples(data))
    return costs


def _read_samples(data: Any) -> int | None:
    try:
        return int(data["stats"]["samples"]["totalQueryableSamples"])
    except (LookupError, TypeError, ValueError):
        return None
