"""Figures against labels: each is what its slow twin says, and what one works out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.evaluation.adjusted import adjusted_scores, point_adjusted_f1
from promad.evaluation.affiliation import affiliation
from promad.evaluation.agreement import Agreement, alarms, segments, share_blind
from promad.evaluation.episodes import episode_figures, episodes
from promad.evaluation.ranges import range_based
from promad.evaluation.ranking import THRESHOLDS, auc_pr, best_f1, soft_labels, vus
from tests.support import naive

NAN = math.nan


def flags(text):
    """`.##.` as bool."""
    return np.array([letter == "#" for letter in text])


@st.composite
def scored(draw, most=40):
    """Scores (some equal, some unknown, some of them constant) and labels (none, some or all)."""
    samples = draw(st.integers(1, most))
    some = st.sampled_from([0.0, 1.0, 2.0, 2.5, NAN, -3.0, 1e9])
    score = draw(st.sampled_from([st.just(1.0), st.just(NAN), some, st.floats(-5, 5)]))
    label = draw(st.sampled_from([st.just(True), st.just(False), st.booleans()]))
    lists = (st.lists(each, min_size=samples, max_size=samples) for each in (score, label))
    scores, labels = (draw(each) for each in lists)
    return np.array(scores, float), np.array(labels, bool)


def flagged(most=24):
    return st.integers(1, most).flatmap(
        lambda samples: st.tuples(
            *[st.lists(st.booleans(), min_size=samples, max_size=samples).map(np.array)] * 2
        )
    )


def same(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)


@given(scored(), st.integers(0, 12))
def test_the_volumes_are_those_of_the_definition(case, window):
    scores, labels = case
    volume = vus(scores, labels, window)
    expected = naive.vus(scores.tolist(), labels.tolist(), window, THRESHOLDS)
    same((volume.pr, volume.roc), expected)
    assert volume.window == window


@given(scored(), st.integers(0, 12))
def test_the_volumes_lie_between_zero_and_one(case, window):
    volume = vus(*case, window)
    for value in (volume.pr, volume.roc):
        assert math.isnan(value) or -1e-12 <= value <= 1 + 1e-12


def test_scores_that_are_the_labels_fill_the_volume_without_buffers():
    labels = flags("..##....#...")
    volume = vus(labels.astype(float), labels, 0)
    same((volume.pr, volume.roc), (1.0, 1.0))


def test_a_volume_worked_out_by_hand():
    """The segment's two samples score 4 and 2, the others 3 and 1, without buffers."""
    volume = vus(np.array([4.0, 2.0, 3.0, 1.0]), flags("##.."), 0)
    same(volume.pr, 0.5 * 1 + 0 * 1 / 2 + 0.5 * 2 / 3)
    same(volume.roc, 0.5 * 0.5 + 0.5 * 1)


def test_a_buffer_makes_a_near_miss_worth_something():
    """Width 2: one sample to either side is worth sqrt(1/2), and half that adds to the positives.

    Width 0: all must alarm for the label to be met. Width 1 has no samples beside the segment.
    """
    scores, labels = np.array([0.0, 0.0, 1.0, 0.0]), flags("...#")
    root = math.sqrt(0.5)
    first_recall = root / (1 + root / 2)
    at_two = first_recall * root + (1 - first_recall) * (1 + root) / 4
    same(vus(scores, labels, 2).pr, (1 / 4 + 1 / 4 + at_two) / 3)


def test_buffers_of_two_segments_add_up_to_one_at_most():
    same(soft_labels(flags("#.#"), 2), [0, 1, 0])
    same(soft_labels(flags("#..#"), 8), [0, 1, 1, 0])
    same(soft_labels(flags("..#"), 4), [math.sqrt(0.5), math.sqrt(0.75), 0])


def test_an_unknown_score_never_alarms():
    labels = flags("##..")
    unknown, lowest = vus(np.array([2, NAN, 1, 0]), labels, 0), vus(np.array([2, -9, 1, 0]), labels)
    same(unknown.pr, 0.5)
    assert unknown.pr < lowest.pr
    same(auc_pr(np.array([2, NAN, 1, 0]), labels), 0.5)
    assert not alarms(np.array([NAN]), np.array([0.0])).any()
    assert share_blind(np.array([NAN, 1.0])) == 0.5


def test_what_cannot_be_said_is_not_said():
    scores, nothing, everything = np.arange(4.0), flags("...."), flags("####")
    assert math.isnan(vus(scores, nothing).pr)
    assert math.isnan(vus(scores, nothing).roc)
    assert math.isnan(auc_pr(scores, nothing))
    assert math.isnan(best_f1(scores, nothing))
    same(vus(scores, everything).pr, 1)
    assert math.isnan(vus(scores, everything).roc)
    assert math.isnan(share_blind(np.array([])))


