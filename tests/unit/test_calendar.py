"""Calendar columns follow the clock on the wall, smoothly but where the wall clock itself jumps."""

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.data.calendar import calendar_columns
from tests.support import naive

BOTH = ("hour_of_day", "day_of_week")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu")
HALF_HOUR_CHANGE = "Australia/Lord_Howe"
DAY = 86400.0


def instant(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def hours(times, zone):
    """Hours of the day that the columns stand for, (samples,)."""
    sine, cosine = calendar_columns(np.asarray(times), ("hour_of_day",), zone).T
    return np.arctan2(sine, cosine) / (2 * np.pi) * 24 % 24


@given(st.floats(0, 4e9), st.sampled_from([*ZONES, HALF_HOUR_CHANGE]))
def test_columns_equal_their_twin(time, zone):
    hour, day = naive.calendar(time, zone)
    angles = 2 * np.pi * np.array([hour / 24, day / 7])
    expected = np.stack([np.sin(angles), np.cos(angles)], axis=1).reshape(1, -1)
    np.testing.assert_allclose(calendar_columns(np.array([time]), BOTH, zone), expected, atol=1e-4)


@pytest.mark.parametrize("zone", [*ZONES, HALF_HOUR_CHANGE])
def test_every_sample_of_a_year_is_on_the_wall_clock(zone):
    times = instant("2026-01-01T00:00:00") + 3607.0 * np.arange(365 * 24)
    expected = np.array([naive.calendar(time, zone)[0] for time in times.tolist()])
    apart = (hours(times, zone) - expected + 12) % 24 - 12
    assert np.abs(apart).max() < 1e-4


def test_in_spring_the_clock_skips_an_hour():
    around = instant("2026-03-29T01:00:00") + np.array([-30.0, 0.0, 30.0])
    np.testing.assert_allclose(
        hours(around, "Europe/Berlin"), [2 - 1 / 120, 3, 3 + 1 / 120], atol=1e-5
    )


def test_in_autumn_an_hour_comes_twice():
    around = instant("2026-10-25T01:00:00") + np.array([-30.0, 0.0, 30.0])
    np.testing.assert_allclose(
        hours(around, "Europe/Berlin"), [3 - 1 / 120, 2, 2 + 1 / 120], atol=1e-5
    )
    again = instant("2026-10-25T00:15:00") + np.array([0.0, 3600.0])
    np.testing.assert_allclose(hours(again, "Europe/Berlin"), [2.25, 2.25], atol=1e-5)


def test_the_same_hour_on_the_wall_looks_the_same_in_summer_and_in_winter():
    noons = [instant("2026-01-14T12:00:00", "Europe/Berlin")]
    noons.append(instant("2026-07-15T12:00:00", "Europe/Berlin"))  # both a Wednesday
    winter, summer = calendar_columns(np.array(noons), BOTH, "Europe/Berlin")
    np.testing.assert_allclose(winter, summer, atol=1e-6)


def test_zones_that_are_off_by_half_an_hour_are_followed():
    assert hours([0.0], "Asia/Kolkata").item() == pytest.approx(5.5, abs=1e-5)
    assert hours([instant("2026-07-01T00:00:00")], "Asia/Kathmandu").item() == pytest.approx(5.75)


def test_neither_midnight_nor_the_end_of_the_week_is_a_jump():
    step = 60.0
    times = instant("2026-06-14T12:00:00") + step * np.arange(2 * 1440)  # Sunday noon and on
    columns = calendar_columns(times, BOTH, "UTC")
    steps = np.linalg.norm(np.diff(columns, axis=0).reshape(-1, 2, 2), axis=2)
    np.testing.assert_allclose(
        steps, [[2 * np.pi * step / DAY, 2 * np.pi * step / DAY / 7]] * len(steps), rtol=1e-2
    )


def test_no_two_times_of_a_week_look_alike():
    times = instant("2026-06-15T00:00:00") + 3600.0 * np.arange(7 * 24)
    columns = calendar_columns(times, BOTH, "UTC")
    distances = np.linalg.norm(columns[:, np.newaxis] - columns[np.newaxis], axis=2)
    assert distances[~np.eye(len(times), dtype=bool)].min() > 0.03


@given(st.lists(st.floats(0, 4e9), max_size=5), st.sampled_from(ZONES))
def test_each_feature_is_a_point_on_the_unit_circle(times, zone):
    columns = calendar_columns(np.array(times), BOTH, zone)
    assert columns.shape == (len(times), 4)
    assert columns.dtype == np.float32
    radii = np.linalg.norm(columns.reshape(-1, 2, 2), axis=2)
    np.testing.assert_allclose(radii, 1, atol=1e-6)


def test_columns_stand_in_the_order_in_which_they_were_asked_for():
    times = np.array([1e9])
    hour = calendar_columns(times, ("hour_of_day",), "UTC")
    week = calendar_columns(times, ("day_of_week",), "UTC")
    both = calendar_columns(times, ("day_of_week", "hour_of_day"), "UTC")
    np.testing.assert_array_equal(both, np.hstack([week, hour]))


def test_nothing_asked_for_is_no_column():
    assert calendar_columns(np.arange(3.0), (), "UTC").shape == (3, 0)
