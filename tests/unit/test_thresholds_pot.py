"""Peaks over threshold: the tail, the clusters it is fitted on, and how it learns on."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.events.event_levels import event_levels
from promad.thresholds import THRESHOLDS, ThresholdSettings
from promad.thresholds.peaks import MOST_PEAKS, REFIT_AFTER, gap_of
from promad.thresholds.pot import clusters, find_value
from promad.thresholds.tail import (
    HEAVIEST,
    Tail,
    by_likelihood,
    by_weighted_moments,
    count_interval,
    share_interval,
)
from tests.support import naive_thresholds as naive

STEP = 30.0
WEEK = round(7 * 86400 / STEP)


def settings_of(budget=1.0, **more):
    known = {"step": STEP, "enter_after": 2, "leave_after": 5}
    return ThresholdSettings(false_alarms_per_week=budget, **{**known, **more})


def scores_of(samples, seed=0, memory=0.9):
    chance = np.random.default_rng(seed)
    noise, values = chance.normal(size=samples + 200), np.zeros(samples + 200)
    for row in range(1, len(noise)):
        values[row] = memory * values[row - 1] + np.sqrt(1 - memory**2) * noise[row]
    return np.exp(0.5 * values[200:])


def drawn(shape, scale, count, seed):
    return Tail(shape, scale).levels(1 - np.random.default_rng(seed).random(count))


shapes = st.floats(-0.45, 0.45)


def share_above(tail, excess):
    """The share of a tail's excesses that are above one, by scipy."""
    stats = pytest.importorskip("scipy.stats")
    return stats.genpareto.sf(excess, tail.shape, scale=tail.scale)


@given(shapes, st.floats(1e-6, 1e6), st.floats(1e-9, 1.0))
def test_a_level_is_exceeded_by_the_share_it_was_asked_for(shape, scale, share):
    tail = Tail(shape, scale)
    assert share_above(tail, tail.level(share)) == pytest.approx(share, rel=1e-6)


@given(st.floats(-1e-5, 1e-5))
def test_a_tail_of_hardly_any_shape_is_nearly_exponential(shape):
    assert Tail(shape, 2.0).level(1e-3) == pytest.approx(2 * np.log(1e3), rel=1e-3)


@settings(max_examples=40)
@given(shapes, st.sampled_from([1e-5, 1.0, 1e5]), st.integers(10, 200), st.integers(0, 1000))
def test_no_other_tail_is_likelier(shape, scale, count, seed):
    excesses = drawn(shape, scale, count, seed)
    found, size = (float(value) for value in by_likelihood(excesses))
    best = naive.pareto_likelihood(excesses, found, size)
    assert abs(found) <= HEAVIEST
    for other in np.linspace(-0.49, 0.49, 15):
        for factor in (0.5, 0.8, 0.95, 1, 1.05, 1.2, 2):
            likelihood = naive.pareto_likelihood(excesses, other, size * factor)
            inside = abs(found) < HEAVIEST - 0.01
            assert not inside or likelihood <= best + 1e-5


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
def test_the_likeliest_tail_is_that_of_scipy(shape):
    stats = pytest.importorskip("scipy.stats")
    excesses = drawn(shape, 1.0, 400, 5)
    expected, _, scale = stats.genpareto.fit(excesses, floc=0)
    found = by_likelihood(excesses)
    np.testing.assert_allclose(found, [expected, scale], atol=2e-3)


@pytest.mark.parametrize("fit", [by_likelihood, by_weighted_moments])
def test_many_tails_are_fitted_as_each_by_itself(fit):
    excesses = np.stack([drawn(0.2, 3.0, 50, seed) for seed in range(4)])
    together = np.column_stack(fit(excesses))
    alone = np.array([fit(row) for row in excesses])
    np.testing.assert_allclose(together, alone, rtol=1e-9)


