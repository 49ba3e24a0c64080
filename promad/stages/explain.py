"""`explain`: which features drove the score of a sample, computed from the server's history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from promad.bundle import open_detector
from promad.config import Config
from promad.detection.group_names import find_labels
from promad.detection.group_replay import fetch_group_samples
from promad.detection.live import begin_live
from promad.detection.replay import fetch_samples, replay
from promad.events.explanation import Explanation, explain

LOOK_BACK_SAMPLES = 240
"""Number of earlier samples to score too, to find since when features deviate."""


@dataclass(frozen=True)
class Explained:
    """An explanation and its group.

    Attributes:
        counts: which deviations of a feature count, by its name, where that is not all.
    """

    group: str
    explanation: Explanation
    counts: Mapping[str, str] = field(default_factory=dict)


def explain_at(config: Config, at: float, group: str | None = None) -> Explained:
    """The explanation of the newest sample that is not after `at`, in unix seconds.

    The threshold is that of the bundle; whether a daemon had raised it is unknown.

    Args:
        group: the name of one group of many; not needed if there is one only.

    Raises:
        PrometheusError: if a query fails.
        DataError: if no group has the name, or none is named and there are several.
        BundleError: if the bundle is missing, damaged or does not fit the configuration.
    """
    opened = open_detector(config)
    step = opened.detector.preparation.step
    start = at - LOOK_BACK_SAMPLES * step
    if config.group_by:
        labels = find_labels(opened, group, at)
        frame = fetch_group_samples(opened, labels, start, at)
        live = begin_live(opened, [labels])
    else:
        frame, live = fetch_samples(opened, start, at), begin_live(opened)
    *_, last = replay(live, frame)
    status = last.status
    counts = {name: str(query.rule) for name, query in config.queries.items()}
    return Explained(
        live.state.names[0],
        explain(status.verdict, status.anomalous_since),
        {name: words for name, words in counts.items() if words},
    )
