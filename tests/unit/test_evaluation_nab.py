"""The NAB score: what its definition says, sample by sample, and what one works out by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.evaluation.nab import (
    PROFILES,
    NabSeries,
    at_threshold,
    by_event,
    nab_series,
    optimised,
)
from tests.support import naive

NAN = math.nan


@st.composite
def corpus(draw):
    """One to three series: ratios (some equal, some unknown) and windows that do not overlap."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        samples = draw(st.integers(1, 24))
        some = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 7.0, NAN])
        ratios = draw(st.lists(some, min_size=samples, max_size=samples))
        cuts = sorted(draw(st.sets(st.integers(0, samples), max_size=6)))
        windows = list(zip(cuts[::2], cuts[1::2], strict=False))
        found.append((ratios, windows))
    return found


def series_of(ratios, windows):
    starts, ends = np.array(windows, np.int64).reshape(-1, 2).T
    return NabSeries(np.array(ratios, float), starts, ends)


def of(case):
    return [series_of(*each) for each in case]


def expected(case, threshold, profile):
    return naive.nab_score(case, threshold, profile.false_alarm, profile.missed)


def thresholds(case):
    return {ratio for ratios, _ in case for ratio in ratios if not math.isnan(ratio)} | {math.inf}


@given(corpus(), st.sampled_from(sorted(PROFILES)))
def test_alarms_above_the_limit_are_worth_what_the_definition_says(case, name):
    above = min((each for each in thresholds(case) if each > 1), default=math.inf)
    np.testing.assert_allclose(
        at_threshold(of(case), PROFILES[name]), expected(case, above, PROFILES[name]), atol=1e-9
    )


@given(corpus(), st.sampled_from(sorted(PROFILES)))
def test_the_optimised_score_is_the_best_of_all_thresholds(case, name):
    best = max(expected(case, each, PROFILES[name]) for each in thresholds(case))
    np.testing.assert_allclose(optimised(of(case), PROFILES[name]), best, atol=1e-9)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_silence_is_worth_nothing_and_the_first_sample_of_each_window_everything(profile):
    windows = [(5, 9), (14, 20)]
    silent = [series_of(np.zeros(30), windows)]
    perfect = [series_of(np.isin(np.arange(30), (5, 14)) * 2.0, windows)]
    assert at_threshold(silent, profile) == 0
    for score in (at_threshold, optimised):
        np.testing.assert_allclose(score(perfect, profile), 100)


def sigmoid(place):
    return 2 / (1 + math.exp(5 * place)) - 1


@pytest.mark.parametrize(
    ("row", "earned"),
    [
        (2, -1 - 0.11),  # before any window: a whole false alarm
        (10, sigmoid(-10 / 10) / sigmoid(-1)),
        (15, sigmoid(-5 / 10) / sigmoid(-1)),
        (19, sigmoid(-1 / 10) / sigmoid(-1)),
        (20, -1 + 0.11 * sigmoid(1 / 9)),
        (29, -1 + 0.11 * sigmoid(10 / 9)),
        (47, -1 - 0.11),  # more than three widths behind it
    ],
)
def test_one_alarm_worked_out_by_hand(row, earned):
    """A window of ten samples from row 10 on; missing it costs 1."""
    alone = [series_of(np.isin(np.arange(50), row) * 2.0, [(10, 20)])]
    np.testing.assert_allclose(at_threshold(alone, PROFILES["standard"]), 100 * (earned + 1) / 2)


def test_what_several_series_earn_is_added_up_before_it_is_normalised():
    found = series_of([2.0, 0, 0], [(0, 2)])
    missed = series_of([0.0, 0, 0, 0], [(0, 1), (2, 3)])
    noisy = series_of([2.0, 2.0], [])
    standard = PROFILES["standard"]
    np.testing.assert_allclose(at_threshold([found, missed], standard), 100 / 3)
    np.testing.assert_allclose(
        at_threshold([found, missed, noisy], standard), 100 * (2 - 2 * 0.11) / 6
    )


def test_scores_of_different_units_are_compared_by_their_limits():
    windows = (np.array([5, 1]), np.array([6, 3]))
    scores, limits = np.array([1.0, NAN, 4, 4, 4, 4]), np.array([2.0] * 6)
    series = nab_series(scores, limits, *windows, np.array([2]))
    np.testing.assert_array_equal(series.ratios, [0.5, NAN, 2, 2, 2, 2])
    assert (series.starts.tolist(), series.ends.tolist()) == ([1, 5], [3, 6])


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_without_windows_there_is_no_score(profile):
    for score in (at_threshold, optimised):
        assert math.isnan(score([series_of([2.0, NAN], [])], profile))


def test_nothing_known_is_worth_nothing():
    blind = [series_of([NAN] * 5, [(1, 3)])]
    assert at_threshold(blind, PROFILES["standard"]) == 0
    assert optimised(blind, PROFILES["standard"]) == 0


def test_a_series_comes_back_as_it_was_written():
    series = replace(series_of([0.1, NAN, 3.0], [(1, 2)]), flagged=np.array([2, 4]))
    again = NabSeries.from_json(json.loads(json.dumps(series.to_json())))
    for name, values in vars(series).items():
        np.testing.assert_array_equal(getattr(again, name), values)
        assert getattr(again, name).dtype == values.dtype


def test_an_event_is_one_detection_however_long_it_lasts():
    """One event that begins in its window and outlasts it, and one alarm far away."""
    standard = PROFILES["standard"]
    series = series_of([0.0] * 4 + [2.0] * 60 + [0.0] * 16, [(2, 12)])
    told = replace(series, flagged=np.array([5]))
    assert by_event([told], standard) > 90 > 0 > at_threshold([series], standard)
    once_more = by_event([replace(told, flagged=np.array([5, 79]))], standard)
    np.testing.assert_allclose(by_event([told], standard) - once_more, 100 * 0.11 / 2)
    assert by_event([series], standard) == 0
    assert math.isnan(by_event([series_of([2.0], [])], standard))


@given(corpus(), st.sampled_from(sorted(PROFILES)))
def test_events_at_every_alarm_are_worth_what_the_alarms_are(case, name):
    each_one = [replace(each, flagged=np.flatnonzero(each.ratios > 1)) for each in of(case)]
    np.testing.assert_allclose(
        by_event(each_one, PROFILES[name]), at_threshold(of(case), PROFILES[name]), atol=1e-9
    )
