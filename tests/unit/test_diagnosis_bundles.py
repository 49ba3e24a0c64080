"""What `promad doctor` finds in a bundle: age, integrity, fit, drift and the alert budget."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from promad.clock import DAY_SECONDS
from promad.data.possible_range import find_possible, find_training_range
from promad.data.scaling import Scaler
from promad.diagnosis.checks import CHECKS
from promad.diagnosis.drift import compare_with_training, find_limits
from promad.diagnosis.evidence import Budget, Drift, Found
from promad.diagnosis.findings import Fact, Finding
from promad.errors import DataError
from promad.events.event_counts import count_begun
from promad.events.event_log import EventLog
from tests.support.statuses import ANOMALOUS

GROUPS = ((("instance", "a"),), (("instance", "b"),))


def find(check, part):
    return list(CHECKS[check].find(part))


# Age, integrity and fit


def test_a_damaged_bundle_and_one_that_does_not_fit_are_errors():
    damaged = Found("b", problem="b/model.npz: is missing — promad models rollback, or train again")
    assert find("damaged_bundle", damaged) == [
        Finding("error", "b/model.npz", "is missing", "promad models rollback, or train again")
    ]
    misfit = Found("b", misfit="bundle b does not fit the configuration: step is 15 — train again")
    assert find("bundle_misfit", misfit) == [
        Finding("error", "bundle b does not fit the configuration", "step is 15", "train again")
    ]
    (gone,) = find("damaged_bundle", Found("b", problem="b: no such bundle in bundles"))
    assert (gone.found, gone.remedy) == ("no such bundle in bundles", "see docs/troubleshooting.md")
    sound = Found("b", age_seconds=60.0)
    assert find("damaged_bundle", sound) == find("bundle_misfit", sound) == []


def test_an_old_bundle_is_found():
    assert find("bundle_age", Found("b", age_seconds=31.5 * DAY_SECONDS)) == [
        Finding(
            "warning",
            "bundle b",
            "trained 31 days ago, more than 30",
            "train again on recent history: promad run",
        )
    ]
    young = Found("b", age_seconds=29 * DAY_SECONDS + 3700)
    assert find("bundle_age", young) == [Fact("bundle b", "trained 29d1h ago")]
    assert find("bundle_age", Found("b", age_seconds=130.0)) == [Fact("bundle b", "trained 2m ago")]
    assert find("bundle_age", Found("b", age_seconds=9.5)) == [Fact("bundle b", "trained 9s ago")]
    assert find("bundle_age", Found("b", problem="b: is missing — train again")) == []


# Drift


def test_features_with_many_values_outside_are_found():
    drift = Drift(7 * DAY_SECONDS, {"a": 0.25, "b": 0.09}, 1)
    assert find("drift", drift) == [
        Finding(
            "warning",
            "queries.a",
            "25% of its values of the newest 7d are outside of the training range",
            "train again on recent history (promad run), unless this is an incident",
        )
    ]


@pytest.mark.parametrize("ranges", [(), ((None, None), (0.0, 10.0), (None, 5.0))])
def test_the_training_range_lies_in_what_is_found_for_it(ranges):
    chance = np.random.default_rng(5)
    trained = np.sort(chance.normal(3.0, 4.0, (200, 2, 3)), axis=-2)
    if ranges:
        trained[..., 1] = np.clip(trained[..., 1], 0.0, 10.0)
        trained[..., 2] = np.minimum(trained[..., 2], 5.0)
    found = find_training_range(find_possible(trained, ranges), ranges)
    assert (found[:, 0] <= trained[:, 0] + 1e-9).all()
    assert (found[:, 1] >= trained[:, 1] - 1e-9).all()


def test_it_is_exact_where_nothing_was_cut_off():
    trained = np.array([[-4.0, 6.0], [2.0, 8.0]])
    np.testing.assert_allclose(find_training_range(find_possible(trained, ()), ()), trained)


def detector(possible, table=None):
    scaler = Scaler("StandardScaler", np.array([7.0, 0.0]), np.array([0.5, 1.0]))
    limits = np.full((2, 2), [[-np.inf], [np.inf]]) if possible is None else np.array(possible)
    preparation = SimpleNamespace(limits=limits, scaler=scaler, valid_ranges=())
    return SimpleNamespace(preparation=preparation, table=table)


def test_values_are_compared_with_the_training_range_and_one_unit_of_the_scaler():
    limits = find_limits(detector([[4.0, -12.0], [10.0, 12.0]]))
    np.testing.assert_allclose(limits[()], [[5.5, -5.0], [8.5, 5.0]])
    values = {"a": {(): np.array([5.6, 8.4, 8.6, 5.4])}, "b": {(): np.array([0.0])}, "c": {}}
    found = compare_with_training(values, ("a", "b"), limits, DAY_SECONDS)
    assert found == Drift(DAY_SECONDS, {"a": 0.5, "b": 0.0}, 1)


def test_nothing_is_known_of_the_range_in_bundles_of_earlier_versions():
    assert find_limits(detector(None)) == {}
    assert compare_with_training({"a": {(): np.ones(3)}}, ("a",), {}, 1.0).shares == {}


def test_each_group_has_its_own_range_and_new_groups_have_none():
    possible = np.array([[[4.0, -12.0], [10.0, 12.0]], [[40.0, -12.0], [100.0, 12.0]]])
    rows = SimpleNamespace(possible=possible, scale=np.full((2, 2), 0.5))
    limits = find_limits(detector(None, SimpleNamespace(rows=rows, groups=GROUPS)))
    new = (("instance", "new"),)
    values = {"a": {group: np.array([7.0, 70.0]) for group in (*GROUPS, new)}}
    assert compare_with_training(values, ("a", "b"), limits, 1.0) == Drift(1.0, {"a": 0.5}, 2)


# The alert budget


def budget(**known):
    own = {"per_week": 1.0, "expected": 1.0, "interval": (0.0, 2.0), "counted": "incidents"}
    return Budget(**{**own, "count": None, "seconds": 14 * DAY_SECONDS, **known})


KEY = "real_time_anomaly_detection.alert_budget"


def test_more_events_than_the_budget_are_found():
    assert find("alert_budget", budget(count=9)) == [
        Finding(
            "warning",
            KEY,
            "9 incidents in the last 14 days, 4.5 per week; the alert budget is 1 per week",
            "if most of them were false alarms, train again on recent history, or raise "
            "alert_budget.false_alarms_per_week",
        )
    ]
    assert find("alert_budget", budget(count=2)) == [
        Fact("incidents", "1 per week in the last 14 days; the alert budget is 1 per week")
    ]


def test_each_group_may_have_a_budget_of_its_own():
    found = find("alert_budget", budget(count=24, counted="events", groups=12))
    assert found == [
        Fact("events", "12 per week in the last 14 days; the alert budget is 12 per week")
    ]


def test_less_than_a_week_is_not_judged():
    assert find("alert_budget", budget(count=9, seconds=6 * DAY_SECONDS)) == []


@pytest.mark.parametrize(
    ("expected", "interval", "shown"),
    [
        (4.5, (0.0, 9.0), "4.5 false alarms per week (90% interval 0 to 9)"),
        (2.0, (1.1, 3.0), "2 false alarms per week (90% interval 1.1 to 3)"),
        (4.5, None, "4.5 false alarms per week"),
    ],
)
def test_a_threshold_that_is_expected_to_exceed_the_budget_is_found(expected, interval, shown):
    assert find("alert_budget", budget(expected=expected, interval=interval)) == [
        Finding(
            "warning",
            KEY,
            f"the threshold of the bundle is expected to yield {shown}, the alert budget is 1 per "
            "week",
            "train again on a longer period, or raise alert_budget.false_alarms_per_week",
        )
    ]


@pytest.mark.parametrize(
    ("expected", "interval"), [(2.9, (0.9, 9.0)), (2.9, None), (None, None), (None, (0.0, 9.0))]
)
def test_an_expectation_near_the_budget_is_no_finding(expected, interval):
    assert find("alert_budget", budget(expected=expected, interval=interval)) == []


def test_events_of_the_bundle_are_counted_and_the_log_stays_as_it_is(tmp_path):
    path = tmp_path / "events.db"
    log = EventLog(path)
    for start, bundle in ((10.0, "b1"), (20.0, "b1"), (30.0, "b1"), (40.0, "b2")):
        log.record(replace(ANOMALOUS.event, start=start, flagged_at=start), bundle, start)
    assert count_begun(path, "events", "b1", 20.0) == 2  # while it is open elsewhere
    log.close()
    before = path.read_bytes()
    assert count_begun(path, "events", "b1", 0.0) == 3
    assert count_begun(path, "incidents", "b1", 0.0) == 0
    assert path.read_bytes() == before


def test_a_log_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "events.db"
    path.write_text("no database, but long enough to be taken for one" * 30)
    with pytest.raises(DataError, match=r"events\.db: cannot be read"):
        count_begun(path, "events", "b1", 0.0)
