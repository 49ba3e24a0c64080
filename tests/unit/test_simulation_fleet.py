"""The simulated fleet: repeatable, cheap, and broken only where it says so."""

import time
from dataclasses import replace

import numpy as np
import pytest

from promad.errors import DataError
from promad.simulation import FEATURES
from promad.simulation.fleet import (
    DATACENTERS,
    FAULTS,
    KINDS,
    Churn,
    FleetNoise,
    ScenarioSize,
    build_fleet,
    fleet_scenario,
    make_fault,
    make_seeds,
)

MONDAY = 1_794_787_200.0  # 2026-11-16T00:00:00Z
HOUR, DAY = 3600.0, 86400.0
CHURN = Churn(0.2, 6 * HOUR, MONDAY, MONDAY + 2 * DAY)
FLEET = build_fleet(7, 40, features=20, churn=CHURN)
QUIET = build_fleet(7, 40)
COLUMN = {name: number for number, name in enumerate(FEATURES)}


def day(start: float = MONDAY + DAY, step: float = 60.0) -> np.ndarray:
    return np.arange(start, start + DAY, step)


def rows_of(fleet, kind: str) -> np.ndarray:
    return np.flatnonzero([KINDS[each].name == kind for each in fleet.hosts.kind])


def test_a_value_does_not_depend_on_what_else_is_asked_for():
    times = day()
    whole = FLEET.values(times)
    assert whole.shape == (len(FLEET.hosts), len(times), 20)
    chosen, rows, columns = np.array([1200, 3, 77]), np.array([5, 0, 31]), [18, 2, 0]
    part = FLEET.values(times[chosen], rows, columns)
    assert np.array_equal(part, whole[rows][:, chosen][:, :, columns], equal_nan=True)
    for moment in (0, 719, 1439):
        assert np.array_equal(
            FLEET.values(times[moment : moment + 1])[:, 0], whole[:, moment], equal_nan=True
        )


def test_the_same_seed_is_the_same_fleet_and_another_seed_is_another():
    same, other = (build_fleet(seed, 40) for seed in (7, 8))
    times = day(step=600.0)
    assert np.array_equal(same.values(times), QUIET.values(times))
    assert (other.values(times) == QUIET.values(times)).mean() < 0.01


@pytest.mark.parametrize("name", [None, *FAULTS])
def test_values_are_finite_never_negative_and_ratios_stay_within_one(name):
    hosts = list(QUIET.hosts.instance)
    faults = () if name is None else (make_fault(name, hosts, MONDAY + DAY, jitter=120.0),)
    values = replace(QUIET, faults=faults).values(np.arange(MONDAY, MONDAY + 4 * DAY, 450.0))
    assert np.all(np.isfinite(values))
    assert np.all(values >= 0)
    ratios = [COLUMN[each] for each in FEATURES if each.endswith("_ratio")]
    assert values[..., ratios].max() <= 1


def test_there_are_hosts_of_every_kind_in_every_datacenter_and_no_two_have_one_name():
    labels = [tuple(each.items()) for each in FLEET.labels]
    assert len(set(labels)) == len(labels)
    assert list(FLEET.labels[0]) == sorted(FLEET.labels[0])
    assert {each["job"] for each in FLEET.labels} == {kind.name for kind in KINDS}
    assert {each["datacenter"] for each in FLEET.labels} == set(DATACENTERS)


def test_pods_are_replaced_by_others_and_the_number_of_hosts_stays():
    alive = ~np.isnan(FLEET.values(day(step=300.0), features=[0])[:, :, 0])
    assert len(FLEET.hosts) > 60
    assert 38 <= alive.sum(axis=0).min() <= alive.sum(axis=0).max() == 40
    spans = FLEET.hosts.gone - FLEET.hosts.born
    assert np.isfinite(spans).any()
    assert spans.min() > HOUR
    assert np.isneginf(FLEET.hosts.born).sum() == np.isposinf(FLEET.hosts.gone).sum() == 40


def test_the_hosts_alive_are_those_that_have_values():
    for start in MONDAY + DAY + HOUR * np.arange(24):
        times = np.array([start])
        values = FLEET.values(times, features=[3])[:, 0, 0]
        assert FLEET.find_alive(times).tolist() == np.flatnonzero(~np.isnan(values)).tolist()


