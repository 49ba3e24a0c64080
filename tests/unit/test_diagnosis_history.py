"""What `promad doctor` finds in the collected history: features that add nothing, and gaps."""

import json

import numpy as np
import pytest

from promad.config.durations import format_instant
from promad.data.artifacts import open_groups, write_frames
from promad.data.frame import MetricFrame, single_group
from promad.diagnosis.checks import CHECKS
from promad.diagnosis.findings import Fact, Finding
from promad.diagnosis.history import correlate
from promad.diagnosis.statistics import WindowLimits, read_history
from promad.errors import DataError

STEP = 60.0
START = 1_750_000_020.0
DAY = 1440
"""Samples of a day."""
LIMITS = WindowLimits(max_fill_steps=5, length=10)


def noise(samples=2 * DAY, features=3, seed=3):
    return np.random.default_rng(seed).normal(10.0, 1.0, (samples, features))


def read(tmp_path, *frames, **metadata):
    path = tmp_path / "data.parquet"
    write_frames(path, frames, metadata)
    return read_history(open_groups(path, "collect"), LIMITS)


def of_one(tmp_path, values):
    return read(tmp_path, single_group(START, STEP, "abc"[: values.shape[1]], values))


def of_many(tmp_path, *groups):
    labels = tuple((("instance", f"h{number}:1"),) for number in range(len(groups)))
    features = tuple("abc"[: groups[0].shape[1]])
    return read(tmp_path, MetricFrame(START, STEP, features, labels, np.stack(groups)))


def find(check, history):
    return list(CHECKS[check].find(history))


def warn(subject, found, remedy):
    return [Finding("warning", subject, found, remedy)]


def test_healthy_data_have_no_findings(tmp_path):
    for history in (of_one(tmp_path, noise()), of_many(tmp_path, noise(), noise(seed=4))):
        for name, check in CHECKS.items():
            if check.needs == "history":
                assert find(name, history) == []


# Constant features


CONSTANT = "remove the query, unless a change is an incident"


def test_a_feature_that_never_changed_is_found(tmp_path):
    values = noise()
    values[:, 1] = 0.1 + 0.2
    assert find("constant_feature", of_one(tmp_path, values)) == warn(
        "queries.b", "constant at 0.3 for 2d: any change raises the score", CONSTANT
    )


def test_it_may_have_another_value_in_each_group_but_changes_in_none(tmp_path):
    one, two = noise(), noise(seed=4)
    one[:, 2], two[:, 2] = 1.0, 2.0
    assert find("constant_feature", of_many(tmp_path, one, two)) == warn(
        "queries.c", "constant for 2d in all groups: any change raises the score", CONSTANT
    )
    two[7, 2] = 3.0
    assert find("constant_feature", of_many(tmp_path, one, two)) == []


def test_less_than_a_day_is_too_short(tmp_path):
    values = noise(60)
    values[:, 1] = 0.0
    assert find("constant_feature", of_one(tmp_path, values)) == [
        Fact("history", "59m collected, less than a day: too short for constant features")
    ]


# Duplicate and collinear features


def test_the_same_values_are_a_duplicate(tmp_path):
    values = noise()
    values[:, 2] = values[:, 0]
    history = of_one(tmp_path, values)
    assert find("duplicate_feature", history) == warn(
        "queries.c",
        "has the same values as a, so they count twice",
        "remove one of the two queries",
    )
    assert find("collinear_feature", history) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_a_feature_that_follows_from_another_is_collinear(tmp_path, sign):
    values = noise()
    values[:, 1] = sign * 7 * values[:, 0] + 3 + 0.01 * values[:, 2]
    history = of_one(tmp_path, values)
    assert find("duplicate_feature", history) == []
    assert find("collinear_feature", history) == warn(
        "queries.b",
        f"nearly collinear with a (correlation {sign:.3f}), so their deviations count twice",
        "remove one of the two queries, or halve their weight",
    )


def test_features_that_are_alike_in_one_group_only_are_no_pair(tmp_path):
    one, two = noise(), noise(seed=4)
    one[:, 1] = one[:, 0]
    assert find("duplicate_feature", of_many(tmp_path, one, two)) == []
    two[:, 1] = two[:, 0]
    (found,) = find("duplicate_feature", of_many(tmp_path, one, two))
    assert found.found == "has the same values as a in all groups, so they count twice"


def test_a_group_in_which_both_are_constant_does_not_count(tmp_path):
    one, two = noise(), noise(seed=4)
    one[:, 1] = one[:, 0]
    two[:, :2] = 0.0
    assert len(find("duplicate_feature", of_many(tmp_path, one, two))) == 1


def test_one_burst_of_both_makes_no_pair(tmp_path):
    values = noise()
    values[100:105, :2] = 1e6
    assert find("collinear_feature", of_one(tmp_path, values)) == []


