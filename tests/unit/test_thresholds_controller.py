"""The controller raises a limit that is crossed far too often, and no incident hides behind it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.errors import DataError
from promad.thresholds import (
    THRESHOLDS,
    DynamicSettings,
    Threshold,
    ThresholdSettings,
    quantile,
)
from promad.thresholds.controller import MOST, MOST_AT_ONCE, RecentScores, control
from tests.support import naive_threshold_states as naive

STEP = 600.0
DAY = round(86400 / STEP)
QUIET = 0.5
BURST = [DAY + 10, DAY + 25, DAY + 40, DAY + 55]
"""More than three times the budget of a week, within half a day."""


def settings_of(budget=1.0, **more):
    known = {"step": STEP, "enter_after": 2, "leave_after": 5}
    return ThresholdSettings(false_alarms_per_week=budget, **{**known, **more})


def at_one(budget=1.0, **more):
    """A controlled limit of 1."""
    threshold = Threshold("quantile", 1.0, budget, "a test")
    return control(threshold, settings_of(budget, **more), refit=quantile.fit)


def follow(state, scores):
    """The limits of scores that follow one another, and the state after them."""
    return state.follow_series(np.asarray(scores)[:, np.newaxis])[:, 0], state


def adapted(state):
    """How often the only group's limit was raised."""
    return int(state.adaptations[0])


def quiet_with(samples, events, height=1.3, length=4):
    """Quiet scores, a little different from each other, with events that begin at some samples."""
    scores = QUIET + 0.1 * np.random.default_rng(0).random(samples)
    for start in events:
        scores[start : start + length] = height
    return scores


def test_a_threshold_that_keeps_its_budget_is_left_alone():
    scores = quiet_with(20 * DAY, [5 * DAY, 12 * DAY])
    limits, after = follow(at_one(), scores)
    assert (limits == 1).all()
    assert (adapted(after), after.explain(0), float(after.limits()[0])) == (0, "", 1.0)


def test_far_too_many_events_raise_the_limit_and_are_told():
    scores = quiet_with(8 * DAY, range(DAY, 8 * DAY, 50))
    limits, after = follow(at_one(), scores)
    assert adapted(after) >= 1
    assert limits[-1] > 1
    assert "events began, 1 per week are allowed" in after.explain(0)
    began = (np.diff((scores > limits).astype(int)) == 1).sum()
    assert began <= 4


def test_three_events_are_needed_however_small_the_budget():
    for count, raised in ((2, 0), (3, 1)):
        scores = quiet_with(3 * DAY, [DAY + 20 * number for number in range(count)])
        assert adapted(follow(at_one(0.01), scores)[1]) == raised


def test_a_burst_in_the_first_hours_is_not_judged_before_a_day_is_over():
    scores = quiet_with(3 * DAY, [10, 25, 40, 55])
    limits, after = follow(at_one(), scores)
    assert (limits[:DAY] == 1).all()
    assert adapted(after) == 1


def test_in_the_first_day_a_raise_takes_twice_as_many_events():
    for count, raised in ((6, 0), (7, 1)):
        scores = quiet_with(DAY - 1, [10 + 18 * number for number in range(count)])
        limits, after = follow(at_one(), scores)
        assert adapted(after) == raised, count
        assert (limits[-1] > 1) == bool(raised)


def test_three_times_the_budget_in_one_day_is_no_reason_to_look_away():
    scores = quiet_with(9 * DAY, [DAY + 20 * number for number in range(6)])
    assert adapted(follow(at_one(2.0), scores)[1]) == 0
    assert adapted(follow(at_one(1.9), scores)[1]) == 1


def test_a_larger_budget_takes_more_events():
    scores = quiet_with(9 * DAY, range(DAY, 8 * DAY, DAY))
    assert adapted(follow(at_one(1.0), scores)[1]) >= 1
    assert adapted(follow(at_one(7.0), scores)[1]) == 0


def test_a_long_incident_stays_flagged_while_it_lasts():
    events = [2 * DAY, 2 * DAY + 20, 2 * DAY + 40]
    scores = quiet_with(12 * DAY, events, length=3)
    scores[2 * DAY + 40 :] = 1.5
    limits, after = follow(at_one(), scores)
    assert (scores > limits)[2 * DAY + 40 :].all()
    assert adapted(after) == 0


def test_one_raise_at_most_doubles_the_limit():
    scores = quiet_with(2 * DAY, BURST, height=50.0)
    limits, after = follow(at_one(), scores)
    assert adapted(after) == 1
    assert limits.max() == MOST_AT_ONCE


def test_all_raises_together_end_somewhere():
    scores = quiet_with(30 * DAY, range(0, 30 * DAY, 20), height=1e4)
    limits, _ = follow(at_one(), scores)
    assert MOST / 2 < limits.max() <= MOST


def test_a_raised_limit_stays_while_the_week_is_over_its_budget_then_falls_by_a_fifth_a_day():
    scores = quiet_with(16 * DAY, BURST)
    limits, after = follow(at_one(), scores)
    raised = limits[2 * DAY]
    assert raised > 1
    assert (limits[2 * DAY : 8 * DAY] == raised).all()
    assert limits[-1] == 1
    assert (limits[DAY:] / limits[:-DAY]).min() >= 0.8 - 1e-9
    assert float(after.limits()[0]) == 1


