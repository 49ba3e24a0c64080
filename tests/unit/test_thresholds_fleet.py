"""The limits of a fleet: units of scores, and what does and does not raise all limits at once."""

import numpy as np
import pytest

from promad.thresholds import Threshold, ThresholdSettings
from promad.thresholds.controller import TYPICAL, FleetBudget, put_to_work
from promad.thresholds.fleet import Units, find_typical, find_usual

STEP = 600.0
DAY = round(86400 / STEP)
GROUPS = 30
SETTINGS = ThresholdSettings(step=STEP, enter_after=2, leave_after=5)


def at_work(parameters):
    """The limits of a fleet, 1 for each group."""
    threshold = Threshold("pot", 1.0, 1.0, "a test", parameters=parameters)
    return put_to_work(threshold, SETTINGS, adapt=True, groups=GROUPS, fleet=FleetBudget())


def scores_of(days, level=0.3):
    return level + 0.1 * np.random.default_rng(0).random((days * DAY, GROUPS))


def limits_after(parameters, scores):
    state = at_work(parameters)
    for sample in scores:
        state.follow(sample)
    return state.limits()


def with_incidents(scores, per_day=3, height=1.4):
    """Each on another group."""
    for number, start in enumerate(range(DAY, len(scores) - 10, DAY // per_day)):
        scores[start : start + 4, number % GROUPS] = height
    return scores


def test_incidents_on_one_group_each_do_not_raise_the_limits_of_all():
    scores = scores_of(6)
    typical = {TYPICAL: find_typical(scores.T)}
    limits = limits_after(typical, with_incidents(scores))
    assert limits == pytest.approx(np.ones(GROUPS), rel=0.01)


def test_what_all_scores_have_risen_by_raises_all_limits():
    typical = {TYPICAL: find_typical(scores_of(6).T)}
    scores = with_incidents(1.5 * scores_of(6))
    assert limits_after(typical, scores) == pytest.approx(np.full(GROUPS, 1.5), rel=0.02)


def test_units_follow_the_scores_of_another_model_where_these_are_known():
    units = Units(np.array([1.0, 2.0, 4.0]), 2.0).follow(
        np.array([0.5, 1.0, np.nan]), np.array([0.6, 0.9, np.nan])
    )
    assert units.units == pytest.approx([1.2, 1.8, 4.0])
    assert units.median == pytest.approx(1.8)


def test_too_few_scores_have_no_usual_one():
    assert np.isnan(find_usual(np.r_[np.ones(50), np.full(500, np.nan)]))
    assert find_usual(np.zeros(500)) > 0


def test_the_typical_highest_score_leaves_out_what_no_group_has():
    scores = np.array([[1.0, np.nan, 3.0, np.nan], [2.0, 1.5, np.nan, np.nan]])
    assert find_typical(scores) == 2.0
