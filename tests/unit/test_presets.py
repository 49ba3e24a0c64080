"""The presets are complete and plausible, and what is made of them fits a scrape interval."""

import re
from itertools import product
from typing import get_args

import promql_parser
import pytest

from promad.cli.commands.init import PresetChoice
from promad.config import Config, read_config
from promad.config.promql import parse_promql
from promad.config.shipped import read_shipped_config
from promad.config.warnings import find_raw_counters
from promad.presets import PRESETS, Draft, choose_timing, load_preset, render_config
from promad.presets.selection import find_unfit
from promad.prometheus.groups.checking import GroupCheck
from promad.prometheus.groups.past import Past

QUERIES = [(name, alias) for name in PRESETS for alias in load_preset(name).queries]
DAY = 86400.0
HOUR = 3600.0


def metric_names(node):
    """Every metric name in a syntax tree."""
    match type(node).__name__:
        case "VectorSelector":
            return {node.name}
        case "MatrixSelector":
            return {node.vector_selector.name}
        case "Call":
            return set().union(*map(metric_names, node.args))
        case "BinaryExpr":
            return metric_names(node.lhs) | metric_names(node.rhs)
        case "NumberLiteral":
            return set()
        case _:
            return metric_names(node.expr)


@pytest.mark.parametrize(("name", "alias"), QUERIES)
def test_a_query_is_valid_and_names_the_metrics_that_it_needs(name, alias):
    preset = load_preset(name)
    query = preset.queries[alias]
    tree = parse_promql(query.fill(preset.group_by, 240.0))
    needed = {each for metric in query.metrics for each in metric.split("|")}
    assert metric_names(tree) == needed
    assert query.meaning.endswith(".")
    assert not query.list_missing(needed)
    assert query.list_missing(()) == list(query.metrics)


@pytest.mark.parametrize(("name", "alias"), QUERIES)
def test_a_query_returns_one_series_per_group_for_any_labels(name, alias):
    query = load_preset(name).queries[alias]
    for by in (("instance", "job"), ()):
        expr = query.fill(by, 240.0)
        assert f"by ({', '.join(by)}) (" in expr
        tree = parse_promql(expr)
        while isinstance(tree, promql_parser.BinaryExpr):
            tree = tree.rhs if isinstance(tree.lhs, promql_parser.NumberLiteral) else tree.lhs
        assert isinstance(tree, promql_parser.AggregateExpr)


@pytest.mark.parametrize("name", PRESETS)
def test_counters_go_through_a_rate_over_the_window(name):
    preset = load_preset(name)
    exprs = {alias: query.fill(("instance",), 240.0) for alias, query in preset.queries.items()}
    assert list(find_raw_counters(Config.model_validate({"queries": exprs}))) == []
    for query in preset.queries.values():
        ranges = re.findall(r"\[(.*?)\]", query.expr)
        assert set(ranges) <= {"$window"}
        assert query.expr.count("rate(") == len(ranges)


def test_every_preset_can_be_chosen():
    assert get_args(PresetChoice) == ("auto", *PRESETS)


def test_the_node_preset_has_the_queries_of_the_shipped_configuration():
    shipped = read_config(read_shipped_config()).queries
    preset = load_preset("node").queries
    assert shipped.keys() <= preset.keys()
    for alias, query in shipped.items():
        assert preset[alias].fill(["instance"], 120.0) == query.expr


def test_the_windows_preset_has_what_the_original_system_monitored():
    queries = load_preset("windows").queries.values()
    assert {
        *("windows_cpu_time_total", "windows_os_virtual_memory_free_bytes"),
        *("windows_system_threads", "windows_net_bytes_received_total"),
        *("nvidia_smi_utilization_memory_ratio", "nvidia_smi_utilization_gpu_ratio"),
        *("nvidia_smi_temperature_gpu", "nvidia_smi_power_draw_watts"),
        "nvidia_smi_fan_speed_ratio",
    } < {metric for query in queries for metric in query.metrics}


# Times


@pytest.mark.parametrize("interval", [1, 5, 10, 15, 30, 45, 60, 90, 120, 180, 300, 600, 3600])
def test_times_fit_any_scrape_interval(interval):
    timing = choose_timing(float(interval), 30 * DAY, 20)
    assert timing.window >= 4 * interval
    assert interval <= timing.step <= max(30, 2 * interval)
    assert DAY % timing.step == 0
    assert (timing.stale_after or 120) >= min(2 * interval, 120)
    assert (timing.stale_after or 120) > interval


@pytest.mark.parametrize(
    ("history", "hours", "wait"),
    [
        (30 * DAY, 168, 0), (2.55 * DAY, 61, 0), (5 * HOUR, 5, 0), (2.57 * HOUR, 2.5, 0),
        (HOUR, 2.5, 90 * 60), (0, 2.5, 150 * 60),
    ],
)  # fmt: skip
def test_the_period_is_as_long_as_the_history_or_as_training_needs(history, hours, wait):
    timing = choose_timing(15.0, history, 20)
    assert (timing.hours, timing.wait) == (hours, wait)


