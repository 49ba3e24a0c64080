"""A poll asks only for what is new, and never makes up what it did not get."""

import numpy as np
import pytest
import structlog

from promad.config import PrometheusSettings
from promad.errors import UnreachableError
from promad.prometheus import Poller, PrometheusClient
from tests.support.prometheus_stub import Say, curves, stub_server

STEP = 15.0
AT = 900_000.0


def ramp(at):
    return at / 7


def always(labels=None):
    return [(labels or {}, ramp)]


def poller_of(stub, queries, samples=4, stale_after=120.0, **options):
    client = PrometheusClient(stub.url, PrometheusSettings(timeout="2s"), retries=0)
    return Poller(client, queries, STEP, samples, stale_after, **options)


def asked_points(stub):
    return [asked.points for asked in stub.asked]


class Changing:
    """Answers that a test swaps while the server runs."""

    def __init__(self, known):
        self.say = curves(known)

    def __call__(self, asked):
        return self.say(asked)


def test_a_frame_ends_at_the_last_multiple_of_the_step():
    with stub_server(curves({"delta(up[1m])": always()})) as stub:
        poll = poller_of(stub, {"x": "delta(up[1m])"}).poll(AT + 14.9)
    assert poll.frame.times.tolist() == [AT - 45, AT - 30, AT - 15, AT]
    np.testing.assert_array_equal(poll.frame.values[0, :, 0], poll.frame.times / 7)
    assert (poll.failures, poll.newest) == ({}, {"x": AT})


def test_later_polls_ask_for_new_steps_and_those_of_the_minute_before():
    with stub_server(curves({"delta(up[1m])": always()})) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"}, samples=20)
        for late in (0.0, 15.0, 45.0):
            poll = poller.poll(AT + late)
            np.testing.assert_array_equal(poll.frame.values[0, :, 0], poll.frame.times / 7)
            assert poll.corrected_from is None
    assert asked_points(stub) == [20, 4 + 1, 4 + 2]


def repeating(answered_at):
    """A server that repeats the last value for its newest 30 s, as VictoriaMetrics does."""
    return [({}, lambda t: min(t, answered_at - 30.0) / 7)]


def test_provisional_values_are_corrected_until_they_are_final():
    answers = Changing({"delta(up[1m])": repeating(AT)})
    with stub_server(answers) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"}, samples=20)
        for tick in range(10):
            now = AT + tick * STEP
            answers.say = curves({"delta(up[1m])": repeating(now)})
            poll = poller.poll(now)
            final = poll.frame.times <= now - 30
            values = poll.frame.values[0, :, 0]
            np.testing.assert_array_equal(values[final], poll.frame.times[final] / 7)
            assert (~final).sum() == 2
            assert poll.corrected_from == (now - 30 if tick else None)
    assert asked_points(stub) == [20] + [5] * 9


def test_a_value_that_is_gone_again_is_missing():
    answers = Changing({"delta(up[1m])": always()})
    with stub_server(answers) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"}, samples=20)
        poller.poll(AT)
        answers.say = curves({"delta(up[1m])": [({}, lambda t: ramp(t) if t < AT else None)]})
        poll = poller.poll(AT + STEP)
    assert (poll.newest, poll.corrected_from) == ({"x": AT - STEP}, AT)


def test_rounding_is_no_correction():
    answers = Changing({"delta(up[1m])": always()})
    with stub_server(answers) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"}, samples=20)
        before = poller.poll(AT).frame.values[0, 1:, 0]
        answers.say = curves({"delta(up[1m])": [({}, lambda t: ramp(t) * (1 + 1e-14))]})
        poll = poller.poll(AT + STEP)
    assert poll.corrected_from is None
    np.testing.assert_array_equal(poll.frame.values[0, :-1, 0], before)


def test_a_failure_leaves_what_was_known_before():
    answers = Changing({"delta(up[1m])": always()})
    with stub_server(answers) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"}, samples=20)
        poller.poll(AT)
        answers.say = lambda _: Say(422)
        poll = poller.poll(AT + STEP)
    assert np.isnan(poll.frame.values[0, :, 0]).tolist() == [False] * 19 + [True]
    assert poll.corrected_from is None


def test_after_a_reload_what_a_failing_query_yielded_before_is_still_known():
    answers = Changing({"delta(up[1m])": always()})
    with stub_server(answers) as stub:
        before, after = (poller_of(stub, {"x": "delta(up[1m])"}, samples=n) for n in (20, 12))
        before.poll(AT)
        answers.say = lambda _: Say(422)
        after.adopt(before)
        poll = after.poll(AT + STEP)
    assert poll.failures.keys() == {"x"}
    assert np.isnan(poll.frame.values[0, :, 0]).tolist() == [False] * 11 + [True]
    assert poll.corrected_from is None


