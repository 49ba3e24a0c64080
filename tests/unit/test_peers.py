"""New groups are calibrated by the trained groups that they resemble."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from promad.data.rows import plan_move
from promad.scoring.calibration import Calibration, CalibrationTable
from promad.scoring.peers import (
    HOURS,
    NO_PEER,
    Caution,
    Peers,
    find_farthest,
    find_peers,
    find_whole,
    is_hourly,
)

KINDS = 3
EACH = 10
FEATURES = 4
LEVELS = 100.0 * np.arange(1, KINDS + 1)
RNG = np.random.default_rng(5)
CENTER = np.repeat(LEVELS, EACH)[:, np.newaxis] + RNG.normal(0.0, 2.0, (KINDS * EACH, FEATURES))
SCALE = np.full((KINDS * EACH, FEATURES), 3.0)
FARTHEST = find_farthest(CENTER, SCALE)


def choose(*levels: list[float]) -> np.ndarray:
    return find_peers(np.array(levels), CENTER, SCALE, FARTHEST)


@pytest.mark.parametrize("kind", range(KINDS))
def test_peers_are_of_the_kind_at_the_same_level(kind: int) -> None:
    (peers,) = choose([LEVELS[kind] + 1.0] * FEATURES)
    assert len(set(peers.tolist())) == 5
    assert (peers // EACH == kind).all()


def test_unknown_features_do_not_count() -> None:
    (peers,) = choose([np.nan, 200.0, np.nan, 201.0])
    assert (peers // EACH == 1).all()


def test_a_group_unlike_all_others_or_without_any_value_has_no_peers() -> None:
    assert (choose([5000.0] * FEATURES, [np.nan] * FEATURES) == NO_PEER).all()


def test_one_odd_feature_does_not_decide() -> None:
    (peers,) = choose([200.0, 200.0, 200.0, 1e9])
    assert (peers // EACH == 1).all()


def test_many_groups_at_once_have_the_peers_that_each_has_alone() -> None:
    levels = RNG.uniform(90.0, 310.0, (70, FEATURES))
    levels[3, 2] = np.nan
    alone = np.concatenate(
        [find_peers(levels[[row]], CENTER, SCALE, FARTHEST) for row in range(70)]
    )
    np.testing.assert_array_equal(find_peers(levels, CENTER, SCALE, FARTHEST), alone)


def test_of_very_many_trained_groups_only_some_are_candidates() -> None:
    center = np.arange(3000.0)[:, np.newaxis]
    (peers,) = find_peers(np.array([[1500.0]]), center, np.ones_like(center), 4.0)
    assert (np.abs(peers - 1500) <= 10).all()


def test_the_nearest_takes_the_place_of_peers_that_are_too_far() -> None:
    center = np.array([[0.0], [1.0], *[[50.0 + 10 * row] for row in range(18)]])
    (peers,) = find_peers(np.array([[0.2]]), center, np.ones_like(center), 2.0)
    assert peers.tolist() == [0, 1, 0, 0, 0]


def test_the_only_trained_group_can_be_a_peer() -> None:
    farthest = find_farthest(CENTER[:1], SCALE[:1])
    assert find_peers(CENTER[:1] + 1.0, CENTER[:1], SCALE[:1], farthest).tolist() == [[0]]


# When they are chosen


def test_a_group_is_whole_once_it_has_a_sample_before_its_window() -> None:
    values = np.full((3, 6, 2), 1.0)
    values[1, :3] = np.nan
    values[2, :2] = np.nan
    assert find_whole(values, 4).tolist() == [True, False, True]


@pytest.mark.parametrize("step", [30.0, 60.0, 420.0])
def test_one_sample_an_hour_is_the_first_of_its_hour(step: float) -> None:
    times = 1_750_000_000.0 // step * step + step * np.arange(round(10 * 3600 / step))
    assert abs(is_hourly(times, step).sum() - 10) <= 1


def test_the_first_choice_is_made_at_once_and_others_each_hour_for_a_day() -> None:
    peers = Peers.begin(np.array([True, False]), trained=30, features=2)
    at, chosen = 7200.0 + 120.0, []
    for sample in range(30 * 60):
        due = peers.find_due(at + 60.0 * sample, 60.0)
        assert 1 not in due
        if due.size:
            chosen.append(sample)
            peers.follow(due, np.ones((1, 4, 2)))
    assert chosen[:3] == [0, 58, 118]
    assert len(chosen) == HOURS


def test_levels_are_the_mean_of_the_windows_medians() -> None:
    peers = Peers.begin(np.array([True]), trained=30, features=2)
    row = np.array([0])
    for level in (1.0, np.nan, 5.0):
        window = np.array([[[level, 2.0], [level, np.nan], [level, 4.0]]])
        peers.follow(row, window)
    assert peers.levels[0, 0] == pytest.approx(1.0 + (5.0 - 1.0) / 3)
    assert peers.levels[0, 1] == 3.0


def test_peers_of_groups_that_stay_are_kept() -> None:
    old = Peers.begin(np.array([True, True]), trained=30, features=2)
    old.rows[1], old.met[1] = 7, 3
    new = Peers.begin(np.array([True, True, True]), trained=30, features=2)
    new.adopt(old, plan_move(["a", "b"], ["c", "b", "d"]))
    assert new.rows[:, 0].tolist() == [NO_PEER, 7, NO_PEER]
    assert new.met.tolist() == [0, 3, 0]


# What they are used for

GROUPS = tuple((("instance", str(row)),) for row in range(KINDS * EACH))
UNITS = np.arange(1.0, KINDS * EACH + 1)
POSSIBLE = np.stack([CENTER - 5 * SCALE, CENTER + 5 * SCALE], axis=1)
ROWS = Calibration(CENTER, CENTER, POSSIBLE, SCALE, SCALE, SCALE, UNITS)
TABLE = CalibrationTable(GROUPS, ROWS, 40.0, Caution(3.0, 1.5))
POOLED = replace(ROWS.take(np.array([0])), unit=np.array([40.0]), center=np.zeros((1, FEATURES)))
NEW = (("instance", "new"),)


def have_peers(rows: list[int], met: int) -> Peers:
    return Peers(np.array([rows]), np.full((1, FEATURES), np.nan), np.array([met]))


def test_a_new_group_has_the_medians_of_its_peers_and_a_larger_unit() -> None:
    rows = [3, 4, 5, 6, 9]
    first = TABLE.calibrate([NEW], POOLED, have_peers(rows, 1))
    np.testing.assert_array_equal(first.center[0], np.median(CENTER[rows], axis=0))
    assert first.unit[0] == 3.0 * UNITS[5]
    later = TABLE.calibrate([NEW], POOLED, have_peers(rows, HOURS))
    assert later.unit[0] == 1.5 * UNITS[5]


@pytest.mark.parametrize("rows", [[-1] * 5, [0, 1, 2, 3, KINDS * EACH]])
def test_without_peers_a_new_group_has_the_pooled_calibration(rows: list[int]) -> None:
    found = TABLE.calibrate([NEW], POOLED, have_peers(rows, 1))
    assert (found.center[0] == 0.0).all()
    assert found.unit[0] == 40.0


def test_where_groups_say_little_about_each_other_none_has_peers() -> None:
    levels = CENTER[:1]
    assert (TABLE.find_peers(levels) >= 0).all()
    unlike = replace(TABLE, caution=Caution(50.0, 4.5))
    assert (unlike.find_peers(levels) == NO_PEER).all()


def test_a_trained_group_has_its_own_calibration_whatever_its_peers() -> None:
    found = TABLE.calibrate([GROUPS[8]], POOLED, have_peers([0] * 5, 1))
    np.testing.assert_array_equal(found.center[0], CENTER[8])
    assert found.unit[0] == UNITS[8]
