"""Answers that servers give against all expectation are read as what they mean, or refused."""

import json

import numpy as np
import pytest
import structlog

from promad.config import PrometheusSettings
from promad.errors import PrometheusError
from promad.prometheus import Poller, PrometheusClient, fetch_history, parse_answer
from tests.support.prometheus_stub import Say, curves, matrix, stub_server

NOW = 1_000_000.0
PERIOD = [(0.0, 600.0)]
STEP = 15.0
ONE = curves({"up": [({"job": "a"}, lambda t: t / 7)]})
INFO = 'PromQL info: metric might not be a counter: "faults" (1:10)'


def fetch(stub, periods=PERIOD, step=STEP, **options):
    with PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client:
        return fetch_history(client, {"x": "up"}, periods, step, now=NOW, **options)


def failure(answering, **options):
    with stub_server(answering) as stub, pytest.raises(PrometheusError) as caught:
        fetch(stub, **options)
    return caught.value


def answer(data, **more):
    return Say(body=json.dumps({"status": "success", "data": data, **more}))


# Annotations


def annotated(**texts):
    points = [[15.0 * i, "1"] for i in range(41)]
    data = {"resultType": "matrix", "result": [{"metric": {}, "values": points}]}
    return lambda _: answer(data, **texts)


@pytest.mark.parametrize("key", ["warnings", "infos"])
def test_infos_are_taken_and_logged_once(key):
    with (
        structlog.testing.capture_logs() as logs,
        stub_server(annotated(**{key: [INFO]})) as stub,
        PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client,
    ):
        for _ in range(2):
            fetched = fetch_history(client, {"x": "up"}, PERIOD, STEP, now=NOW)
    assert not np.isnan(fetched.frames[0].values).any()
    assert [line["event"] for line in logs] == ["info from server"]
    assert logs[0]["info"] == INFO


def test_a_warning_beside_an_info_still_refuses():
    error = failure(annotated(warnings=[INFO, "PromQL warning: quantile 2 is not in [0, 1]"]))
    assert error.reason == "partial"
    assert "quantile 2" in str(error)
    assert INFO not in str(error)


@pytest.mark.parametrize("warnings", [5, "a store is down", {"a": 1}])
def test_warnings_of_another_form_are_warnings(warnings):
    assert failure(annotated(warnings=warnings)).reason == "partial"


# Nothing, in several spellings


@pytest.mark.parametrize(
    "data",
    [
        {"resultType": "matrix", "result": None},
        {"resultType": "", "result": None},
        {"resultType": "", "result": []},
        {"resultType": None, "result": None},
        {"resultType": "matrix", "result": [{"metric": None, "values": None}]},
    ],
)
def test_null_is_no_sample(data):
    series = parse_answer(answer(data).body.encode()).series
    assert [len(each.values) for each in series] in ([], [0])


# The same labels twice


def twice(first, second):
    """Two series of the same labels: the values of each, by time."""

    def answering(asked):
        times = [15.0 * i for i in range(41)]
        result = [
            {"metric": {"job": "a"}, "values": [[t, repr(f(t))] for t in times if f(t) is not None]}
            for f in (first, second)
        ]
        return answer({"resultType": "matrix", "result": result})

    return answering


def test_parts_of_a_series_are_joined():
    halves = twice(lambda t: t if t > 300 else None, lambda t: t if t <= 300 else None)
    with stub_server(halves) as stub:
        (frame,) = fetch(stub).frames
    np.testing.assert_array_equal(frame.values[0, :, 0], frame.times)


def test_equal_overlap_is_joined_and_a_value_beats_a_missing_one():
    overlap = twice(lambda t: t if t < 400 else float("nan"), lambda t: t if t > 200 else None)
    with stub_server(overlap) as stub:
        (frame,) = fetch(stub).frames
    np.testing.assert_array_equal(frame.values[0, :, 0], frame.times)


def test_contradictions_are_refused():
    error = failure(twice(lambda t: 1.0, lambda t: 2.0))
    assert error.reason == "bad_answer"
    assert "two values of one series at 0.000 (1 and 2) — query one replica" in str(error)


@pytest.mark.parametrize("second", [15.0, 15.001])
def test_two_values_at_one_time_are_refused(second):
    body = matrix({(): [(0.0, 1.0), (15.0, 1.0), (second, 2.0)]})
    assert "two values of one series at 15.00" in str(failure(lambda _: Say(body=body)))


def test_an_equal_sample_sent_twice_is_one():
    with stub_server([Say(body=matrix({(): [(0.0, 1.0), (0.001, 1.0), (15.0, 2.0)]}))]) as stub:
        (frame,) = fetch(stub, [(0.0, 15.0)]).frames
    assert frame.values[0, :, 0].tolist() == [1.0, 2.0]


# Refusals


def refuse_post(status, body="only reading is allowed"):
    return lambda asked: Say(status, body) if asked.method == "POST" else ONE(asked)


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_a_server_that_refuses_post_is_asked_by_get_from_then_on(status):
    with stub_server(refuse_post(status)) as stub:
        (frame,) = fetch(stub, [(0.0, 24_999.0)], step=1.0).frames
    np.testing.assert_array_equal(frame.values[0, :, 0], frame.times / 7)
    methods = [asked.method for asked in stub.asked]
    assert methods.count("POST") <= 2  # two downloads run at once
    assert methods.count("GET") == 3


