"""The simulated server answers for a fleet, and a real Prometheus can have the same samples."""

import json
import time

import numpy as np
import pytest
import requests

from promad.simulation import SimulationServer
from promad.simulation.answers import answer_instant, answer_range
from promad.simulation.exposition import format_exposition, iterate_openmetrics
from promad.simulation.fleet import Churn, build_fleet
from promad.simulation.scraper import Scraper
from promad.simulation.selection import BadDataError

NOW = 1_795_000_005.0
FLEET = build_fleet(7, 24, features=18, churn=Churn(0.25, 1800.0, NOW - 86400.0, NOW + 86400.0))
GRID = {"start": NOW - 3600, "end": NOW, "step": 60}


@pytest.fixture(scope="module")
def url():
    with SimulationServer(FLEET, clock=lambda: NOW) as url:
        yield url


def ask(url: str, path: str, **parameters) -> list[dict]:
    answer = requests.post(f"{url}/api/v1/{path}", data=parameters, timeout=5).json()
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


def by_instance(series: list[dict]) -> dict[str, dict]:
    found = {each["metric"]["instance"]: each for each in series}
    assert len(found) == len(series)
    return found


def test_a_feature_is_answered_with_one_series_for_each_host_alive(url):
    series = by_instance(ask(url, "query_range", query="host_load1", **GRID))
    times = np.arange(NOW - 3600, NOW + 1, 60)
    values = FLEET.values(np.floor(times / 15) * 15, features=[1])[:, :, 0]
    assert len(series) > 24
    for labels, expected in zip(FLEET.labels, values, strict=True):
        known = ~np.isnan(expected)
        if not known.any():
            assert labels["instance"] not in series
            continue
        found = series[labels["instance"]]
        assert found["metric"] == {"__name__": "host_load1", **labels}
        assert [at for at, _ in found["values"]] == times[known].tolist()
        assert [float(text) for _, text in found["values"]] == expected[known].tolist()


