"""Events outlast the daemon: written as they happen, resumed or closed after a restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from promad.errors import DataError
from promad.events.event_log import EventLog, LoggedEvent
from promad.events.verdict import State
from tests.support.bench import CATCH_UP, START, STEP, Bench, bench

Start = Callable[..., Bench]

MEMORY = json.dumps(
    {
        "scored_until": START - STEP,
        "deviating": {},
        "current": None,
        "rising": None,
        "above": 0,
        "below": 0,
        "last_above": 0.0,
    }
)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = EventLog(tmp_path / "events.db")
    yield opened
    opened.close()


@pytest.fixture
def start(log: EventLog) -> Start:
    """Starts a daemon on the log, on the server of the one before and at a time, in seconds."""

    def started(
        before: Bench | None = None, at: float = 0, bundle: str = "b1", **more: Any
    ) -> Bench:
        it = bench(log=log, bundle=bundle, **more)
        if before is not None:
            it.server.values = before.server.values
        it.clock.time = START + at
        it.outputs.persistence.resume(it.live.state, it.clock.now())
        return it

    return started


def run(it: Bench, first: int, last: int) -> None:
    for seconds in range(first, last + 1, 10):
        it.tick_at(seconds)


def only(log: EventLog) -> LoggedEvent:
    (found,) = log.find()
    return found


def test_an_event_is_in_the_log_from_its_first_sample_on(log: EventLog, start: Start) -> None:
    it = start()
    it.rise("cpu", [10, 20])
    run(it, 0, 10)
    assert only(log).event == it.status.event
    assert only(log).bundle == "b1"
    run(it, 20, 80)
    assert only(log).event == it.ended[0]
    assert only(log).end_reason == "quiet"


@pytest.mark.parametrize("stopped_at", range(0, 120, 10))
def test_whenever_the_daemon_is_restarted_the_log_is_the_same(
    log: EventLog, start: Start, stopped_at: int
) -> None:
    """Down for 40 seconds, which is caught up with; an unbroken daemon would have seen this."""
    it = start(enter_after=2)
    it.rise("cpu", range(20, 80, 10))
    run(it, 0, stopped_at)
    again = start(it, stopped_at + 40, enter_after=2)
    run(again, stopped_at + 40, 200)
    event = only(log).event
    assert (event.start, event.end, event.flagged_at) == (START + 20, START + 100, START + 30)
    assert only(log).end_reason == "quiet"
    assert event.peak_ratio == pytest.approx(9 / 2)


def test_a_feature_that_deviates_over_a_restart_has_done_so_since_before(start: Start) -> None:
    it = start()
    it.rise("cpu", range(10, 100, 10))
    run(it, 0, 30)
    again = start(it, 50)
    (view,) = [view for view in again.tick_at(50).features if view.name == "cpu"]
    assert view.since == it.verdict.features[0].since is not None


@pytest.mark.parametrize("stopped_at", [0, 10, 30, 60])
def test_a_restart_between_two_samples_shows_the_newest_one_again(
    log: EventLog, start: Start, stopped_at: int
) -> None:
    it = start()
    it.rise("cpu", [10, 20, 30])
    run(it, 0, stopped_at)
    again = start(it, stopped_at + 3)
    assert again.tick_at(stopped_at + 3) == it.verdict
    assert len(log.find()) == (stopped_at > 0)
    run(again, stopped_at + 10, 120)
    assert len(log.find()) <= 1


def test_an_event_is_closed_if_nobody_looked_for_too_long(log: EventLog, start: Start) -> None:
    it = start()
    it.rise("cpu", [10, 20])
    run(it, 0, 20)
    again = start(it, 20 + CATCH_UP + 10)
    assert (only(log).event.end, only(log).end_reason) == (START + 20, "unwatched")
    assert again.tick_at(20 + CATCH_UP + 10).state is State.OK


def test_an_event_of_another_bundle_is_closed(log: EventLog, start: Start) -> None:
    it = start()
    it.rise("cpu", range(10, 300, 10))
    run(it, 0, 20)
    again = start(it, 30, bundle="b2")
    assert (only(log).event.end, only(log).end_reason) == (START + 20, "bundle")
    again.tick_at(30)
    assert [found.bundle for found in log.find()] == ["b2", "b1"]


def test_the_daemon_counts_only_its_own_events(start: Start) -> None:
    it = start()
    it.rise("cpu", range(10, 100, 10))
    run(it, 0, 20)
    again = start(it, 30)
    again.tick_at(30)
    assert (again.status.events_begun, again.verdict.state) == (0, State.ANOMALOUS)


@pytest.mark.parametrize(
    "content",
    [
        *('{"scored_until": "yesterday"}', "{", "[]", "null", '{"scored_until": 1e12}'),
        *("[" * 100_000, MEMORY.replace('"above": 0', '"above": 1e999')),
    ],
    ids=["word", "cut", "list", "null", "future", "deep", "infinite"],
)
def test_a_memory_that_makes_no_sense_is_left_aside(
    log: EventLog, start: Start, content: str
) -> None:
    with log._transaction() as connection:
        connection.execute("INSERT INTO memories VALUES ('promad', 'b1', ?)", (content,))
    with structlog.testing.capture_logs() as lines:
        assert start().tick_at(0).state is State.OK
    assert "saved detector state is unreadable; starting fresh" in [line["event"] for line in lines]


def test_a_log_that_cannot_be_written_is_counted_and_said_once(
    log: EventLog, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DataError("events.db: cannot be used (disk is full)")

    it = start()
    with monkeypatch.context() as patch, structlog.testing.capture_logs() as lines:
        patch.setattr(log, "remember", full)
        run(it, 0, 30)
        assert it.verdict.state is State.OK
    assert it.sample("promad_event_log_failures_total") == 4
    assert [line["event"] for line in lines].count("events not saved") == 1
    run(it, 40, 50)
    assert it.sample("promad_event_log_failures_total") == 4
    assert log.memory("promad") is not None


def test_an_event_that_ends_while_nothing_can_be_written_is_saved_afterwards(
    log: EventLog, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = start()
    it.rise("cpu", [10, 20])
    run(it, 0, 10)

    def refuse(*_: object) -> None:
        raise DataError("events.db: cannot be used (database or disk is full)")

    with monkeypatch.context() as full:
        full.setattr(log, "record", refuse)
        full.setattr(log, "remember", refuse)
        run(it, 20, 90)
    assert only(log).event.end is None
    it.loop.retire()
    assert only(log).event == it.ended[0]
    assert only(log).end_reason == "quiet"


def test_old_events_are_forgotten_and_new_ones_are_not(log: EventLog, start: Start) -> None:
    it = start()
    it.outputs.persistence.retention = 100.0
    it.rise("cpu", [10, 4000])
    run(it, 0, 60)
    run(it, 3900, 4100)
    assert only(log).event.start == START + 4000


def test_the_history_holds_every_sample_that_the_daemon_judged_and_its_blindness(
    start: Start,
) -> None:
    it = start()
    it.rise("cpu", [20, 30, 40], np.nan)
    run(it, 0, 100)
    recent = it.history.between()
    assert np.diff(recent.times).tolist() == [STEP] * (len(recent.times) - 1)
    assert recent.verdict(len(recent.times) - 1).state is State.OK
    assert State.BLIND in [recent.verdict(row).state for row in range(len(recent.times))]


def two_groups() -> tuple[tuple[tuple[str, str], ...], ...]:
    return ((("instance", "a"),), (("instance", "b"),))


@pytest.mark.parametrize("stopped_at", range(10, 100, 10))
def test_resuming_one_group_leaves_the_event_of_another_open(
    log: EventLog, start: Start, stopped_at: int
) -> None:
    it = start(groups=two_groups())
    it.server.values = {
        (START + at, "cpu", group): 9.0 for group in (0, 1) for at in range(10, 60 + 30 * group, 10)
    }
    run(it, 0, stopped_at)
    again = start(it, stopped_at + 10, groups=two_groups())
    run(again, stopped_at + 10, 200)
    assert {found.end_reason for found in log.find()} == {"quiet"}
    found = {found.event.group: found.event for found in log.find()}
    assert {name: (event.start, event.end) for name, event in found.items()} == {
        'promad{instance="a"}': (START + 10, START + 80),
        'promad{instance="b"}': (START + 10, START + 110),
    }


def test_events_of_a_group_that_is_no_longer_monitored_are_closed(
    log: EventLog, start: Start
) -> None:
    it = start(groups=two_groups())
    it.server.values = {(START + at, "cpu", 1): 9.0 for at in range(10, 200, 10)}
    run(it, 0, 30)
    start(it, 40, groups=two_groups()[:1])
    assert only(log).end_reason == "unwatched"
