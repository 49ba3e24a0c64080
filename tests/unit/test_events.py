"""Events begin and end with hysteresis, are counted once, and every threshold's count is known."""

import re
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promad.events.events import EventTracker, event_levels
from promad.events.verdict import FeatureView, State, Verdict
from tests.support import naive

counts = st.integers(1, 4)
scores = st.lists(st.integers(0, 6).map(float), max_size=40)
thresholds = st.sampled_from([-0.5, 0.0, 1.0, 2.5, 3.0, 5.0, 6.0])


def verdict_of(at, score, threshold=1.0):
    """A verdict whose only feature is named after its score."""
    if score is None:
        return Verdict(float(at), State.BLIND, threshold)
    feature = FeatureView(str(score), score, 1.0, 0.0, 0.0)
    state = State.ANOMALOUS if score > threshold else State.OK
    return Verdict(float(at), state, threshold, score, features=(feature,))


def followed(scores, enter_after=1, leave_after=1, threshold=1.0):
    """The tracker after all scores, the events that ended, and how many had begun after each."""
    tracker, ended, begun = EventTracker("g", enter_after, leave_after), [], []
    for at, score in enumerate(scores):
        tracker, event = tracker.follow(verdict_of(at, score, threshold))
        ended += [event] if event else []
        begun.append(tracker.begun)
    return tracker, ended, begun


@given(scores, counts, counts, st.sampled_from([0.5, 1.0, 3.0, 6.0]))
def test_the_tracker_finds_the_events_of_its_twin(scores, enter_after, leave_after, threshold):
    tracker, ended, _ = followed(scores, enter_after, leave_after, threshold)
    found = [*ended, *([tracker.current] if tracker.current else [])]
    expected = naive.events(scores, threshold, enter_after, leave_after)
    assert [(event.start, event.end, event.peak_at) for event in found] == expected
    assert len({event.id for event in found}) == len(expected)
    assert [event.peak_ratio for event in found] == [
        scores[highest] / threshold for _, _, highest in expected
    ]
    assert tracker.begun == len(expected)


def test_an_event_begins_once_enough_samples_in_a_row_were_above():
    _, _, begun = followed([2, 0, 2, 2, 2], enter_after=3)
    assert begun == [0, 0, 0, 0, 1]


def test_it_starts_with_the_first_of_them_and_ends_with_the_last_above():
    _, (event,), _ = followed([0, 2, 3, 0, 2, 0, 0, 0], enter_after=2, leave_after=2)
    assert (event.start, event.end) == (1, 4)


def test_a_short_dip_does_not_end_it_and_it_counts_once():
    tracker, ended, begun = followed([2, 2, 0, 2, 0, 0, 2, 2], leave_after=3)
    assert (begun[-1], ended) == (1, [])
    assert tracker.current is not None


def test_the_peak_may_lie_before_the_event_was_certain():
    tracker, _, _ = followed([9, 2, 3], enter_after=2)
    assert (tracker.current.peak_ratio, tracker.current.peak_at) == (9, 0)
    assert [view.name for view in tracker.current.top_features] == ["9"]


def test_an_event_was_flagged_when_it_was_certain_and_is_found_again_by_its_id():
    tracker, _, _ = followed([0, 2, 3, 4], enter_after=2)
    assert (tracker.current.start, tracker.current.flagged_at) == (1, 2)
    again, _, _ = followed([0, 9, 9, 9], enter_after=3)
    assert again.current.id == tracker.current.id != replace(tracker.current, group="h").id
    assert re.fullmatch("[0-9a-f]{12}", again.current.id)


def test_a_peak_from_before_the_run_was_broken_is_forgotten():
    tracker, _, _ = followed([9, 0, 2, 3], enter_after=2)
    assert (tracker.current.start, tracker.current.peak_ratio) == (2, 3)


def test_a_score_at_the_threshold_is_not_above_it():
    assert followed([1, 1, 1])[2] == [0, 0, 0]


@given(scores, counts, counts, st.data())
def test_samples_without_a_score_neither_begin_nor_end_anything(
    scores, enter_after, leave_after, data
):
    places = data.draw(st.lists(st.integers(0, 40), max_size=5))
    with_gaps = list(scores)
    for place in places:
        with_gaps.insert(place, None)
    _, ended, begun = followed(scores, enter_after, leave_after, 3.0)
    _, ended_too, begun_too = followed(with_gaps, enter_after, leave_after, 3.0)
    assert begun_too[-1:] == begun[-1:] or not scores
    assert [event.peak_ratio for event in ended] == [event.peak_ratio for event in ended_too]


def test_following_changes_nothing_in_the_tracker_it_follows_from():
    before = EventTracker("g", 1, 1)
    after, _ = before.follow(verdict_of(0, 5.0))
    assert before == EventTracker("g", 1, 1)
    assert after.begun == 1


@given(scores, counts, counts, thresholds)
def test_levels_know_the_number_of_events_at_every_threshold(
    scores, enter_after, leave_after, threshold
):
    levels = event_levels(np.array(scores, np.float64), enter_after, leave_after)
    assert levels.above(threshold) == len(naive.events(scores, threshold, enter_after, leave_after))
    assert (levels.merged < levels.born).all()


@given(scores, counts, counts)
def test_the_lowest_threshold_for_a_number_of_events_is_just_that(scores, enter_after, leave_after):
    levels = event_levels(np.array(scores, np.float64), enter_after, leave_after)
    limits = levels.lowest_thresholds() if len(levels.born) else np.empty(0)
    assert (np.diff(limits) <= 0).all()
    for most, limit in enumerate(limits.tolist()):
        higher = [limit, *(score for score in scores if score > limit)]
        assert all(levels.above(level) <= most for level in higher)
        assert levels.above(limit - 0.5) > most
    for level in [-1.0, *scores]:
        assert levels.above(level) <= len(limits)


def test_real_valued_scores_are_counted_as_the_tracker_counts_them():
    chance = np.random.default_rng(2)
    scores = np.abs(np.convolve(chance.normal(size=1200), np.ones(12) / 12, "valid"))
    levels = event_levels(scores, 2, 5)
    for threshold in np.quantile(scores, [0.1, 0.5, 0.9, 0.99]):
        tracker, _, _ = followed(scores.tolist(), 2, 5, float(threshold))
        assert levels.above(float(threshold)) == tracker.begun