# The file


def draft_of(name, **changes):
    preset = load_preset(name)
    timing = choose_timing(15.0, 30 * DAY, 20)
    given = {
        "url": "http://prometheus:9090", "http_config": {}, "group_by": preset.group_by,
        "timing": timing,
    }  # fmt: skip
    return Draft(name, preset, **{**given, **changes})


@pytest.mark.parametrize(
    ("name", "by", "interval"),
    list(product(PRESETS, [("instance",), (), ("namespace", "pod")], [15.0, 300.0])),
)
def test_what_is_written_is_read_back(name, by, interval):
    timing = choose_timing(interval, DAY, 20)
    draft = draft_of(name, group_by=by, timing=timing)
    text = render_config(draft)
    config = read_config(text)
    assert max(map(len, text.splitlines())) <= 100
    assert (config.name, config.group_by) == (name, by)
    assert config.prometheus_url == "http://prometheus:9090"
    for alias, query in load_preset(name).queries.items():
        assert config.queries[alias].expr == query.fill(by, timing.window)
        assert config.queries[alias].valid_range == query.valid_range
        assert config.queries[alias].direction == query.direction
    assert config.data_settings.step == timing.step
    assert config.data_settings.collection_period_hours == timing.hours
    live = config.real_time_anomaly_detection
    assert live.query_interval_seconds == timing.step
    assert live.stale_after == (timing.stale_after or 120.0)


def test_a_query_that_is_left_out_is_a_comment_with_the_reason():
    text = render_config(draft_of("nginx", left_out={"requests": "constant (0) in the last 2d"}))
    assert (
        "  # HTTP requests (requests per second).\n"
        "  # Left out: constant (0) in the last 2d.\n"
        "  #requests:\n"
        "  #  expr: sum by (instance) (rate(nginx_http_requests_total[2m]))\n"
        "  #  valid_range: [0, null]\n"
    ) in text
    assert "requests" not in read_config(text).queries
    again = re.sub(r"^  #(requests:|  )", r"  \1", text, flags=re.MULTILINE)
    assert "requests" in read_config(again).queries


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028", "\u2029"])
def test_what_a_server_says_stays_within_its_comment(end):
    reasons = (f'several series: {{job="{end}max_groups: 1{end}"}}', "constant")
    drafts = (draft_of("nginx", left_out={"requests": each}) for each in reasons)
    hostile, harmless = (read_config(render_config(draft)) for draft in drafts)
    assert hostile == harmless


def test_many_groups_raise_their_limit():
    assert read_config(render_config(draft_of("nginx", max_groups=9000))).max_groups == 9000


def test_http_settings_become_a_section():
    keys = {"basic_auth": {"username": "on", "password_file": "secrets/password"}}
    settings = read_config(render_config(draft_of("nginx", http_config=keys))).prometheus
    assert settings.basic_auth.username == "on"
    assert str(settings.basic_auth.password_file) == "secrets/password"


# Which queries hold


HOSTS = [(("instance", f"h{number}"),) for number in range(4)]


def check(alias, hosts=HOSTS, **changes):
    return GroupCheck(alias, groups=frozenset(hosts), series=len(hosts), **changes)


def unfit(checks, past=(), seconds=7 * DAY):
    queries = {each.alias: "up" for each in checks}
    shares = {alias: Past(share, constant) for alias, share, constant in past}
    return find_unfit(queries, ["instance"], checks, shares, seconds)


def test_a_query_with_a_problem_is_left_out_with_it():
    problem = "query b: up: the newest sample of all groups is 9m old — check that …"
    found = unfit([check("a"), check("b", problem=problem)])
    assert found == {"b": "the newest sample of all groups is 9m old — check that …"}


def test_a_query_that_most_groups_lack_is_left_out():
    found = unfit([check("a"), check("b"), check("c", HOSTS[:2]), check("d", HOSTS[:1])])
    assert found == {"d": "only 1 of 4 groups has it"}


def test_a_query_without_the_label_of_the_groups_is_left_out():
    found = unfit([check("a"), check("b", [()])])
    assert found == {"b": "its series have no label instance"}


def test_a_query_of_other_groups_is_left_out():
    others = [(("instance", "gpu:9835"),)]
    found = unfit([check("a"), check("b"), check("c", others)])
    assert found == {"c": 'its groups are others ({instance="gpu:9835"})'}


def test_a_query_is_left_out_if_it_is_constant_for_a_day():
    checks, past = [check("a"), check("b")], [("a", 1.0, None), ("b", 1.0, 0.0)]
    assert unfit(checks, past) == {"b": "constant (0) in the last 7d"}
    assert unfit(checks, past, 0.9 * DAY) == {}


def test_a_query_is_left_out_if_it_is_missing_where_others_are_not():
    checks = [check("a"), check("b")]
    missing = {"b": "40% of its values in the history are missing"}
    assert unfit(checks, [("a", 1.0, None), ("b", 0.6, None)]) == missing
    assert unfit(checks, [("a", 0.6, None), ("b", 0.6, None)]) == {}