@pytest.mark.parametrize("shape", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("fit", [by_likelihood, by_weighted_moments])
def test_a_tail_is_found_again(fit, shape):
    found = np.median([fit(drawn(shape, 2.0, 500, seed)) for seed in range(15)], axis=0)
    np.testing.assert_allclose(found, [shape, 2.0], atol=0.1)


@pytest.mark.parametrize("excesses", [[1.0], [3.0] * 8, [1e-9] * 9 + [1e9]])
@pytest.mark.parametrize("fit", [by_likelihood, by_weighted_moments])
def test_any_excesses_have_a_tail(fit, excesses):
    shape, scale = fit(np.array(excesses))
    assert -HEAVIEST <= shape <= HEAVIEST
    assert 0 < scale < np.inf


def test_a_share_interval_covers_the_truth_about_as_often_as_it_says():
    """Of tails fitted to 60 excesses each; the bootstrap is known to be a little narrow."""
    truth, covered = Tail(0.1, 1.0), 0
    excess = truth.level(0.02)
    for seed in range(60):
        chance = np.random.default_rng(seed)
        count = int(chance.poisson(60))
        shape, scale = by_likelihood(truth.levels(1 - chance.random(count)))
        low, high = share_interval(Tail(float(shape), float(scale)), count, excess, likelihood=True)
        covered += low * count <= 0.02 * 60 <= high * count
    assert 42 <= covered <= 60


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 2.996), (1, 0.05, 4.74), (10, 5.43, 16.96)]
)
def test_a_count_interval_is_the_exact_one_nearly(count, low, high):
    assert count_interval(count) == pytest.approx((low, high), abs=0.03)


@given(
    st.lists(st.integers(0, 6).map(float), min_size=20, max_size=150),
    st.integers(1, 4),
    st.integers(1, 15),
    st.sampled_from([0.5, 0.8, 0.98]),
)
def test_clusters_are_those_of_their_twin(values, enter_after, leave_after, level):
    how = settings_of(enter_after=enter_after, leave_after=leave_after, level=level)
    found = clusters(np.array(values), how)
    expected = naive.cluster_peaks(values, found.level, gap_of(leave_after), enter_after)
    np.testing.assert_allclose(found.excesses + found.level, expected)


@pytest.mark.parametrize(
    ("name", "budget", "factor", "weeks"),
    [("pot", 5.0, 2.0, 8), ("pot", 1.0, 2.5, 8), ("spot", 10.0, 2.0, 1), ("dspot", 10.0, 2.0, 1)],
)
def test_the_budget_is_kept_on_fresh_data(name, budget, factor, weeks):
    """Median, over trainings on a week each, of the alarms in fresh weeks."""
    fresh = scores_of(weeks * WEEK, seed=99)
    realised = []
    for seed in range(3):
        threshold = THRESHOLDS[name](scores_of(WEEK, seed), settings_of(budget))
        ratios = fresh / threshold.limit(fresh)
        realised.append(event_levels(ratios, 2, 5).above(1.0) / weeks)
    assert budget / factor <= np.median(realised) <= budget * factor


def pot(scores, budget=1.0, **more):
    return THRESHOLDS["pot"](np.asarray(scores, np.float64), settings_of(budget, **more))


def test_why_says_what_a_limit_rests_on():
    assert "tail (shape" in pot(scores_of(5000)).why
    assert "the budget is above the rate of its peaks" in pot(scores_of(5000), 1e5).why
    assert "its peaks are tied" in pot([1.0] * 500).why
    assert "are fewer than the 10 that a tail needs" in pot(scores_of(300)).why


@pytest.mark.parametrize(("samples", "budget"), [(5000, 1.0), (5000, 1e5), (300, 1.0)])
def test_the_value_alone_is_that_of_the_threshold(samples, budget):
    scores = scores_of(samples)
    assert find_value(scores, settings_of(budget)) == pot(scores, budget).value


