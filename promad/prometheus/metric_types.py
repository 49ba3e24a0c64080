"""The types of metrics, by the metadata that a server keeps of its targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient

_OF_DISTRIBUTIONS = ("_sum", "_count", "_bucket")
_DISTRIBUTIONS = {"histogram", "summary"}


def ask_types(client: PrometheusClient, metrics: Iterable[str]) -> dict[str, str]:
    """The type of each metric: `counter`, `gauge` or another word of the exposition formats.

    Metrics are left out whose type the server does not know, as those of recording rules, or of
    which targets disagree. The sums, counts and buckets of histograms and summaries are counters.

    Raises:
        UnreachableError, BusyError: if the server does not answer.
    """
    found = {metric: _ask_type(client, metric) for metric in metrics}
    return {metric: kind for metric, kind in found.items() if kind is not None}


def _ask_type(client: PrometheusClient, metric: str) -> str | None:
    """OpenMetrics has the metadata of a counter under its name without `_total`."""
    for family, is_part in _list_families(metric):
        kinds = _ask_kinds(client, family)
        if is_part and kinds and kinds <= _DISTRIBUTIONS:
            return "counter"
        if len(kinds) == 1 and not (is_part and kinds & _DISTRIBUTIONS):
            (kind,) = kinds
            return kind
    return None


def _list_families(metric: str) -> Iterator[tuple[str, bool]]:
    """The names under which there may be metadata, and whether the metric is a part of that."""
    yield metric, False
    for suffix in _OF_DISTRIBUTIONS:
        if metric.endswith(suffix):
            yield metric.removesuffix(suffix), True
    if metric.endswith("_total"):
        yield metric.removesuffix("_total"), False


def _ask_kinds(client: PrometheusClient, family: str) -> set[str]:
    try:
        data: Any = client.fetch("metadata", {"metric": family})
        return {str(entry["type"]) for entry in data.get(family, ())} - {"unknown", "untyped"}
    except (UnreachableError, BusyError):
        raise
    except (PrometheusError, AttributeError, LookupError, TypeError):
        return set()
