"""The client, the poller and the check on a real Prometheus."""

import numpy as np
import pytest
import structlog

from promad.config import PrometheusSettings
from promad.data.groups import Grouping
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus import Poller, PrometheusClient, inspect_queries
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller
from tests.support.asking import RecordingClient
from tests.support.prometheus_server import PrometheusServer, openmetrics

STEP = 15.0
START = 1_750_000_005.0
SAMPLES = 480
DIED = START + 240 * STEP
QUERIES = {
    "load": 'load{host="a"}',
    "traffic": "rate(bytes_received[1m])",
    "all": "sum(cores)",
    "brief": "brief",
}


def history():
    times = (START + STEP * np.arange(SAMPLES)).tolist()
    chance = np.random.default_rng(11)
    series = {
        'load{host="a"}': chance.normal(size=SAMPLES),
        "bytes_received": np.cumsum(chance.integers(0, 10**6, SAMPLES)),
        'cores{cpu="0"}': chance.random(SAMPLES),
        'cores{cpu="1"}': chance.random(SAMPLES),
        "brief": np.arange(241),
        'parts{host="a"}': chance.random(SAMPLES),
        'parts{host="b"}': np.arange(241),
    }
    return openmetrics(
        {name: list(zip(times, v.tolist(), strict=False)) for name, v in series.items()}
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    server.backfill(history())
    with server:
        yield server


@pytest.fixture
def client(server):
    with PrometheusClient(server.url, PrometheusSettings(timeout="5s"), retries=0) as client:
        yield client


def whole(client, expr, start, samples):
    (series,) = client.query_range(expr, start, start + (samples - 1) * STEP, STEP).series
    values = np.full(samples, np.nan)
    values[np.rint((series.times - start) / STEP).astype(int)] = series.values
    return values


def test_polls_one_after_another_come_to_the_same_as_one_large_query(client):
    living = {alias: QUERIES[alias] for alias in ("load", "traffic", "all")}
    poller = Poller(client, living, STEP, 40, 120.0)
    at = START + 100 * STEP
    for steps in (0, 1, 1, 3, 0, 1, 17, 1, 60, 1, 2):
        at += steps * STEP
        poll = poller.poll(at + 4.0)
        assert poll.failures == {}
        assert poll.newest == dict.fromkeys(living, at)
        for column, expr in enumerate(living.values()):
            expected = whole(client, expr, poll.frame.start, 40)
            np.testing.assert_array_equal(poll.frame.values[0, :, column], expected)


UNITED = {
    **{alias: QUERIES[alias] for alias in ("load", "traffic", "all")},
    "comment": "sum(cores) # all ) of them",
    "lines": "sum(\n  cores\n)\n",
    "offset": "load offset 1m",
    "fixed": f"load @ {START + STEP * 7}",
    "fallback": "no_such or vector(0)",
    "absent": "absent(no_such)",
    "negative": "-load",
    "above": "load + 1",
    "twice": "load",
    "unnamed": '{__name__="load"}',
    "labelled": 'label_replace(load, "united_query", "a", "", "")',
}
ALONE = {
    "time": "time()",
    "scalar": "scalar(load)",
    "number": "7",
    "sometimes": "load > 0",
    "two parts": "load) or (load",
    "bad": "rate(load)",
    "many": "cores",
}
FAILING = ["two parts", "bad", "many"]


def test_united_queries_have_the_same_values_and_errors_as_each_has_alone(server):
    queries = UNITED | ALONE
    settings = PrometheusSettings(timeout="5s")
    with RecordingClient(server.url, settings, retries=0) as client:
        united = Poller(client, queries, STEP, 40, 120.0)
        at = START + 100 * STEP
        for _ in range(4):
            at += STEP
            client.requests.clear()
            poll = united.poll(at)
    assert client.requests[0][: len(UNITED)] == list(UNITED.values())
    assert not {*client.requests[0]} & {*ALONE.values()} - {"load > 0"}
    alone = PrometheusSettings(timeout="5s", union_queries=False)
    with PrometheusClient(server.url, alone, retries=0) as client:
        expected = Poller(client, queries, STEP, 40, 120.0).poll(at)
    np.testing.assert_array_equal(poll.frame.values, expected.frame.values)
    assert {a: str(e) for a, e in poll.failures.items()} == {
        a: str(e) for a, e in expected.failures.items()
    }
    assert list(poll.failures) == FAILING
    assert not np.isnan(poll.frame.values[0, -1, : len(UNITED)]).any()


def test_a_poller_outlives_its_server(server, client):
    poller = Poller(client, {"load": "load", "all": "sum(cores)"}, STEP, 20, 120.0)
    at = START + 100 * STEP
    assert poller.poll(at).failures == {}
    server.kill()
    poll = poller.poll(at + 5 * STEP)
    assert [type(error) for error in poll.failures.values()] == [UnreachableError] * 2
    assert np.isnan(poll.frame.values[0, -5:]).all()
    assert not np.isnan(poll.frame.values[0, :-5]).any()
    assert poll.newest == {"load": at, "all": at}
    server.restart()
    poll = poller.poll(at + 6 * STEP)
    assert poll.failures == {}
    expected = whole(client, "load", poll.frame.start, 20)
    np.testing.assert_array_equal(poll.frame.values[0, :, 0], expected)


def test_a_series_that_ended_without_a_marker_goes_stale_before_prometheus_forgets_it(client):
    at = DIED + 8 * STEP
    assert client.query("brief", at).series  # Prometheus still repeats the last value
    poll = Poller(client, {"brief": "brief"}, STEP, 20, 60.0).poll(at)
    assert poll.newest == {"brief": DIED + 60.0}
    assert np.isnan(poll.frame.values[0, -4:]).all()
    assert poll.failures == {}


@pytest.mark.parametrize("promql", ["parts", "sum by (host) (parts)", "parts offset 1m"])
def test_a_host_that_ended_without_a_marker_goes_stale_alone(client, promql):
    later = 60.0 if "offset" in promql else 0.0
    queries = {"parts": promql, "both": f"2 * ({promql})"}
    options = PollOptions(queries, Grouping(("host",)), STEP, 20, 60.0, 10, 3600.0)
    poll = GroupPoller(client, options).poll(DIED + later + 8 * STEP)
    assert poll.failures == {}
    assert [dict(labels) for labels in poll.frame.groups] == [{"host": "a"}, {"host": "b"}]
    assert not np.isnan(poll.frame.values[0]).any()
    missing = np.isnan(poll.frame.values[1]).all(axis=1)
    assert missing.tolist() == [False] * 16 + [True] * 4
    assert np.isnan(poll.frame.values[1]).any(axis=1).tolist() == missing.tolist()


def test_the_check_tells_what_prometheus_has(client):
    at = DIED + 240.0
    checks = {c.alias: c for c in inspect_queries(client, {**QUERIES, "n": "cores"}, STEP, at)}
    assert checks["load"].problem is None
    assert (checks["load"].series, checks["load"].points) == (1, 241)
    assert checks["load"].newest_age_seconds == 0.0
    assert checks["brief"].newest_age_seconds == 240.0
    assert checks["n"].problem.startswith("query n: cores: 2 series, expected one")


def test_the_server_names_its_version(client):
    assert client.build_info()["version"]


def test_the_servers_own_words_on_a_mistake_are_shown(client):
    with pytest.raises(PrometheusError, match=r"rate\(x: HTTP 400 .*parse") as caught:
        client.query_range("rate(x", START, START, STEP)
    assert caught.value.reason == "bad_data"


def test_a_request_that_prometheus_itself_refuses_is_split(client):
    settings = PrometheusSettings(max_points_per_request=20_000)
    with (
        structlog.testing.capture_logs() as logs,
        PrometheusClient(client.url, settings, retries=0) as asking,
    ):
        split = asking.query_range("load", START, START + 12_000 * STEP, STEP)
    whole = client.query_range("load", START, START + 9_000 * STEP, STEP)
    assert "11,000 points" in logs[0]["err"]
    np.testing.assert_array_equal(split.series[0].values, whole.series[0].values)
