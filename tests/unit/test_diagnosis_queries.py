"""What `promad doctor` finds in queries: the PromQL, and how often its metrics are scraped."""

from pathlib import Path

import pytest

from promad.config.selectors import Selection, list_selections
from promad.diagnosis.checks import CHECKS
from promad.diagnosis.evidence import Queries
from promad.diagnosis.findings import Finding

NAME = "queries.a"


def find(check, expr, step=30.0, **known):
    queries = Queries(Path("config.yaml"), {"a": expr}, step, **known)
    return list(CHECKS[check].find(queries))


def warn(found, remedy, subject=NAME):
    return [Finding("warning", subject, found, remedy)]


# What an expression selects


def test_each_selector_has_its_function_and_its_range():
    found = list_selections('sum(rate(a_total{x="1"}[5m])) / max_over_time(b[1h]) + c')
    assert found == [
        Selection("a_total", 'a_total{x="1"}', "rate", 300.0),
        Selection("b", "b", "max_over_time", 3600.0),
        Selection("c", "c"),
    ]


def test_modifiers_are_read_and_left_out_of_the_selector():
    (found,) = list_selections('a{x=" offset 5m"} @ 1700000000 offset -5m')
    assert found == Selection("a", 'a{x=" offset 5m"}', offset=-300.0, is_fixed=True)


def test_a_subquery_gives_its_range_and_its_offset_to_what_is_in_it():
    (found,) = list_selections("rate(a[10m:1m] offset 1h)")
    assert found == Selection("a", "a", "rate", 600.0, 3600.0, is_subquery=True)


def test_a_range_in_a_subquery_is_its_own():
    (found,) = list_selections("max_over_time(rate(a[1m])[1h:])")
    assert (found.function, found.range_seconds, found.is_subquery) == ("rate", 60.0, False)


def test_a_name_may_be_a_matcher_and_unknown_promql_selects_nothing():
    assert [each.metric for each in list_selections('{__name__="up"} + {job="x"}')] == ["up", ""]
    assert list_selections("a{") == []


# Counters and gauges


@pytest.mark.parametrize("name", ["e_total", "e_seconds_sum", "e_bytes_count", "e_bucket"])
def test_a_counter_that_is_used_as_it_is_is_found_by_its_name(name):
    assert find("counter_without_rate", f"sum({name})") == warn(
        f"{name} looks like a counter, which only rises and resets", f"use rate({name}[…])"
    )
    assert find("counter_without_rate", f"sum(rate({name}[5m]))") == []


def test_the_types_of_the_server_count_more_than_names():
    assert find("counter_without_rate", "seen", types={"seen": "counter"}) == warn(
        "seen is a counter, which only rises and resets", "use rate(seen[…])"
    )
    assert find("counter_without_rate", "pods_count", types={"pods_count": "gauge"}) == []


def test_a_gauge_through_rate_is_found_by_its_type():
    both = "rate(load[5m]) + rate(load[5m])"
    assert find("gauge_through_rate", both, types={"load": "gauge"}) == warn(
        "rate() of load, which is a gauge by the metadata of the server: each time it falls "
        "counts as a reset",
        "use delta() or deriv() for its change, or load itself",
    )
    assert find("gauge_through_rate", "deriv(load[5m])", types={"load": "gauge"}) == []
    assert find("gauge_through_rate", "rate(load[5m])", types={"load": "counter"}) == []
    assert find("gauge_through_rate", "rate(load[5m])") == []


# Ranges and steps


def test_a_range_is_compared_with_the_step_where_scrapes_are_not_known():
    assert find("short_range", "rate(a_total[1m])") == warn(
        "rate() over 1m, less than 4 times step (30s): a missed scrape leaves a gap",
        "use [2m], or run promad doctor --online, which looks at the scrape interval",
    )
    assert find("short_range", "rate(a_total[2m])") == []


@pytest.mark.parametrize("expr", ["rate(a[1m:5s])", "max_over_time(a[30s])", "irate(a[1m])"])
def test_other_functions_and_subqueries_may_have_short_ranges(expr):
    assert find("short_range", expr) == []


def test_a_range_is_compared_with_the_slowest_job():
    intervals = {"a_total": {"fast": 10.0, "slow": 59.0}}
    assert find("short_range", "increase(a_total[3m])", intervals=intervals) == warn(
        'increase() over 3m, less than 4 times the scrape interval of job "slow" (1m): a missed '
        "scrape leaves a gap",
        "use [4m]",
    )
    assert find("short_range", "increase(a_total[4m])", intervals=intervals) == []


def test_a_selector_that_is_not_measured_is_not_judged():
    assert find("short_range", "rate(a_total[10s])", intervals={"a_total": {}}) == []


def test_a_step_below_the_scrape_interval_is_one_finding_with_its_queries():
    queries = Queries(
        Path("config.yaml"),
        {"a": "a", "b": "sum(b offset 5m)", "c": "c"},
        30.0,
        intervals={"a": {"slow": 61.0}, "b": {"slow": 59.0}, "c": {"": 30.0}},
    )
    assert list(CHECKS["step_below_scrape_interval"].find(queries)) == warn(
        '30s is below the scrape interval of job "slow" (1m), so samples of a, b repeat',
        "set it to 1m, and query_interval_seconds alike",
        "data_settings.step",
    )


def test_counting_samples_tells_an_interval_only_about():
    slightly = {"a": {"j": 600 / 19}}
    assert find("step_below_scrape_interval", "a", intervals=slightly) == []
    assert find("short_range", "rate(a[2m])", intervals=slightly) == []


# Other times, and what check-config finds too


def test_offset_and_at_are_found():
    assert find("time_shift", "a / a offset 1d") == warn(
        "offset 1d: an incident shows up again 1d later, as an anomaly",
        "remove offset; for daily or weekly patterns set preprocessing_settings.time_features",
    )
    assert find("time_shift", "rate(a[5m] offset -1m)") == warn(
        "offset -1m looks ahead, where there are no samples yet", "remove offset"
    )
    assert find("time_shift", "a @ 1700000000") == warn(
        "@ fixes the time of a, which never changes then", "remove @"
    )
    assert find("time_shift", "a / b") == []


def test_unknown_promql_is_left_to_the_server_where_it_is_asked():
    (found,) = find("unknown_promql", "quantiles(a[5m])")
    assert found.subject == NAME
    assert found.found.startswith("unknown PromQL: ")
    assert found.remedy == "run promad check-config --online to have the server check it"
    assert find("unknown_promql", "quantiles(a[5m])", intervals={}) == []
    assert find("unknown_promql", "rate(a[5m])") == []


def test_text_that_is_lost_to_a_comment_is_found(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("queries:\n  a: >-\n    up # half\n    / up\n")
    (found,) = CHECKS["lost_text"].find(Queries(path, {"a": "up # half / up"}, 30.0))
    assert found == Finding(
        "error",
        f"{path}:3",
        "queries.a: YAML joins these lines, so # hides the rest of the expression",
        "write | in place of >, or move the comment above the key",
    )
    path.write_text("queries:\n  a: up / up\n")
    assert list(CHECKS["lost_text"].find(Queries(path, {"a": "up / up"}, 30.0))) == []
