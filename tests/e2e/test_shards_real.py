"""What a shard asks for, on a real Prometheus: the same samples as of its groups among all."""

import numpy as np
import pytest
import structlog

from promad.config import PrometheusSettings
from promad.data.groups import Grouping, escape_label_value
from promad.data.shards import Shard, Share
from promad.prometheus import PrometheusClient
from promad.prometheus.groups import shard_queries
from promad.prometheus.groups.narrowing import (
    EVERYTHING,
    NOTHING,
    PLACE,
    fill_place,
    join_values,
    narrow_query,
)
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller
from tests.support.asking import RecordingClient
from tests.support.prometheus_server import PrometheusServer, openmetrics

STEP = 15.0
START = 1_750_000_005.0
SAMPLES = 80
HOSTS = [f"host-{number}.example.com:9100" for number in range(40)]
ODD = [
    "a|b",
    "a",
    "b",
    r"back\slash",
    'say "hi"',
    "x.y",
    "xzy",
    "$1{2}",
    "(^[+*?])",
    "é—\t",
    "new\nline",
]
NARROWED = """
load
load{job="node"} offset 1m
-load
rate(bytes_total[2m])
rate(bytes_total{job=~"node|x"}[2m] offset 30s)
max_over_time(load[5m:30s] offset 1m)
1 - avg by (i) (rate(bytes_total[2m]))
sum by (i) (parts) / sum by (i) (load)
sum without (part) (parts)
topk by (i) (1, parts)
quantile by (i, job) (0.5, parts)
load > bool 0
load > 0
parts / on (i) group_left (kind) load
load * on (i) group_right () parts
parts / ignoring (part, kind) group_left () load
parts * on (job) group_left () job_weight
job_weight * on (job) group_right () parts
load and on (job) job_weight
load unless on (job) absent_job
load and sometimes
load unless sometimes
sometimes or load
load or on (job) job_weight
job_weight or on (job) load
label_replace(load, "short", "$1", "i", "(.).*")
label_join(load, "both", "-", "i", "job")
histogram_quantile(0.9, sum by (i, le) (rate(buckets[2m])))
clamp_max(load, scalar(sum(load)))
load / scalar(sum(load))
load + time()
count_values by (i) ("part_value", round(parts))
timestamp(load)
sort(load)
{__name__="load", job="node"}
load @ 1750000600
load # a comment with load{i="x"}
sum by (i) (load) and on (i) group_of
(load)
label_replace(load, "__tmp", 'raw "x"', "i", "nothing")
""".strip().splitlines()
WHOLE = """
sum(load)
sum by (job) (load)
sum without (i) (load)
label_replace(load, "i", "$1", "i", "(.).*")
label_join(load, "i", "-", "i", "job")
absent(load)
load / ignoring (i, kind) job_load
count_values by (job) ("i", load)
vector(1)
time()
""".strip().splitlines()


def history():
    times = (START + STEP * np.arange(SAMPLES)).tolist()
    chance = np.random.default_rng(5)
    series = {}

    def add(name, values, **labels):
        shown = ",".join(f'{key}="{escape_label_value(value)}"' for key, value in labels.items())
        series[f"{name}{{{shown}}}"] = list(zip(times, np.round(values, 4).tolist(), strict=True))

    for number, host in enumerate([*HOSTS, *ODD]):
        job = "node" if number % 3 else "other"
        own = {"i": host, "job": job}
        add("load", chance.normal(size=SAMPLES), **own, kind=f"k{number % 2}")
        add("bytes_total", np.cumsum(chance.integers(0, 99, SAMPLES)), **own)
        for part in "ab":
            add("parts", chance.random(SAMPLES), **own, part=part)
        if number % 4:
            add("sometimes", chance.random(SAMPLES), **own, kind=f"k{number % 2}")
            add("group_of", np.ones(SAMPLES), i=host)
        for le in ("1", "2", "+Inf"):
            add("buckets", np.cumsum(chance.integers(0, 9, SAMPLES)), **own, le=le)
    add("load", chance.normal(size=SAMPLES), job="node", kind="k0")  # without the label
    for job in ("node", "other"):
        add("job_weight", np.full(SAMPLES, 2.0), job=job)
        add("job_load", np.full(SAMPLES, 2.0), job=job)
    return openmetrics(series)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    server.backfill(history())
    with server:
        yield server


@pytest.fixture
def client(server):
    with PrometheusClient(server.url, PrometheusSettings(timeout="9s"), retries=0) as client:
        yield client


