"""Queries that need the same samples are one request, and no answer depends on that."""

import numpy as np
import pytest
import structlog

from promad.config import PrometheusSettings
from promad.errors import PrometheusError
from promad.prometheus import Poller, PrometheusClient
from promad.prometheus.grid import Span
from promad.prometheus.united import UnitedQueries
from tests.support.prometheus_stub import Say, curves, matrix, split_union, stub_server

STEP = 15.0
AT = 900_000.0
QUERIES = {
    "a": "delta(a[1m])",
    "b": 'sum(rate(b{x=")"}[1m])) # a comment',
    "c": "rate(c[1m] offset 1m)",
}
A, B, C = QUERIES.values()


def ramp(slope):
    return lambda at: at / slope


def always(queries=QUERIES):
    return {expr: [({}, ramp(7 + n))] for n, expr in enumerate(queries.values())}


def poller_of(stub, queries=QUERIES, samples=20, settings=None, **options):
    settings = PrometheusSettings(timeout="2s", **(settings or {}))
    client = PrometheusClient(stub.url, settings, retries=0)
    return Poller(client, queries, STEP, samples, 120.0, **options)


def requests_of(stub):
    """The queries of each request since this was last asked."""
    asked, stub.asked[:] = [split_union(each) or [each] for each in stub.exprs], []
    return asked


class Changing:
    """Answers to unions and to others, which a test swaps while the server runs."""

    def __init__(self, known=None):
        self.alone = curves(always() if known is None else known)
        self.united = self.alone

    def __call__(self, asked):
        say = self.united if split_union(asked.form["query"]) else self.alone
        return say(asked)


def check_values(poll, queries=QUERIES):
    assert poll.failures == {}
    for column in range(len(queries)):
        expected = poll.frame.times / (7 + column)
        np.testing.assert_array_equal(poll.frame.values[0, :, column], expected)


def test_what_each_has_answered_by_itself_is_one_request_from_then_on():
    with stub_server(curves(always())) as stub:
        poller = poller_of(stub)
        check_values(poller.poll(AT))
        assert requests_of(stub) == [[A], [B], [C]]
        for late in (15.0, 30.0, 75.0):
            check_values(poller.poll(AT + late))
            assert requests_of(stub) == [[A, B, C]]


def test_what_is_sent_is_promql_that_labels_the_series_of_each():
    with stub_server(curves(always())) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        poller.poll(AT + STEP)
    assert stub.exprs[-1] == (
        f'label_replace(\n{A}\n, "united_query", "0", "", "") or '
        f'label_replace(\n{B}\n, "united_query", "1", "", "") or '
        f'label_replace(\n{C}\n, "united_query", "2", "", "")'
    )


def test_a_request_for_all_leaves_time_to_ask_one_by_one():
    with stub_server(curves(always())) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        poller.poll(AT + STEP)
        assert [asked.form["timeout"] for asked in stub.asked] == ["1s800ms"] * 3 + ["900ms"]


@pytest.mark.parametrize("settings", [{"union_queries": False}, {"http_method": "GET"}])
def test_each_is_a_request_if_so_configured_and_with_get(settings):
    with stub_server(curves(always())) as stub:
        poller = poller_of(stub, settings=settings)
        for late in (0.0, 15.0):
            check_values(poller.poll(AT + late))
            assert requests_of(stub) == [[A], [B], [C]]


def test_a_server_that_takes_only_get_is_asked_one_by_one():
    fine = curves(always())
    with stub_server(lambda a: Say(405) if a.method == "POST" else fine(a)) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        requests_of(stub)
        check_values(poller.poll(AT + STEP))
        assert requests_of(stub) == [[A], [B], [C]]


NOT_UNITED = ["time()", "scalar(sum(rate(up[1m])))", "7", "a default b", "up) or (up"]


@pytest.mark.parametrize("expr", NOT_UNITED)
def test_numbers_and_what_the_local_parser_does_not_know_are_requests_of_their_own(expr):
    queries = {**QUERIES, "n": expr}
    with stub_server(curves(always(queries))) as stub:
        poller = poller_of(stub, queries)
        poller.poll(AT)
        requests_of(stub)
        check_values(poller.poll(AT + STEP), queries)
        assert requests_of(stub) == [[A, B, C], [expr]]


def test_a_query_that_fails_by_itself_takes_no_part():
    fine = curves(always())

    def answer(asked):
        return Say(422) if C in asked.form["query"] else fine(asked)

    with stub_server(answer) as stub:
        poller = poller_of(stub)
        for late in (0.0, 15.0, 30.0):
            assert list(poller.poll(AT + late).failures) == ["c"]
        assert requests_of(stub)[3:] == [[A, B], [C]] * 2