def test_get_is_tried_once():
    with (
        stub_server(lambda _: Say(403, "go away")) as stub,
        PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client,
    ):
        for _ in range(3):
            with pytest.raises(PrometheusError, match=r"HTTP 403 \(go away\) — check prom"):
                client.query("up", 0.0)
    assert [asked.method for asked in stub.asked] == ["POST", "GET", "POST", "POST"]


def limit(refuses, status, words, kind="execution"):
    """Refuse range requests for which `refuses(points, seconds)`."""

    def answering(asked):
        seconds = float(asked.form["end"]) - float(asked.form["start"])
        if refuses(asked.points, seconds):
            document = {"status": "error", "errorType": kind, "error": words}
            return Say(status, json.dumps(document))
        return ONE(asked)

    return answering


LONG = [(0.0, 300_000.0)]
LIMITS = [
    (422, "query processing would load too many samples into memory in query execution"),
    (400, "exceeded maximum resolution of 11,000 points per timeseries"),
    (422, "the query time range exceeds the limit (query length: 84h, limit: 24h)"),
    (422, "range of the query is longer than 24h allows"),
    (422, "cannot select more than -search.maxSamplesPerQuery=1000000000 samples"),
    (200, "too many points for one query"),
]


@pytest.mark.parametrize(("status", "words"), LIMITS)
def test_a_request_refused_by_its_size_is_halved_until_it_is_accepted(status, words):
    with stub_server(limit(lambda points, _: points > 2000, status, words)) as stub:
        (frame,) = fetch(stub, LONG).frames
    np.testing.assert_array_equal(frame.values[0, :, 0], frame.times / 7)
    assert sum(asked.points > 2000 for asked in stub.asked) <= 6
    assert min(asked.points for asked in stub.asked if asked.points < 10_000) >= 1


def test_the_size_that_works_is_remembered():
    with (
        stub_server(limit(lambda _, seconds: seconds > 86_400, 422, LIMITS[2][1])) as stub,
        PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client,
    ):
        client.query_range("up", *LONG[0], STEP)
        stub.asked.clear()
        client.query_range("up", *LONG[0], STEP)
    assert all(asked.points <= 86_400 / STEP + 1 for asked in stub.asked)


def test_halving_ends_and_the_first_refusal_is_shown():
    with stub_server(limit(lambda *_: True, 422, "too many samples")) as stub:
        with pytest.raises(PrometheusError, match="too many samples"):
            fetch(stub, [(0.0, 9_999.0)], step=1.0)
        assert len(stub.asked) <= 15
        stub.asked.clear()
        with pytest.raises(PrometheusError):
            fetch(stub)
        assert stub.asked[0].points == 41


def test_other_refusals_are_not_halved():
    with stub_server(limit(lambda *_: True, 400, "parse error: too many arguments")) as stub:
        with pytest.raises(PrometheusError):
            fetch(stub)
        assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("kind", "reason", "remedy"),
    [
        ("timeout", "timeout", "simplify the expression"),
        ("canceled", "timeout", "simplify the expression"),
        ("execution", "execution", "raise the limit of the server"),
        ("internal", "server_error", "check the server's log"),
    ],
)
def test_an_error_with_status_200_is_a_refusal(kind, reason, remedy):
    body = json.dumps({"status": "error", "errorType": kind, "error": "it took too long"})
    error = failure(lambda _: Say(body=body))
    assert error.reason == reason
    assert f"HTTP 200 (it took too long) — {remedy}" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (401, "tenant header is missing\n", "HTTP 401 (tenant header is missing) — check"),
        (
            400,
            "Client sent an HTTP request to an HTTPS server.\n",
            "HTTP 400 (Client sent an HTTP request to an HTTPS server.) — check prometheus_url",
        ),
        (403, '{"message":"Missing Token"}', "HTTP 403 (Missing Token) — check prometheus."),
        (400, '{"error":{"code":400,"message":"no data"}}', "HTTP 400 (no data) — fix the"),
        (502, "<html>bad\ngateway</html>", "HTTP 502 (Bad Gateway) — check the server's log"),
        (500, "\x1b[31mred\x1b[0m", "HTTP 500 ([31mred [0m) — check the server's log"),
        (404, "x" * 1000, f"HTTP 404 ({'x' * 299}…) — check prometheus_url and its path"),
    ],
)
def test_the_words_of_a_refusal_are_shown_in_one_line(status, body, shown):
    assert shown in str(failure(lambda _: Say(status, body)))


# The most points per request


@pytest.mark.parametrize("most", [7, 41, 1000])
def test_no_request_asks_for_more_points_than_configured(most):
    settings = PrometheusSettings(max_points_per_request=most)
    with (
        stub_server(ONE) as stub,
        PrometheusClient(stub.url, settings, retries=0) as client,
    ):
        fetched = fetch_history(client, {"x": "up"}, PERIOD, STEP, now=NOW)
        poll = Poller(client, {"x": "up"}, STEP, 41, 120.0).poll(600.0)
    np.testing.assert_allclose(fetched.frames[0].values[0, :, 0], np.arange(41) * STEP / 7)
    assert poll.frame.samples == 41
    assert max(asked.points for asked in stub.asked) == min(most, 41)
