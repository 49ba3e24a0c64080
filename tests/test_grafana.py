"""The dashboard: what is committed is what is built, and it keeps Grafana's linters' rules."""

import doctest
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, Metric, ProcessCollector

from promad.exporter import DaemonMetrics, Snapshot, SnapshotCollector
from promad.verdict import State
from tests.dashboards import (
    COMMITTED,
    FOLDER,
    STATES,
    Groups,
    build,
    committed,
    panels,
    promql,
    substitute,
    targets,
)

DASHBOARD = committed()
PANELS = {panel["id"]: panel for panel in panels(DASHBOARD)}
TARGETS = targets(DASHBOARD)
QUERIES = [expr for _, expr in TARGETS] + [
    annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]
]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

SUFFIX = {"counter": "_total", "histogram": "_bucket"}
GROUP = {"job", "instance", "detector", "group"}
DETECTOR = {"job", "instance", "detector"}
PROCESS = {"job", "instance"}

EXPOSED = {
    "anomaly_detector_latest_reconstruction_error_mse": GROUP,
    "anomaly_detector_is_anomaly_detected": GROUP,
    "anomaly_detector_total_anomalies_count_total": GROUP,
    "anomaly_detector_feature_elevation_ratio": GROUP | {"feature_name"},
    "anomaly_detector_feature_deviating_since_timestamp_seconds": GROUP | {"feature_name"},
    "anomaly_detector_known_features_ratio": GROUP,
    "anomaly_detector_threshold": GROUP,
    "anomaly_detector_last_successful_run_timestamp_seconds": GROUP,
    "anomaly_detector_data_points_in_current_window": GROUP,
    "anomaly_detector_score": GROUP,
    "anomaly_detector_state": GROUP | {"state"},
    "anomaly_detector_feature_contribution_ratio": GROUP | {"feature_name"},
    "anomaly_detector_feature_observed_value": GROUP | {"feature_name"},
    "anomaly_detector_feature_expected_value": GROUP | {"feature_name"},
    "promad_build_info": PROCESS | {"version", "python_version"},
    "promad_model_info": DETECTOR | {"model", "bundle"},
    "promad_model_trained_timestamp_seconds": DETECTOR,
    "promad_polls_total": DETECTOR,
    "promad_poll_failures_total": DETECTOR | {"reason"},
    "promad_query_up": DETECTOR | {"query"},
    "promad_query_failures_total": DETECTOR | {"query"},
    "promad_ticks_skipped_total": DETECTOR,
    "promad_tick_failures_total": DETECTOR,
    "promad_expected_false_alarms_per_week": DETECTOR,
    "promad_tick_duration_seconds_bucket": DETECTOR | {"le"},
    "promad_sample_age_seconds": DETECTOR,
    "process_resident_memory_bytes": PROCESS,
    "process_cpu_seconds_total": PROCESS,
}
"""Each metric that the dashboard uses, and the labels that it has."""


def each_panel(function):
    return pytest.mark.parametrize(
        "panel", PANELS.values(), ids=[panel["title"] for panel in PANELS.values()]
    )(function)


def each_target(function):
    return pytest.mark.parametrize("expr", [expr for _, expr in TARGETS], ids=_numbered())(function)


def _numbered() -> list[str]:
    return [f"{title}-{number}" for number, (title, _) in enumerate(TARGETS)]


