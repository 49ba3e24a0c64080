"""Every threshold keeps the contract; the quantile one keeps the budget of false alarms."""

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from promad.errors import DataError
from promad.events.event_levels import event_levels
from promad.events.hysteresis import find_events
from promad.thresholds import (
    THRESHOLDS,
    DynamicSettings,
    Threshold,
    ThresholdSettings,
)
from tests.support import naive_threshold_states as naive

STEP = 30.0
WEEK = round(7 * 86400 / STEP)
ENTER, LEAVE = 2, 5

MOVING = ("spot", "dspot", "dynamic")

every_threshold = pytest.mark.parametrize("name", list(THRESHOLDS))
every_moving_one = pytest.mark.parametrize("name", MOVING)
every_learnt_one = pytest.mark.parametrize("name", [name for name in THRESHOLDS if name != "fixed"])


def settings_of(budget=1.0, **more):
    known = {"step": STEP, "enter_after": ENTER, "leave_after": LEAVE, "value": 2.5}
    return ThresholdSettings(false_alarms_per_week=budget, **{**known, **more})


def quantile(scores, budget=1.0, **more):
    return THRESHOLDS["quantile"](np.asarray(scores, np.float64), settings_of(budget, **more))


@cache
def independent(samples, seed=0):
    """Scores without memory: the mean of twelve squared errors."""
    return np.random.default_rng(seed).chisquare(12, samples) / 12


@cache
def with_memory(samples, seed=0, memory=0.9):
    """Scores of which each is much like the one before: log-normal around an AR(1) process."""
    noise = np.random.default_rng(seed).normal(size=samples + 200)
    values = np.zeros(len(noise))
    for i in range(1, len(noise)):
        values[i] = memory * values[i - 1] + np.sqrt(1 - memory**2) * noise[i]
    return np.exp(0.5 * values[200:])


@cache
def of_long_windows(samples, seed=0, length=30):
    """Scores of overlapping windows: a spike stays in the mean for the whole length."""
    chance = np.random.default_rng(seed)
    errors = chance.normal(size=samples + length - 1) ** 2
    errors[chance.random(len(errors)) < 0.002] *= 9
    return np.convolve(errors, np.ones(length) / length, "valid")


KINDS = {"independent": independent, "with memory": with_memory, "windows": of_long_windows}


@every_threshold
def test_a_threshold_survives_json(name):
    threshold = THRESHOLDS[name](independent(500), settings_of())
    assert threshold.method == name
    assert Threshold.from_json(json.loads(json.dumps(threshold.to_json()))) == threshold


@every_threshold
def test_a_limit_is_above_zero_and_there_for_each_score(name):
    threshold = THRESHOLDS[name](independent(500), settings_of())
    limits = threshold.limit(independent(7))
    assert limits.shape == (7,)
    assert (limits > 0).all()
    assert threshold.value > 0
    assert threshold.begin().limits() == threshold.value
    assert threshold.begin().follow(np.array([np.nan])) == threshold.value
    assert name in MOVING or (limits == threshold.value).all()


@every_threshold
def test_a_threshold_says_its_number_and_where_it_comes_from(name):
    threshold = THRESHOLDS[name](independent(500), settings_of())
    assert threshold.value > 0
    assert len(threshold.why) > 10


@every_threshold
def test_fitting_leaves_the_scores_alone(name):
    scores = independent(500)
    before = scores.copy()
    THRESHOLDS[name](scores, settings_of())
    np.testing.assert_array_equal(scores, before)


@st.composite
def any_scores(draw, least=1):
    """Smooth, wild, tied or constant, some of them unknown."""
    kind = draw(st.sampled_from(["smooth", "heavy", "tied", "constant", "zero"]))
    chance = np.random.default_rng(draw(st.integers(0, 10**6)))
    count = draw(st.integers(least, least + 300))
    scores = {
        "smooth": chance.chisquare(4, count),
        "heavy": chance.pareto(0.7, count),
        "tied": chance.integers(0, 3, count).astype(np.float64),
        "constant": np.full(count, 0.3),
        "zero": np.zeros(count),
    }[kind] * draw(st.sampled_from([1e-6, 1.0, 1e6]))
    scores[chance.random(count) < 0.05] = np.nan
    return np.append(scores, [0.5] * least)


def small(**more):
    """Settings by which few scores suffice to make a threshold move."""
    dynamic = DynamicSettings(history=50, batch=10, error_buffer=4)
    return settings_of(drift_samples=15, level=0.7, dynamic=dynamic, **more)


