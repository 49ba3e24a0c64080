"""History comes on the full grid, in few requests, or not at all with a line that says why."""

import math
import threading
import time

import numpy as np
import pytest
import structlog

from promad.config import PrometheusSettings
from promad.errors import DataError, PrometheusError, UnreachableError
from promad.prometheus import PrometheusClient, fetch_history, history
from tests.support.prometheus_stub import Say, curves, matrix, stub_server

DAY = 86400.0
NOW = 1_000 * DAY
UP = {"up": "up"}


def ramp(at):
    return at / 7


ONE = curves({"up": [({"job": "a"}, ramp)]})


def fetch(stub, queries, periods, step=15.0, **options):
    with PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client:
        return fetch_history(client, queries, periods, step, now=NOW, **options)


def failure(answering, queries=UP, periods=((0.0, 600.0),), **options):
    with stub_server(answering) as stub, pytest.raises(PrometheusError) as caught:
        fetch(stub, queries, periods, **options)
    return caught.value


def test_times_lie_on_absolute_multiples_of_the_step_within_the_period():
    with stub_server(ONE) as stub:
        done = fetch(stub, UP, [(1.0, 61.0)])
    (frame,) = done.frames
    assert frame.times.tolist() == [15.0, 30.0, 45.0, 60.0]
    np.testing.assert_array_equal(frame.values[0, :, 0], frame.times / 7)
    assert (stub.asked[0].form["start"], stub.asked[0].form["end"]) == ("15", "60")
    assert (done.requests, done.points, done.chunks_from_cache) == (1, 4, 0)


def test_no_request_asks_for_more_than_ten_thousand_points():
    with stub_server(ONE) as stub:
        (frame,) = fetch(stub, UP, [(0.0, 24_999.0)], step=1.0).frames
    assert sorted(asked.points for asked in stub.asked) == [5_000, 10_000, 10_000]
    np.testing.assert_array_equal(frame.values[0, :, 0], frame.times / 7)


def test_steps_below_a_second_keep_their_times():
    with stub_server(ONE) as stub:
        (frame,) = fetch(stub, UP, [(1000.0, 1001.0)], step=0.1).frames
    assert frame.samples == 11
    np.testing.assert_allclose(frame.values[0, :, 0], frame.times / 7, rtol=1e-12)


def test_periods_that_overlap_or_touch_become_one_frame():
    periods = [(600.0, 900.0), (0.0, 300.0), (315.0, 400.0), (350.0, 450.0)]
    with stub_server(ONE) as stub:
        frames = fetch(stub, UP, periods).frames
    assert [(frame.start, frame.end) for frame in frames] == [(0.0, 450.0), (600.0, 900.0)]


def test_features_keep_the_order_of_the_queries():
    known = {"b": [({}, lambda t: 2.0)], "a": [({}, lambda t: 1.0)]}
    with stub_server(curves(known)) as stub:
        (frame,) = fetch(stub, {"second": "b", "first": "a"}, [(0.0, 30.0)]).frames
    assert frame.features == ("second", "first")
    assert frame.values[0].tolist() == [[2.0, 1.0]] * 3


def test_what_the_server_lacks_is_missing_and_so_is_what_is_not_finite():
    odd = {15.0: math.inf, 30.0: -math.inf, 45.0: math.nan, 60.0: None}
    with stub_server(curves({"up": [({}, lambda t: odd.get(t, t))]})) as stub:
        (frame,) = fetch(stub, UP, [(0.0, 75.0)]).frames
    np.testing.assert_array_equal(frame.values[0, :, 0], [0.0, *[np.nan] * 4, 75.0])


def test_two_downloads_run_at_once_and_never_three():
    barrier = threading.Barrier(2)

    def in_pairs(asked):
        barrier.wait(5)  # each waits for another to be there at the same time
        return ONE(asked)

    with stub_server(in_pairs) as stub:
        fetch(stub, UP, [(0.0, 59_999.0)], step=1.0)
    assert stub.most_at_once == 2


def test_downloads_run_only_a_little_ahead_of_parsing(monkeypatch):
    most = []
    take = history._take

    def slow(*arguments):
        time.sleep(0.05)
        most.append(len(stub.asked) - len(most))
        return take(*arguments)

    monkeypatch.setattr(history, "_take", slow)
    with stub_server(ONE) as stub:
        fetch(stub, UP, [(0.0, 199_999.0)], step=1.0)
    assert len(most) == 20
    assert max(most) <= history._AHEAD + 1


def test_progress_counts_the_requests():
    seen = []
    with stub_server(curves({"a": [({}, ramp)], "b": [({}, ramp)]})) as stub:
        fetch(stub, {"x": "a", "y": "b"}, [(0.0, 60.0)], progress=lambda *p: seen.append(p))
    assert seen == [(1, 2, "x"), (2, 2, "y")]


def test_a_query_without_any_series_is_an_error_that_names_it():
    error = failure(curves({}), {"cpu": "node_cpu"})
    assert error.reason == "no_series"
    assert str(error) == (
        "query cpu: node_cpu: no series in the requested period — "
        "check the metric's name and labels, and that it is scraped"
    )


