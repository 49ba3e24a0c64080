"""Events begin and end with hysteresis, are counted once, and every threshold's count is known."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.events.event_book import EventBook, JudgedColumns
from promad.events.event_levels import event_levels
from promad.events.events import event_from_json
from promad.events.hysteresis import Hysteresis, find_events
from tests.support import naive

counts = st.integers(1, 4)
scores = st.lists(st.integers(0, 6).map(float), max_size=40)
thresholds = st.sampled_from([-0.5, 0.0, 1.0, 2.5, 3.0, 5.0, 6.0])


def book_of(groups=1, enter_after=1, leave_after=1):
    """A book of groups with one feature each."""
    names = [f"g{group}" for group in range(groups)]
    return EventBook.begin(names, ["f"], Hysteresis.begin(groups, enter_after, leave_after), False)


def judged_of(scores, threshold=1.0):
    """One sample of each group, whose only feature's error is its score; None has no score."""
    values = np.array([np.nan if score is None else score for score in scores], np.float64)
    features = np.repeat(values[:, np.newaxis, np.newaxis], 6, axis=2)
    limits = np.full(len(values), threshold)
    return JudgedColumns(~np.isnan(values), values, limits, values, features)


def enter_all(scores, enter_after=1, leave_after=1, threshold=1.0):
    """The book after all scores of one group, the events that ended, how many had begun by each."""
    book, ended, begun = book_of(1, enter_after, leave_after), [], []
    for at, score in enumerate(scores):
        changes = book.enter(float(at), judged_of([score], threshold))
        ended += changes.ended.values()
        begun.append(int(book.begun[0]))
    return book, ended, begun


@given(scores, counts, counts, st.sampled_from([0.5, 1.0, 3.0, 6.0]))
def test_the_book_finds_the_events_of_its_twin(scores, enter_after, leave_after, threshold):
    book, ended, _ = enter_all(scores, enter_after, leave_after, threshold)
    found = [*ended, *([book.open_event(0)] if book.open_event(0) else [])]
    expected = naive.events(scores, threshold, enter_after, leave_after)
    assert [(event.start, event.end, event.peak_at) for event in found] == expected
    assert len({event.id for event in found}) == len(expected)
    assert [event.peak_ratio for event in found] == [
        scores[highest] / threshold for _, _, highest in expected
    ]
    assert book.begun.tolist() == [len(expected)]


def test_an_event_begins_once_enough_samples_in_a_row_were_above():
    _, _, begun = enter_all([2, 0, 2, 2, 2], enter_after=3)
    assert begun == [0, 0, 0, 0, 1]


def test_it_starts_with_the_first_of_them_and_ends_with_the_last_above():
    _, (event,), _ = enter_all([0, 2, 3, 0, 2, 0, 0, 0], enter_after=2, leave_after=2)
    assert (event.start, event.end) == (1, 4)


def test_a_short_dip_does_not_end_it_and_it_counts_once():
    book, ended, begun = enter_all([2, 2, 0, 2, 0, 0, 2, 2], leave_after=3)
    assert (begun[-1], ended) == (1, [])
    assert book.open_event(0) is not None


def test_the_peak_may_lie_before_the_event_was_certain():
    event = enter_all([9, 2, 3], enter_after=2)[0].open_event(0)
    assert (event.peak_ratio, event.peak_at) == (9, 0)
    assert [view.error for view in event.top_features] == [9]


def test_an_event_was_flagged_when_it_was_certain_and_is_found_again_by_its_id():
    event = enter_all([0, 2, 3, 4], enter_after=2)[0].open_event(0)
    assert (event.start, event.flagged_at) == (1, 2)
    again = enter_all([0, 9, 9, 9], enter_after=3)[0].open_event(0)
    assert again.id == event.id != replace(event, group="h").id
    assert re.fullmatch("[0-9a-f]{12}", again.id)


def test_a_peak_from_before_the_run_was_broken_is_forgotten():
    event = enter_all([9, 0, 2, 3], enter_after=2)[0].open_event(0)
    assert (event.start, event.peak_ratio) == (2, 3)


def test_a_score_at_the_threshold_is_not_above_it():
    assert enter_all([1, 1, 1])[2] == [0, 0, 0]


@given(scores, counts, counts, st.data())
def test_samples_without_a_score_neither_begin_nor_end_anything(
    scores, enter_after, leave_after, data
):
    places = data.draw(st.lists(st.integers(0, 40), max_size=5))
    with_gaps = list(scores)
    for place in places:
        with_gaps.insert(place, None)
    _, ended, begun = enter_all(scores, enter_after, leave_after, 3.0)
    _, ended_too, begun_too = enter_all(with_gaps, enter_after, leave_after, 3.0)
    assert begun_too[-1:] == begun[-1:] or not scores
    assert [event.peak_ratio for event in ended] == [event.peak_ratio for event in ended_too]


