"""The daemon's ticks, on a made-up server, a made-up model and a clock that a test turns."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import structlog

from promad.errors import PrometheusError, UnreachableError
from promad.events.event_log import EventLog
from promad.events.verdict import State
from promad.prometheus.polling import Poll
from promad.thresholds.threshold_state import Constant
from tests.support.bench import FEATURES, LENGTH, MANY, START, STEP, bench


def test_before_the_first_tick_the_group_is_warming_and_has_no_number() -> None:
    assert bench().verdict.state is State.WARMING
    assert bench().verdict.score is None


def test_a_quiet_tick_is_ok_with_a_score_and_every_feature() -> None:
    verdict = bench().tick_at(0)
    assert (verdict.state, verdict.score, verdict.at) == (State.OK, 0.0, START)
    assert [view.name for view in verdict.features] == list(FEATURES)


def test_a_failed_query_withdraws_the_score_and_names_the_query() -> None:
    it = bench()
    it.tick_at(0)
    it.server.failures = {"load": PrometheusError("no answer in time", "timeout")}
    verdict = it.tick_at(10)
    assert (verdict.state, verdict.score, verdict.features) == (State.BLIND, None, ())
    assert verdict.why == "query load failed: timeout"
    assert it.loop.snapshot.failed_queries == (("load", "no answer in time"),)
    assert it.sample("promad_query_up", query="load") == 0
    assert it.sample("promad_query_up", query="cpu") == 1
    assert it.sample("promad_poll_failures_total", reason="timeout") == 1


def test_a_failure_does_not_touch_the_time_of_the_last_score() -> None:
    it = bench()
    it.tick_at(0)
    it.server.failures = {"cpu": UnreachableError("gone"), "load": UnreachableError("gone")}
    it.tick_at(10)
    assert it.status.last_scored_at == START
    assert it.verdict.why == "query cpu and 1 more failed: unreachable"


def test_the_server_has_answered_once_any_query_was() -> None:
    it = bench()
    it.server.failures = {name: UnreachableError("gone") for name in FEATURES}
    it.tick_at(0)
    assert not it.loop.answered
    it.server.failures = {}
    it.tick_at(10)
    assert it.loop.answered


def test_an_unforeseen_error_is_counted_makes_the_group_blind_and_ends_nothing() -> None:
    it = bench()
    it.server.raises = RuntimeError("boom")
    assert it.tick_at(0).state is State.BLIND
    assert it.sample("promad_tick_failures_total") == 1
    it.server.raises = None
    assert it.tick_at(10).state is State.OK


def test_a_short_window_is_warming_and_its_true_count_is_shown() -> None:
    it = bench()
    it.server.since = START - STEP
    verdict = it.tick_at(0)
    assert (verdict.state, verdict.why) == (State.WARMING, "2 of 4 samples of a window")
    assert it.status.samples_in_window == 2
    assert it.tick_at(10).state is State.WARMING
    assert it.tick_at(20).state is State.OK


def test_a_short_gap_is_filled_as_in_training_and_a_long_one_is_left_out() -> None:
    it = bench(features=MANY)
    it.tick_at(0)
    it.rise("cpu", [10, 20], np.nan)
    filled = it.tick_at(10)
    assert (filled.state, filled.why, filled.known_share) == (State.OK, "", 0.75)
    assert np.isnan(filled.features[0].observed)
    assert it.tick_at(20).why == "scored without cpu"


def test_one_of_two_features_that_is_missing_makes_the_group_blind_at_once() -> None:
    it = bench()
    it.tick_at(0)
    it.rise("cpu", [10], np.nan)
    blind = it.tick_at(10)
    assert (blind.state, blind.why) == (State.BLIND, "no sample of cpu")
    assert it.tick_at(20).state is State.OK


def test_a_value_outside_of_its_valid_range_is_missing_and_logged_once() -> None:
    it = bench(features=MANY, valid_ranges=[(None, None), (-1.0, 100.0), *[(None, None)] * 2])
    column = MANY[1]
    it.tick_at(0)
    it.rise(column, [10, 20, 40], 9.2e18)
    with structlog.testing.capture_logs() as logs:
        known = [it.tick_at(seconds).known_share for seconds in (10, 20, 30, 40)]
    assert known == [0.75] * 4
    found = [line for line in logs if line["event"] == "value outside valid_range"]
    assert [line["query"] for line in found] == [column, column]
    assert (found[0]["valid_range"], found[0]["value"]) == ("[-1, 100]", 9.2e18)


# Some features missing


def test_a_missing_feature_leaves_a_score_by_the_others_and_is_named() -> None:
    it = bench(features=MANY)
    it.rise("disk", range(-60, 60, 10), np.nan)
    it.rise("network", [0], 4.0)
    verdict = it.tick_at(0)
    assert (verdict.state, verdict.why) == (State.ANOMALOUS, "scored without disk")
    assert [view.name for view in verdict.features] == ["cpu", "load", "network"]
    assert verdict.score == pytest.approx(4.0**2 / LENGTH / 3)
    assert (verdict.known_share, verdict.missing) == (0.75, ("disk",))


def test_with_too_few_features_the_group_is_blind_at_once_and_says_what_is_missing() -> None:
    it = bench(features=MANY)
    it.tick_at(0)
    for name in ("disk", "cpu"):
        it.rise(name, [10, 20], np.nan)
    verdict = it.tick_at(10)
    assert (verdict.state, verdict.score) == (State.BLIND, None)
    assert verdict.why == "no sample of cpu, disk"


def test_windows_that_lack_too_many_features_in_different_samples_are_blind() -> None:
    """Each sample has enough of them, and still no score may be made up, nor an old one shown."""
    it = bench(features=MANY)
    it.rise("cpu", [10, 20], np.nan)
    it.rise("disk", [30, 40], np.nan)
    states = [it.tick_at(seconds).state for seconds in (0, 10, 20, 30, 40)]
    assert states == [State.OK] * 3 + [State.BLIND] * 2  # at 30 s cpu lacks and disk is filled
    assert it.verdict.why == "too few features are known for a score"
    assert it.verdict.at == START + 40
    assert it.tick_at(45).state is State.BLIND
    assert it.tick_at(60).state is State.OK  # the gap of cpu has left the window


def test_one_failed_query_of_four_leaves_a_score() -> None:
    it = bench(features=MANY)
    it.tick_at(0)
    it.server.failures = {"disk": PrometheusError("no answer in time", "timeout")}
    assert it.tick_at(10).state is State.OK
    assert it.loop.snapshot.failed_queries == (("disk", "no answer in time"),)
    assert it.sample("promad_query_up", query="disk") == 0


def test_too_many_failed_queries_are_blind_at_once_though_short_gaps_are_filled() -> None:
    it = bench(features=MANY)
    it.tick_at(0)
    late = PrometheusError("no answer in time", "timeout")
    it.server.failures = {"disk": late, "cpu": late}
    verdict = it.tick_at(10)
    assert (verdict.state, verdict.why) == (State.BLIND, "query disk and 1 more failed: timeout")


def test_a_query_that_is_answered_within_the_same_sample_brings_its_verdict_back() -> None:
    it = bench()
    before = it.tick_at(10)
    it.server.failures = {"cpu": UnreachableError("gone")}
    assert it.tick_at(13).state is State.BLIND
    it.server.failures = {}
    assert it.tick_at(16) == before


# Since when


def test_a_feature_deviates_since_the_first_sample_above_its_baseline() -> None:
    it = bench(method="normalised")
    it.rise("cpu", [10, 20, 40], 2.0)
    seen = {}
    for seconds in (0, 10, 20, 30, 40):
        verdict = it.tick_at(seconds)
        seen[seconds] = {view.name: view.since for view in verdict.features}
    assert [seen[seconds]["cpu"] for seconds in seen] == [
        None,
        START + 10,
        START + 10,
        None,
        START + 40,
    ]
    assert {since["load"] for since in seen.values()} == {None}


# Thresholds that move


def test_the_limit_that_stands_is_shown_with_and_without_a_score() -> None:
    it = bench(limits=Constant(np.array([2.5])))
    assert it.tick_at(0).threshold == 2.5
    it.server.failures = {name: UnreachableError("gone") for name in FEATURES}
    assert (it.tick_at(10).threshold, it.verdict.state) == (2.5, State.BLIND)


def test_the_smoothing_remembers_what_was_before_the_window() -> None:
    it = bench(method="normalised", span=3)
    it.rise("cpu", [0], 5.0)
    scores = [it.tick_at(seconds).score or 0.0 for seconds in range(0, 160, 10)]
    assert scores[0] > 1
    assert all(later < earlier for earlier, later in pairwise(scores))
    assert scores[14] > 0
    assert scores[15] < 1e-4 * scores[0]


def test_without_filling_any_missing_sample_is_blind() -> None:
    it = bench(strategy="none")
    it.rise("load", [0], np.nan)
    assert it.tick_at(0).state is State.BLIND


def test_an_incident_is_one_event_however_often_it_is_polled() -> None:
    it = bench()
    it.tick_at(0)
    it.rise("cpu", [10])
    for seconds in (10, 12, 14, 19, 20, 30, 40, 50, 60, 70):
        it.tick_at(seconds)
    assert it.status.events_begun == 1
    (event,) = it.ended
    assert (event.start, event.end, event.peak_at) == (START + 10, START + 40, START + 10)
    assert [view.name for view in event.top_features] == ["cpu"]


def test_a_sample_is_scored_once_however_often_it_is_polled() -> None:
    it = bench(enter_after=2)
    it.rise("cpu", [10])
    it.server.values[(START + 10, "cpu")] = 3.0
    it.tick_at(10)
    it.tick_at(15)
    it.tick_at(19)
    assert it.status.events_begun == 0


def test_an_event_begins_only_after_enough_samples_and_dates_from_the_first() -> None:
    it = bench(enter_after=3)
    it.rise("cpu", [10, 20, 30, 40])
    states = [it.tick_at(seconds).state for seconds in (0, 10, 20, 30)]
    assert states == [State.OK, State.OK, State.OK, State.ANOMALOUS]
    assert it.status.event is not None
    assert it.status.event.start == START + 10


def test_samples_missed_in_an_outage_of_the_network_are_scored_afterwards() -> None:
    it = bench()
    it.tick_at(0)
    it.rise("load", [20])
    it.server.failures = {name: UnreachableError("gone") for name in FEATURES}
    for seconds in (10, 20, 30, 40, 50, 60, 70, 80):
        assert it.tick_at(seconds).state is State.BLIND
    it.server.failures = {}
    assert it.tick_at(90).state is State.OK
    (event,) = it.ended
    assert (event.start, event.end) == (START + 20, START + 50)


def test_an_open_event_outlasts_blindness() -> None:
    it = bench()
    it.rise("cpu", range(0, 60, 10))
    it.tick_at(0)
    it.server.failures = {"cpu": PrometheusError("bad", "timeout")}
    it.tick_at(10)
    assert it.status.event is not None
    it.server.failures = {}
    assert it.tick_at(20).state is State.ANOMALOUS
    assert it.status.events_begun == 1


def test_the_newest_sample_asked_for_is_older_than_the_latency_offset() -> None:
    it = bench(latency_offset=3.0)
    it.tick_at(12)
    assert it.server.asked_at == [START + 9]
    assert it.verdict.at == START


def test_a_clock_that_goes_back_does_not_silence_the_daemon() -> None:
    it = bench()
    it.tick_at(1000)
    assert it.tick_at(0).at == START
    assert it.verdict.state is State.OK


def test_the_age_of_the_sample_furthest_behind_is_told() -> None:
    it = bench()
    it.rise("load", [0], np.nan)
    it.tick_at(4)
    assert it.sample("promad_sample_age_seconds") == 14


def test_a_tick_that_hangs_withdraws_the_last_verdict_in_the_end() -> None:
    it = bench()
    it.tick_at(0)
    it.clock.time = START + 3 * STEP
    assert it.verdict.state is State.OK
    it.clock.time += 1
    assert (it.verdict.state, it.verdict.score) == (State.BLIND, None)
    assert it.verdict.why == "no tick has ended for 31s"
    assert it.tick_at(40).state is State.OK


def test_ticks_come_at_absolute_multiples_of_the_interval() -> None:
    it, stop = bench(), threading.Event()
    it.clock.time = START + 3.5
    it.clock.on_wait = lambda: stop.set() if len(it.clock.waited_for) == 3 else None
    it.loop.run(stop)
    assert it.clock.waited_for == [START + 10, START + 20, START + 30]
    assert it.sample("promad_ticks_skipped_total") == 0


def test_a_late_tick_is_skipped_and_counted() -> None:
    it, stop = bench(), threading.Event()
    polled = it.server.poll

    def slow(at: float) -> Poll:
        it.clock.time += 25
        return polled(at)

    it.server.poll = slow  # type: ignore[method-assign]
    it.clock.on_wait = stop.set
    it.loop.run(stop)
    assert it.clock.waited_for == [START + 30]
    assert it.sample("promad_ticks_skipped_total") == 2


def test_failures_and_states_are_logged_when_they_change_and_not_at_every_tick() -> None:
    with structlog.testing.capture_logs() as lines:
        it = bench()
        it.tick_at(0)
        it.server.failures = {"cpu": PrometheusError("bad", "timeout")}
        for seconds in (10, 20, 30):
            it.tick_at(seconds)
        it.server.failures = {}
        it.tick_at(40)
    assert [line["event"] for line in lines] == [
        "state changed",
        "query failed",
        "state changed",
        "query answered again",
        "state changed",
    ]


def test_an_event_is_logged_in_one_line_with_start_end_peak_and_top_features() -> None:
    with structlog.testing.capture_logs() as lines:
        it = bench()
        it.rise("cpu", [10])
        for seconds in range(0, 80, 10):
            it.tick_at(seconds)
    (ended,) = [line for line in lines if line["event"] == "anomaly ended"]
    assert ended["start"] == "1970-01-12T13:46:50Z"
    assert ended["end"] == "1970-01-12T13:47:20Z"
    assert ended["peak_score"] == pytest.approx(9 / 4 / 2, abs=0.01)
    assert ended["top_features"] == "cpu"
    assert ended["explanation"] == (
        "Score: 1.12× the threshold; anomalous since 1970-01-12T13:46:50Z. "
        "cpu: 100% of the deviation; observed 3 at 1970-01-12T13:46:50Z, above the expected 0; "
        "error 2.25× its baseline; deviates since 1970-01-12T13:46:50Z."
    )


# Others take its place


def test_a_retired_loop_publishes_and_saves_nothing_of_a_tick_in_flight(tmp_path: Path) -> None:
    """A poll that returns after another set of detectors took over must change nothing."""
    log = EventLog(tmp_path / "events.db")
    it = bench(log=log)
    it.tick_at(0)
    before, saved = it.loop.snapshot, log.memory("promad")
    polled = it.server.poll

    def overtaken(at: float) -> Poll:
        it.loop.retire()
        return polled(at)

    it.server.poll = overtaken  # type: ignore[method-assign]
    it.rise("cpu", [10, 20])
    it.tick_at(10)
    assert it.loop.snapshot == before
    assert (log.memory("promad"), log.find()) == (saved, [])
    assert len(it.history.between().times) == 1
    assert it.sample("promad_polls_total") == 1
    log.close()


def test_a_tick_that_fails_after_it_was_retired_is_not_counted() -> None:
    it = bench()
    it.tick_at(0)
    it.loop.retire()
    it.server.raises = RuntimeError("the client is closed")
    before = it.loop.snapshot
    it.tick_at(10)
    assert it.loop.snapshot == before
    assert it.sample("promad_tick_failures_total") == 0


# Several groups


def two_groups() -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple((("instance", name),) for name in ("a:9100", 'b "quoted"\\'))


def test_groups_are_published_side_by_side_with_their_labels_and_names_escaped() -> None:
    it = bench(groups=two_groups())
    it.server.values = {(START, "cpu", 1): 9.0}
    it.tick_at(0)
    first, second = it.loop.snapshot.groups
    assert (first.verdict.state, second.verdict.state) == (State.OK, State.ANOMALOUS)
    assert second.group == two_groups()[1]
    assert it.live.state.names == (
        'promad{instance="a:9100"}',
        r'promad{instance="b \"quoted\"\\"}',
    )


def test_a_group_that_is_blind_is_blind_for_itself_alone() -> None:
    it = bench(groups=two_groups())
    it.tick_at(0)
    it.server.values = {(START + at, name, 0): np.nan for at in (10, 20) for name in FEATURES}
    it.tick_at(10)
    it.tick_at(20)
    assert [status.verdict.state for status in it.loop.snapshot.groups] == [State.BLIND, State.OK]


# Whatever happens


def test_a_clock_that_is_set_back_delays_no_tick() -> None:
    it, stop = bench(), threading.Event()

    def set_back() -> None:
        if len(it.clock.waited_for) == 2:
            it.clock.time -= 3600
            it.clock.set_back += 3600
        if len(it.clock.waited_for) == 4:
            stop.set()

    it.clock.on_wait = set_back
    it.loop.run(stop)
    assert it.clock.waited_for[:2] == [START + 10, START + 20]
    assert it.clock.waited_for[2:] == [START + 30 - 3600, START + 40 - 3600]


def test_a_clock_that_is_set_back_makes_no_old_verdict_look_new() -> None:
    it = bench()
    it.tick_at(0)
    it.clock.time -= 3600
    it.clock.set_back += 3600 + 31
    assert it.verdict.state is State.BLIND
    assert it.loop.overdue() == 31


def test_an_error_while_an_error_is_reported_ends_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    it, stop = bench(), threading.Event()

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(it.loop, "_take", fail)
    monkeypatch.setattr(it.loop, "_fail", fail)
    it.clock.on_wait = lambda: stop.set() if len(it.clock.waited_for) == 3 else None
    it.loop.run(stop)
    assert len(it.server.asked_at) == 3