@every_threshold
@settings(max_examples=25)
@given(calibration=any_scores(20), scores=any_scores(), budget=st.sampled_from([0.1, 50.0, 1e5]))
def test_limits_are_finite_above_zero_and_those_of_the_stream(name, calibration, scores, budget):
    threshold = THRESHOLDS[name](calibration, small(budget=budget))
    limits = threshold.limit(scores)
    assert (limits > 0).all()
    assert np.isfinite(limits).all()
    np.testing.assert_allclose(limits, naive.limits_of(naive.begin(threshold), scores), rtol=1e-12)


@every_threshold
@settings(max_examples=25)
@given(calibration=any_scores(20), scores=any_scores(4), cut=st.integers(0, 300))
def test_what_comes_later_changes_no_limit(name, calibration, scores, cut):
    threshold = THRESHOLDS[name](calibration, small(budget=50.0))
    cut = min(cut, len(scores))
    changed = np.append(scores[:cut], 7 * scores[cut:])
    np.testing.assert_array_equal(threshold.limit(changed)[:cut], threshold.limit(scores)[:cut])


@every_threshold
@settings(max_examples=25)
@given(calibration=any_scores(20), scores=any_scores(4), cut=st.integers(0, 300))
def test_a_resumed_stream_continues_with_the_same_limits_to_the_bit(name, calibration, scores, cut):
    fitted = THRESHOLDS[name](calibration, small(budget=50.0))
    threshold = Threshold.from_json(json.loads(json.dumps(fitted.to_json())))
    before, resumed = fitted.begin(), threshold.begin()
    before.follow_series(scores[:cut, np.newaxis])
    resumed.resume(0, json.loads(json.dumps(before.to_json(0))))
    limits = resumed.follow_series(scores[cut:, np.newaxis])[:, 0]
    np.testing.assert_array_equal(limits, fitted.limit(scores)[cut:])


@pytest.mark.parametrize("name", sorted({*THRESHOLDS} - {"dynamic"}))
def test_scores_of_an_open_event_do_not_change_what_is_normal(name):
    """`dynamic` is left out: the published method has the scores of events in its history."""
    threshold = THRESHOLDS[name](independent(300), small(budget=50.0))
    scores = independent(400, 1)[:, np.newaxis]
    held, free = threshold.begin(), threshold.begin()
    before = held.to_json(0)
    limits = held.limits()
    for row in scores:
        assert held.follow(row, None, np.array([True])) == limits
        free.follow(row)
    assert held.to_json(0) == before
    assert (free.to_json(0) != before) == (name in {"spot", "dspot"})


@every_threshold
@pytest.mark.parametrize("groups", [1, 3, 50])
def test_each_group_has_the_limits_of_a_run_of_its_own(name, groups):
    threshold = THRESHOLDS[name](independent(300), small(budget=50.0))
    scores = np.column_stack([independent(200, seed) for seed in range(groups)])
    scores[np.random.default_rng(0).random(scores.shape) < 0.1] = np.nan
    limits = threshold.begin(groups).follow_series(scores)
    for group in range(groups):
        expected = naive.limits_of(naive.begin(threshold), scores[:, group])
        np.testing.assert_allclose(limits[:, group], expected, rtol=1e-12)


@every_threshold
@pytest.mark.parametrize("content", [None, {}, [], "no", {"value": 1e9}, {"plan": {}}])
def test_a_state_that_is_not_its_own_is_refused(name, content):
    state = THRESHOLDS[name](independent(500), settings_of()).begin()
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        state.resume(0, content)


@every_moving_one
def test_a_state_of_another_training_is_refused(name):
    one, other = (THRESHOLDS[name](independent(500, seed), settings_of()) for seed in (1, 2))
    with pytest.raises(ValueError, match="it is about another threshold"):
        one.begin().resume(0, other.begin().to_json(0))


@every_threshold
def test_an_unknown_score_changes_nothing(name):
    threshold = THRESHOLDS[name](with_memory(500), small())
    scores = with_memory(200, seed=3)
    with_gaps = np.insert(scores, [0, 50, 120], np.nan)
    known = ~np.isnan(with_gaps)
    np.testing.assert_array_equal(threshold.limit(with_gaps)[known], threshold.limit(scores))