def test_load_follows_the_day_and_the_week_and_hosts_of_a_kind_together():
    web = rows_of(QUIET, "web")
    column = [COLUMN["app_requests_per_second"]]
    monday = QUIET.values(day(), web, column)[:, :, 0]
    sunday = QUIET.values(day(MONDAY + 6 * DAY), web, column)[:, :, 0]
    hourly = monday.mean(axis=0).reshape(24, 60).mean(axis=1)
    assert hourly[1:5].max() < 0.7 * hourly[12:19].min()
    assert sunday.mean() < 0.9 * monday.mean()
    assert np.corrcoef(monday[:8]).min() > 0.8


def test_hosts_of_a_datacenter_share_noise_of_the_network():
    fleet = build_fleet(3, 60)
    times = np.arange(MONDAY + 10 * HOUR, MONDAY + 13 * HOUR, 30.0)
    columns = [COLUMN["host_network_receive_bytes_per_second"], COLUMN["app_requests_per_second"]]
    received, requests = np.moveaxis(fleet.values(times, features=columns), 2, 0)
    noise = np.log(received) - np.log(15e3 + 3.2e3 * requests)
    together = np.corrcoef(noise)
    place = fleet.hosts.datacenter
    same = (place[:, None] == place) & ~np.eye(len(place), dtype=bool)
    assert together[same].mean() > 0.4
    assert abs(together[place[:, None] != place].mean()) < 0.35


def test_the_daily_job_begins_at_the_same_time_every_day():
    database = rows_of(QUIET, "database")[:1]
    cpu = QUIET.values(
        np.arange(MONDAY, MONDAY + 3 * DAY, 60.0), database, [COLUMN["host_cpu_busy_ratio"]]
    ).reshape(3, 1440)
    jumps = np.argmax(cpu[:, 8:] - cpu[:, :-8], axis=1)
    assert np.ptp(jumps) <= 5
    assert 115 <= jumps.min() <= jumps.max() < 170


def test_a_deployment_reaches_the_hosts_of_a_kind_one_after_another():
    fleet = build_fleet(5, 30)
    times = np.arange(MONDAY, MONDAY + 7 * DAY, 60.0)
    web = rows_of(fleet, "web")
    memory, requests = np.moveaxis(
        fleet.values(
            times, web, [COLUMN["host_memory_used_bytes"], COLUMN["app_requests_per_second"]]
        ),
        2,
        0,
    )
    level = (memory / 16e9 - 0.10 * requests / 140.0)[np.argsort(fleet.hosts.order[web])]
    shift = level[:, 240:] - level[:, :-240]  # four hours: longer than a deployment
    together = np.abs(shift.mean(axis=0))
    assert together.max() > 3 * np.median(together)
    begins = int(together.argmax()) + 120  # within the deployment, or just before or after it
    early, late = level[:3].mean(axis=0), level[-3:].mean(axis=0)
    gap = np.abs((early - late)[begins - 120 : begins + 120])
    assert gap.max() > 2 * np.median(gap)


def test_noise_is_standard_normal_unrelated_between_hosts_and_remembers_for_its_period():
    noise = FleetNoise(make_seeds(3, "hosts", 20))
    times = np.arange(0.0, 100_000.0, 10.0)
    white = noise.normal("x", np.arange(10_000))
    wandering = noise.wander("x", times, 300.0)
    for values in (white, wandering):
        assert abs(values.mean()) < 0.02
        assert abs(values.std() - 1) < 0.03
        related = np.corrcoef(values) - np.eye(20)
        assert np.abs(related).max() < 0.25
    near, far = (np.corrcoef(wandering[0, :-k], wandering[0, k:])[0, 1] for k in (1, 120))
    assert near > 0.8
    assert abs(far) < 0.2


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_its_hosts_alone_and_only_from_start_to_end(name):
    hosts = tuple(QUIET.hosts.instance[[2, 30, 9]])
    fault = make_fault(name, hosts, MONDAY + 36 * HOUR, jitter=100.0, seed=1)
    troubled = replace(QUIET, faults=(fault,))
    times = np.concatenate(
        [
            np.arange(fault.start - HOUR, fault.start + 1, 60.0),
            np.arange(fault.end, fault.end + HOUR, 60.0),
        ]
    )
    assert np.array_equal(troubled.values(times), QUIET.values(times))
    during = np.array([fault.start + 0.5 * fault.duration])
    changed = (troubled.values(during) != QUIET.values(during)).any(axis=(1, 2))
    assert np.flatnonzero(changed).tolist() == [2, 9, 30]
    assert fault.first_host == hosts[0]
    assert 0 < max(fault.onsets) - fault.start < 100