@pytest.mark.parametrize("other", [({"x": "delta(up[2m])"}, 20), ({"x": "delta(up[1m])"}, 8)])
def test_samples_of_another_query_or_too_few_are_not_taken_over(other):
    queries, samples = other
    with stub_server(curves({"delta(up[1m])": always(), "delta(up[2m])": always()})) as stub:
        before = poller_of(stub, queries, samples)
        before.poll(AT)
        after = poller_of(stub, {"x": "delta(up[1m])"}, samples=12)
        after.adopt(before)
        after.poll(AT + STEP)
    assert asked_points(stub)[-1] == 12


def test_nothing_is_asked_twice_while_time_stands_still():
    with stub_server(curves({"delta(up[1m])": always()})) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"})
        assert poller.poll(AT) is poller.poll(AT + 14.0)
    assert len(stub.asked) == 1


def test_what_failed_is_asked_again_before_the_next_step_and_nothing_else_is():
    answers = Changing({"delta(up[1m])": always(), "rate(up[1m])": always()})
    fine = answers.say
    answers.say = lambda asked: Say(422) if "rate" in asked.form["query"] else fine(asked)
    with stub_server(answers) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])", "y": "rate(up[1m])"})
        assert list(poller.poll(AT).failures) == ["y"]
        answers.say = fine
        poll = poller.poll(AT + 1)
    assert poll.failures == {}
    np.testing.assert_array_equal(poll.frame.values[0, :, 1], poll.frame.times / 7)
    assert stub.exprs == ["delta(up[1m])", "rate(up[1m])", "rate(up[1m])"]


def test_everything_is_asked_anew_when_time_went_backwards():
    with stub_server(curves({"delta(up[1m])": always()})) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"})
        poller.poll(AT)
        poll = poller.poll(AT - 15.0)
    assert poll.frame.end == AT - 15.0
    assert asked_points(stub) == [4, 4]


def test_a_long_pause_is_no_reason_to_ask_for_more_than_the_window():
    with stub_server(curves({"delta(up[1m])": always()})) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"})
        poller.poll(AT)
        poller.poll(AT + 86400.0)
    assert asked_points(stub) == [4, 4]


def test_a_frame_handed_out_is_not_changed_by_later_polls():
    with stub_server(curves({"delta(up[1m])": always()})) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"})
        frame = poller.poll(AT).frame
        before = frame.values.copy()
        poller.poll(AT + 15.0)
    np.testing.assert_array_equal(frame.values, before)


def test_a_handed_out_frame_cannot_be_written_to():
    with stub_server(curves({"delta(up[1m])": always()})) as stub:
        frame = poller_of(stub, {"x": "delta(up[1m])"}).poll(AT).frame
    with pytest.raises(ValueError, match="read-only"):
        frame.values[0, 0, 0] = 1.0


def test_a_sample_that_comes_late_is_asked_for_again():
    answers = Changing({"delta(up[1m])": [({}, lambda t: t if t < AT else None)]})
    with stub_server(answers) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])"})
        assert poller.poll(AT).newest == {"x": AT - 15.0}
        answers.say = curves({"delta(up[1m])": [({}, lambda t: t)]})
        poll = poller.poll(AT + 15.0)
    assert poll.frame.values[0, :, 0].tolist() == [AT - 30, AT - 15, AT, AT + 15]
    assert poll.corrected_from == AT


def test_a_query_without_series_is_missing_but_no_failure():
    with stub_server(curves({"delta(up[1m])": always()})) as stub:
        poll = poller_of(stub, {"x": "delta(up[1m])", "y": "delta(gone[1m])"}).poll(AT)
    assert np.isnan(poll.frame.values[0, :, 1]).all()
    assert not np.isnan(poll.frame.values[0, :, 0]).any()
    assert (poll.failures, poll.newest) == ({}, {"x": AT, "y": None})


def test_several_series_are_a_failure_that_names_the_alias():
    two = [({"i": "a"}, ramp), ({"i": "b"}, ramp)]
    with stub_server(curves({"rate(x[1m])": two})) as stub:
        poll = poller_of(stub, {"net": "rate(x[1m])"}).poll(AT)
    assert poll.failures["net"].reason == "several_series"
    assert str(poll.failures["net"]).startswith("query net: rate(x[1m]): 2 series, expected one")
    assert np.isnan(poll.frame.values).all()