@every_learnt_one
@settings(max_examples=25)
@given(calibration=any_scores(20), seed=st.integers(0, 9))
@example(calibration=np.arange(40.0), seed=0)
def test_a_larger_budget_never_gives_a_higher_limit(name, calibration, seed):
    budgets = np.geomspace(1e-2, 1e6, 25)
    values = [THRESHOLDS[name](calibration, small(budget=budget)).value for budget in budgets]
    assert (np.diff(values) <= 1e-9 * np.array(values[1:])).all()


@every_learnt_one
@given(st.sampled_from([2.0**-30, 0.125, 2.0**20]), st.floats(0.1, 5000), st.integers(0, 5))
@settings(max_examples=20)
def test_limits_are_in_the_scores_own_unit(name, factor, budget, seed):
    calibration, scores = with_memory(600, seed), with_memory(100, seed + 50)
    once = THRESHOLDS[name](calibration, small(budget=budget)).limit(scores)
    scaled = THRESHOLDS[name](factor * calibration, small(budget=budget)).limit(factor * scores)
    np.testing.assert_allclose(scaled, factor * once, rtol=1e-6)


@every_learnt_one
def test_scores_that_never_change_are_not_above_their_limit(name):
    for level in (0.0, 0.25):
        threshold = THRESHOLDS[name](np.full(100, level), settings_of())
        assert not (np.full(50, level) > threshold.limit(np.full(50, level))).any()


@every_learnt_one
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0] * 9, r"^9 scores are too few .*\(10 are needed"),
        ([1.0, np.inf] * 9, "^9 of 18 scores are infinite"),
    ],
)
def test_scores_that_cannot_be_judged_by_are_refused(name, scores, message):
    with pytest.raises(DataError, match=message):
        THRESHOLDS[name](np.array(scores), settings_of())


@every_learnt_one
@pytest.mark.parametrize("budget", [0.3, 20.0, 500.0])
def test_the_interval_holds_what_is_expected(name, budget):
    threshold = THRESHOLDS[name](with_memory(4000), settings_of(budget))
    low, high = threshold.interval
    assert 0 <= low <= threshold.expected_false_alarms_per_week * 1.05
    assert threshold.expected_false_alarms_per_week <= high < np.inf
    assert low < high


@pytest.mark.parametrize("name", ["quantile", "pot", "spot"])
def test_more_data_narrows_the_interval(name):
    few, many = (
        THRESHOLDS[name](with_memory(count), settings_of(100.0)).interval for count in (2500, 40000)
    )
    assert many[1] - many[0] < few[1] - few[0]


def test_a_threshold_written_before_there_were_intervals_is_read():
    content = quantile(independent(100)).to_json()
    del content["interval"], content["parameters"]
    threshold = Threshold.from_json(content)
    assert (threshold.interval, threshold.parameters) == (None, {})


def test_nothing_needs_scipy():
    code = (
        "import sys; sys.modules['scipy'] = None\n"
        "import numpy as np\n"
        "from promad.thresholds import THRESHOLDS, ThresholdSettings\n"
        "scores = np.random.default_rng(0).chisquare(9, 2000)\n"
        "for fit in THRESHOLDS.values():\n"
        "    fit(scores, ThresholdSettings(30.0, value=1.0)).limit(scores)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_description_without_a_limit_is_refused(value):
    content = quantile(independent(100)).to_json()
    with pytest.raises(ValueError, match="not above zero"):
        Threshold.from_json({**content, "value": value})


def test_a_given_number_is_used_as_it_is():
    threshold = THRESHOLDS["fixed"](independent(100), settings_of(value=0.125))
    assert threshold.value == 0.125
    assert threshold.expected_false_alarms_per_week is None


def test_a_fixed_threshold_without_its_number_is_refused():
    with pytest.raises(DataError, match="set anomaly_threshold_mse"):
        THRESHOLDS["fixed"](independent(100), settings_of(value=None))


def alarms_per_week(threshold, scores):
    """Events that the daemon would begin in a week of such scores."""
    events = find_events(scores > threshold.value, ENTER, LEAVE)
    return len(events) / len(scores) * WEEK


@cache
def fresh_levels(kind):
    """The events in eight weeks that no threshold was fitted on."""
    return event_levels(KINDS[kind](8 * WEEK, seed=99), ENTER, LEAVE)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    ("days", "budget", "factor"),
    [
        (7.0, 30.0, 1.5),  # counted
        (7.0, 5.0, 2.0),  # within what was seen
        (7.0, 1.0, 2.5),
        (1.4, 5.0, 2.5),
        (1.4, 1.0, 4.0),  # five times as rare as anything in the data
    ],
)
def test_the_budget_is_kept_on_fresh_data(kind, days, budget, factor):
    """Median over trainings of the alarms in eight fresh weeks."""
    fresh = fresh_levels(kind)
    realised = []
    for seed in range(11):
        threshold = quantile(KINDS[kind](round(days / 7 * WEEK), seed), budget)
        realised.append(fresh.above(threshold.value) / 8)
    assert budget / factor <= np.median(realised) <= budget * factor