@pytest.mark.parametrize("groups", [1, 3, 50])
@given(seed=st.integers(0, 10_000), enter_after=counts, leave_after=counts)
@settings(max_examples=10)
def test_each_group_has_the_events_of_a_run_of_its_own(groups, seed, enter_after, leave_after):
    chance = np.random.default_rng(seed)
    series = chance.integers(0, 4, (40, groups)).astype(np.float64)
    series[chance.random(series.shape) < 0.1] = np.nan
    book, ended = book_of(groups, enter_after, leave_after), [[] for _ in range(groups)]
    for at, scores in enumerate(series):
        for group, event in book.enter(float(at), judged_of(scores)).ended.items():
            ended[group].append(event)
    for group in range(groups):
        known = [None if np.isnan(score) else score for score in series[:, group].tolist()]
        alone, ended_alone, _ = enter_all(known, enter_after, leave_after)
        assert [named(event) for event in ended[group]] == [named(event) for event in ended_alone]
        assert named(book.open_event(group)) == named(alone.open_event(0))
        assert book.begun[group] == alone.begun[0]


def named(event):
    """The event as if it were of one group's book."""
    return event and replace(event, group="g0")


@given(scores, scores, counts, counts)
def test_a_resumed_book_continues_as_if_nothing_was_between(
    before, after, enter_after, leave_after
):
    whole, _, _ = enter_all([*before, *after], enter_after, leave_after)
    stopped, _, _ = enter_all(before, enter_after, leave_after)
    resumed = book_of(1, enter_after, leave_after)
    resumed.resume(0, json.loads(json.dumps(stopped.to_json(0))))
    for at, score in enumerate(after, len(before)):
        resumed.enter(float(at), judged_of([score]))
    assert resumed.open_event(0) == whole.open_event(0)
    assert resumed.to_json(0) == whole.to_json(0)


@pytest.mark.parametrize(
    "change", [{"above": "many"}, {"current": {"group": "g"}}, {"rising": 3}, {"last_above": None}]
)
def test_a_stored_book_that_makes_no_sense_is_refused_and_changes_nothing(change):
    book, _, _ = enter_all([0, 2, 3], enter_after=2)
    before = book.to_json(0)
    with pytest.raises((KeyError, TypeError, ValueError)):
        book.resume(0, {**before, **change})
    assert book.to_json(0) == before


@given(scores, st.lists(st.booleans(), min_size=40, max_size=40), counts, counts)
def test_events_found_in_a_series_are_those_of_the_counters(
    scores, keeping, enter_after, leave_after
):
    anomalous = np.array([score > 1 for score in scores], np.bool_)
    for lasting in (None, np.array(keeping[: len(scores)], np.bool_)):
        kept = anomalous if lasting is None else lasting
        counters, began, ended = Hysteresis.begin(1, enter_after, leave_after), [], []
        for row in range(len(scores)):
            changes = counters.advance(
                anomalous[[row]], np.ones(1, np.bool_), None if lasting is None else kept[[row]]
            )
            began += [row] if changes.began[0] else []
            ended += [row] if changes.ended[0] else []
        found = find_events(anomalous, enter_after, leave_after, lasting)
        assert [raised for _, raised, _ in found] == began
        assert [last - 1 + leave_after for _, _, last in found][: len(ended)] == ended
        assert [raised - first + 1 for first, raised, _ in found] == [enter_after] * len(found)


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


def test_real_valued_scores_are_counted_as_the_book_counts_them():
    chance = np.random.default_rng(2)
    scores = np.abs(np.convolve(chance.normal(size=1200), np.ones(12) / 12, "valid"))
    levels = event_levels(scores, 2, 5)
    for threshold in np.quantile(scores, [0.1, 0.5, 0.9, 0.99]):
        events = find_events(scores > threshold, 2, 5)
        assert levels.above(float(threshold)) == len(events)


def test_an_event_has_the_labels_of_its_group_and_keeps_them_over_a_restart():
    labels = [(("instance", "a"),), (("instance", "b"), ("zone", "x"))]
    names = ["d", "e"]
    book = EventBook.begin(names, ["f"], Hysteresis.begin(2, 1, 1), False, labels)
    book.enter(0.0, judged_of([0.0, 2.0]))
    event = book.open_event(1)
    assert event.labels == labels[1]
    assert event_from_json(json.loads(json.dumps(book.to_json(1)["current"]))) == event
    assert event.id == replace(event, labels=()).id


def test_a_state_that_was_saved_before_events_had_labels_is_resumed():
    book = enter_all([2.0])[0]
    saved = book.to_json(0)
    del saved["current"]["labels"]
    again = book_of()
    again.resume(0, saved)
    assert again.open_event(0) == book.open_event(0)