def test_an_overlap_of_series_is_a_gap_and_blinds_only_as_long_as_it_lasts():
    new, old = AT, AT + 4 * STEP
    answers = curves(
        {
            "rate(x[1m])": [
                ({"pod": "a"}, lambda t: 1.0 if t <= old else None),
                ({"pod": "b"}, lambda t: 2.0 if t >= new else None),
            ]
        }
    )
    with stub_server(answers) as stub:
        poller = poller_of(stub, {"net": "rate(x[1m])"}, samples=20)
        for at in np.arange(AT - 2 * STEP, AT + 8 * STEP, STEP).tolist():
            poll = poller.poll(at)
            overlaps = new <= at <= old
            assert list(poll.failures) == (["net"] if overlaps else [])
            assert np.isnan(poll.frame.values[0, -1, 0]) == overlaps
        anew = poller_of(stub, {"net": "rate(x[1m])"}, samples=20).poll(at)
    times = poll.frame.times
    expected = np.where(times < new, 1.0, np.where(times > old, 2.0, np.nan))
    for frame in (poll.frame, anew.frame):
        np.testing.assert_array_equal(frame.values[0, :, 0], expected)


def test_a_failed_query_leaves_its_new_steps_missing_and_the_others_alone():
    answers = Changing({"delta(up[1m])": always(), "rate(up[1m])": always()})
    with stub_server(answers) as stub:
        poller = poller_of(stub, {"x": "delta(up[1m])", "y": "rate(up[1m])"})
        poller.poll(AT)
        fine = answers.say
        answers.say = lambda asked: Say(422) if "delta" in asked.form["query"] else fine(asked)
        poll = poller.poll(AT + 15.0)
        assert list(poll.failures) == ["x"]
        assert str(poll.failures["x"]).startswith("query x: http://127.0.0.1:")
        assert np.isnan(poll.frame.values[0]).tolist() == [[False, False]] * 3 + [[True, False]]
        assert poll.newest == {"x": AT, "y": AT + 15.0}
        answers.say = fine
        poll = poller.poll(AT + 30.0)
    assert poll.failures == {}
    assert not np.isnan(poll.frame.values).any()


def test_an_unreachable_server_is_asked_once_and_fails_every_query():
    answers = Changing({q: always() for q in ("delta(a[1m])", "delta(b[1m])", "delta(c[1m])")})
    queries = {"a": "delta(a[1m])", "b": "delta(b[1m])", "c": "delta(c[1m])"}
    with stub_server(answers) as stub:
        poller = poller_of(stub, queries)
        poller.poll(AT)
        stub.asked.clear()
        answers.say, fine = lambda _: Say(hang_up=True), answers.say
        poll = poller.poll(AT + 15.0)
        assert len(stub.asked) == 1
        assert list(poll.failures) == ["a", "b", "c"]
        assert all(isinstance(error, UnreachableError) for error in poll.failures.values())
        assert str(poll.failures["a"]).startswith("query a: http")
        assert str(poll.failures["c"]) == "query c: not asked after query a failed"
        assert np.isnan(poll.frame.values[0, -1]).all()
        answers.say = fine
        poll = poller.poll(AT + 45.0)
    assert poll.failures == {}
    np.testing.assert_array_equal(poll.frame.values[0, :, 0], poll.frame.times / 7)


@pytest.mark.parametrize(("status", "reason"), [(429, "too_many_requests"), (503, "server_error")])
def test_a_busy_server_is_asked_once_in_a_poll(status, reason):
    queries = {"a": "delta(a[1m])", "b": "delta(b[1m])", "c": "delta(c[1m])"}
    with stub_server(lambda _: Say(status)) as stub:
        poll = poller_of(stub, queries).poll(AT)
    assert len(stub.asked) == 1
    assert list(poll.failures) == ["a", "b", "c"]
    assert {error.reason for error in poll.failures.values()} == {reason}
    assert str(poll.failures["a"]).startswith(f"query a: {stub.url}: delta(a[1m]): HTTP {status}")
    assert str(poll.failures["c"]) == "query c: not asked after query a failed"