def nodes(node: Any, parents: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """A PromQL tree's nodes, each with its ancestors, the nearest last."""
    yield node, parents
    below = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    below += list(getattr(node, "args", None) or [])
    for child in below:
        if child is not None and not isinstance(child, str):
            yield from nodes(child, (*parents, node))


def selectors(expr: str) -> list[promql_parser.VectorSelector]:
    tree = promql_parser.parse(substitute(expr))
    return [node for node, _ in nodes(tree) if isinstance(node, promql_parser.VectorSelector)]


def test_the_committed_dashboard_is_what_the_builder_builds():
    assert COMMITTED.read_text(encoding="utf-8") == build(Groups())


def test_another_prefix_and_group_label_reach_every_query():
    other = build(Groups("mine_", "host"))
    assert "anomaly_detector_" not in other
    assert "group=~" not in other
    assert other.count("mine_") == COMMITTED.read_text(encoding="utf-8").count("anomaly_detector_")
    assert 'host=~\\"$group\\"' in other
    assert "{{host}}" in other


def test_the_dashboard_is_not_editable_and_has_a_fixed_identity():
    assert DASHBOARD["editable"] is False
    assert DASHBOARD["uid"] == "promad"
    assert "id" not in DASHBOARD


def test_panel_ids_are_set_and_unique():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert ids == list(range(1, len(ids) + 1))


def test_panels_do_not_overlap_and_fit_the_grid():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_rows_fill_the_width_of_the_dashboard():
    shown = [
        panel for panel in DASHBOARD["panels"] if panel["type"] != "row" and "repeat" not in panel
    ]
    widths: dict[int, int] = {}
    for panel in shown:
        widths[panel["gridPos"]["y"]] = widths.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(widths.values()) == {24}


def test_there_is_one_data_source_variable_and_it_is_named_as_linters_want():
    sources = [each for each in VARIABLES.values() if each["type"] == "datasource"]
    assert [(each["name"], each["label"], each["query"]) for each in sources] == [
        ("datasource", "Data Source", "prometheus")
    ]


@pytest.mark.parametrize("name", ["job", "instance"])
def test_job_and_instance_are_variables_with_several_values_of_which_none_is_empty(name):
    variable = VARIABLES[name]
    assert variable["label"] == name.title()
    assert variable["type"] == "query"
    assert variable["multi"] is True
    assert variable["allValue"] == ".+"


@pytest.mark.parametrize("name", ["detector", "group"])
def test_labels_that_only_some_have_may_be_empty(name):
    assert VARIABLES[name]["allValue"] == ".*"
    assert VARIABLES[name]["current"]["value"] == "$__all"


@pytest.mark.parametrize("name", [name for name in VARIABLES if name != "datasource"])
def test_a_query_variable_asks_the_chosen_data_source_again_when_the_time_range_changes(name):
    variable = VARIABLES[name]
    assert variable["datasource"]["uid"] == "${datasource}"
    assert variable["refresh"] == 2
    assert variable["includeAll"] is True
    query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
    (selector,) = selectors(query.group(1))
    assert query.group(2) in EXPOSED[selector.name]


def test_a_variable_depends_only_on_those_before_it():
    for before, after in pairwise(VARIABLES.values()):
        assert f"${after['name']}" not in str(before["query"])


@each_panel
def test_a_panel_says_what_it_shows_and_where_from(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target["legendFormat"]


@each_panel
def test_a_panel_names_each_query_once(panel):
    names = [target["refId"] for target in panel["targets"]]
    assert len(names) == len(set(names))


@each_target
def test_a_target_is_promql_once_variables_are_filled_in(expr):
    assert "$" not in substitute(expr)
    promql_parser.parse(substitute(expr))


@each_target
def test_a_target_uses_metrics_that_promad_exposes_and_labels_that_they_have(expr):
    for selector in selectors(expr):
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert selector.name in EXPOSED
        assert matched <= EXPOSED[selector.name]


@each_target
def test_a_target_keeps_to_what_is_chosen(expr):
    found = re.findall(r"(\w+)\{([^}]*)\}", expr)
    assert [name for name, _ in found] == [selector.name for selector in selectors(expr)]
    for name, matchers in found:
        for label in EXPOSED[name] & GROUP:
            assert f'{label}=~"${label}"' in matchers


@each_target
def test_a_target_counts_counters_by_rate_or_increase(expr):
    tree = promql_parser.parse(substitute(expr))
    for node, parents in nodes(tree):
        if isinstance(node, promql_parser.VectorSelector) and _is_counter(node.name):
            matrix, call = parents[-1], parents[-2]
            assert isinstance(matrix, promql_parser.MatrixSelector)
            assert call.func.name in {"rate", "increase"}


@each_target
def test_a_rate_is_over_grafanas_rate_interval(expr):
    for function, window in re.findall(r"(\w+)\(\w+\{[^}]*\}\[([^]]+)\]", expr):
        allowed = {"rate": {"$__rate_interval"}, "increase": {"$__rate_interval", "$__range"}}
        assert window in allowed[function]


@each_panel
def test_a_legend_and_an_aggregation_name_labels_that_exist(panel):
    for target in panel["targets"]:
        labels = set().union(*(EXPOSED[each.name] for each in selectors(target["expr"])))
        kept = re.findall(r"\b(?:by|without) \((\w+)\)", target["expr"])
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels
        assert set(kept) <= labels


def test_the_metrics_listed_here_are_exposed_and_shown():
    exposed = {family.name + SUFFIX.get(family.type, "") for family in exposition()}
    used = {selector.name for expr in QUERIES for selector in selectors(expr)}
    assert used == set(EXPOSED)
    assert used <= exposed


def exposition() -> Iterator[Metric]:
    """What a promad with several detectors exposes."""
    registry = CollectorRegistry()
    own = DaemonMetrics(registry, several=True).of("a")
    own.loaded("m", "b", trained_at=1.0)
    own.expects(1.0, (0.5, 2.0))
    own.polled(["q"], {})
    own.sample_is(1.0)
    snapshot = Snapshot("a", "anomaly_detector_", groups=())
    registry.register(SnapshotCollector(lambda: [snapshot], several=True))
    ProcessCollector(registry=registry)
    return registry.collect()


def test_events_are_marked_for_as_long_as_they_last():
    (events,) = DASHBOARD["annotations"]["list"]
    assert events["enable"] is True
    assert promql_parser.parse(substitute(events["expr"]))
    assert events["expr"].startswith("anomaly_detector_is_anomaly_detected{")
    assert events["expr"].endswith("} == 1")


def test_the_state_panels_know_every_state_in_order():
    assert tuple(State) == STATES


def test_the_builders_examples_are_true():
    assert doctest.testmod(promql) == (0, 2)


@pytest.mark.parametrize("title", ["Score over threshold", "Elevation of each feature, in lines"])
def test_what_is_odd_above_one_is_held_against_one(title):
    (score,) = (panel for panel in PANELS.values() if panel["title"] == title)
    steps = score["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, 1.0]
    assert score["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"] == "line+area"


def test_a_panel_that_only_the_plain_error_fills_is_not_empty_with_another_scoring():
    for panel in PANELS.values():
        names = {selector.name for each in panel["targets"] for selector in selectors(each["expr"])}
        assert names != {"anomaly_detector_threshold_mse"}


def test_observed_and_expected_are_shown_together_for_each_chosen_feature():
    (panel,) = (panel for panel in PANELS.values() if panel.get("repeat"))
    assert panel["repeat"] == "feature"
    assert ["observed" in each["expr"] for each in panel["targets"]] == [True, False]
    assert all('feature_name=~"$feature"' in each["expr"] for each in panel["targets"])


def test_provisioning_names_the_data_source_and_the_folder_of_the_dashboard():
    source, provider = (
        yaml.safe_load((FOLDER / "provisioning" / name).read_text())
        for name in ("datasources/prometheus.yaml", "dashboards/promad.yaml")
    )
    assert source["datasources"][0]["type"] == "prometheus"
    assert provider["providers"][0]["options"]["path"].endswith("dashboards/promad")


def _is_counter(metric: str) -> bool:
    return metric.endswith(("_total", "_bucket"))