def test_a_query_that_begins_to_fail_fails_alone_and_by_its_own_error():
    answers = Changing()
    fine = answers.alone
    with stub_server(answers) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        requests_of(stub)
        answers.alone = answers.united = lambda a: Say(422) if B in a.form["query"] else fine(a)
        poll = poller.poll(AT + STEP)
        assert list(poll.failures) == ["b"]
        shown = f"query b: {stub.url}: {B}: HTTP 422"
        assert str(poll.failures["b"]).startswith(shown)
        assert np.isnan(poll.frame.values[0, -1]).tolist() == [False, True, False]
        assert requests_of(stub) == [[A, B, C], [A], [B], [C]]
        assert list(poller.poll(AT + 2 * STEP).failures) == ["b"]
        assert requests_of(stub) == [[A, C], [B]]
        answers.alone = answers.united = fine
        check_values(poller.poll(AT + 3 * STEP))
        check_values(poller.poll(AT + 4 * STEP))
        assert requests_of(stub) == [[A, C], [B], [A, B, C]]


REFUSALS = {
    "refused": Say(422, '{"status":"error","errorType":"execution","error":"many-to-many"}'),
    "invalid": Say(400, '{"status":"error","errorType":"bad_data","error":"parse error"}'),
    "too many samples": Say(
        422, '{"status":"error","errorType":"execution","error":"too many samples"}'
    ),
    "too large": Say(413, "too large"),
    "too long": Say(414, "URI too long"),
    "too slow": Say(503, '{"status":"error","errorType":"timeout","error":"query timed out"}'),
    "broken": Say(500),
    "gateway": Say(504),
    "warning": Say(body=matrix({}, ["x"])),
    "empty": Say(),
    "no JSON": Say(body="<html>"),
    "cut": Say(body="x" * 99, cut=True),
    "not labelled": Say(body=matrix({(): [(AT + STEP, 1.0)]})),
    "another label": Say(body=matrix({(("united_query", "3"),): [(AT + STEP, 1.0)]})),
    "other times": Say(body=matrix({(("united_query", "0"),): [(AT + 99, 1.0)]})),
    "many series": Say(
        body=matrix({(("united_query", "0"), ("i", str(n))): [(AT, 1.0)] for n in range(200)})
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_of_the_request_for_all_costs_no_query_its_samples(refusal):
    answers = Changing()
    answers.united = lambda _: REFUSALS[refusal]
    with structlog.testing.capture_logs() as logs, stub_server(answers) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        requests_of(stub)
        check_values(poller.poll(AT + STEP))
        assert requests_of(stub) == [[A, B, C], [A], [B], [C]]
        check_values(poller.poll(AT + 2 * STEP))
        assert requests_of(stub) == [[A], [B], [C]]
    (line,) = logs
    assert line["event"] == "request for several queries refused; asking one by one"
    assert (line["queries"], line["log_level"]) == (3, "info")


def test_a_server_that_refuses_unions_is_asked_for_one_ever_more_rarely():
    answers = Changing()
    answers.united = lambda _: Say(422)
    united = []
    with stub_server(answers) as stub:
        poller = poller_of(stub)
        for tick in range(70):
            check_values(poller.poll(AT + tick * STEP))
            united += [tick] * ([A, B, C] in requests_of(stub))
        assert united == [1, 10, 27, 60]
        answers.united = answers.alone
        for tick in range(70, 127):
            poller.poll(AT + tick * STEP)
        assert requests_of(stub)[-1] == [A, B, C]


def test_a_request_that_is_refused_leaves_others_united():
    queries = {f"q{n:02}": f"rate(q{n:02}[1m])" for n in range(60)}
    first, last = list(queries.values())[:50], list(queries.values())[50:]
    answers = Changing(always(queries))
    fine = answers.united
    answers.united = lambda a: Say(422) if "q00" in a.form["query"] else fine(a)
    with stub_server(answers) as stub:
        poller = poller_of(stub, queries)
        poller.poll(AT)
        requests_of(stub)
        for tick in range(1, 10):
            check_values(poller.poll(AT + tick * STEP), queries)
            requests = requests_of(stub)
            assert requests[-50:] == [[expr] for expr in first]
            assert requests[:-50] == ([first, last] if tick == 1 else [last])
        check_values(poller.poll(AT + 10 * STEP), queries)
        assert first in requests_of(stub)


class Refusing:
    """A client whose server refuses every union."""

    may_unite, max_points = True, 1000

    def __init__(self):
        self.asked = 0

    def ask_range(self, *_, **__):
        self.asked += 1
        raise PrometheusError("refused", "execution")


def test_a_union_is_tried_every_512_polls_at_least():
    client = Refusing()
    union = UnitedQueries(client, QUERIES, STEP, allow_partial=False)
    tried = []
    for poll in range(3000):
        before = client.asked
        assert union.ask(dict.fromkeys(QUERIES, Span(AT, AT + STEP))).values == {}
        tried += [poll] * (client.asked - before)
        for alias in QUERIES:
            union.note_answer(alias, has_samples=True)
    assert np.diff(tried).tolist() == [9, 17, 33, 65, 129, 257, 513, 513, 513, 513]


def test_a_server_that_is_gone_is_asked_once_and_names_the_first_query():
    answers = Changing()
    with stub_server(answers) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        requests_of(stub)
        answers.united = lambda _: Say(hang_up=True)
        poll = poller.poll(AT + STEP)
        assert requests_of(stub) == [[A, B, C]]
        assert str(poll.failures["a"]).startswith(f"query a: {stub.url}: {A}: connection failed")
        assert str(poll.failures["b"]) == "query b: not asked after query a failed"
        assert {error.reason for error in poll.failures.values()} == {"unreachable"}
        check_values(poller.poll(AT + 2 * STEP))
        assert requests_of(stub) == [[B], [C], [A]]


def test_a_server_that_is_busy_gets_no_more_requests_in_that_poll():
    answers = Changing()
    with stub_server(answers) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        requests_of(stub)
        answers.united = lambda _: Say(429)
        assert list(poller.poll(AT + STEP).failures) == ["a", "b", "c"]
        assert requests_of(stub) == [[A, B, C]]


def test_several_series_of_a_query_are_its_own_failure_as_before():
    answers = Changing()
    with stub_server(answers) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        requests_of(stub)
        two = {**always(), B: [({"i": "x"}, ramp(1)), ({"i": "y"}, ramp(2))]}
        answers.alone = answers.united = curves(two)
        poll = poller.poll(AT + STEP)
        shown = '{i="x"}, {i="y"}'
        assert poll.failures["b"].reason == "several_series"
        assert f"2 series, expected one: {shown} — aggregate" in str(poll.failures["b"])
        assert list(poll.failures) == ["b"]
        assert requests_of(stub) == [[A, B, C], [B]]
        assert list(poller.poll(AT + 2 * STEP).failures) == ["b"]
        assert requests_of(stub) == [[A, C], [B]]


def test_series_that_follow_one_another_are_one_as_before():
    new = AT + 3 * STEP
    parts = [
        ({"pod": "x"}, lambda at: at / 8 if at < new else None),
        ({"pod": "y"}, lambda at: at / 8 if at >= new else None),
    ]
    with stub_server(curves({**always(), B: parts})) as stub:
        poller = poller_of(stub)
        for tick in range(10):
            check_values(poller.poll(AT + tick * STEP))
        requests = requests_of(stub)
    assert requests[-1] == [A, B, C]
    assert requests.count([B]) > 1


def test_a_query_without_samples_is_asked_by_itself_until_it_has_some():
    answers = Changing({**always(), B: []})
    with stub_server(answers) as stub:
        poller = poller_of(stub)
        poll = poller.poll(AT)
        requests_of(stub)
        assert (poll.failures, poll.newest["b"]) == ({}, None)
        assert poller.poll(AT + STEP).failures == {}
        assert requests_of(stub) == [[A, C], [B]]
        answers.alone = answers.united = curves(always())
        check_values(poller.poll(AT + 2 * STEP))
        check_values(poller.poll(AT + 3 * STEP))
        assert requests_of(stub)[-1] == [A, B, C]


def test_queries_that_need_other_samples_are_another_request():
    queries = {**QUERIES, "d": "rate(d[1m])", "e": "rate(e[1m])"}
    late = {e: [({}, lambda at: at if at <= AT else None)] for e in ("rate(d[1m])", "rate(e[1m])")}
    with stub_server(curves({**always(), **late})) as stub:
        poller = poller_of(stub, queries)
        for tick in range(3):
            assert poller.poll(AT + tick * STEP).failures == {}
        requests = requests_of(stub)
    assert requests[-2:] == [[A, B, C], ["rate(d[1m])", "rate(e[1m])"]]


def test_no_request_has_more_samples_queries_or_characters_than_a_server_may_accept():
    many = {f"q{n:03}": f"rate(q{n:03}[1m])" for n in range(120)}
    long = {f"l{n}": f'rate(l{n}{{x="{n:03000}"}}[1m])' for n in range(5)}
    queries = many | long
    with stub_server(curves(always(queries))) as stub:
        poller = poller_of(stub, queries)
        poller.poll(AT)
        requests_of(stub)
        check_values(poller.poll(AT + STEP), queries)
        assert max(len(expr) for expr in stub.exprs) < 9000
        assert [len(each) for each in requests_of(stub)] == [50, 50, 22, 2, 1]
    with stub_server(curves(always(many))) as stub:
        poller = poller_of(stub, many, settings={"max_points_per_request": 50})
        poller.poll(AT)
        requests_of(stub)
        check_values(poller.poll(AT + STEP), many)
        assert {len(each) for each in requests_of(stub)} == {10}


def test_the_samples_of_all_are_checked_for_their_age_as_before():
    queries = {"a": "up", "b": "sum(down)"}
    ages = (
        'label_replace(timestamp(up), "age_source", "0", "", "") or '
        'label_replace(max(timestamp(down)), "age_source", "1", "", "")'
    )
    times = [({"age_source": "0"}, lambda at: at), ({"age_source": "1"}, lambda at: min(at, AT))]
    with stub_server(curves({**always(queries), ages: times})) as stub:
        client = PrometheusClient(stub.url, PrometheusSettings(), retries=0)
        poller = Poller(client, queries, STEP, 5, 10.0)
        assert poller.poll(AT).newest == {"a": AT, "b": AT}
        requests_of(stub)
        assert poller.poll(AT + STEP).newest == {"a": AT + STEP, "b": AT}
        assert requests_of(stub) == [["up", "sum(down)"], [ages]]