def test_a_query_that_alone_is_refused_as_busy_does_not_starve_the_others():
    queries = {"a": "delta(a[1m])", "b": "delta(b[1m])", "c": "delta(c[1m])"}
    fine = curves({expr: always() for expr in queries.values()})
    with stub_server(lambda a: Say(503) if "(a" in a.form["query"] else fine(a)) as stub:
        poller = poller_of(stub, queries)
        assert list(poller.poll(AT).failures) == ["a", "b", "c"]
        for later in (15.0, 30.0, 45.0):
            poll = poller.poll(AT + later)
            assert list(poll.failures) == ["a"]
            assert not np.isnan(poll.frame.values[0, :, 1:]).any()


def test_a_timeout_of_one_query_does_not_end_the_poll():
    queries = {"a": "delta(a[1m])", "b": "delta(b[1m])"}
    body = '{"status":"error","errorType":"timeout","error":"query timed out"}'
    fine = curves({expr: always() for expr in queries.values()})
    with stub_server(lambda a: Say(503, body=body) if "(a" in a.form["query"] else fine(a)) as stub:
        assert list(poller_of(stub, queries).poll(AT).failures) == ["a"]


def test_a_partial_answer_is_a_failure_unless_allowed():
    body = (
        '{"status":"success","warnings":["store down"],"data":{"resultType":"matrix","result":[]}}'
    )
    with stub_server(lambda _: Say(body=body)) as stub:
        assert poller_of(stub, {"x": "delta(up[1m])"}).poll(AT).failures["x"].reason == "partial"
        allowing = poller_of(stub, {"x": "delta(up[1m])"}, allow_partial=True)
        assert allowing.poll(AT).failures == {}


def died_at(death):
    """A selector whose last sample was taken at `death` and is repeated ever after."""
    return {
        "up": [({"job": "a"}, lambda t: 1.0)],
        "timestamp(up)": [({"job": "a"}, lambda t: min(t, death))],
    }


def test_a_sample_that_is_merely_repeated_goes_stale():
    with stub_server(curves(died_at(AT - 60.0))) as stub:
        poll = poller_of(stub, {"x": "up"}, samples=8, stale_after=30.0).poll(AT)
    assert poll.newest == {"x": AT - 30.0}
    assert np.isnan(poll.frame.values[0, :, 0]).tolist() == [False] * 6 + [True] * 2
    assert poll.failures == {}


def test_an_offset_is_no_staleness():
    known = {
        "up offset 10m": [({}, lambda t: 1.0)],
        "timestamp(up offset 10m)": [({}, lambda t: t - 600.0)],
    }
    with stub_server(curves(known)) as stub:
        poll = poller_of(stub, {"x": "up offset 10m"}, stale_after=30.0).poll(AT)
    assert poll.newest == {"x": AT}


def ask_at_once(*queries):
    """The question for the times of several sources."""
    return " or ".join(
        f'label_replace({query}, "age_source", "{number}", "", "")'
        for number, query in enumerate(queries)
    )


def test_every_selector_that_a_value_rests_on_is_asked_for_its_timestamp_at_once():
    queries = {
        "bare": '(up{job="x"})',
        "aggregated": "sum(up) / sum(down)",
        "behind a range": "rate(up[1m])",
        "fixed in time": "up @ 0",
        "with a fallback": "up or vector(0)",
    }
    known = {expr: always() for expr in queries.values()}
    with stub_server(curves(known)) as stub:
        poller_of(stub, queries).poll(AT)
    asked = [expr for expr in stub.exprs if "timestamp" in expr]
    sources = ['timestamp(up{job="x"})', "max(timestamp(up))", "max(timestamp(down))"]
    assert asked == [ask_at_once(*sources)]


def of_sources(*curves):
    return [({"age_source": str(number)}, curve) for number, curve in enumerate(curves)]


THREE = {"a": "up", "b": "sum(down)", "c": "up offset 10m"}
ASK_THREE = ["timestamp(up)", "max(timestamp(down))", "timestamp(up offset 10m)"]


def test_only_the_query_whose_samples_are_too_old_is_missing():
    times = of_sources(lambda at: at, lambda at: min(at, AT - 60), lambda at: at - 600)
    known = {expr: always() for expr in THREE.values()} | {ask_at_once(*ASK_THREE): times}
    with stub_server(curves(known)) as stub:
        poll = poller_of(stub, THREE, samples=8, stale_after=30.0).poll(AT)
    assert poll.newest == {"a": AT, "b": AT - 30, "c": AT}
    assert len(stub.asked) == 4


def test_only_the_query_whose_samples_are_of_unknown_age_is_missing():
    known = {expr: always() for expr in THREE.values()}
    known[ask_at_once(*ASK_THREE)] = of_sources(lambda at: at, lambda _: None, lambda at: at - 600)
    with stub_server(curves(known)) as stub:
        poll = poller_of(stub, THREE).poll(AT)
    assert poll.newest == {"a": AT, "b": None, "c": AT}
    assert poll.failures == {}