def test_alarms_are_counted_as_the_daemon_counts_them():
    threshold = quantile(with_memory(2000), 50.0)
    fresh = with_memory(2000, seed=5)
    counted = event_levels(fresh, ENTER, LEAVE).above(threshold.value)
    assert alarms_per_week(threshold, fresh) == pytest.approx(counted / 2000 * WEEK)
    assert counted > 0


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_larger_budget_never_raises_the_limit(kind):
    scores = KINDS[kind](3000)
    budgets = np.geomspace(1e-3, 1e6, 200)
    limits = [quantile(scores, budget).value for budget in budgets]
    assert (np.diff(limits) <= 0).all()
    assert limits[0] > 1.5 * limits[-1]


@given(st.floats(1e-6, 1e6), st.floats(0.01, 1000.0), st.integers(0, 5))
def test_the_limit_is_in_the_scores_own_unit(factor, budget, seed):
    scores = independent(400, seed)
    assert quantile(scores * factor, budget).value == pytest.approx(
        factor * quantile(scores, budget).value, rel=1e-9
    )


@given(st.integers(0, 5), st.lists(st.integers(0, 400), max_size=30))
def test_unknown_scores_do_not_count(seed, places):
    scores = independent(400, seed)
    assert quantile(np.insert(scores, places, np.nan)) == quantile(scores)


@given(
    st.lists(st.floats(0, 1e6), min_size=10, max_size=60),
    st.floats(1e-3, 1e5),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_any_scores_at_all_give_a_usable_limit(scores, budget, enter_after, leave_after):
    threshold = quantile(scores, budget, enter_after=enter_after, leave_after=leave_after)
    assert 0 < threshold.value < np.inf
    allowed = budget * len(scores) / WEEK
    levels = event_levels(np.array(scores), enter_after, leave_after)
    if allowed < 1:
        assert levels.above(threshold.value) == 0


@given(st.lists(st.floats(1e-3, 1e3), min_size=20, max_size=60), st.floats(1e-4, 10.0))
def test_extrapolation_stays_within_ten_times_what_was_seen(scores, budget):
    assume(budget * len(scores) < WEEK)
    highest = event_levels(np.array(scores), ENTER, LEAVE).born.max()
    assert highest < quantile(scores, budget).value <= 10 * highest * (1 + 1e-6)


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_scores_that_never_change_are_below_their_limit(level):
    threshold = quantile(np.full(100, level))
    assert level < threshold.value <= max(level * 1.001, 1e-37)


def test_one_long_excursion_is_one_event_whatever_its_length():
    quiet = independent(3000) * 0.01
    quiet[1000:1400] += 5.0 * np.sin(np.linspace(0, np.pi, 400))
    one_in_so_much_data = WEEK / len(quiet)
    assert quantile(quiet, 25 * one_in_so_much_data).value < 0.05
    assert 0.05 < quantile(quiet, 1.01 * one_in_so_much_data).value < 5


@pytest.mark.parametrize(
    ("scores", "hysteresis"),
    [([], {}), ([1.0] * 9, {}), ([1.0] * 9 + [np.nan] * 99, {}), ([1.0] * 20, {"enter_after": 30})],
)
def test_too_few_scores_are_refused(scores, hysteresis):
    with pytest.raises(DataError, match=r"^\d+ scores are too few .*\d+ are needed"):
        quantile(scores, **hysteresis)


@pytest.mark.parametrize(
    ("days", "budget", "how"),
    [
        (7.0, 1.0, "tail of the 20 highest peaks"),
        (7.0, 50.0, "events counted; 7 days of normal data have 49 events above it"),
        (0.7, 1.0, "0.7 days of normal data have 0 events above it"),
    ],
)
def test_why_tells_what_the_limit_rests_on(days, budget, how):
    threshold = quantile(independent(round(days / 7 * WEEK), seed=1), budget)
    assert how in threshold.why
    assert threshold.expected_false_alarms_per_week == budget
