"""Which part of a history a threshold is chosen on, and how it is held against a usual tail."""

import math

import numpy as np
import pytest

from promad.thresholds import ThresholdSettings
from promad.thresholds.pot import find_value
from promad.training.threshold_choice import FEWEST_NEWEST, find_newest

DAY = 86400.0


def times_of(days, step):
    return 1.7e9 + np.arange(round(days * DAY / step)) * step


@pytest.mark.parametrize(
    ("days", "step", "budget", "kept_days"),
    [
        (28, 60, 1, 7),
        (28, 60, 7, 7),
        (56, 60, 0.25, 28),
        (5, 60, 1, 5),
        (28, 300, 1, FEWEST_NEWEST * 300 / DAY),
        (5, 300, 1, 5),
    ],
)
def test_the_newest_week_calibrates_or_as_long_as_the_budget_needs(days, step, budget, kept_days):
    times = times_of(days, step)
    first = find_newest(times, budget)
    assert len(times) - first == round(kept_days * DAY / step)


def test_a_gap_in_the_newest_week_does_not_bring_back_what_is_older():
    times = times_of(28, 60)
    kept = times[(times <= times[-1] - 4 * DAY) | (times > times[-1] - 2 * DAY)]
    first = find_newest(kept, 1)
    assert len(kept) - first == round(5 * DAY / 60)


def limit_in_log(scores, budget, scale):
    settings = ThresholdSettings(
        step=60.0, false_alarms_per_week=budget, enter_after=1, leave_after=5, usual_scale=scale
    )
    typical = float(np.median(scores))
    return math.log1p(find_value(scores, settings) / typical)


@pytest.mark.parametrize(("days", "beyond"), [(14, False), (3.5, True)])
def test_beyond_the_history_a_usual_tail_is_three_times_as_heavy(days, beyond):
    """Half of a usual tail's excess: by its scale, and by twice that for what was never seen."""
    count = round(days * 1440)
    chance = np.random.default_rng(4)
    scores = np.where(np.arange(count) % 40 == 0, 3 + chance.exponential(1.0, count), 1.0)
    scores += 1e-6 * chance.random(count)
    one, two = (limit_in_log(scores, 1, scale) for scale in (0.1, 0.2))
    peaks = (scores > np.quantile(scores, 0.98)).sum()
    allowed = days / 7
    seen = -math.log(min(allowed, 1.0)) if beyond else 0.0
    assert two - one == pytest.approx(0.05 * (math.log(peaks / allowed) + 2 * seen), rel=0.02)


def test_without_a_usual_scale_the_own_tail_decides():
    chance = np.random.default_rng(4)
    scores = np.exp(0.5 * chance.normal(size=20160))
    own = limit_in_log(scores, 1, None)
    assert own != limit_in_log(scores, 1, 0.1)