def test_a_query_that_has_data_in_one_of_two_periods_will_do():
    late = curves({"up": [({}, lambda t: t if t >= 600 else None)]})
    with stub_server(late) as stub:
        first, second = fetch(stub, UP, [(0.0, 300.0), (600.0, 900.0)]).frames
    assert np.isnan(first.values).all()
    assert not np.isnan(second.values).any()


def test_several_series_are_an_error_that_shows_five_of_them_and_a_way_out():
    seven = curves({"up": [({"__name__": "up", "i": str(i)}, ramp) for i in range(7)]})
    assert str(failure(seven, {"alive": "up"})) == (
        'query alive: up: 7 series, expected one: up{i="0"}, up{i="1"}, up{i="2"}, '
        'up{i="3"}, up{i="4"} and 2 more — aggregate with sum(up) or avg(up), '
        "or add label matchers"
    )


def restarted(overlap, at=9000.0):
    """A series whose pod is replaced, while the old one is repeated for `overlap` seconds."""
    return curves(
        {
            "up": [
                ({"pod": "a"}, lambda t: 1.0 if t < at + overlap else None),
                ({"pod": "b"}, lambda t: 2.0 if t >= at else None),
            ]
        }
    )


@pytest.mark.parametrize("periods", [[(0.0, 19_999.0)], [(0.0, 4999.0), (15_000.0, 19_999.0)]])
def test_series_that_follow_one_another_are_one(periods):
    with structlog.testing.capture_logs() as logs, stub_server(restarted(0)) as stub:
        frames = fetch(stub, UP, periods, step=1.0).frames
    for frame in frames:
        expected = np.where(frame.times < 9000, 1.0, 2.0)
        np.testing.assert_array_equal(frame.values[0, :, 0], expected)
    assert [(line["event"], line["query"], line["series"]) for line in logs] == [
        ("series joined", "up", 2)
    ]


def test_samples_are_missing_while_series_overlap():
    with structlog.testing.capture_logs() as logs, stub_server(restarted(300)) as stub:
        (frame,) = fetch(stub, UP, [(0.0, 19_999.0)], step=1.0).frames
    missing = (frame.times >= 9000) & (frame.times < 9300)
    np.testing.assert_array_equal(np.isnan(frame.values[0, :, 0]), missing)
    assert (logs[0]["event"], logs[0]["samples"]) == ("series overlap; samples missing", 300)


def test_series_that_overlap_at_more_than_a_tenth_of_the_samples_are_refused():
    error = failure(restarted(2100), periods=[(0.0, 19_999.0)], step=1.0)
    assert error.reason == "several_series"
    assert '2 series, expected one: {pod="a"}, {pod="b"} — aggregate' in str(error)
    late = curves({"up": [({"n": n}, lambda t: 1.0 if t >= 18_000 else None) for n in "ab"]})
    assert failure(late, periods=[(0.0, 19_999.0)], step=1.0).reason == "several_series"


def test_warnings_fail_unless_partial_answers_are_allowed():
    partial = Say(body=matrix({(): [(0.0, 1.0)]}, ["store x is down"]))
    error = failure(lambda _: partial)
    assert error.reason == "partial"
    assert "query up: up: warning from the server: store x is down — " in str(error)
    with stub_server([partial]) as stub:
        fetch(stub, UP, [(0.0, 0.0)], allow_partial=True)


def test_one_failed_query_fails_all_names_itself_and_ends_the_other_download():
    def answering(asked):
        if asked.form["query"] == "bad":
            return Say(422, '{"status":"error","errorType":"execution","error":"too deep"}')
        return curves({asked.form["query"]: [({}, ramp)]})(asked)

    queries = {"fine": "up", "broken": "bad"} | {f"q{i}": f"m{i}" for i in range(30)}
    with stub_server(answering) as stub:
        with pytest.raises(PrometheusError, match=r"^query broken: http.*too deep") as caught:
            fetch(stub, queries, [(0.0, 600.0)])
        time.sleep(0.1)
        assert len(stub.asked) <= 2 + history._AHEAD + 1
    assert caught.value.reason == "execution"
    assert not [t for t in threading.enumerate() if t.name.startswith("download")]


def test_an_unreachable_server_stays_told_apart():
    error = failure([Say(hang_up=True)] * 5)
    assert isinstance(error, UnreachableError)
    assert str(error).startswith("query up: http://127.0.0.1:")


def test_samples_at_times_that_were_not_asked_for_are_refused():
    stray = Say(body=matrix({(): [(0.0, 1.0), (7.0, 2.0)]}))
    assert "unexpected sample at 7.000" in str(failure(lambda _: stray))


def test_milliseconds_off_are_rounding():
    with stub_server([Say(body=matrix({(): [(0.001, 1.0), (14.999, 2.0)]}))]) as stub:
        (frame,) = fetch(stub, UP, [(0.0, 15.0)]).frames
    assert frame.values[0, :, 0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("periods", [[], [(1.0, 14.0)]])
def test_periods_without_a_sample_are_refused(periods):
    with stub_server([]) as stub, pytest.raises(DataError, match=r"multiple of the step \(15 s\)"):
        fetch(stub, UP, periods)
