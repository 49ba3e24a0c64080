"""The simulated host: repeatable, plausible, and broken only where it says so."""

import numpy as np
import pytest

from promad.simulation import FEATURES, SCENARIOS, Incident, SimulatedHost
from promad.simulation.noise import Noise

WEDNESDAY = 1_794_960_000.0  # 2026-11-18T00:00:00Z
HOUR, DAY = 3600.0, 86400.0
HOST = SimulatedHost(seed=7, restarted_at=WEDNESDAY + 14 * HOUR)
COLUMN = {name: index for index, name in enumerate(FEATURES)}


def day(start: float = WEDNESDAY, step: float = 60.0) -> np.ndarray:
    return np.arange(start, start + DAY, step)


def column(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, COLUMN[name]]


def test_a_value_does_not_depend_on_which_other_times_are_asked_for():
    times = day()
    whole = HOST.values(times)
    chosen = np.array([1200, 3, 77])
    assert np.array_equal(HOST.values(times[chosen]), whole[chosen], equal_nan=True)


def test_the_same_seed_is_the_same_host_and_another_seed_is_another():
    times = day()
    same, other = (SimulatedHost(seed, HOST.restarted_at).values(times) for seed in (7, 8))
    assert np.array_equal(same, HOST.values(times), equal_nan=True)
    alike = column(same, "host_cpu_busy_ratio") == column(other, "host_cpu_busy_ratio")
    assert alike.mean() < 0.01


@pytest.mark.parametrize("scenario", [None, *SCENARIOS])
def test_values_are_finite_never_negative_and_ratios_stay_within_one(scenario):
    incidents = () if scenario is None else (Incident(scenario, WEDNESDAY + DAY),)
    host = SimulatedHost(7, HOST.restarted_at, incidents)
    values = host.values(np.arange(WEDNESDAY, WEDNESDAY + 9 * DAY, 150.0))
    values = values[~np.isnan(values).any(axis=1)]
    assert np.all(np.isfinite(values))
    assert np.all(values >= 0)
    ratios = [COLUMN[name] for name in FEATURES if name.endswith("_ratio")]
    assert values[:, ratios].max() <= 1


def test_requests_are_fewest_at_night_and_fewer_at_the_weekend():
    wednesday = column(HOST.values(day()), "app_requests_per_second")
    weekday = np.nanmean(wednesday.reshape(24, 60), axis=1)
    saturday = column(HOST.values(day(WEDNESDAY + 3 * DAY)), "app_requests_per_second")
    assert weekday[2:6].max() < 0.5 * weekday[10:22].min()
    assert saturday.mean() < 0.9 * weekday.mean()


def test_requests_come_in_bursts():
    times = np.arange(WEDNESDAY + 4 * HOUR, WEDNESDAY + 4 * HOUR + 20 * DAY, 30.0)
    requests = column(HOST.values(times), "app_requests_per_second")
    nights = requests[(times % DAY < 6 * HOUR) & ~np.isnan(requests)]
    assert nights.max() > 2 * np.median(nights)


def test_the_future_of_requests_resembles_their_present():
    requests = column(HOST.values(day(step=30.0)), "app_requests_per_second")
    residual = np.diff(requests[~np.isnan(requests)][::20])  # ten minutes apart
    steps = np.diff(requests[~np.isnan(requests)])
    assert steps.std() < 0.7 * residual.std()


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("host_cpu_busy_ratio", 0.95),
        ("host_load1", 0.9),
        ("host_network_transmit_bytes_per_second", 0.95),
        ("host_disk_written_bytes_per_second", 0.9),
        ("host_tcp_connections", 0.9),
        ("app_latency_p50_seconds", 0.8),
        ("app_queue_length", 0.9),
        ("host_filesystem_used_ratio", -1.0),
    ],
)
def test_the_other_features_follow_requests(name, least):
    values = HOST.values(day(WEDNESDAY + DAY))
    together = np.corrcoef(column(values, "app_requests_per_second"), column(values, name))[0, 1]
    assert together > least