def ask(client, expr, values=None):
    """The samples by label set, of those whose label `i` is one of these values."""
    start = START + 20 * STEP
    answer = client.query_range(expr, start, start + 20 * STEP, STEP, most_series=1000)
    return {
        each.labels: (each.times.tolist(), each.values.tolist())
        for each in answer.series
        if values is None or dict(each.labels).get("i", "") in values
    }


def choose_values():
    """Sets of values: some ordinary, all odd ones, some of which are parts of others."""
    chance = np.random.default_rng(3)
    yield {"x.y", "a", r"back\slash"}
    yield {*ODD, ""}
    yield {"a|b", *chance.choice(HOSTS, 7).tolist()}
    yield set(chance.choice(HOSTS, 9).tolist())  # which begin and end alike


@pytest.mark.parametrize("expr", NARROWED)
def test_a_narrowed_query_has_the_samples_of_its_groups_among_all(client, expr):
    narrowed = narrow_query(expr, "i")
    assert PLACE in narrowed
    for values in choose_values():
        regex = join_values(sorted(values))
        assert ask(client, fill_place(narrowed, regex), values) == ask(client, expr, values)
    assert ask(client, fill_place(narrowed, EVERYTHING)) == ask(client, expr)


@pytest.mark.parametrize("expr", WHOLE)
def test_a_query_whose_groups_rest_on_others_is_left_as_it_is(expr):
    assert narrow_query(expr, "i") == expr


def test_no_value_matches_nothing_and_a_matcher_excludes_all_others(client):
    narrowed = narrow_query("load", "i")
    assert ask(client, fill_place(narrowed, NOTHING)) == {}
    found = ask(client, fill_place(narrowed, join_values(["x.y"])))
    assert [dict(labels)["i"] for labels in found] == ["x.y"]


QUERIES = {
    "load": "load{kind!=''}",
    "ratio": "sum by (i) (rate(bytes_total[2m])) / sum by (i) (parts)",
    "whole": 'label_replace(sum by (i) (parts), "i", "$1", "i", "(.*)")',
}


def make_options(shard=None, **changes):
    how = {
        "step": STEP,
        "samples": 20,
        "stale_after": 60.0,
        "max_groups": 100,
        "forget_after": 3600,
    }
    return PollOptions(QUERIES, Grouping(("i",), (), shard), **how | changes)


def make_shards(count=3):
    return [Shard(Share(number, count), ("i",)) for number in range(count)]


def poll_three_times(poller):
    for newest in (40, 41, 43):
        poll = poller.poll(START + newest * STEP)
        assert poll.failures == {}
    return dict(zip(poll.frame.groups, poll.frame.values.tolist(), strict=True))


@pytest.mark.parametrize("length", [None, 160])
def test_shards_together_poll_what_one_daemon_polls(server, client, monkeypatch, length):
    if length is not None:
        monkeypatch.setattr(shard_queries, "_LENGTHS", (length, length, length))
    everything = poll_three_times(GroupPoller(client, make_options()))
    assert len(everything) == len(HOSTS) + len(ODD) + 1
    together = {}
    for shard in make_shards():
        with RecordingClient(server.url, PrometheusSettings(timeout="9s"), retries=0) as asking:
            own = poll_three_times(GroupPoller(asking, make_options(shard)))
        assert own
        assert not own.keys() & together.keys()
        together |= own
        texts = [text for texts in asking.requests for text in texts]
        whole = [text for text in texts if "=~" not in text and not text.startswith("group by")]
        assert set(whole) == {QUERIES["whole"]}
        assert (max(map(len, texts)) < 400) == (length is not None)
    assert {k: np.nan_to_num(v).tolist() for k, v in together.items()} == {
        k: np.nan_to_num(v).tolist() for k, v in everything.items()
    }


def test_a_query_that_cannot_be_narrowed_is_named_once_with_what_it_costs(client):
    with structlog.testing.capture_logs() as logs:
        poll_three_times(GroupPoller(client, make_options(make_shards()[0])))
    (told,) = [line for line in logs if "reads the groups of all" in line["event"]]
    assert told["query"] == QUERIES["whole"]
    assert told["series"] == len(HOSTS) + len(ODD)
    assert 0 < told["of_shard"] < told["series"]


def test_a_shard_without_groups_asks_for_nothing(client):
    everyone = [(("i", value),) for value in [*HOSTS, *ODD]]
    shards = [Shard(Share(number, 200), ("i",)) for number in range(200)]
    shard = next(each for each in shards if not each.choose([*everyone, ()]).any())
    poll = GroupPoller(client, make_options(shard)).poll(START + 40 * STEP)
    assert poll.failures == {}
    assert poll.frame.groups == ()
