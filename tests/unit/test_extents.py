"""Overhang, peak lag, fragments and coverage say how events cover the segments they found."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.evaluation.agreement import segments
from promad.evaluation.episodes import episodes
from promad.evaluation.extents import find_extents

STEP = 30.0


def flags(marks):
    return np.array([mark == "#" for mark in marks])


def extents_of(scores, labels, leave_after=1, recent=None):
    """Events begin above 1, and last while the recent score is above 0.5."""
    values = np.array([float(mark) for mark in scores])
    short = None if recent is None else np.array([float(mark) for mark in recent])
    found = episodes(values, np.ones(len(values)), 1, leave_after, 0.5, short)
    return find_extents(found, flags(labels))


def test_overhang_is_counted_until_the_event_is_over():
    found = extents_of("00233422000000", "..####........", leave_after=3)
    assert found.overhang.tolist() == [4]


def test_an_event_that_is_over_before_the_segment_has_a_negative_overhang():
    assert extents_of("023000000", ".#######.", leave_after=2).overhang.tolist() == [-4]


def test_overhang_ends_where_the_next_segment_begins():
    assert extents_of("222222222", ".##..##..").overhang.tolist() == [2, 2]


def test_an_event_that_lasts_on_by_its_newest_samples_is_not_over():
    found = extents_of("0233333333", ".##.......", recent="0300200000", leave_after=2)
    assert found.overhang.tolist() == [0]
    found = extents_of("0230000000", ".##.......", recent="0301100000", leave_after=2)
    assert found.overhang.tolist() == [3]


@pytest.mark.parametrize(
    ("scores", "lag"), [("00233900", 1), ("00293200", 0), ("00233290", 2), ("00900000", 0)]
)
def test_peak_lag_is_how_long_after_the_segment_the_peak_lies(scores, lag):
    assert extents_of(scores, "..###...").peak_lag.tolist() == [lag]


def test_samples_that_no_longer_keep_an_event_open_are_no_peak():
    assert extents_of("02395000", ".##.....", recent="00000000", leave_after=3).peak_lag == [0]


def test_the_peak_is_where_the_recent_score_is_highest():
    assert extents_of("02395000", ".##.....", recent="03522000", leave_after=3).peak_lag == [0]
    assert extents_of("02395000", ".##.....", recent="03562000", leave_after=3).peak_lag == [1]


def test_a_peak_within_the_next_segment_lags_behind_none():
    assert extents_of("22222922", ".##..##.").peak_lag.tolist() == [0, 0]


def test_fragments_are_the_events_within_a_segment():
    assert extents_of("0220220", ".#####.").fragments.tolist() == [2]


def test_coverage_is_the_share_of_the_segment_that_lies_in_events():
    assert extents_of("0220200", ".#####.").coverage.tolist() == [0.6]


def test_a_segment_that_no_event_found_counts_nowhere():
    found = extents_of("00000220", ".##.....")
    assert len(found.overhang) == 0
    figures = found.summarise(STEP)
    assert math.isnan(figures["overhang_median_samples"])
    assert math.isnan(figures["coverage_mean"])


def test_figures_are_in_samples_and_in_seconds():
    figures = extents_of("00233422000000", "..####........", leave_after=3).summarise(STEP)
    assert figures["overhang_median_samples"] == 4
    assert figures["overhang_p90_seconds"] == 4 * STEP
    assert (figures["fragments_mean"], figures["coverage_median"]) == (1, 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 2)), max_size=30))
def test_segments_found_are_those_of_the_delays_and_figures_stay_in_range(rows):
    scores = np.array([row[0] for row in rows], np.float64)
    labels = np.array([row[1] for row in rows], np.bool_)
    recent = np.array([row[2] for row in rows], np.float64)
    found = episodes(scores, np.ones(len(rows)), 2, 2, 0.5, recent)
    extents = find_extents(found, labels)
    alarmed = np.zeros(len(rows), np.bool_)
    for raised, end in zip(found.raised, found.ends, strict=True):
        alarmed[raised:end] = True
    hit = [alarmed[start:end].any() for start, end in zip(*segments(labels), strict=True)]
    assert len(extents.overhang) == sum(hit)
    assert (extents.peak_lag >= 0).all()
    assert (extents.fragments >= 1).all()
    assert ((extents.coverage > 0) & (extents.coverage <= 1)).all()
    assert ((found.over >= found.ends) | (found.over == len(rows))).all()
    assert ((found.peaks >= found.starts) & (found.peaks < found.ends)).all()
