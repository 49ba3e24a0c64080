"""The newest samples on a real VictoriaMetrics, which repeats the last value for 30 s."""

import math
import time

import numpy as np
import pytest

from promad.cli.commands.check_config import format_latency
from promad.config import PrometheusSettings
from promad.data.groups import Grouping
from promad.data.shards import Shard, Share
from promad.prometheus import Poller, PrometheusClient, inspect_queries
from promad.prometheus.checking import inspect_latency
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller
from promad.prometheus.latency import make_find_offset
from tests.support.asking import RecordingClient
from tests.support.victoria_metrics import victoria_metrics

SAMPLES = 60
STEPS = (5.0, 15.0, 30.0)
QUERIES = {"plain": "plain", "sum": "sum(plain)", "rate": "rate(steady_total[1m])"}
HOUR = 3600


def value(at):
    return 10 + math.sin(at / 7)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The samples of the next hour are there too: the server hides them until their time."""
    times = [float(at) for at in range(int(time.time()) - HOUR, int(time.time()) + HOUR)]
    series = {
        'plain{host="a"}': [(at, value(at)) for at in times],
        'steady_total{host="a"}': [(at, 2.0 * (at - times[0])) for at in times],
    }
    ended = times[: HOUR - 120]
    series |= {'parts{host="a"}': [(at, value(at)) for at in times]}
    series |= {'parts{host="b"}': [(at, value(at)) for at in ended]}
    with victoria_metrics(tmp_path_factory.mktemp("vm"), series) as url:
        yield url


@pytest.fixture
def client(url):
    with PrometheusClient(url, PrometheusSettings(timeout="5s"), retries=0) as client:
        yield client


def poller_of(client, step):
    return Poller(client, QUERIES, step, SAMPLES, 120.0)


def count_wrong(poll, until=math.inf):
    """How many samples up to `until` are missing or not what they will be for ever."""
    times, values = poll.frame.times, poll.frame.values[0]
    truth = np.array([[value(at), value(at), 2.0] for at in times])
    wrong = ~np.isclose(values, truth, rtol=1e-9)
    return int(wrong[times <= until].sum())


@pytest.mark.parametrize("step", STEPS)
def test_no_sample_is_provisional_with_the_offset_that_suits_the_server(client, step):
    find, poller = make_find_offset(client, "auto", "web"), poller_of(client, step)
    offset = find(time.time())
    assert 33 <= offset <= 37
    poll = poller.poll(time.time() - offset)
    assert (poll.failures, poll.frame.samples, count_wrong(poll)) == ({}, SAMPLES, 0)


def test_the_check_shows_the_offset(client):
    now = time.time()
    check = inspect_latency(client, "auto", now)
    assert format_latency(check, "auto").startswith("  latency_offset: 3")
    assert inspect_latency(client, 10.0, now).is_too_short
    assert not any(one.problem for one in inspect_queries(client, QUERIES, 5.0, now - check.offset))


def test_a_host_that_ended_is_missing_alone(client):
    queries = {"parts": "parts", "sum": "sum by (host) (parts)"}
    options = PollOptions(queries, Grouping(("host",)), 5.0, SAMPLES, 60.0, 10, 3600.0)
    poll = GroupPoller(client, options).poll(time.time() - 40)
    assert poll.failures == {}
    assert [dict(labels) for labels in poll.frame.groups] == [{"host": "a"}, {"host": "b"}]
    assert not np.isnan(poll.frame.values[0]).any()
    assert np.isnan(poll.frame.values[1, -1]).all()
    assert not np.isnan(poll.frame.values[1, 0]).any()


UNITED = {
    **QUERIES,
    "comment": "sum(plain) # all ) of them",
    "offset": "plain offset 1m",
    "fallback": "no_such or vector(0)",
    "absent": "absent(no_such)",
}
ALONE = {
    "time": "time()",
    "number": "7",
    "no window": "rate(steady_total)",
    "template": "WITH (x = plain) x + 1",
    "default": "no_such default 3",
    "two parts": "plain) or (plain",
}


def test_united_queries_have_the_same_values_as_each_has_alone(url):
    queries, at = UNITED | ALONE, time.time() - 60
    with RecordingClient(url, PrometheusSettings(timeout="5s"), retries=0) as client:
        poller = Poller(client, queries, 5.0, 30, 120.0)
        for ago in (10, 5, 0):
            client.requests.clear()
            poll = poller.poll(at - ago)
    assert client.requests[0] == list(UNITED.values())
    alone = PrometheusSettings(timeout="5s", union_queries=False)
    with PrometheusClient(url, alone, retries=0) as client:
        expected = Poller(client, queries, 5.0, 30, 120.0).poll(at)
    np.testing.assert_allclose(poll.frame.values, expected.frame.values, rtol=1e-9)
    assert list(poll.failures) == list(expected.failures) == ["two parts"]


def test_a_server_that_refuses_long_queries_is_asked_one_by_one(tmp_path):
    times = [float(at) for at in range(int(time.time()) - 300, int(time.time()))]
    series = {
        'plain{host="a"}': [(at, value(at)) for at in times],
        'steady_total{host="a"}': [(at, 2.0 * at) for at in times],
    }
    settings = PrometheusSettings(timeout="5s")
    with (
        victoria_metrics(tmp_path, series, ["-search.maxQueryLen=100"]) as url,
        RecordingClient(url, settings, retries=0) as client,
    ):
        poller, united = Poller(client, QUERIES, 5.0, 10, 120.0), []
        for at in (times[-60], times[-55], times[-50]):
            client.requests.clear()
            poll = poller.poll(at)
            assert (poll.failures, count_wrong(poll)) == ({}, 0)
            united.append([exprs for exprs in client.requests if len(exprs) > 1])
    assert united == [[], [list(QUERIES.values())], []]


@pytest.mark.slow
def test_provisional_samples_are_corrected_before_they_are_final(client):
    pollers = {step: poller_of(client, step) for step in STEPS}
    began = time.time()
    polls = {step: poller.poll(began - 10) for step, poller in pollers.items()}
    assert count_wrong(polls[5.0]) > 0
    corrections = set()
    while (now := time.time()) < began + 32:
        for step, poller in pollers.items():
            poll = poller.poll(now - 10)
            assert poll.failures == {}
            assert count_wrong(poll, until=now - 10 - 60) == 0
            if poll.corrected_from is not None:
                corrections.add(step)
            polls[step] = poll
        time.sleep(2.5)
    for step, poll in polls.items():
        assert count_wrong(poll, until=began - 10) == 0, step
    assert 5.0 in corrections


def test_a_shard_asks_a_server_that_refuses_long_queries_in_parts(tmp_path):
    times = [float(at) for at in range(int(time.time()) - 300, int(time.time()), 5)]
    hosts = [f"{number}.example-{number:04d}.com" for number in range(400)]
    series = {
        f'{name}{{host="{host}"}}': [(at, at + len(host)) for at in times]
        for name in ("plain", "other")
        for host in hosts
    }
    queries = {"plain": "plain", "ratio": "sum by (host) (other) / sum by (host) (plain)"}
    shard = Shard(Share(0, 2), ("host",))
    options = PollOptions(queries, Grouping(("host",), (), shard), 5.0, 10, 60.0, 1000, 3600.0)
    own = [(("host", host),) for host in hosts if shard.owns((("host", host),))]
    with (
        victoria_metrics(tmp_path, series, ["-search.maxQueryLen=3000"]) as url,
        RecordingClient(url, PrometheusSettings(timeout="9s"), retries=0) as client,
    ):
        poller = GroupPoller(client, options)
        for at in times[-24:-16]:
            client.requests.clear()
            poll = poller.poll(at)
            assert poll.failures == {}
            assert sorted(poll.frame.groups) == sorted(own)
            np.testing.assert_allclose(poll.frame.values[:, -1, 1], 1.0)
    texts = [text for exprs in client.requests for text in exprs]
    assert len(texts) > len(queries) + 1
    assert max(map(len, texts)) < 3000
    assert not any("(?s:.*)" in text for text in texts)
