"""How often the series of a selector are really scraped, by the number of their samples."""

from __future__ import annotations

from collections.abc import Iterable

from promad.config import format_duration
from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient

Intervals = dict[str, dict[str, float]]
"""By selector and by job, seconds between two samples."""

_SHORTEST_WINDOW = 600.0
_WINDOW_STEPS = 20


def measure_intervals(
    client: PrometheusClient, selectors: Iterable[str], step: float, at: float
) -> Intervals:
    """About how many seconds are between two samples of each selector, by job.

    It is the series with the most samples of each job that counts, of those that are there for 20
    steps and at least 10 minutes; and of that time and the same time before it, the one with more
    samples, so that a restart of the server does not count. Jobs without such a series, and
    selectors that the server does not answer, are left out. `job` is empty for series without that
    label, as of recording rules.

    Args:
        step: seconds between samples of the detector.
        at: unix seconds.

    Raises:
        UnreachableError, BusyError: if the server does not answer.
    """
    window = max(_SHORTEST_WINDOW, _WINDOW_STEPS * step)
    found: Intervals = {}
    for selector in selectors:
        counts = _count(client, selector, window, at)
        for job, before in _count(client, selector, window, at - window).items():
            if job in counts:
                counts[job] = max(counts[job], before)
        found[selector] = {job: window / count for job, count in counts.items()}
    return found


def _count(client: PrometheusClient, selector: str, window: float, at: float) -> dict[str, float]:
    """By job, how many samples a series has in the `window` seconds before `at`, at most."""
    text = format_duration(window)
    counted = f"count_over_time({selector}[{text}]) and {selector} offset {text}"
    try:
        answer = client.query(f"max by (job) ({counted})", at)
    except (UnreachableError, BusyError):
        raise
    except PrometheusError:
        return {}
    counts = {dict(each.labels).get("job", ""): float(each.values[-1]) for each in answer.series}
    return {job: count for job, count in counts.items() if count > 0}