@given(scored())
def test_average_precision_and_best_f1_are_those_of_every_threshold(case):
    scores, labels = case
    if labels.any():
        points = naive.f1_points(scores.tolist(), labels.tolist())
        same(auc_pr(scores, labels), naive.auc_pr(scores.tolist(), labels.tolist()))
        same(best_f1(scores, labels), max((f1 for _, _, f1 in points), default=0.0))


@given(scored())
def test_order_is_all_that_ranking_looks_at(case):
    scores, labels = case
    stretched = np.arctan(scores / 7) * 3 + 40
    if len(np.unique(stretched)) == len(np.unique(scores)):
        same(vus(stretched, labels, 5).pr, vus(scores, labels, 5).pr)
        same(auc_pr(stretched, labels), auc_pr(scores, labels))


@given(scored(), st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.integers(0, 9))
def test_point_adjustment_is_what_papers_do_and_chance_stands_beside_it(case, more_than, seed):
    scores, labels = case
    adjusted = point_adjusted_f1(scores, labels, seed, more_than)
    if not labels.any():
        assert math.isnan(adjusted.value)
        assert math.isnan(adjusted.of_random)
        return
    same(adjusted.value, naive.best_adjusted_f1(scores.tolist(), labels.tolist(), more_than))
    assert 0 < adjusted.of_random <= 1


def test_one_hit_fills_the_segment_and_more_than_a_fifth_is_more_than_one_in_five():
    scores, labels = np.array([0.0, 9, 0, 0, 0, 0, 5]), flags(".#####.")
    same(adjusted_scores(scores, labels, 0.0), [0, 9, 9, 9, 9, 9, 5])
    same(adjusted_scores(scores, labels, 0.2), scores)
    assert point_adjusted_f1(scores, labels, 0).value == 1
    assert point_adjusted_f1(scores, labels, 0, 1.0).value == best_f1(scores, labels)


def test_point_adjustment_makes_chance_look_good():
    labels = np.zeros(2000, bool)
    for start in range(100, 2000, 200):
        labels[start : start + 60] = True
    random = point_adjusted_f1(np.zeros(2000), labels, 1).of_random
    plain = point_adjusted_f1(np.zeros(2000), labels, 1, more_than=1.0).of_random
    assert random > 0.8
    assert plain < 0.5


@given(flagged(), st.sampled_from([0.0, 0.2, 1.0]))
def test_range_based_figures_are_those_of_the_definition(case, existence):
    alarming, labels = case
    figures = range_based(alarming, labels, existence)
    same(figures.recall, naive.range_rewards(labels.tolist(), alarming.tolist(), existence))
    same(figures.precision, naive.range_rewards(alarming.tolist(), labels.tolist(), 0.0))


def test_range_based_figures_worked_out_by_hand():
    """A segment of four half covered in two pieces, one missed; one alarm of three outside."""
    figures = range_based(flags("#.#.....#"), flags("####..##."))
    same(figures.recall, (0.2 + 0.8 * 0.5 / 2) / 2)
    same(figures.precision, 2 / 3)


@given(flagged())
def test_affiliation_is_that_of_the_definition(case):
    alarming, labels = case
    figures = affiliation(alarming, labels)
    same((figures.precision, figures.recall), naive.affiliation(alarming.tolist(), labels.tolist()))


def test_affiliation_worked_out_by_hand():
    """Ten samples, a segment of two at 4, an alarm in the sample after it.

    An alarm x after the segment is beaten by (4 - x) + (4 - x) of the 10: 0.8 to 0.6, 0.7 in the
    mean. A labelled moment y away from the alarm has 10 - 2y of 10 beyond it: 1 to 0.6, 0.8.
    """
    figures = affiliation(flags("......#..."), flags("....##...."))
    same((figures.precision, figures.recall), (0.7, 0.8))
    same(figures.f1, 2 * 0.7 * 0.8 / 1.5)


def test_each_segment_is_judged_by_its_own_zone():
    figures = affiliation(flags(".##......."), flags(".##...###."))
    same((figures.precision, figures.recall), (1.0, 0.5))