def test_the_newest_of_several_series_of_a_source_counts():
    late = ({"age_source": "0", "pod": "x"}, lambda at: at - 99)
    new, old = of_sources(lambda at: at, lambda at: at / 7)
    known = {"up": always(), "down": always()}
    known[ask_at_once("timestamp(up)", "timestamp(down)")] = [new, late, old]
    with stub_server(curves(known)) as stub:
        poll = poller_of(stub, {"a": "up", "b": "down"}, stale_after=30.0).poll(AT)
    assert poll.newest == {"a": AT, "b": None}


@pytest.mark.parametrize("refused", [("label_replace",), ("label_replace", "(down)")])
def test_a_server_that_refuses_to_tell_all_times_at_once_is_asked_one_by_one(refused):
    times = {"timestamp(up)": [({}, lambda at: min(at, AT - 60))]}
    known = {"up": always(), "sum(down)": always()} | times
    known["max(timestamp(down))"] = [({}, lambda at: at)]
    fine = curves(known)

    def answer(asked):
        expr = asked.form["query"]
        return Say(422) if "time" in expr and any(part in expr for part in refused) else fine(asked)

    with stub_server(answer) as stub, structlog.testing.capture_logs() as logs:
        poller = poller_of(stub, {"a": "up", "b": "sum(down)"}, samples=8, stale_after=30.0)
        for late in (0.0, 15.0):
            poll = poller.poll(AT + late)
            assert poll.newest == {"a": AT - 30, "b": AT + late}
    assert poll.failures == {}
    assert [line["query"] for line in logs] == ["b"] * (len(refused) - 1)
    one_by_one = ["timestamp(up)", "max(timestamp(down))"][: 3 - len(refused)]
    assert stub.exprs[-2 - len(one_by_one) :] == ["up", "sum(down)", *one_by_one]


@pytest.mark.parametrize(
    "refusal",
    [
        Say(414, "URI too long"),
        Say(413, "too large"),
        Say(503, '{"status":"error","errorType":"timeout","error":"query timed out"}'),
        Say(
            body='{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["x"]}'
        ),
    ],
    ids=["URI", "form", "time", "warning"],
)
def test_a_question_for_all_times_that_is_too_much_is_asked_one_by_one(refusal):
    times = {f"timestamp({name})": [({}, lambda at: at)] for name in ("up", "down")}
    fine = curves({"up": always(), "down": always()} | times)
    with stub_server(lambda a: refusal if "replace" in a.form["query"] else fine(a)) as stub:
        poll = poller_of(stub, {"a": "up", "b": "down"}).poll(AT)
    assert poll.newest == {"a": AT, "b": AT}


def test_a_question_for_all_times_that_fails_fails_the_queries_that_rest_on_samples():
    queries = {"a": "up", "b": "sum(down)", "c": "rate(up[1m])"}
    fine = curves({expr: always() for expr in queries.values()})
    with stub_server(lambda a: Say(500) if "timestamp" in a.form["query"] else fine(a)) as stub:
        poll = poller_of(stub, queries).poll(AT)
    assert list(poll.failures) == ["a", "b"]
    error = str(poll.failures["b"])
    assert error.startswith(f"query b: {stub.url}: age of the samples of all queries: HTTP 500")
    assert poll.newest == {"a": None, "b": None, "c": AT}


def test_an_aggregate_of_a_series_that_is_merely_repeated_is_missing():
    known = {"sum(up)": always(), "max(timestamp(up))": [({}, lambda at: min(at, AT - 30))]}
    with stub_server(curves(known)) as stub:
        poll = poller_of(stub, {"x": "sum(up)"}, samples=6, stale_after=20.0).poll(AT + 15)
    fresh = poll.frame.times <= AT - 15
    assert np.isnan(poll.frame.values[0, :, 0]).tolist() == (~fresh).tolist()


def test_values_of_unknown_age_are_missing():
    with stub_server(curves({"up": always()})) as stub:
        poll = poller_of(stub, {"x": "up"}).poll(AT)
    assert np.isnan(poll.frame.values).all()


def test_a_failed_timestamp_fails_the_query():
    fine = curves({"up": always()})
    with stub_server(lambda a: Say(503) if "timestamp" in a.form["query"] else fine(a)) as stub:
        poll = poller_of(stub, {"x": "up"}).poll(AT)
    assert list(poll.failures) == ["x"]
    assert np.isnan(poll.frame.values).all()