def test_two_features_with_a_trend_are_no_pair(tmp_path):
    values = noise()
    values[:, :2] = 100 * np.arange(2 * DAY)[:, np.newaxis] + noise(features=2, seed=5)
    assert find("collinear_feature", of_one(tmp_path, values)) == []


def test_correlations_are_those_of_each_group_by_itself():
    groups = [noise(300), noise(300, seed=4)]
    groups[0][:, 1] += groups[0][:, 0]
    groups[1][:, 1] -= groups[1][:, 0]
    bulk = [np.clip(each, *np.percentile(each, (1, 99), axis=0)) for each in groups]
    each = np.array([np.corrcoef(values.T) for values in bulk])
    low, high = correlate(np.stack(groups))
    np.testing.assert_allclose(low, each.min(axis=0))
    np.testing.assert_allclose(high, each.max(axis=0))


def test_too_few_samples_in_common_are_not_compared():
    values = noise(300)[np.newaxis]
    values[0, 99:, 0] = np.nan
    low, _ = correlate(values)
    assert np.isnan(low[0]).all()
    assert not np.isnan(low[1, 2])


def test_two_constant_features_are_no_pair(tmp_path):
    values = noise()
    values[:, :2] = 0.0
    assert find("duplicate_feature", of_one(tmp_path, values)) == []


def test_missing_values_do_not_hide_a_pair(tmp_path):
    values = noise()
    values[:, 1] = values[:, 0]
    values[::3, 0] = np.nan
    values[:700, 1] = np.nan
    assert len(find("duplicate_feature", of_one(tmp_path, values))) == 1


# Missing features


def test_a_feature_that_is_missing_for_a_tenth_is_found(tmp_path):
    values = noise()
    values[::4, 0] = np.nan
    values[::20, 1] = np.nan
    assert find("missing_feature", of_one(tmp_path, values)) == warn(
        "queries.a",
        "missing in 25% of the samples of 2d",
        "append `or vector(0)` to the expression if no sample means 0, or remove the query",
    )


def test_a_feature_that_began_late_is_found_with_its_first_value(tmp_path):
    values = noise()
    values[:DAY, 0] = np.nan
    (found,) = find("missing_feature", of_one(tmp_path, values))
    assert found.found == (
        "missing in 50% of the samples of 2d; its first value is of "
        f"{format_instant(START + DAY * STEP)}"
    )


def test_groups_that_never_have_a_feature_are_counted(tmp_path):
    without = noise()
    without[:, 2] = np.nan
    history = of_many(tmp_path, noise(), without, noise(seed=5))
    assert find("missing_feature", history) == warn(
        "queries.c",
        "missing in 33% of the samples of 2d; 1 of 3 groups never has it, such as "
        '{instance="h1:1"}',
        "monitor groups without it by a configuration of their own, or remove the query",
    )


# Gaps


def test_gaps_that_cost_a_tenth_of_the_windows_are_found(tmp_path):
    values = noise()
    for start in range(100, 2 * DAY, 100):
        values[start : start + 20] = np.nan
    history = of_one(tmp_path, values)
    assert find("gaps", history) == warn(
        str(history.path),
        "28 gaps longer than max_fill_steps (5 × 1m) cost 28% of the windows, the longest is 20m",
        "find out why the targets were not scraped, or raise preprocessing_settings.max_fill_steps",
    )


def test_short_gaps_and_rare_ones_are_none(tmp_path):
    values = noise()
    values[500:620] = np.nan
    values[::10] = np.nan
    assert find("gaps", of_one(tmp_path, values)) == []


def test_the_group_with_the_largest_loss_is_named(tmp_path):
    bad = noise()
    bad[500:1500] = np.nan
    (found,) = find("gaps", of_many(tmp_path, noise(), bad))
    assert found.found == (
        "1 gap longer than max_fill_steps (5 × 1m) costs 18% of the windows, the longest is "
        '16h40m, most of all in {instance="h1:1"}'
    )


def test_time_between_periods_is_no_gap(tmp_path):
    first = single_group(START, STEP, "abc", noise(DAY))
    second = single_group(START + 10 * DAY * STEP, STEP, "abc", noise(DAY))
    periods = [
        {"start": format_instant(frame.start), "end": format_instant(frame.end)}
        for frame in (first, second)
    ]
    assert find("gaps", read(tmp_path, first, second, periods=json.dumps(periods))) == []
    assert len(find("gaps", read(tmp_path, first, second))) == 1


# How much is read


def test_of_many_groups_some_are_read(tmp_path):
    groups = [noise(DAY + 1, 1, seed) for seed in range(120)]
    for values in groups:
        values[:] = 1.0
    history = of_many(tmp_path, *groups)
    assert (len(history.groups), history.all_groups) == (50, 120)
    assert history.groups[0] != history.groups[-1]
    (found,) = find("constant_feature", history)
    assert "in all of 50 groups looked at" in found.found


def test_a_file_without_any_value_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no values — run promad collect"):
        of_one(tmp_path, np.full((20, 3), np.nan))
