"""`promad doctor --online` on a real Prometheus and a real VictoriaMetrics."""

import time

import pytest

from promad.config import Config
from promad.prometheus import PrometheusClient
from promad.prometheus.metric_types import ask_types
from promad.stages.doctor import diagnose
from tests.support.prometheus_server import PrometheusServer, openmetrics
from tests.support.victoria_metrics import victoria_metrics

NOW = 1_750_000_000.0
SECONDS = 5400
METADATA_SECONDS = 20.0

HEALTHY = {
    "level": "sum by (instance) (level)",
    "rate": "sum by (instance) (rate(work_total[1m]))",
}
BAD = {
    "counter": "sum by (instance) (go_gc_duration_seconds_sum)",
    "gauge": "sum by (instance) (rate(go_goroutines[1m]))",
    "slow": "sum by (instance) (rate(slow_total[2m]))",
    "old": "sum by (instance) (level offset 10m)",
}


def series(shift=0.0):
    """Two hosts that are scraped each 15 s, and of each a metric that comes once in a minute."""
    found = {}
    for number, name in enumerate(("level", "work_total", "go_goroutines", "slow_total") * 2):
        job = "slow" if name == "slow_total" else "node"
        labels = f'{{instance="h{number // 4}",job="{job}"}}'
        every = 60 if name == "slow_total" else 15
        times = [NOW - SECONDS + at + shift + 1.0 for at in range(0, SECONDS + 1, every)]
        rises = name.endswith("_total")
        found[name + labels] = [(at, at - times[0] if rises else at % 7) for at in times]
        if name == "go_goroutines":
            found["go_gc_duration_seconds_sum" + labels] = found[name + labels]
    return found


def look(url, tmp_path, queries, now=NOW, **live):
    """The outcome of each check by its name, with a step that is below a minute."""
    config = Config.model_validate(
        {
            "prometheus_url": url,
            "artifacts_dir": tmp_path,
            "queries": queries,
            "group_by": ["instance"],
            "real_time_anomaly_detection": live,
        }
    )
    outcomes = diagnose(config, tmp_path / "config.yaml", online=True, now=now)
    return {outcome.check: outcome for outcome in outcomes}


def list_subjects(found):
    return {(name, each.subject) for name, one in found.items() for each in one.findings}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A server that scrapes itself, so that it has metadata; the history is older."""
    directory = tmp_path_factory.mktemp("prometheus")
    target = "- job_name: self\n  static_configs: [{targets: [PLACE]}]"
    server = PrometheusServer(directory)
    written = directory / "prometheus.yml"
    own = target.replace("PLACE", f'"127.0.0.1:{server.port}"')
    indented = "\n".join(f"  {line}" for line in own.splitlines())
    written.write_text(written.read_text().replace("  []", indented))
    server.backfill(openmetrics(series()))
    with server:
        deadline = time.monotonic() + METADATA_SECONDS
        config = Config.model_validate({"queries": {"a": "a"}})
        with PrometheusClient(server.url, config.prometheus) as client:
            while not ask_types(client, ["go_goroutines"]):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield server.url


def test_a_healthy_prometheus_has_no_findings(prometheus, tmp_path):
    found = look(prometheus, tmp_path, HEALTHY)
    assert list_subjects(found) == set()
    (cost,) = found["query_cost"].facts
    assert cost.text == "10 samples read per tick, most for rate (8)"
    assert [outcome.check for outcome in found.values() if outcome.not_checked] == [
        *("constant_feature", "duplicate_feature", "collinear_feature", "missing_feature", "gaps"),
        *("damaged_bundle", "bundle_misfit", "bundle_age", "drift", "alert_budget"),
    ]


def test_types_and_intervals_are_those_of_prometheus(prometheus, tmp_path):
    found = look(prometheus, tmp_path, HEALTHY | BAD)
    assert list_subjects(found) == {
        ("counter_without_rate", "queries.counter"),
        ("gauge_through_rate", "queries.gauge"),
        ("short_range", "queries.slow"),
        ("step_below_scrape_interval", "data_settings.step"),
        ("time_shift", "queries.old"),
    }
    (counter,) = found["counter_without_rate"].findings
    assert counter.found == "go_gc_duration_seconds_sum is a counter, which only rises and resets"
    (short,) = found["short_range"].findings
    assert short.found.startswith(
        'rate() over 2m, less than 4 times the scrape interval of job "slow" (1m)'
    )


def test_victoria_metrics_has_intervals_but_neither_types_nor_costs(tmp_path):
    now = time.time()
    with victoria_metrics(tmp_path, series(shift=now - NOW)) as url:
        healthy = look(url, tmp_path, HEALTHY, now)
        bad = look(url, tmp_path, HEALTHY | BAD, now)
        hasty = look(url, tmp_path, HEALTHY, now, latency_offset="10s")
    assert list_subjects(healthy) == set()
    assert [fact.text for fact in healthy["query_cost"].facts] == [
        "unknown: the server does not report how many samples it read"
    ]
    assert {
        ("counter_without_rate", "queries.counter"),
        ("short_range", "queries.slow"),
        ("step_below_scrape_interval", "data_settings.step"),
        ("time_shift", "queries.old"),
    } == list_subjects(bad)
    (counter,) = bad["counter_without_rate"].findings
    assert counter.found.startswith("go_gc_duration_seconds_sum looks like a counter")
    (latency,) = hasty["latency_offset"].findings
    assert latency.subject == "real_time_anomaly_detection.latency_offset"
    assert latency.found.startswith("is 10s, but the server repeats values for its newest ")
    assert latency.remedy == "set latency_offset: auto"
