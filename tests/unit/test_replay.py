"""Replaying history comes to what a daemon came to that ran over the same samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from promad.data.frame import MetricFrame, single_group
from promad.detection.replay import ReplayedSample, replay
from promad.events.events import AnomalyEvent
from promad.events.status import GroupStatus
from promad.events.verdict import State
from promad.thresholds.threshold_state import NeverAdapted
from tests.support.bench import MANY, START, STEP, Bench, bench
from tests.support.rounding import round_numbers

SAMPLES = 70


class Rising(NeverAdapted):
    """A threshold at work that each known score raises a little."""

    def __init__(self) -> None:
        super().__init__(1)
        self._value = 1.0

    def limits(self) -> NDArray[np.float64]:
        return np.array([self._value])

    def follow(
        self,
        scores: NDArray[np.float64],
        recent: NDArray[np.float64] | None = None,
        held: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float64]:
        limits = self.limits()
        self._value += 0.01 * float((~np.isnan(scores)).sum())
        return limits


def samples(draw_values: dict[tuple[int, int], float], count: int = SAMPLES) -> np.ndarray:
    values = np.zeros((count, len(MANY)))
    for (row, column), value in draw_values.items():
        values[row, column] = value
    return values


def put_on_server(it: Bench, values: np.ndarray) -> None:
    for row, sample in enumerate(values):
        for name, value in zip(MANY, sample, strict=True):
            it.server.values[(START + row * STEP, name)] = float(value)


def live_through(it: Bench, count: int) -> list[GroupStatus]:
    """What the daemon published, tick by tick."""
    return [it.tick_at(row * STEP) and it.status for row in range(count)]


def replay_on(it: Bench, values: np.ndarray) -> list[ReplayedSample]:
    """The same samples as history, behind the zeros that the server had before."""
    lead = np.zeros((it.live.detector.samples_needed - 1, len(MANY)))
    start = START - len(lead) * STEP
    frame: MetricFrame = single_group(start, STEP, MANY, np.vstack([lead, values]))
    return list(replay(it.live, frame))


def both(
    values: np.ndarray, moving: bool = False, **live: int
) -> tuple[list[GroupStatus], list[ReplayedSample], list[AnomalyEvent]]:
    def make() -> Bench:
        limits = Rising() if moving else None
        return bench(features=MANY, span=3, method="normalised", limits=limits, **live)

    daemon, other = make(), make()
    daemon.server.samples = daemon.live.detector.samples_needed  # what a replay begins with
    put_on_server(daemon, values)
    lived = live_through(daemon, len(values))
    return lived, replay_on(other, values), daemon.ended


def assert_same(lived: list[GroupStatus], judged: list[ReplayedSample]) -> None:
    assert len(lived) == len(judged)
    for one, other in zip(lived, judged, strict=True):
        assert round_numbers(one) == round_numbers(other.status)


cells = st.tuples(st.integers(0, SAMPLES - 1), st.integers(0, len(MANY) - 1))
wild = st.sampled_from([np.nan, np.nan, 0.5, 3.0, 9.0])


@settings(max_examples=30)
@given(st.dictionaries(cells, wild, max_size=60))
def test_a_replay_is_what_the_daemon_published(drawn: dict) -> None:
    values = samples(drawn)
    lived, judged, ended = both(values)
    assert_same(lived, judged)
    assert round_numbers([each.ended for each in judged if each.ended]) == round_numbers(ended)


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
    lived, judged, ended = both(values, enter_after=2, leave_after=3)
    assert_same(lived, judged)
    assert round_numbers([each.ended for each in judged if each.ended]) == round_numbers(ended)


def test_a_threshold_that_moves_is_replayed_alike() -> None:
    values = samples({})
    values[20:30] = np.nan
    values[40:46, 0] = 4.0
    lived, judged, ended = both(values, moving=True)
    assert len({status.verdict.threshold for status in lived}) > 5
    assert_same(lived, judged)
    assert ended
    assert round_numbers([each.ended for each in judged if each.ended]) == round_numbers(ended)


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