def test_steps_below_a_second_stay_on_the_grid():
    with stub_server(curves({"delta(up[1m])": always()})) as stub:
        client = PrometheusClient(stub.url, PrometheusSettings(), retries=0)
        poller = Poller(client, {"x": "delta(up[1m])"}, 0.1, 700, 1.0)
        for tick in range(20):
            poll = poller.poll(1000.0 + tick * 0.1)
            assert poll.failures == {}
            np.testing.assert_allclose(poll.frame.values[0, :, 0], poll.frame.times / 7)
    assert asked_points(stub) == [700] + [601] * 19


def test_times_of_samples_are_asked_for_in_pieces_of_two_hours():
    known = {"sum(up)": always(), "max(timestamp(up))": [({}, lambda at: at)]}
    with stub_server(curves(known)) as stub:
        poll = poller_of(stub, {"x": "sum(up)"}, samples=1500).poll(AT)
    np.testing.assert_array_equal(poll.frame.values[0, :, 0], poll.frame.times / 7)
    assert asked_points(stub) == [1500, 480, 480, 480, 60]


UNNAMED = [
    'count({job="x"})',
    'sum({__name__=~"a|b"})',
    'sum({a="b" or c="d"})',
    "rate(up)",
]


@pytest.mark.parametrize("expr", UNNAMED)
def test_an_age_that_cannot_be_asked_for_is_left_out_and_logged_once(expr):
    with structlog.testing.capture_logs() as logs, stub_server(curves({expr: always()})) as stub:
        poller = poller_of(stub, {"x": expr})
        for late in (0.0, 15.0):
            poll = poller.poll(AT + late)
    assert not np.isnan(poll.frame.values).any()
    assert stub.exprs == [expr, expr]
    assert [(line["event"], line["query"]) for line in logs] == [
        ("age of samples not checked", "x")
    ]


def test_the_labels_of_info_are_no_selector():
    expr = 'sum(info(rate(x_total[5m]), {__name__="target_info", k8s=~".+"}))'
    with structlog.testing.capture_logs() as logs, stub_server(curves({expr: always()})) as stub:
        poller_of(stub, {"x": expr}).poll(AT)
    assert (stub.exprs, logs) == ([expr], [])


def test_a_quoted_metric_name_is_a_name():
    known = {
        'sum({"my.metric"})': always(),
        'max(timestamp({__name__="my.metric"}))': [({}, lambda at: at)],
    }
    with stub_server(curves(known)) as stub:
        poll = poller_of(stub, {"x": 'sum({"my.metric"})'}).poll(AT)
    assert not np.isnan(poll.frame.values).any()


def test_a_question_of_promads_own_that_the_server_refuses_is_left_out():
    fine = curves({"sum(up)": always()})
    with (
        structlog.testing.capture_logs() as logs,
        stub_server(lambda a: Say(422) if "timestamp" in a.form["query"] else fine(a)) as stub,
    ):
        poller = poller_of(stub, {"x": "sum(up)"})
        for late in (0.0, 15.0):
            poll = poller.poll(AT + late)
    assert poll.failures == {}
    assert not np.isnan(poll.frame.values).any()
    assert stub.exprs == ["sum(up)", "max(timestamp(up))", "sum(up)"]
    assert len(logs) == 1


def test_a_question_that_was_accepted_before_is_not_left_out():
    known = {"sum(up)": always(), "max(timestamp(up))": [({}, lambda at: at)]}
    answers = Changing(known)
    with stub_server(answers) as stub:
        poller = poller_of(stub, {"x": "sum(up)"})
        fine = answers.say
        poller.poll(AT)
        answers.say = lambda asked: Say(422) if "time" in asked.form["query"] else fine(asked)
        poll = poller.poll(AT + 15.0)
        assert list(poll.failures) == ["x"]
        assert np.isnan(poll.frame.values[0, -1, 0])
        answers.say = fine
        assert poller.poll(AT + 30.0).failures == {}


def test_no_error_names_a_question_that_nobody_wrote():
    fine = curves({"sum(up)": always()})
    with stub_server(lambda a: Say(503) if "timestamp" in a.form["query"] else fine(a)) as stub:
        error = str(poller_of(stub, {"x": "sum(up)"}).poll(AT).failures["x"])
    assert error.startswith(f"query x: {stub.url}: age of the samples of sum(up): HTTP 503")
