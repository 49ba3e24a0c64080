"""The simulated server answers as Prometheus does, as far as promad asks."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import requests

from promad.errors import PromadError
from promad.prometheus.freshness import unite_queries
from promad.simulation import FEATURES, SimulatedHost, SimulationServer

NOW = 1_795_000_000.0
HOST = SimulatedHost(seed=7, restarted_at=NOW - 3000.0)
LABELS = {"instance": "demo-host:9100", "job": "demo"}


@dataclass(eq=False)
class CountingHost:
    """A host that remembers for which times it was asked."""

    asked: list[np.ndarray] = field(default_factory=list)

    def values(self, times):
        self.asked.append(times)
        return HOST.values(times)


@pytest.fixture(scope="module")
def url():
    with SimulationServer(HOST, clock=lambda: NOW) as url:
        yield url


def ask(url: str, path: str, **parameters) -> requests.Response:
    return requests.post(f"{url}/api/v1/{path}", data=parameters, timeout=5)


def matrix(url: str, query: str, **grid) -> list[dict]:
    answer = ask(url, "query_range", query=query, **grid).json()
    assert answer["status"] == "success", answer
    assert answer["data"]["resultType"] == "matrix"
    return answer["data"]["result"]


def error(url: str, path: str, **parameters) -> str:
    answer = ask(url, path, **parameters)
    assert answer.status_code == 400
    assert answer.json() == {
        "status": "error",
        "errorType": "bad_data",
        "error": answer.json()["error"],
    }
    return answer.json()["error"]


GRID = {"start": NOW - 600, "end": NOW - 300, "step": 60}


def test_a_range_query_answers_the_hosts_values_at_the_scrape_before_each_instant(url):
    (series,) = matrix(url, "host_load1", **GRID)
    assert series["metric"] == {"__name__": "host_load1", **LABELS}
    times = np.arange(NOW - 600, NOW - 299, 60)
    expected = HOST.values(np.floor(times / 15) * 15)[:, list(FEATURES).index("host_load1")]
    assert [time for time, _ in series["values"]] == times.tolist()
    assert [float(text) for _, text in series["values"]] == expected.tolist()


def test_a_form_and_an_address_are_answered_alike_byte_for_byte(url):
    form = ask(url, "query_range", query="host_load1", **GRID)
    address = requests.get(
        f"{url}/api/v1/query_range", params={"query": "host_load1", **GRID}, timeout=5
    )
    assert form.content == address.content
    assert form.headers["content-type"] == "application/json"
    assert b" " not in form.content


def test_timestamp_answers_when_the_sample_was_scraped_and_drops_the_name(url):
    (series,) = matrix(url, "timestamp(host_load1)", **GRID)
    assert series["metric"] == LABELS
    for at, text in series["values"]:
        assert 0 <= at - float(text) < 15
        assert float(text) % 15 == 0


def test_nothing_after_now_is_answered(url):
    (series,) = matrix(url, "host_load1", start=NOW - 30, end=NOW + 300, step=15)
    assert [time for time, _ in series["values"]] == [NOW - 30, NOW - 15, NOW]
    assert matrix(url, "host_load1", start=NOW + 15, end=NOW + 300, step=15) == []


def test_samples_that_were_never_scraped_are_absent(url):
    (series,) = matrix(url, "host_load1", start=NOW - 3015, end=NOW - 2880, step=15)
    missing = sorted(
        set(np.arange(NOW - 3015, NOW - 2879, 15)) - {at for at, _ in series["values"]}
    )
    assert len(missing) == 5
    assert 0 <= missing[0] - HOST.restarted_at <= 15


def test_an_instant_query_answers_now_unless_told_when(url):
    body = ask(url, "query", query="host_load1").json()
    assert body["data"]["resultType"] == "vector"
    (series,) = body["data"]["result"]
    assert series["metric"] == {"__name__": "host_load1", **LABELS}
    assert series["value"][0] == NOW
    earlier = ask(url, "query", query="host_load1", time=NOW - 60.5).json()
    assert earlier["data"]["result"][0]["value"][0] == NOW - 60.5
    assert ask(url, "query", query="host_load1", time=NOW + 1).json()["data"]["result"] == []


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ('host_load1{job="demo"}', 1),
        ('host_load1{job!="demo"}', 0),
        ('host_load1{instance=~"demo-host:.*"}', 1),
        ('host_load1{instance=~"demo"}', 0),
        ('host_load1{instance!~"demo.*"}', 0),
        ('host_load1{missing=""}', 1),
        ('{__name__=~"app_.*"}', sum(name.startswith("app_") for name in FEATURES)),
        ('{job="demo"}', len(FEATURES)),
        ("no_such_metric", 0),
    ],
)
def test_label_matchers_choose_series(url, query, count):
    assert len(matrix(url, query, **GRID)) == count
    assert len(ask(url, "query", query=query).json()["data"]["result"]) == count


def test_united_queries_are_told_apart_by_a_label(url):
    united = unite_queries(["host_load1", "host_tcp_connections", "no_such_metric", "host_load1"])
    series = matrix(url, united, **GRID)
    assert [each["metric"]["age_source"] for each in series] == ["0", "1", "3"]
    assert series[0]["values"] == matrix(url, "host_load1", **GRID)[0]["values"]
    assert series[2]["values"] == series[0]["values"]


@pytest.mark.parametrize(
    "query",
    [
        *("rate(host_load1[5m])", "host_load1 + 1", "sum(host_load1)", "host_load1 offset 5m", "5"),
        unite_queries(["host_load1", "sum(host_load1)"]),
        unite_queries(["host_load1", "timestamp(host_load1)"]),
    ],
)
def test_more_promql_than_a_selector_is_refused_in_words(url, query):
    message = error(url, "query", query=query)
    assert message.endswith(
        f"the simulation supports a vector selector, alone or in timestamp(), not {query}"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start": ""}, 'invalid parameter "start": cannot parse "" to a valid timestamp'),
        ({"end": "soon"}, 'invalid parameter "end": cannot parse "soon" to a valid timestamp'),
        (
            {"end": NOW - 700},
            'invalid parameter "end": end timestamp must not be before start time',
        ),
        ({"step": "x"}, 'invalid parameter "step": cannot parse "x" to a valid duration'),
        (
            {"step": "0"},
            'invalid parameter "step": zero or negative query resolution step widths '
            "are not accepted. Try a positive integer",
        ),
        (
            {"step": "0.001"},
            "exceeded maximum resolution of 11,000 points per timeseries. "
            "Try decreasing the query resolution (?step=XX)",
        ),
        (
            {"query": "up{"},
            'invalid parameter "query": parse error: unexpected end of input inside braces',
        ),
        ({"query": ""}, 'invalid parameter "query": parse error: no expression found in input'),
    ],
)
def test_a_bad_parameter_is_named_as_prometheus_names_it(url, wrong, message):
    assert error(url, "query_range", **{"query": "host_load1", **GRID, **wrong}) == message


def test_eleven_thousand_intervals_are_answered_and_one_more_is_refused(url):
    most = {"query": "host_load1", "start": NOW - 11_000, "end": NOW, "step": 1}
    (series,) = matrix(url, **most)
    assert len(series["values"]) > 10_900
    assert "exceeded maximum resolution" in error(url, "query_range", **most | {"end": NOW + 1})


def test_times_may_be_written_as_dates_and_steps_as_durations(url):
    dates = {"start": "2026-11-18T10:00:00Z", "end": "2026-11-18T11:05:00+01:00", "step": "1m"}
    (series,) = matrix(url, "host_load1", **dates)
    first = 1_794_996_000
    assert [time for time, _ in series["values"]] == [first + 60 * k for k in range(6)]


def test_the_features_of_a_period_are_computed_once_for_all_queries():
    host = CountingHost()
    with SimulationServer(host, clock=lambda: NOW) as url:
        for name in FEATURES:
            assert matrix(url, name, start=NOW - 2 * 86400, end=NOW, step=30)
    assert len(host.asked) == 1


def test_it_says_what_it_is_and_that_it_is_ready(url):
    build = requests.get(f"{url}/api/v1/status/buildinfo", timeout=5).json()
    assert build["status"] == "success"
    assert "simulated" in build["data"]["version"]
    assert requests.get(f"{url}/-/ready", timeout=5).text == "Prometheus Server is Ready.\n"
    assert requests.get(f"{url}/api/v1/nothing", timeout=5).status_code == 404
    assert requests.put(f"{url}/api/v1/query", timeout=5).status_code == 405


def test_its_time_runs_as_fast_as_its_clock():
    moments = iter([NOW, NOW + 3600])
    with SimulationServer(HOST, clock=lambda: next(moments)) as url:
        first, second = (
            ask(url, "query", query="host_load1").json()["data"]["result"][0]["value"]
            for _ in range(2)
        )
    assert second[0] - first[0] == 3600


def test_it_stops_even_while_a_client_stays_connected():
    server = SimulationServer(HOST, clock=lambda: NOW)
    with requests.Session() as session:
        session.get(f"{server.start()}/-/ready", timeout=5)
        server.stop()
        server.stop()


def test_a_taken_port_is_an_error_at_once(url):
    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(PromadError, match="in use"):
        SimulationServer(HOST, clock=lambda: NOW, port=port).start()
