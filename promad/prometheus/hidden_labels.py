"""Whether Prometheus stores the labels of groups under other names."""

from __future__ import annotations

from collections.abc import Sequence

from promad.data.groups import list_matchers
from promad.errors import PrometheusError
from promad.prometheus.client import PrometheusClient


def find_hidden_labels(
    client: PrometheusClient, metric: str, detector: str, labels: Sequence[str], at: float
) -> list[str]:
    """A line for each label of groups that a scrape without `honor_labels` renames, and its remedy.

    Args:
        metric: one that every group of the detector has.
        at: unix seconds.
    """
    return [
        f'{metric}: job "{job}" stores the label {label} of the groups as exported_{label}, so '
        f"their series do not join with those of the groups — add honor_labels: true to this job "
        "in the scrape configuration"
        for label in labels
        for job in _find_jobs(client, metric, detector, label, at)
    ]


def _find_jobs(
    client: PrometheusClient, metric: str, detector: str, label: str, at: float
) -> list[str]:
    """The jobs that rename a label; none if the server refuses to say."""
    matchers = list_matchers((("detector", detector),))
    selector = f'{metric}{{{matchers}, exported_{label}!=""}}'
    try:
        answer = client.query(f"count by (job) ({selector})", at)
    except PrometheusError:
        return []
    return [dict(series.labels).get("job", "") for series in answer.series]
