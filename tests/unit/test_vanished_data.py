"""Invented values pass for no measured ones: too few of them make a group blind at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.detection.state import begin_state
from promad.detection.step import run
from promad.events.hysteresis import Hysteresis
from promad.events.verdict import State
from tests.support.detectors import detector_of
from tests.support.simulated import LENGTH, NAMES, frame_of, host_values

SAMPLES = LENGTH + 25
FEATURES = len(NAMES)


def judge(values, share=0.6, threshold=1.0):
    """The verdict of each sample, and how many events began."""
    detector = detector_of(share=share, threshold=threshold)
    frame = frame_of(values)
    hysteresis = Hysteresis.begin(1, 1, 1)
    state = begin_state(detector, detector.threshold.begin(), "d", frame.groups, hysteresis)
    judged = list(run(detector, detector.calibrate(frame.groups), state, frame))
    return [each.verdict(0) for each in judged], sum(bool(each.began[0]) for each in judged)


gaps = st.lists(
    st.tuples(st.integers(0, SAMPLES - 1), st.integers(1, 6), st.integers(0, FEATURES - 1)),
    max_size=12,
)


@settings(max_examples=30)
@given(gaps, st.sampled_from([0.3, 0.6, 0.7, 1.0]))
def test_a_score_rests_on_the_required_share_of_measured_features(drawn, share):
    values = host_values(SAMPLES)
    for start, length, column in drawn:
        values[start : start + length, column] = np.nan
    verdicts, _ = judge(values, share)
    for row, verdict in zip(values, verdicts, strict=True):
        measured = (~np.isnan(row)).mean()
        if measured == 0 or measured < share:
            assert verdict.state is State.BLIND
            gone = [name for name, value in zip(NAMES, row, strict=True) if np.isnan(value)]
            assert verdict.why == f"no sample of {', '.join(gone)}"
        if verdict.score is not None:
            assert share <= verdict.known_share <= measured


@pytest.mark.parametrize("missing", [1, 2, 3, 9])
def test_when_all_data_vanishes_the_first_sample_is_blind(missing):
    values = host_values(SAMPLES)
    values[LENGTH + 5 : LENGTH + 5 + missing] = np.nan
    verdicts, _ = judge(values)
    states = [verdict.state for verdict in verdicts]
    assert set(states[LENGTH + 5 : LENGTH + 5 + missing]) == {State.BLIND}
    assert states[LENGTH + 4] is State.OK
    if missing <= 3:  # short enough for the window after it to be filled
        assert states[LENGTH + 5 + missing] in {State.OK, State.ANOMALOUS}


def test_vanished_data_opens_no_event_and_ends_none():
    values = host_values(SAMPLES)
    values[LENGTH + 4] *= 5
    _, begun = judge(values[: LENGTH + 5])
    values[LENGTH + 5 :] = np.nan
    verdicts, begun_later = judge(values)
    assert begun == begun_later == 1
    assert {verdict.state for verdict in verdicts[LENGTH + 5 :]} == {State.BLIND}


def test_one_feature_of_many_is_filled_and_scored_but_not_counted_as_known():
    values = host_values(SAMPLES)
    values[-2:, 0] = np.nan
    verdicts, _ = judge(values, share=0.6)
    assert [verdict.known_share for verdict in verdicts[-3:]] == [1.0, 2 / 3, 2 / 3]
    assert all(len(verdict.features) == FEATURES for verdict in verdicts[-3:])


def test_while_warming_too_few_measured_features_are_blind_too():
    values = host_values(SAMPLES)
    values[3] = np.nan
    states = [verdict.state for verdict in judge(values)[0]]
    assert states[2:5] == [State.WARMING, State.BLIND, State.WARMING]
