"""Range-based precision and recall: how much of each segment alarms cover, in how many pieces.

Tatbul et al. 2018, "Precision and recall for time series", NeurIPS, sections 4.1 and 4.2.
"""

from __future__ import annotations

import numpy as np

from promad.evaluation.agreement import Agreement, Flags, segments

EXISTENCE = 0.2
"""What merely meeting a segment is worth in its recall; the rest goes by the samples covered."""


def range_based(alarming: Flags, labels: Flags, existence: float = EXISTENCE) -> Agreement:
    """Range-based recall of the segments, and precision of the runs of alarms.

    The paper's parameters: flat bias (every sample of a range is worth the same), the reciprocal
    cardinality factor (a range met by x others gets 1 / x of its overlap), alpha = `existence` for
    recall. Precision knows no existence reward.

    NaN: the recall without labels, the precision without alarms.
    """
    return Agreement(_mean_reward(alarming, labels, 0.0), _mean_reward(labels, alarming, existence))


def _mean_reward(ranges: Flags, by: Flags, existence: float) -> float:
    """The mean reward of the runs in `ranges`; NaN if there are none."""
    starts, ends = segments(ranges)
    if len(starts) == 0:
        return float("nan")
    covered = np.concatenate([[0], np.cumsum(by)])
    overlap = (covered[ends] - covered[starts]) / (ends - starts)
    other_starts, other_ends = segments(by)
    met = np.searchsorted(other_starts, ends) - np.searchsorted(other_ends, starts, side="right")
    reward = existence * (met > 0) + (1 - existence) * overlap / np.maximum(met, 1)
    return float(reward.mean())
