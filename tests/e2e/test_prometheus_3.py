"""The client, the poller and the check on Prometheus 3.x, where it can be obtained."""

import numpy as np
import pytest

from promad.config import PrometheusSettings
from promad.errors import PrometheusError
from promad.prometheus import Poller, PrometheusClient, fetch_history, inspect_queries
from promad.prometheus.latency import measure_repetition
from tests.support.prometheus_server import PrometheusServer, find_prometheus_3, openmetrics

STEP = 15.0
START = 1_750_000_005.0
SAMPLES = 240
END = START + (SAMPLES - 1) * STEP
QUERIES = {"load": 'load{host="a"}', "traffic": "rate(received[1m])", "all": "sum(cores)"}


def history():
    times = (START + STEP * np.arange(SAMPLES)).tolist()
    series = {
        'load{host="a"}': np.arange(SAMPLES) / 7,
        "received": 30.0 * np.arange(SAMPLES),
        'cores{cpu="0"}': np.ones(SAMPLES),
        'cores{cpu="1"}': np.arange(SAMPLES),
    }
    return openmetrics(
        {name: list(zip(times, v.tolist(), strict=True)) for name, v in series.items()}
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    directory = tmp_path_factory.mktemp("prometheus3")
    server = PrometheusServer(directory, binary=find_prometheus_3())
    server.backfill(history())
    with server, PrometheusClient(server.url, PrometheusSettings(), retries=0) as client:
        yield client


def expected():
    number = np.arange(SAMPLES)
    return np.stack([number / 7, np.full(SAMPLES, 2.0), 1.0 + number], axis=1)


def test_it_is_version_3(client):
    assert client.build_info()["version"].startswith("3.")


def test_polls_and_history_have_the_samples(client):
    poller = Poller(client, QUERIES, STEP, 40, 120.0)
    for steps in (5, 1, 0):
        poll = poller.poll(END - steps * STEP)
        last = SAMPLES - steps
        assert poll.failures == {}
        np.testing.assert_allclose(poll.frame.values[0], expected()[last - 40 : last])
    (frame,) = fetch_history(client, QUERIES, [(START + 60, END)], STEP, now=END + 3600).frames
    np.testing.assert_allclose(frame.values[0], expected()[4:])


def test_a_series_that_ended_goes_stale_before_prometheus_forgets_it(client):
    poll = Poller(client, {"load": "load"}, STEP, 20, 60.0).poll(END + 120.0)
    assert poll.newest == {"load": END + 60.0}


def test_the_check_finds_several_series_and_nothing_repeated(client):
    checks = inspect_queries(client, {**QUERIES, "n": "cores"}, STEP, END)
    assert [check.problem is None for check in checks] == [True, True, True, False]
    assert measure_repetition(client, END) == 0.0


def test_the_servers_own_words_on_a_mistake_are_shown(client):
    with pytest.raises(PrometheusError, match=r"rate\(x: HTTP 400 .*parse") as caught:
        client.query_range("rate(x", START, START, STEP)
    assert caught.value.reason == "bad_data"
