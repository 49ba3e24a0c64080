"""The newest verdicts, in order of time, as exact as single precision keeps them."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import structlog

from promad.bundle import open_detector
from promad.clock import FastClock
from promad.detection.backfill import fill_history
from promad.detection.recent_history import RecentHistory
from promad.events.verdict import State, Verdict
from tests.support.simulated import NAMES, frame_of
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


# What was before the start


def fill(sketched, history, stop=None, monkeypatch=None, frame=None):
    opened = open_detector(sketched.config)
    fetched = frame or frame_of(sketched.values).slice(0, 120)
    monkeypatch.setattr("promad.detection.backfill.fetch_samples", lambda *_: fetched)
    fill_history(opened, history, FastClock(fetched.end, 1.0), stop or threading.Event())
    return fetched


def test_a_history_is_filled_with_what_the_daemon_would_have_published(sketched, monkeypatch):
    detector = open_detector(sketched.config).detector
    history = RecentHistory(detector.scored_features, 200)
    frame = fill(sketched, history, monkeypatch=monkeypatch)
    recent = history.between()
    np.testing.assert_array_equal(recent.times, frame.times[detector.samples_needed - 1 :])
    assert np.isfinite(recent.score).any()


def test_what_the_daemon_has_judged_itself_is_kept(sketched, monkeypatch):
    detector = open_detector(sketched.config).detector
    history = RecentHistory(detector.scored_features, 200)
    newest = frame_of(sketched.values).slice(0, 120).end
    own = Verdict(newest, State.BLIND, 9.0, why="query cpu failed")
    history.add(own)
    fill(sketched, history, monkeypatch=monkeypatch)
    recent = history.between()
    assert recent.verdict(len(recent.times) - 1) == own


def test_a_daemon_that_stops_fills_nothing_more(sketched, monkeypatch):
    history, stop = RecentHistory(NAMES, 200), threading.Event()
    stop.set()
    fill(sketched, history, stop, monkeypatch)
    assert history.is_empty()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_server_that_does_not_answer_leaves_the_history_empty(sketched, stopped):
    stop = threading.Event()
    if stopped:
        stop.set()
    opened = open_detector(sketched.config)
    history = RecentHistory(opened.detector.scored_features, 200)
    config = opened.config.model_copy(update={"prometheus_url": "http://127.0.0.1:9"})
    with structlog.testing.capture_logs() as lines:
        fill_history(replace(opened, config=config), history, FastClock(1e9, 1.0), stop)
    assert history.is_empty()
    assert [line["event"] for line in lines] == ["history not filled"] * (not stopped)


def test_a_correction_replaces_the_numbers_but_not_the_state():
    ring = ring_of(scored(1), blind(2), scored(3))
    for at in (1, 2, 2.5):
        ring.correct(replace(scored(at, score=1.5), state=State.OK))
    recent = ring.between()
    assert recent.times.tolist() == [1, 2, 3]
    assert [recent.verdict(row).score for row in range(3)] == [1.5, None, 6.0]
    assert recent.verdict(0).state is State.ANOMALOUS