@pytest.mark.parametrize("compare", [affiliation, range_based])
def test_agreement_at_the_edges(compare):
    some, nothing = flags("..#."), flags("....")
    whole = compare(some, some)
    same((whole.precision, whole.recall, whole.f1), (1, 1, 1))
    silent = compare(nothing, some)
    assert math.isnan(silent.precision)
    assert (silent.recall, silent.f1) == (0, 0)
    unlabelled = compare(some, nothing)
    assert math.isnan(unlabelled.recall)
    assert math.isnan(unlabelled.f1)
    single = compare(flags("#"), flags("#"))
    same((single.precision, single.recall), (1, 1))


def test_agreement_is_the_harmonic_mean():
    same(Agreement(0.5, 1.0).f1, 2 / 3)


@given(scored(), st.integers(1, 3), st.integers(1, 3))
def test_episodes_are_the_events_that_detection_would_have_begun(case, enter_after, leave_after):
    scores, _ = case
    limits = np.full(len(scores), 1.5)
    rows = [row for row, score in enumerate(scores) if not math.isnan(score)]
    known = [scores[row] for row in rows]
    expected = naive.events(known, 1.5, enter_after, leave_after)
    found = episodes(scores, limits, enter_after, leave_after)
    assert found.starts.tolist() == [rows[first] for first, _, _ in expected]
    assert found.raised.tolist() == [rows[first + enter_after - 1] for first, _, _ in expected]
    closed = [rows[last] + 1 for _, last, _ in expected if last is not None]
    assert found.ends.tolist()[: len(closed)] == closed
    assert (found.raised < found.ends).all()


@given(scored(), st.integers(1, 3), st.integers(1, 2), st.integers(0, 4))
def test_episode_figures_are_counted_one_by_one(case, enter_after, leave_after, margin):
    scores, labels = case
    found = episodes(scores, np.full(len(scores), 1.5), enter_after, leave_after)
    figures = episode_figures(found, labels, 7, 60.0, margin * 60.0)
    alarmed = [
        set(range(raised, end)) for raised, end in zip(found.raised, found.ends, strict=True)
    ]
    delays = []
    for start, end in zip(*segments(labels), strict=True):
        rows = sorted(set().union(*alarmed) & set(range(start, end)))
        delays += [60.0 * (rows[0] - start)] if rows else []
    near = {row + shift for row in np.flatnonzero(labels) for shift in range(-margin, margin + 1)}
    false = [
        start
        for start, end in zip(found.starts, found.ends, strict=True)
        if not near & set(range(start, end))
    ]
    assert (figures.found, figures.false_episodes) == (len(delays), len(false))
    assert figures.segments == len(naive.stretches(labels.tolist()))
    same(figures.false_episodes_per_week, len(false) * 7 * 86400 / (7 * 60))
    same(figures.median_delay_seconds, np.median(delays) if delays else NAN)
    same(figures.p90_delay_seconds, np.quantile(delays, 0.9) if delays else NAN)


def test_episode_figures_worked_out_by_hand():
    """Hourly: a segment is found two hours late, one is missed; one alarm of two is false."""
    scores = np.array([0.0, 0, 0, 9, 9, NAN, 0, 0, 0, 0, 0, 9])
    labels = flags(".####...#...")
    found = episodes(scores, np.ones(12))
    figures = episode_figures(found, labels, 11, 3600.0)
    assert (figures.segments, figures.found, figures.episodes) == (2, 1, 2)
    assert (figures.event_recall, figures.alarm_precision, figures.event_f1) == (0.5, 0.5, 0.5)
    assert (figures.median_delay_seconds, figures.p90_delay_seconds) == (7200, 7200)
    same(figures.false_episodes_per_week, 168 / 11)


def test_an_alarm_raised_after_the_segment_has_not_found_it():
    found = episodes(np.array([0.0, 9, 9, 9, 0]), np.ones(5), enter_after=3)
    figures = episode_figures(found, flags(".##.."), 5, 60.0)
    assert (figures.found, figures.false_episodes) == (0, 0)


def test_an_alarm_that_stands_already_finds_the_segment_at_once():
    figures = episode_figures(episodes(np.ones(5) * 9, np.ones(5)), flags("..#.."), 5, 60.0)
    assert (figures.found, figures.median_delay_seconds) == (1, 0)


def test_without_alarms_labels_or_scores_nothing_is_made_up():
    quiet = episodes(np.zeros(5), np.ones(5))
    figures = episode_figures(quiet, flags("....."), 0, 60.0)
    assert math.isnan(figures.event_recall)
    assert math.isnan(figures.alarm_precision)
    assert math.isnan(figures.event_f1)
    assert math.isnan(figures.false_episodes_per_week)
    assert math.isnan(figures.median_delay_seconds)
    missed = episode_figures(quiet, flags("..#.."), 5, 60.0)
    assert (missed.event_recall, missed.event_f1) == (0, 0)