@pytest.mark.parametrize("hour", [3.0, 11.0, 20.0])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_shows_most_in_the_features_of_its_cause(name, hour):
    fault = make_fault(name, list(QUIET.hosts.instance), MONDAY + DAY + hour * HOUR)
    troubled = replace(QUIET, faults=(fault,))
    ramp = fault.scenario.ramp
    times = np.arange(fault.start + 0.8 * ramp, fault.start + fault.duration + 1, 60.0)
    usual = QUIET.values(day(step=300.0)).std(axis=1)
    shift = np.abs(troubled.values(times) - QUIET.values(times)).mean(axis=1) / usual
    strongest = [list(FEATURES)[index] for index in np.argsort(-shift.mean(axis=0))]
    assert set(strongest[: len(fault.causes)]) == set(fault.causes)


def test_faults_at_the_same_time_on_one_host_add_their_effects():
    host = [QUIET.hosts.instance[4]]
    faults = tuple(make_fault(name, host, MONDAY + DAY) for name in ("error_burst", "slow_disk"))
    during = np.array([MONDAY + DAY + 600.0])
    changed = replace(QUIET, faults=faults).values(during) != QUIET.values(during)
    for fault in faults:
        assert all(changed[4, 0, COLUMN[name]] for name in fault.causes)


def test_a_fleet_may_be_ahead_of_the_times_that_it_is_asked_about():
    ahead = replace(FLEET, ahead=3 * HOUR)
    times = day(step=3600.0)
    assert np.array_equal(ahead.values(times), FLEET.values(times + 3 * HOUR), equal_nan=True)
    assert ahead.find_alive(times[:1]).tolist() == FLEET.find_alive(times[:1] + 3 * HOUR).tolist()
    fault = make_fault("latency", ["web-001:9100"], 5000.0)
    assert fault.move(-1000.0).start == 4000.0
    assert fault.move(-1000.0).end == fault.end - 1000.0


@pytest.mark.parametrize("seed", range(3))
def test_a_scenario_has_the_faults_that_it_says(seed):
    scenario = fleet_scenario(seed)
    faults = scenario.fleet.faults
    sizes = np.array([len(fault.hosts) for fault in faults])
    assert (sizes == 1).sum() == 20
    assert (sizes > 1).sum() == 20
    assert sizes[sizes > 1].min() >= 3
    assert sizes.max() <= 60
    assert scenario.test_start - scenario.training_start == 14 * DAY
    assert scenario.end - scenario.test_start == 14 * DAY
    assert all(scenario.test_start < fault.start < fault.end < scenario.end for fault in faults)
    assert all(max(fault.onsets) - fault.start <= 120 for fault in faults)
    assert list(faults) == sorted(faults, key=lambda fault: fault.start)
    overlapping = [
        (one, other)
        for number, one in enumerate(faults)
        for other in faults[number + 1 :]
        if one.end > other.start
    ]
    assert len(overlapping) >= 5
    assert not any(set(one.hosts) & set(other.hosts) for one, other in overlapping)
    assert {fault.name for fault in faults} == set(FAULTS)


def test_the_hosts_of_a_fault_live_while_it_lasts():
    scenario = fleet_scenario(1, ScenarioSize(hosts=60, training_days=1, test_days=3))
    rows = {name: row for row, name in enumerate(scenario.fleet.hosts.instance)}
    for fault in scenario.fleet.faults:
        own = np.array([rows[name] for name in fault.hosts])
        times = np.arange(fault.start - HOUR / 2, fault.end, 60.0)
        assert not np.isnan(scenario.fleet.values(times, own, [0])).any()


def test_no_hosts_have_no_values_and_hosts_that_are_gone_have_none_either():
    times = day(step=3600.0)
    assert FLEET.values(times, np.array([], dtype=np.int64)).shape == (0, 24, 20)
    gone = np.flatnonzero(FLEET.hosts.gone < times[0])
    assert np.isnan(FLEET.values(times, gone)).all()


def test_a_fault_on_a_host_that_does_not_exist_is_an_error():
    fleet = replace(QUIET, faults=(make_fault("latency", ["web-999:9100"], MONDAY),))
    with pytest.raises(DataError, match="no host web-999:9100 in the simulated fleet"):
        fleet.values(np.array([MONDAY + 60.0]))


def test_one_moment_of_a_thousand_hosts_is_cheap():
    fleet = build_fleet(1, 1000, features=38)
    fleet.values(np.array([MONDAY]))
    began = time.process_time()
    for tick in range(10):
        fleet.values(np.array([MONDAY + 15.0 * tick]))
    assert (time.process_time() - began) / 10 < 0.1
