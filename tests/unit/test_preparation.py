"""One preparation serves training and detection alike, and survives being written down."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promad.data.calendar import calendar_columns
from promad.data.filling import FillState
from promad.data.frame import single_group
from promad.data.preparation import REACH, Preparation, usable_parts
from promad.data.scaling import Scaler
from promad.scoring.calibration import pool_calibration
from promad.scoring.scoring import Scoring
from tests.support import naive_scoring

NAN = np.nan
finite = st.floats(-1e12, 1e12)
positive = st.floats(1e-12, 1e12)


def preparation_of(strategy="ffill_then_bfill", limit=2, time_features=(), scored=2):
    return Preparation(
        features=("a", "b"),
        scored=scored,
        step=30.0,
        fill_strategy=strategy,
        max_fill_steps=limit,
        substitutes=np.array([10.0, 20.0]),
        scaler=Scaler("StandardScaler", np.array([1.0, 2.0]), np.array([2.0, 4.0])),
        time_features=time_features,
        time_zone="Europe/Berlin",
    )


def frame_of(values, start=1_750_000_020.0):
    return single_group(start, 30.0, ("a", "b"), np.array(values, np.float64))


@given(
    st.lists(finite, min_size=2, max_size=2),
    st.lists(positive, min_size=2, max_size=2),
    st.sampled_from(["mean", "none"]),
    st.integers(0, 9),
    st.lists(st.sampled_from(["hour_of_day", "day_of_week"]), unique=True),
)
def test_json_brings_back_the_same_preparation(center, scale, strategy, limit, time_features):
    scaler = Scaler("MinMaxScaler", np.array(center), np.array(scale))
    before = Preparation(
        ("a", "b"), 1, 0.1, strategy, limit, np.array(scale), scaler, tuple(time_features), "UTC"
    )
    after = Preparation.from_json(json.loads(json.dumps(before.to_json())))
    assert after.to_json() == before.to_json()
    values = frame_of([center, scale])
    np.testing.assert_array_equal(after.scale(values).values, before.scale(values).values)


def test_filled_values_are_scaled_and_rows_that_no_window_may_hold_are_missing():
    scaled = preparation_of(limit=1).scale(
        frame_of([[3, 6], [NAN, 6], [5, NAN], [5, NAN], [7, 10]])
    )
    np.testing.assert_array_equal(
        scaled.values[0], [[1, 1], [1, 1], [NAN, NAN], [NAN, NAN], [3, 2]]
    )


def test_a_value_out_of_reach_counts_as_just_there():
    center, scale = preparation_of().scaler.center, preparation_of().scaler.scale
    far = [center + 2 * REACH * scale, center - 1e300, center + REACH * scale, center]
    scaled = preparation_of().scale(frame_of(far)).values[0]
    np.testing.assert_array_equal(scaled, [[REACH] * 2, [-REACH] * 2, [REACH] * 2, [0] * 2])


def test_a_substitute_is_in_the_features_own_unit():
    scaled = preparation_of("mean").scale(frame_of([[3, 6], [NAN, NAN]]))
    assert scaled.values[0, 1].tolist() == [(10 - 1) / 2, (20 - 2) / 4]


def test_scaling_changes_nothing_in_the_frame_it_is_given():
    frame = frame_of([[3, 6], [NAN, 6]])
    before = frame.values.copy()
    preparation_of().scale(frame)
    np.testing.assert_array_equal(frame.values, before)


# Gaps while they last


def with_gaps(values, share=0.5, **keys):
    """One group's samples as serving prepares them, those that no window holds NaN."""
    preparation, samples = preparation_of(**keys), np.asarray(values, np.float64)
    scaler = preparation.scaler
    own = [each[np.newaxis] for each in (scaler.center, scaler.scale, preparation.substitutes)]
    state = FillState.begin(1, samples.shape[1])
    scaled, missing = preparation.scale_as_it_comes(samples[np.newaxis], *own, state)
    usable = preparation.find_usable(missing, share)
    return np.where(usable[0, :, np.newaxis], scaled[0], NAN), missing[0]


@given(
    arrays(np.float64, (12, 2), elements=finite | st.just(NAN)),
    st.sampled_from(["ffill_then_bfill", "mean", "median", "drop_rows", "none"]),
    st.integers(0, 4),
)
def test_gaps_are_filled_as_they_come_like_their_twin_does(values, strategy, limit):
    scaled, missing = with_gaps(values, strategy=strategy, limit=limit)
    preparation = preparation_of(strategy, limit)
    filled = naive_scoring.fill_as_it_comes(values, strategy, limit, preparation.substitutes)
    np.testing.assert_array_equal(missing, np.isnan(filled))
    there = ~missing
    expected = np.clip(preparation.scaler.transform(filled), -REACH, REACH)
    np.testing.assert_array_equal(scaled[there], expected[there])


