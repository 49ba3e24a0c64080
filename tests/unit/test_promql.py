"""The local parser helps, and the server decides."""

import pytest

from promad.config import read_config
from promad.config.promql import check_promql, find_promql_warnings, mask_strings, parse_promql

SERVERS_KNOW = [
    r'up{job=~"\\Qa.b\\E"}',
    'up{job=~"[[]x"}',
    "holt_winters(x[5m], 0.5, 0.5)",
    "1_000 * up",
    "rate(x[5m] smoothed)",
    "rate(x[5m * 2])",
    "rate(up)",
    "median_over_time(up[5m])",
    "sum(up) default 0",
    "rates(x[5m])",
    "+".join(["up"] * 20_000),
    "-" * 20_000 + "up",
    "(" * 20_000 + "up" + ")" * 20_000,
]
RAW = [r"up{job=~`web-\d+`}", r"up{host=~`.+\.example\.com`}", "up{dir=`C:\\`}", 'up{a=`"`}']


@pytest.mark.parametrize("expr", SERVERS_KNOW)
def test_what_the_parser_does_not_know_is_a_warning(expr):
    assert check_promql(expr) == expr
    (warning,) = find_promql_warnings({"queries.x": expr})
    assert warning.startswith("queries.x: unknown PromQL: ")
    assert "check-config --online" in warning


@pytest.mark.parametrize("expr", [*RAW, "up # with ' and ("])
def test_raw_strings_and_comments_are_known(expr):
    assert check_promql(expr) == expr
    assert list(find_promql_warnings({"x": expr})) == []


def test_a_raw_string_keeps_its_backslashes():
    (matcher,) = parse_promql(RAW[0]).matchers.matchers
    assert matcher.value == r"web-\d+"


@pytest.mark.parametrize(
    "expr",
    ["", " # only a comment", "sum(up", "up)", "up{", 'up{a="b}', "up{a=`b}", "(" * 20_000, "(up]"],
)  # fmt: skip
def test_what_no_dialect_allows_is_refused(expr):
    with pytest.raises(ValueError, match="fix the expression"):
        check_promql(expr)


@pytest.mark.parametrize(
    "expr",
    ["up @ end()", "up @start ( )", "rate(x[5m] @ end())", "sum(x) - sum(x @ end())",
     "range_avg(up)", "running_sum(up)", "up - end()", "topk_avg(3, up)", "keep_last_value(up)"],
)  # fmt: skip
def test_what_depends_on_the_requested_range_is_refused(expr):
    with pytest.raises(ValueError, match="depends on the requested range"):
        check_promql(expr)


@pytest.mark.parametrize(
    "expr", ['up{a="@ end()"}', "up @ 1700000000", "range_total", "topk(1, up)"]
)
def test_what_only_looks_like_it_is_not(expr):
    assert check_promql(expr) == expr


def test_strings_are_masked():
    assert mask_strings("a{b='\\'}',c=\"#\",d=`\\`} # x") == 'a{b="x",c="x",d="x"} '


def test_a_configuration_with_unknown_promql_loads():
    assert read_config("queries: {vm: rate(up)}").promql == {"vm": "rate(up)"}