def test_few_peaks_give_the_highest_score_and_a_tenth():
    scores = scores_of(300)
    assert pot(scores).value == pytest.approx(1.1 * scores.max())


def test_single_samples_are_no_peaks_where_an_event_needs_two():
    scores = scores_of(5000)
    spikes = scores.copy()
    spikes[25::50] = 100.0
    assert pot(spikes).value < 10
    assert pot(spikes, enter_after=1).value > 90


def test_a_wild_tail_ends_at_fifty_times_the_highest_score():
    scores = np.exp(np.random.default_rng(1).pareto(1.0, 3000).clip(0, 40))
    assert pot(scores, 1e-9).value <= 50 * scores.max() * (1 + 1e-9)


def moving(name="spot", budget=30.0, **more):
    return THRESHOLDS[name](scores_of(4000), settings_of(budget, level=0.9, **more))


def follow(state, scores):
    """What the only group's state is after these scores."""
    state.follow_series(scores[:, np.newaxis])
    return state.to_json(0)


def test_alarms_teach_spot_nothing():
    threshold = moving()
    state = threshold.begin()
    before, after = state.to_json(0), follow(state, np.full(500, 1000.0))
    assert after["samples"] - before["samples"] <= 1
    assert (after["excesses"], after["limit"]) == (before["excesses"], before["limit"])
    assert state.follow(np.ones(1)) == threshold.value


def test_spot_learns_from_peaks_that_are_no_alarms():
    threshold = moving(budget=1.0)
    scores = scores_of(8000, seed=4)
    limits = threshold.limit(1.2 * scores)
    assert limits[-1] > 1.05 * threshold.limit(scores)[-1]
    assert len(np.unique(limits)) >= 8000 * 0.1 / 40 / REFIT_AFTER


def test_spot_looks_at_the_newest_peaks_only():
    state = moving(budget=3.0, enter_after=1).begin()
    after = follow(state, scores_of(20000, 5, memory=0.5))
    assert len(after["excesses"]) == len(after["taken"]) == MOST_PEAKS
    assert 0 < after["since"] < after["taken"][0]


def test_dspot_follows_a_slow_drift_and_spot_does_not():
    scores = scores_of(8000, seed=6) * np.linspace(1, 4, 8000)
    alarms = {
        name: float((scores > moving(name, 1.0).limit(scores)).mean()) for name in ("spot", "dspot")
    }
    assert alarms["dspot"] < 0.002 < 0.01 < alarms["spot"]


def test_an_alarm_does_not_move_the_mean_that_dspot_subtracts():
    state = moving("dspot").begin()
    before = state.to_json(0)
    assert follow(state, np.full(300, 1e4))["recent"] == before["recent"]


@pytest.mark.parametrize(
    "change",
    [
        {"excesses": [1.0]},
        {"excesses": "all"},
        {"samples": -1},
        {"limit": float("nan")},
        {"last": [1.0] * 9},
        {"recent": [1.0]},
        {"plan": {"typical": 1.0}},
        {"taken": None},
    ],
)
def test_a_state_that_contradicts_itself_is_refused(change):
    state = moving().begin()
    content = {**state.to_json(0), **change}
    with (
        pytest.raises(ValueError, match=r".") if "plan" not in change else pytest.raises(TypeError)
    ):
        state.resume(0, json.loads(json.dumps(content)))


def test_a_threshold_of_another_level_is_another_threshold():
    state = moving().begin()
    content = state.to_json(0)
    content["plan"]["level"] = 0.1
    with pytest.raises(ValueError, match="another threshold"):
        state.resume(0, content)


def test_a_tail_that_is_not_bounded_gives_no_lower_limit():
    scores = np.minimum(scores_of(4 * WEEK), 4.0)
    fitted, unbounded = (
        THRESHOLDS["pot"](scores, settings_of(bounded=bounded)).value for bounded in (True, False)
    )
    assert unbounded > fitted