def test_a_raised_limit_does_not_fall_while_an_event_is_open():
    _, state = follow(at_one(), quiet_with(9 * DAY, BURST))
    raised = float(state.limits()[0])
    assert raised > 1
    for _ in range(DAY):
        state.follow(np.array([QUIET]), None, np.array([True]))
    assert float(state.limits()[0]) == raised
    state.follow(np.array([QUIET]))
    assert float(state.limits()[0]) < raised


def test_events_are_counted_by_what_ends_them():
    """Five events by recent scores, which fall between them; one by scores, which do not."""
    scores = np.full(2 * DAY, QUIET)
    recent = scores.copy()
    for start in range(DAY, DAY + 100, 20):
        scores[start : start + 18] = recent[start : start + 4] = 1.3
    counts = []
    for below in (None, 0.6):
        state = at_one(leave_below=below)
        for score, short in zip(scores, recent, strict=True):
            state.follow(np.array([score]), np.array([short]))
        counts.append(len(state.to_json(0)["begun"]))
    assert counts[0] < counts[1]


def test_a_refit_that_asks_for_less_changes_nothing():
    scores = quiet_with(3 * DAY, BURST)

    def lower(scores, settings):
        return Threshold("quantile", 0.1, None, "")

    state = control(Threshold("quantile", 1.0, 1.0, ""), settings_of(), refit=lower)
    limits, after = follow(state, scores)
    assert (limits == 1).all()
    assert adapted(after) == 0
    assert "is not higher" in after.explain(0)


def test_a_refit_that_fails_changes_nothing():
    def failing(scores, settings):
        raise DataError("nothing to go by")

    state = control(Threshold("quantile", 1.0, 1.0, ""), settings_of(), refit=failing)
    limits, after = follow(state, quiet_with(3 * DAY, BURST))
    assert (limits == 1).all()
    assert after.explain(0).endswith("but nothing to go by")


def test_an_unknown_score_changes_nothing():
    state = at_one()
    before = state.to_json(0)
    assert state.follow(np.array([np.nan])) == 1.0
    assert state.to_json(0) == before


@given(st.integers(1, 700), st.integers(1, 3), st.integers(0, 2500))
def test_the_scores_kept_are_the_newest(most, thinned, count):
    recent, scores = RecentScores(1, most, thinned), np.random.default_rng(0).random((count, 1))
    for score in scores:
        recent.add(score, np.ones(1, np.bool_))
    blocks = scores[: count // thinned * thinned].reshape(-1, thinned).max(axis=1)
    np.testing.assert_array_equal(recent.of(0), blocks[-most:])


def test_a_short_step_does_not_make_it_keep_more():
    state = at_one(step=1.0)
    follow(state, np.arange(95.0))
    content = state.to_json(0)
    assert (content["recent"], len(content["block"])) == ([29.0, 59.0, 89.0], 5)


@pytest.mark.parametrize("cut", [0, 100, DAY + 42, 2 * DAY])
@pytest.mark.parametrize("name", ["quantile", "pot", "spot", "dspot", "dynamic"])
def test_a_resumed_controller_continues_with_the_same_limits_to_the_bit(name, cut):
    how = settings_of(level=0.8, dynamic=DynamicSettings(history=200, error_buffer=5))
    threshold = THRESHOLDS[name](quiet_with(4 * DAY, [50, 200, 400], 0.7), how)
    scores = quiet_with(3 * DAY, range(DAY - 60, DAY + 60, 20), 40.0, length=2)
    whole, after = follow(control(threshold, how), scores)
    _, before = follow(control(threshold, how), scores[:cut])
    resumed = control(threshold, how)
    resumed.resume(0, json.loads(json.dumps(before.to_json(0))))
    np.testing.assert_array_equal(follow(resumed, scores[cut:])[0], whole[cut:])
    assert adapted(after) >= 1


@pytest.mark.parametrize(
    "change", [{"factor": 0.5}, {"factor": None}, {"recent": "x"}, {"begun": 3}]
)
def test_a_stored_controller_that_makes_no_sense_is_refused_and_changes_nothing(change):
    state = at_one()
    before = state.to_json(0)
    with pytest.raises((TypeError, ValueError)):
        state.resume(0, {**before, **change})
    assert state.to_json(0) == before


@pytest.mark.parametrize("groups", [1, 3, 50])
@pytest.mark.parametrize("name", ["quantile", "spot", "dspot", "dynamic"])
def test_each_group_has_the_limits_of_a_run_of_its_own(name, groups):
    how = settings_of(level=0.8, dynamic=DynamicSettings(history=60, error_buffer=5))
    threshold = THRESHOLDS[name](quiet_with(4 * DAY, [50, 200, 400], 0.7), how)
    chance = np.random.default_rng(groups)
    scores = np.column_stack(
        [
            quiet_with(3 * DAY, DAY + np.cumsum(chance.integers(12, 60, 4 + group % 4)), 20.0)
            for group in range(groups)
        ]
    )
    scores[chance.random(scores.shape) < 0.05] = np.nan
    state = control(threshold, how, groups)
    limits = state.follow_series(scores)
    for group in range(min(groups, 8)):
        expected = naive.limits_of(naive.control(threshold, how), scores[:, group])
        np.testing.assert_allclose(limits[:, group], expected, rtol=1e-12)
    assert state.adaptations.any() or groups == 1