def test_an_instant_query_answers_the_hosts_alive_then(url):
    for at in (NOW, NOW - 1234.5):
        series = by_instance(ask(url, "query", query="host_metric_018", time=at))
        scraped = np.array([at // 15 * 15])
        alive = {FLEET.labels[row]["instance"] for row in FLEET.find_alive(scraped)}
        assert set(series) == alive
        assert all(each["value"][0] == at for each in series.values())


@pytest.mark.parametrize(
    ("matchers", "chooses"),
    [
        ('job="web"', lambda labels: labels["job"] == "web"),
        ('job!~"web|batch"', lambda labels: labels["job"] not in ("web", "batch")),
        (
            'datacenter="eu-1",job="cache"',
            lambda labels: labels.items() >= {("datacenter", "eu-1"), ("job", "cache")},
        ),
        ('instance="database-001:9100"', lambda labels: labels["instance"] == "database-001:9100"),
        ('instance="nothing"', lambda labels: False),
    ],
)
def test_label_matchers_choose_hosts(url, matchers, chooses):
    series = by_instance(ask(url, "query", query=f"host_load1{{{matchers}}}"))
    alive = [FLEET.labels[row] for row in FLEET.find_alive(np.array([NOW // 15 * 15]))]
    assert set(series) == {each["instance"] for each in alive if chooses(each)}


def test_timestamps_of_all_hosts_are_answered_at_once(url):
    series = ask(url, "query_range", query="timestamp(host_load1)", **GRID)
    values = ask(url, "query_range", query="host_load1", **GRID)
    assert len(series) == len(values)
    for each in series:
        assert "__name__" not in each["metric"]
        assert all(0 <= at - float(text) < 15 for at, text in each["values"])


def test_a_large_answer_has_the_same_values_as_small_ones():
    fleet = build_fleet(1, 60, features=30)
    large, small = Scraper(fleet), Scraper(fleet)
    times = NOW - 15.0 * np.arange(1000)[::-1]
    (choice,) = large.select("host_tcp_connections")[1]
    metrics, values = large.read(choice, large.find_scrapes(times))
    assert values.shape == (60, 1000)
    for moment in (0, 500, 999):
        same, value = small.read(choice, small.find_scrapes(times[moment : moment + 1]))
        assert same.tolist() == metrics.tolist()
        assert value[:, 0].tolist() == values[:, moment].tolist()


def test_the_interval_between_scrapes_can_be_chosen():
    with SimulationServer(FLEET, clock=lambda: NOW, scrape_interval=60.0) as url:
        series = ask(url, "query", query="timestamp(host_load1)")
    assert {float(each["value"][1]) for each in series} == {NOW // 60 * 60}


def test_labels_may_contain_what_formats_and_json_escape():
    fleet = build_fleet(1, 2)
    fleet.hosts.instance[:] = ['100%s "a"\\', "b%%"]
    answer = json.loads(answer_instant({"query": "host_load1"}, Scraper(fleet), NOW))
    found = [each["metric"]["instance"] for each in answer["data"]["result"]]
    assert found == fleet.hosts.instance.tolist()
    assert 'instance="100%s \\"a\\"\\\\"' in format_exposition(fleet, NOW)


def test_a_thousand_series_are_answered_in_few_milliseconds():
    fleet = build_fleet(1, 1000, features=38)
    scraper = Scraper(fleet)
    grid = {"start": str(NOW - 45), "end": str(NOW), "step": "15"}
    used = []
    for name in fleet.features[:10]:
        began = time.process_time()
        answer = answer_range({"query": name, **grid}, scraper, NOW)
        used.append(time.process_time() - began)
        assert answer.count('"metric"') == 1000
    assert min(used) < 0.05  # 0.003 on an idle machine


def test_every_series_is_exposed_once_and_declared(url):
    text = requests.get(f"{url}/metrics", timeout=5).text
    assert text == format_exposition(FLEET, NOW)
    lines = text.splitlines()
    series = [line for line in lines if not line.startswith("#")]
    alive = FLEET.find_alive(np.array([NOW]))
    assert len(series) == len({line.rpartition(" ")[0] for line in series}) == 18 * len(alive)
    assert lines[0] == "# HELP host_cpu_busy_ratio Share of processor time spent working."
    assert lines[1] == "# TYPE host_cpu_busy_ratio gauge"
    own = FLEET.labels[alive[0]]
    value = FLEET.values(np.array([NOW]), alive[:1], [0]).item()
    assert lines[2] == (
        f'host_cpu_busy_ratio{{datacenter="{own["datacenter"]}",instance="{own["instance"]}",'
        f'job="{own["job"]}"}} {value!r}'
    )


def test_the_history_is_written_series_by_series_without_what_was_not_scraped():
    fleet = build_fleet(7, 4, features=17, churn=Churn(0.5, 600.0, NOW - 3600.0, NOW))
    times = np.arange(NOW - 1800, NOW, 15)
    lines = "".join(iterate_openmetrics(fleet, times)).splitlines()
    assert lines[-1] == "# EOF"
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert families == list(fleet.features)
    samples = [line.rsplit(" ", 2) for line in lines if not line.startswith("#")]
    values = fleet.values(times)
    assert np.isnan(values).any()
    expected = np.moveaxis(values, 2, 0).ravel()
    assert [float(value) for _, value, _ in samples] == expected[~np.isnan(expected)].tolist()
    assert samples[0][2] == str(int(times[0]))


def test_no_series_is_without_recent_samples(url):
    stale = "host_load1 unless on (instance) last_over_time(host_load1[60001ms])"
    other = stale.replace("host_load1", "app_queue_length")
    for query in (
        stale,
        f"count by (instance) ({stale})",
        f"count by (instance) ({stale} or {other})",
    ):
        assert ask(url, "query", query=query) == []
    with pytest.raises(BadDataError, match="the simulation supports"):
        answer_instant({"query": f"host_load1 unless {other}"}, Scraper(FLEET), NOW)