@given(
    arrays(np.float64, (12, 2), elements=st.just(NAN) | st.floats(0, 9)),
    st.sampled_from(["ffill_then_bfill", "mean"]),
    st.integers(1, 11),
)
def test_what_comes_later_even_a_gap_changes_no_row(values, strategy, now):
    for later in (values[now:] + 1, np.full((12 - now, 2), NAN)):
        changed = np.vstack([values[:now], later])
        for before, after in zip(with_gaps(values), with_gaps(changed), strict=True):
            np.testing.assert_array_equal(before[:now], after[:now])


@given(arrays(np.float64, (20, 2), elements=st.just(NAN) | st.floats(0, 9)), st.integers(0, 3))
def test_the_context_before_a_row_decides_it(values, limit):
    for strategy in ("ffill_then_bfill", "mean"):
        whole = with_gaps(values, strategy=strategy, limit=limit)
        tail = with_gaps(
            values[10 - preparation_of(limit=limit).context :], strategy=strategy, limit=limit
        )
        for before, after in zip(whole, tail, strict=True):
            np.testing.assert_array_equal(before[10:], after[-10:])


def test_a_missing_feature_stands_at_its_centre_while_enough_others_are_known():
    scaled, missing = with_gaps([[3, 6], [NAN, 6], [5, 10]], limit=0)
    np.testing.assert_array_equal(scaled, [[1, 1], [0, 1], [2, 2]])
    assert missing.tolist() == [[False, False], [True, False], [False, False]]


def test_a_row_with_too_few_features_is_in_no_window():
    scaled, _ = with_gaps([[3, 6], [NAN, 6], [NAN, NAN]], share=0.7, limit=0)
    np.testing.assert_array_equal(scaled, [[1, 1], [NAN, NAN], [NAN, NAN]])
    scaled, _ = with_gaps([[3, 6], [NAN, 6], [NAN, NAN]], share=0.01, limit=0)
    np.testing.assert_array_equal(scaled, [[1, 1], [0, 1], [NAN, NAN]])


def test_a_missing_condition_takes_no_part_in_what_is_enough():
    scaled, missing = with_gaps([[3, NAN], [NAN, 6]], share=1.0, limit=0, scored=1)
    np.testing.assert_array_equal(scaled, [[1, 0], [NAN, NAN]])
    assert missing.tolist() == [[False, True], [True, False]]


@given(arrays(np.float64, (6, 2), elements=finite))
def test_where_nothing_is_missing_it_is_what_training_sees(values):
    np.testing.assert_array_equal(
        with_gaps(values)[0], preparation_of().scale(frame_of(values)).values[0]
    )


def test_only_what_is_scored_is_given_back_in_its_own_unit():
    scoring = Scoring("mse", np.ones(2), np.ones(2), None, 1, 1.0)
    calibration = pool_calibration(preparation_of(), scoring).take(np.zeros(2, np.int64))
    assert calibration.to_natural(np.ones((2, 1, 2))).tolist() == [[[3.0, 6.0]]] * 2
    assert calibration.to_natural(np.array([[[1.0], [2.0]]] * 2)).tolist() == [[[3.0], [5.0]]] * 2


def test_windows_hold_the_calendar_to_the_right_of_the_features():
    preparation = preparation_of(time_features=("hour_of_day", "day_of_week"))
    scaled = preparation.scale(frame_of(np.arange(12.0).reshape(6, 2)))
    windows = preparation.windows([scaled], 3)
    first = windows.take(np.array([1]))[0]
    np.testing.assert_array_equal(first[:, :2], scaled.values[0, 1:4].astype(np.float32))
    np.testing.assert_array_equal(
        first[:, 2:],
        calendar_columns(scaled.times[1:4], ("hour_of_day", "day_of_week"), "Europe/Berlin"),
    )


def test_usable_parts_are_the_stretches_in_which_nothing_is_missing():
    frame = frame_of([[1, 1], [NAN, 2], [3, 3], [4, 4], [5, NAN]])
    parts = usable_parts(frame)
    assert [part.values[0].tolist() for part in parts] == [[[1, 1]], [[3, 3], [4, 4]]]
    assert [part.start for part in parts] == [frame.start, frame.start + 60]


@pytest.mark.parametrize("key", list(preparation_of().to_json()))
def test_a_description_with_something_left_out_is_refused(key):
    content = preparation_of().to_json()
    del content[key]
    with pytest.raises(KeyError, match=key):
        Preparation.from_json(content)
