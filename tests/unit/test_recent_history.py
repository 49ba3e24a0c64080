"""The ring: the newest verdicts, in order of time, as exact as single precision keeps them."""

from dataclasses import replace

import numpy as np
import pytest

from promad.detection.recent_history import RecentHistory
from promad.events.verdict import State, Verdict
from tests.support.statuses import CPU, JUDGED, LOAD

FEATURES = ("cpu", "load", "disk", "network")


def scored(at, score=6.0):
    return replace(JUDGED, at=float(at), score=score)


def blind(at):
    return Verdict(float(at), State.BLIND, 3.0, why="no sample of cpu")


def ring_of(*verdicts, capacity=10):
    ring = RecentHistory(FEATURES, capacity)
    for verdict in verdicts:
        ring.add(verdict)
    return ring


def test_a_verdict_comes_back_as_it_was():
    verdict = replace(JUDGED, why="scored without disk, network")
    back = ring_of(verdict).between().verdict(0)
    assert (back.at, back.state, back.score, back.threshold) == (1.7e9, State.ANOMALOUS, 6.0, 3.0)
    assert (back.missing, back.why) == (("disk", "network"), verdict.why)
    for view, original in zip(back.features, (CPU, LOAD), strict=True):
        for name in ("name", "since"):
            assert getattr(view, name) == getattr(original, name)
        for name in ("contribution", "observed", "expected", "elevation"):
            assert getattr(view, name) == pytest.approx(getattr(original, name), rel=1e-6)


def test_a_blind_verdict_has_no_numbers():
    recent = ring_of(blind(1)).between()
    assert np.isnan(recent.score).all()
    assert np.isnan(recent.values).all()
    assert recent.verdict(0).score is None
    assert recent.verdict(0).missing == ()
    assert recent.verdict(0).why == "no sample of cpu"


def test_only_the_newest_are_kept():
    recent = ring_of(*map(scored, range(25)), capacity=10).between()
    assert recent.times.tolist() == list(range(15, 25))


def test_a_span_is_cut_out_with_both_ends():
    recent = ring_of(*map(scored, range(10))).between(3, 5)
    assert recent.times.tolist() == [3, 4, 5]
    assert recent.elevation.shape == (3, 4)


def test_an_empty_span_has_empty_arrays():
    recent = ring_of().between()
    assert recent.values.shape == (0, 4, 5)
    assert recent.observed.shape == (0, 4)


def test_a_sample_that_is_scored_late_takes_the_place_of_its_blindness():
    recent = ring_of(scored(1), blind(2), blind(3), scored(2)).between()
    assert recent.times.tolist() == [1, 2, 3]
    assert [recent.verdict(row).state for row in range(3)] == [
        State.ANOMALOUS,
        State.ANOMALOUS,
        State.BLIND,
    ]


def test_blindness_does_not_take_the_place_of_a_score():
    recent = ring_of(scored(1), blind(1)).between()
    assert recent.score.tolist() == [2.0]


def test_a_late_sample_pushes_out_the_oldest_of_a_full_ring_unless_it_is_older_still():
    recent = ring_of(*map(blind, (2, 4, 6)), scored(5), scored(1), capacity=3).between()
    assert recent.times.tolist() == [4, 5, 6]


def test_a_ring_goes_on_in_another_size_with_the_same_features():
    ring = ring_of(*map(scored, range(5)))
    assert ring.resized(FEATURES, 3).between().times.tolist() == [2, 3, 4]
    assert ring.resized(FEATURES[:3], 9).between().times.tolist() == []