def test_requests_queue_disproportionately_when_the_processor_is_busy():
    values = HOST.values(day(WEDNESDAY + DAY))
    cpu, p50 = column(values, "host_cpu_busy_ratio"), column(values, "app_latency_p50_seconds")
    order = np.argsort(cpu)
    low, middle, high = (p50[part].mean() for part in np.array_split(order, 3))
    assert low < middle < high


def test_a_restart_leaves_a_minute_unscraped_and_empties_the_memory():
    times = np.arange(HOST.restarted_at - 600, HOST.restarted_at + 600, 15.0)
    values = HOST.values(times)
    missing = np.isnan(values).all(axis=1)
    assert times[missing].tolist() == [HOST.restarted_at + 15 * k for k in range(5)]
    assert not np.isnan(values[~missing]).any()
    memory = column(values, "host_memory_used_bytes")
    assert memory[times > HOST.restarted_at][5:].max() < 0.85 * memory[:40].min()


def test_noise_is_standard_normal_and_remembers_for_its_period():
    times = np.arange(0.0, 400_000.0, 10.0)
    noise = Noise(3)
    for values in (noise.white("x", times), noise.wander("x", times, 300.0)):
        assert abs(values.mean()) < 0.1
        assert abs(values.std() - 1) < 0.1
    wandering = noise.wander("x", times, 300.0)
    near, far = (np.corrcoef(wandering[:-k], wandering[k:])[0, 1] for k in (1, 90))
    assert near > 0.8
    assert abs(far) < 0.15


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_incident_changes_nothing_before_it_starts_or_after_it_has_ended(name):
    incident = Incident(name, WEDNESDAY + 36 * HOUR)
    troubled = SimulatedHost(HOST.seed, HOST.restarted_at, (incident,))
    before = np.arange(incident.start - DAY, incident.start, 60.0)
    after = np.arange(incident.end + 900.0, incident.end + DAY, 60.0)  # what lags catches up
    for times in (before, after):
        assert np.array_equal(troubled.values(times), HOST.values(times), equal_nan=True)


@pytest.mark.parametrize("hour", [10.0, 12.0, 15.0, 19.0])
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_incident_drives_the_features_of_its_truth_most_and_in_that_order(name, hour):
    incident = Incident(name, WEDNESDAY + DAY + hour * HOUR)
    troubled = SimulatedHost(HOST.seed, HOST.restarted_at, (incident,))
    usual = np.nanstd(HOST.values(day()), axis=0)
    whole = incident.scenario
    times = np.arange(incident.start + 0.8 * whole.ramp, incident.start + whole.duration, 15.0)
    shift = np.abs(troubled.values(times) - HOST.values(times)).mean(axis=0) / usual
    strongest = [list(FEATURES)[index] for index in np.argsort(-shift)]
    assert strongest[: len(whole.truth)] == list(whole.truth)


def test_a_slow_disk_makes_requests_wait_but_brings_no_more_of_them():
    incident = Incident("slow_disk", WEDNESDAY + 36 * HOUR)
    troubled = SimulatedHost(HOST.seed, HOST.restarted_at, (incident,))
    times = np.arange(incident.start + 300, incident.start + 2400, 15.0)
    slow, usual = troubled.values(times), HOST.values(times)
    assert np.array_equal(
        column(slow, "app_requests_per_second"), column(usual, "app_requests_per_second")
    )
    waiting = column(slow, "app_latency_p99_seconds") / column(usual, "app_latency_p99_seconds")
    assert waiting.min() > 1.3


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_incident_ramps_up_holds_and_recovers(name):
    incident = Incident(name, 1000.0)
    scenario = incident.scenario
    moments = np.array([0.0, scenario.ramp / 2, scenario.ramp, scenario.duration])
    assert incident.strength(1000.0 + moments).tolist() == [0.0, 0.5, 1.0, 1.0]
    assert incident.strength(np.array([999.0, incident.end, incident.end + 1])).tolist() == [
        0,
        0,
        0,
    ]
