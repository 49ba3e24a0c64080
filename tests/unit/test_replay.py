"""Replaying history comes to what a daemon came to that ran over the same samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.data.frame import MetricFrame, single_group
from promad.detection.judging import Judge
from promad.detection.replay import Replayed, replay
from promad.events.events import AnomalyEvent
from promad.events.status import GroupStatus
from promad.events.verdict import State
from promad.scoring.detector import Detector
from promad.training.threshold_choice import StoredLimits
from tests.unit.test_detect import MANY, START, STEP, Bench, bench

SAMPLES = 70


@dataclass(frozen=True)
class Rising:
    """A threshold at work that each known score raises a little."""

    value: float = 1.0

    def follow(self, score: float) -> tuple[float, Rising]:
        return self.value, self if np.isnan(score) else Rising(self.value + 0.01)


def samples(draw_values: dict[tuple[int, int], float], count: int = SAMPLES) -> np.ndarray:
    values = np.zeros((count, len(MANY)))
    for (row, column), value in draw_values.items():
        values[row, column] = value
    return values


def put_on_server(it: Bench, values: np.ndarray) -> None:
    for row, sample in enumerate(values):
        for name, value in zip(MANY, sample, strict=True):
            it.server.values[(START + row * STEP, name)] = float(value)


def lived_through(it: Bench, count: int) -> list[GroupStatus]:
    """What the daemon published, tick by tick."""
    return [it.tick_at(row * STEP) and it.status for row in range(count)]


def replayed(it: Bench, values: np.ndarray, judge: Judge, detector: Detector) -> list[Replayed]:
    """The same samples as history, behind the zeros that the server had before."""
    lead = np.zeros((detector.samples_needed - 1, len(MANY)))
    start = START - len(lead) * STEP
    frame: MetricFrame = single_group(start, STEP, MANY, np.vstack([lead, values]))
    return list(replay(judge, detector, frame))


def both(
    values: np.ndarray, moving: bool = False, **live: object
) -> tuple[list[GroupStatus], list[Replayed], list[AnomalyEvent]]:
    def limits() -> StoredLimits | None:
        return StoredLimits(Rising()) if moving else None  # type: ignore[arg-type]

    make = {"features": MANY, "span": 3, "method": "normalised", **live}
    daemon, other = bench(limits=limits(), **make), bench(limits=limits(), **make)
    put_on_server(daemon, values)
    lived = lived_through(daemon, len(values))
    judge = other.watch._judge
    return lived, replayed(other, values, judge, judge._detector), daemon.ended


def same(lived: list[GroupStatus], judged: list[Replayed]) -> None:
    assert len(lived) == len(judged)
    for one, other in zip(lived, judged, strict=True):
        assert repr(one) == repr(other.status)


cells = st.tuples(st.integers(0, SAMPLES - 1), st.integers(0, len(MANY) - 1))
wild = st.sampled_from([np.nan, np.nan, 0.5, 3.0, 9.0])


@settings(max_examples=30)
@given(st.dictionaries(cells, wild, max_size=60))
def test_a_replay_is_to_the_letter_what_the_daemon_published(drawn: dict) -> None:
    values = samples(drawn)
    lived, judged, ended = both(values)
    same(lived, judged)
    assert repr([each.ended for each in judged if each.ended]) == repr(ended)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, SAMPLES - 1), st.integers(1, 12), st.integers(1, 4), wild),
        max_size=8,
    )
)
def test_long_gaps_and_long_incidents_are_replayed_alike(drawn: list) -> None:
    values = samples({})
    for start, length, width, value in drawn:
        values[start : start + length, :width] = value
    lived, judged, ended = both(values, enter_after_samples=2, leave_after_samples=3)
    same(lived, judged)
    assert repr([each.ended for each in judged if each.ended]) == repr(ended)


def test_a_threshold_that_moves_is_replayed_alike() -> None:
    values = samples({})
    values[20:30] = np.nan
    values[40:46, 0] = 4.0
    lived, judged, ended = both(values, moving=True)
    assert len({status.verdict.threshold for status in lived}) > 5
    same(lived, judged)
    assert ended
    assert repr([each.ended for each in judged if each.ended]) == repr(ended)


def test_blind_warming_and_anomalous_samples_are_all_there() -> None:
    values = samples({})
    values[20:30] = np.nan
    values[50:60, 1] = 5.0
    _, judged, _ = both(values)
    states = [each.status.verdict.state for each in judged]
    assert {states.count(state) > 0 for state in State} == {True}


def test_an_event_stays_open_over_blindness_in_a_replay_too() -> None:
    values = samples({})
    values[40:50, 0] = 5.0
    values[50:54] = np.nan
    _, judged, _ = both(values)
    blind = [each for each in judged if each.status.verdict.state is State.BLIND]
    assert blind
    assert all(each.status.event is not None for each in blind)


def test_how_many_samples_are_scored_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.abs(np.random.default_rng(7).normal(size=(SAMPLES, len(MANY))))
    _, whole, _ = both(values)
    monkeypatch.setattr("promad.detection.replay._AT_ONCE", 7)
    _, pieces, _ = both(values)
    assert [repr(each) for each in pieces] == [repr(each) for each in whole]
