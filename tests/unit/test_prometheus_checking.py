"""check-config --online looks at every query once and never trips over one."""

import math

from promad.config import PrometheusSettings
from promad.prometheus import PrometheusClient, inspect_queries
from tests.support.prometheus_stub import Say, curves, stub_server

AT = 900_007.0


def inspect(answering, queries, step=30.0):
    settings = PrometheusSettings()
    with stub_server(answering) as stub, PrometheusClient(stub.url, settings, retries=0) as client:
        return inspect_queries(client, queries, step, AT), stub


def test_a_healthy_query_has_no_problem():
    known = {"sum(up)": [({}, lambda t: 1.0 if t > 898_000 else None)]}
    ((check,), _) = inspect(curves(known), {"x": "sum(up)"})
    assert (check.alias, check.expr, check.series, check.problem) == ("x", "sum(up)", 1, None)
    assert (check.points, check.points_possible) == (67, 121)
    assert check.newest_age_seconds == 7.0


def test_the_age_of_a_selector_is_that_of_its_scrape():
    known = curves({"up": [({}, lambda t: 1.0)]})

    def answering(asked):
        if asked.form["query"].startswith("timestamp"):
            value = '[900000,"899980.5"]'
            data = f'{{"resultType":"vector","result":[{{"metric":{{}},"value":{value}}}]}}'
            return Say(body=f'{{"status":"success","data":{data}}}')
        return known(asked)

    ((check,), _) = inspect(answering, {"x": "up"})
    assert check.newest_age_seconds == 26.5


def test_every_mistake_is_told_and_none_hides_the_next():
    known = curves(
        {
            "sum(old)": [({}, lambda t: 1.0 if t < 899_000 else None)],
            "sum(nan)": [({}, lambda t: math.nan)],
            "rate(two[1m])": [({"i": "a"}, lambda t: 1.0), ({"i": "b"}, lambda t: 1.0)],
            "sum(fine)": [({}, lambda t: 1.0)],
        }
    )
    queries = {
        "bad": "sum(bad)",
        "none": "sum(none)",
        "old": "sum(old)",
        "nan": "sum(nan)",
        "two": "rate(two[1m])",
        "fine": "sum(fine)",
    }
    checks, stub = inspect(lambda a: Say(422) if "bad" in a.form["query"] else known(a), queries)
    assert [check.series for check in checks] == [None, 0, 1, 1, 2, 1]
    assert [check.points for check in checks] == [0, 0, 87, 0, 121, 121]
    problems = [str(check.problem) for check in checks]
    assert problems[0].startswith(f"query bad: {stub.url}: sum(bad): HTTP 422")
    assert problems[1].startswith("query none: sum(none): no series in the requested period")
    assert problems[2] == (
        "query old: sum(old): the newest sample is 17m7s old — "
        "check that its target is still scraped"
    )
    assert problems[3].startswith("query nan: sum(nan): all values are NaN or infinite")
    assert problems[4].startswith("query two: rate(two[1m]): 2 series, expected one")
    assert checks[5].problem is None


def test_an_unreachable_server_is_asked_once():
    checks, stub = inspect([Say(hang_up=True)] * 9, {"a": "sum(a)", "b": "sum(b)"})
    assert len(stub.asked) == 1
    assert [check.series for check in checks] == [None, None]
    assert checks[0].problem.startswith("query a: http")
    assert checks[1].problem == "query b: not asked after query a failed"


def test_a_tiny_step_looks_back_less_than_an_hour():
    ((check,), stub) = inspect(curves({"sum(up)": [({}, lambda t: 1.0)]}), {"x": "sum(up)"}, 0.1)
    assert stub.asked[0].points == check.points_possible == 10_000


def test_an_age_that_the_server_cannot_report_is_no_problem():
    fine = curves({"up": [({}, lambda t: 1.0)]})
    ((check,), _) = inspect(
        lambda a: Say(422) if "timestamp" in a.form["query"] else fine(a), {"x": "up"}
    )
    assert check.problem is None
    assert check.newest_age_seconds == 7.0


def test_a_series_replaced_by_another_is_no_problem_once_the_overlap_is_over():
    def replaced_at(at):
        pods = {
            "a": lambda t: 1.0 if t < at + 300 else None,
            "b": lambda t: 2.0 if t >= at else None,
        }
        return [({"pod": pod}, curve) for pod, curve in pods.items()]

    known = {"rate(x[1m])": replaced_at(AT - 1800), "rate(y[1m])": replaced_at(AT - 120)}
    (done, going_on), _ = inspect(curves(known), {"x": "rate(x[1m])", "y": "rate(y[1m])"})
    assert (done.series, done.problem) == (2, None)
    assert "2 series, expected one" in (going_on.problem or "")
