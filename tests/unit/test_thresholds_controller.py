"""The controller raises a limit that is crossed far too often, and no incident hides behind it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.errors import DataError
from promad.events.events import EventTracker
from promad.events.verdict import State, Verdict
from promad.thresholds import (
    THRESHOLDS,
    DynamicSettings,
    Threshold,
    ThresholdSettings,
    followed,
    quantile,
)
from promad.thresholds.controller import (
    MOST,
    MOST_AT_ONCE,
    Events,
    Recent,
    control,
    resume_control,
)

STEP = 600.0
DAY = round(86400 / STEP)
QUIET = 0.5
BURST = [DAY + 10, DAY + 25, DAY + 40, DAY + 55]
"""More than three times the budget of a week, within half a day."""


def settings_of(budget=1.0, **more):
    known = {"step": STEP, "enter_after": 2, "leave_after": 5}
    return ThresholdSettings(false_alarms_per_week=budget, **{**known, **more})


def at_one(budget=1.0, **more):
    """Controlled standing of a limit of 1."""
    threshold = Threshold("quantile", 1.0, budget, "a test")
    return control(threshold, settings_of(budget, **more), quantile.fit)


def quiet_with(samples, events, height=1.3, length=4):
    """Quiet scores, a little different from each other, with events that begin at some samples."""
    scores = QUIET + 0.1 * np.random.default_rng(0).random(samples)
    for start in events:
        scores[start : start + length] = height
    return scores


def test_a_threshold_that_keeps_its_budget_is_left_alone():
    scores = quiet_with(20 * DAY, [5 * DAY, 12 * DAY])
    limits, after = followed(at_one(), scores)
    assert (limits == 1).all()
    assert (after.adapted, after.why, after.factor) == (0, "", 1.0)


def test_far_too_many_events_raise_the_limit_and_are_told():
    scores = quiet_with(8 * DAY, range(DAY, 8 * DAY, 50))
    limits, after = followed(at_one(), scores)
    assert after.adapted >= 1
    assert limits[-1] > 1
    assert "events began where 1 a week are allowed" in after.why
    began = (np.diff((scores > limits).astype(int)) == 1).sum()
    assert began <= 4


def test_three_events_are_needed_however_small_the_budget():
    for count, adapted in ((2, 0), (3, 1)):
        scores = quiet_with(3 * DAY, [DAY + 20 * number for number in range(count)])
        assert followed(at_one(0.01), scores)[1].adapted == adapted


def test_a_burst_in_the_first_hours_is_not_judged_before_a_day_is_over():
    scores = quiet_with(3 * DAY, [10, 25, 40, 55])
    limits, after = followed(at_one(), scores)
    assert (limits[:DAY] == 1).all()
    assert after.adapted == 1


def test_three_times_the_budget_in_one_day_is_no_reason_to_look_away():
    scores = quiet_with(9 * DAY, [DAY + 20 * number for number in range(6)])
    assert followed(at_one(2.0), scores)[1].adapted == 0
    assert followed(at_one(1.9), scores)[1].adapted == 1


def test_a_larger_budget_takes_more_events():
    scores = quiet_with(9 * DAY, range(DAY, 8 * DAY, DAY))
    assert followed(at_one(1.0), scores)[1].adapted >= 1
    assert followed(at_one(7.0), scores)[1].adapted == 0


def test_a_long_incident_stays_flagged_while_it_lasts():
    events = [2 * DAY, 2 * DAY + 20, 2 * DAY + 40]
    scores = quiet_with(12 * DAY, events, length=3)
    scores[2 * DAY + 40 :] = 1.5
    limits, after = followed(at_one(), scores)
    assert (scores > limits)[2 * DAY + 40 :].all()
    assert after.adapted == 0


def test_one_raise_at_most_doubles_the_limit():
    scores = quiet_with(2 * DAY, BURST, height=50.0)
    limits, after = followed(at_one(), scores)
    assert after.adapted == 1
    assert limits.max() == MOST_AT_ONCE


def test_all_raises_together_end_somewhere():
    scores = quiet_with(30 * DAY, range(0, 30 * DAY, 20), height=1e4)
    limits, _ = followed(at_one(), scores)
    assert MOST / 2 < limits.max() <= MOST


def test_a_raised_limit_stays_while_the_week_is_over_its_budget_then_falls_by_a_fifth_a_day():
    scores = quiet_with(16 * DAY, BURST)
    limits, after = followed(at_one(), scores)
    raised = limits[2 * DAY]
    assert raised > 1
    assert (limits[2 * DAY : 8 * DAY] == raised).all()
    assert limits[-1] == 1
    assert (limits[DAY:] / limits[:-DAY]).min() >= 0.8 - 1e-9
    assert after.factor == 1


def test_a_refit_that_asks_for_less_changes_nothing():
    scores = quiet_with(3 * DAY, BURST)

    def lower(scores, settings):
        return Threshold("quantile", 0.1, None, "")

    standing = control(Threshold("quantile", 1.0, 1.0, ""), settings_of(), lower)
    limits, after = followed(standing, scores)
    assert (limits == 1).all()
    assert after.adapted == 0
    assert "is no raise" in after.why


def test_a_refit_that_fails_changes_nothing():
    def failing(scores, settings):
        raise DataError("nothing to go by")

    standing = control(Threshold("quantile", 1.0, 1.0, ""), settings_of(), failing)
    limits, after = followed(standing, quiet_with(3 * DAY, BURST))
    assert (limits == 1).all()
    assert after.why.endswith("but nothing to go by")


def test_an_unknown_score_changes_nothing():
    standing = at_one()
    assert standing.follow(float("nan")) == (1.0, standing)


@given(
    st.lists(st.booleans(), max_size=60),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_events_are_counted_as_the_tracker_counts_them(flags, enter_after, leave_after):
    events, tracker = Events(), EventTracker("g", enter_after, leave_after)
    how = settings_of(enter_after=enter_after, leave_after=leave_after)
    for at, anomalous in enumerate(flags):
        tracker, _ = tracker.follow(Verdict(at, State.OK, 1.0, 2.0 if anomalous else 0.5))
        events = events.follow(anomalous, how, memory=1000)
        assert (events.since(0), events.open) == (tracker.begun, tracker.current is not None)


@given(st.integers(1, 700), st.integers(1, 3), st.integers(0, 2500))
def test_the_scores_kept_are_the_newest(most, thinned, count):
    recent, scores = Recent(most, thinned), np.random.default_rng(0).random(count)
    for score in scores.tolist():
        recent = recent.add(score)
    blocks = scores[: count // thinned * thinned].reshape(-1, thinned).max(axis=1)
    np.testing.assert_array_equal(recent.scores(), blocks[-most:])


def test_a_short_step_does_not_make_it_keep_more():
    threshold = Threshold("quantile", 1.0, 1.0, "")
    recent = control(threshold, settings_of(step=1.0)).recent
    assert (recent.most, recent.thinned) == (20160, 30)


@pytest.mark.parametrize("cut", [0, 100, DAY + 42, 2 * DAY])
@pytest.mark.parametrize("name", ["quantile", "pot", "spot", "dspot", "dynamic"])
def test_a_resumed_controller_goes_on_with_the_same_limits_to_the_bit(name, cut):
    how = settings_of(level=0.8, dynamic=DynamicSettings(history=200, error_buffer=5))
    threshold = THRESHOLDS[name](quiet_with(4 * DAY, [50, 200, 400], 0.7), how)
    scores = quiet_with(3 * DAY, range(DAY - 60, DAY + 60, 20), 40.0, length=2)
    whole, after = followed(control(threshold, how), scores)
    _, standing = followed(control(threshold, how), scores[:cut])
    resumed = resume_control(threshold, how, json.loads(json.dumps(standing.to_json())))
    np.testing.assert_array_equal(resumed.limits(scores[cut:]), whole[cut:])
    assert after.adapted >= 1


@pytest.mark.parametrize(
    "change", [{"factor": 0.5}, {"factor": None}, {"recent": "x"}, {"begun": 3}]
)
def test_a_stored_controller_that_makes_no_sense_is_refused(change):
    threshold = Threshold("quantile", 1.0, 1.0, "")
    content = {**at_one().to_json(), **change}
    with pytest.raises(DataError, match="standing of the quantile threshold cannot be used"):
        resume_control(threshold, settings_of(), content)
