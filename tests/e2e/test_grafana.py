"""The dashboards: what is committed is what is built, and they keep Grafana's linters' rules."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from promad.config import Config, load_config
from promad.events.verdict import State
from promad.exposition import ReceiverMetrics, names
from promad.mixin import recording
from promad.mixin.deployment import Deployment
from promad.mixin.promql import Selector
from promad.mixin.writing import build_dashboards
from tests.support.dashboards import FOLDER, NAMES, ROOT, committed, panels, substitute, targets
from tests.support.fleet_scrapes import name_hosts, scrape_fleet
from tests.support.scrapes import ANOMALOUS, PREFIX, scrape


def built(*configs: Config) -> dict[str, str]:
    boards = build_dashboards(Deployment.from_configs(configs, "promad"))
    return {Path(name).stem: text for name, text in boards.items()}


SHIPPED = {name: committed(name) for name in NAMES}
"""Those of a detector with groups."""

SINGLE = {name: json.loads(text) for name, text in built(Config(queries={"a": "up"})).items()}
"""Those of a detector without groups."""

BOARDS = SHIPPED | {f"{name} without groups": board for name, board in SINGLE.items()}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in panels(board)]
TARGETS = [(name, title, expr) for name, board in BOARDS.items() for title, expr in targets(board)]
VARIABLES = [
    (name, variable) for name, board in BOARDS.items() for variable in board["templating"]["list"]
]
EVENTS = [(name, board["annotations"]["list"][0]) for name, board in BOARDS.items()]
OTHERS = [(name, board["annotations"]["list"][1:]) for name, board in BOARDS.items()]

TARGET = {"job", "instance"}
RECORDED = {
    recording.name_fleet_state_share(): TARGET | {"detector", "state"},
    recording.name_incidents_in_week(PREFIX): TARGET | {"detector"},
    recording.name_incidents_over_expected(PREFIX): TARGET | {"detector"},
    recording.name_state_share(PREFIX): TARGET | {"detector", "state"},
    recording.name_events_in_week(PREFIX): TARGET | {"detector"},
    recording.name_events_over_expected(PREFIX): TARGET | {"detector"},
}


def received() -> dict[str, set[str]]:
    """Every metric of a promad that takes samples by remote write, with its labels."""
    registry = CollectorRegistry()
    metrics = ReceiverMetrics(registry)
    metrics.begin("d0")
    metrics.count_request(204)
    metrics.count_samples("d0", 1, 0.0)
    families = registry.collect()
    return {each.name: TARGET | set(each.labels) for family in families for each in family.samples}


def exposed() -> dict[str, set[str]]:
    """Every metric of a promad with several detectors, with its labels."""
    found: dict[str, set[str]] = {}
    for series in {**scrape(ANOMALOUS, ANOMALOUS), **scrape_fleet(name_hosts(2), (1,))}:
        name, _, labels = series.partition("{")
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found | received() | RECORDED


EXPOSED = exposed()


each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
each_panel = pytest.mark.parametrize(
    "panel",
    [panel for _, panel in PANELS],
    ids=[f"{name}: {panel['title']}" for name, panel in PANELS],
)
each_target = pytest.mark.parametrize(
    "expr",
    [expr for _, _, expr in TARGETS],
    ids=[f"{name}: {title} {number}" for number, (name, title, _) in enumerate(TARGETS)],
)
each_variable = pytest.mark.parametrize(
    "variable",
    [each for _, each in VARIABLES if each["type"] == "query"],
    ids=[f"{name}: {each['name']}" for name, each in VARIABLES if each["type"] == "query"],
)


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


def test_the_committed_dashboards_are_what_promad_mixin_writes():
    """If not: promad mixin -o mixin, and copy mixin/grafana/dashboards into grafana."""
    files = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert built(load_config(ROOT / "config.yaml")) == files


def test_another_prefix_reaches_every_query():
    live = {"metrics_prefix": "mine_"}
    other = Config(queries={"cpu": "up"}, group_by=("instance",), real_time_anomaly_detection=live)
    for name, text in built(other).items():
        default = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert "anomaly_detector_" not in text
        assert text.replace("mine_", "anomaly_detector_") == default


def test_a_click_in_the_table_leads_to_one_group():
    fleet = (FOLDER / "promad-fleet.json").read_text(encoding="utf-8")
    chosen = "var-instance=${__data.fields.Instance}&var-detector=${__data.fields.Detector}"
    assert f"&{chosen}&" in fleet


# The dashboard as a whole


@each_board
def test_a_dashboard_is_editable_and_has_a_fixed_identity(board):
    assert board["editable"] is True
    assert board["uid"] in SHIPPED
    assert "id" not in board


def test_titles_are_told_apart():
    assert len({board["title"] for board in SHIPPED.values()}) == len(SHIPPED)


@each_board
def test_a_dashboard_links_to_the_others_and_takes_choice_and_time_along(board):
    (link,) = board["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["promad"])
    assert link["tags"][0] in board["tags"]
    assert link["includeVars"] is True
    assert link["keepTime"] is True
    assert "placement" not in link


@each_board
def test_panel_ids_are_set_and_unique(board):
    ids = [each["id"] for panel in board["panels"] for each in (panel, *panel.get("panels", ()))]
    assert ids == list(range(1, len(ids) + 1))


@each_board
def test_panels_do_not_overlap_and_fit_the_grid(board):
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@each_board
def test_rows_fill_the_width_of_the_dashboard(board):
    shown = [panel for panel in board["panels"] if panel["type"] != "row" and "repeat" not in panel]
    widths: dict[int, int] = {}
    for panel in shown:
        widths[panel["gridPos"]["y"]] = widths.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(widths.values()) == {24}


# Variables


@each_board
def test_there_is_one_data_source_variable_and_it_is_named_as_linters_want(board):
    sources = [each for each in board["templating"]["list"] if each["type"] == "datasource"]
    assert [(each["name"], each["label"], each["query"]) for each in sources] == [
        ("datasource", "Data Source", "prometheus")
    ]


@each_board
@pytest.mark.parametrize("name", ["job", "instance"])
def test_job_and_instance_are_variables_with_several_values_of_which_none_is_empty(board, name):
    (variable,) = (each for each in board["templating"]["list"] if each["name"] == name)
    assert variable["label"] == name.title()
    assert variable["type"] == "query"
    assert variable["multi"] is True
    assert variable["allValue"] == ".+"


@each_board
def test_the_label_that_only_some_have_may_be_empty(board):
    (variable,) = (each for each in board["templating"]["list"] if each["name"] == "detector")
    assert variable["allValue"] == ".*"
    assert variable["current"]["value"] == "$__all"


@each_variable
def test_a_query_variable_asks_the_chosen_data_source_again_when_the_time_range_changes(variable):
    assert variable["datasource"]["uid"] == "${datasource}"
    assert variable["refresh"] == 2
    assert variable["includeAll"] is True
    query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
    (selector,) = selectors(query.group(1))
    assert query.group(2) in EXPOSED[selector.name]


@each_board
def test_a_variable_depends_only_on_those_before_it(board):
    for before, after in pairwise(board["templating"]["list"]):
        assert f"${after['name']}" not in str(before["query"])


# Panels


@each_panel
def test_a_panel_says_what_it_shows_and_where_from(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target["legendFormat"]


UNITS = {"none", "short", "percentunit", "bytes", "s", "dateTimeFromNow", "reqps", "cps"}
"""Those of Grafana's units that are used here."""


@each_panel
def test_a_panel_has_a_unit_that_grafana_knows(panel):
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    for override in panel["fieldConfig"]["overrides"]:
        units = [each["value"] for each in override["properties"] if each["id"] == "unit"]
        assert set(units) <= UNITS


@each_panel
def test_a_panel_names_each_query_once(panel):
    names = [target["refId"] for target in panel["targets"]]
    assert len(names) == len(set(names))


@each_panel
def test_a_legend_and_an_aggregation_name_labels_that_exist(panel):
    for target in panel["targets"]:
        labels = set().union(*(EXPOSED[each.name] for each in selectors(target["expr"])))
        kept = re.findall(r"\b(?:by|without|ignoring) \((.+?)\)", target["expr"])
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels
        assert set(", ".join(kept).split(", ")) - {""} <= labels


@each_panel
def test_what_is_set_for_one_name_is_set_for_one_that_comes_up(panel):
    """A legend, a query, a state, or a column of a table."""
    names = {str(state) for state in State} | {target["refId"] for target in panel["targets"]}
    for transformation in panel.get("transformations", []):
        names |= set(transformation["options"].get("renameByName", {}).values())
    legends = {_write_legend(target, alias) for target in panel["targets"] for alias in ALIASES}
    for override in panel["fieldConfig"]["overrides"]:
        wanted = override["matcher"]["options"]
        if override["matcher"]["id"] == "byRegexp":
            assert any(re.search(wanted.strip("/"), legend) for legend in legends)
        else:
            assert wanted in names


ALIASES = ("read_bytes", "busy_ratio", "p99_seconds", "load1")


def _write_legend(target: dict[str, Any], alias: str) -> str:
    return target["legendFormat"].replace("{{feature_name}}", alias)


def test_features_are_shown_in_the_unit_of_their_alias():
    (shown,) = (each for each in panels(BOARDS["promad"]) if each["title"] == "$feature")
    units = {
        override["matcher"]["options"].strip("/"): override["properties"][0]["value"]
        for override in shown["fieldConfig"]["overrides"]
        if override["matcher"]["id"] == "byRegexp"
    }
    for alias, unit in {
        "memory_bytes": "bytes",
        "cpu_busy_ratio": "percentunit",
        "latency_seconds": "s",
        "bytes_in_flight": None,
        "load1": None,
    }.items():
        for target in shown["targets"]:
            legend = _write_legend(target, alias)
            found = [value for name, value in units.items() if re.search(name, legend)]
            assert found == ([unit] if unit else [])


def test_the_panels_of_single_features_are_collapsed_at_first():
    rows = [each for each in BOARDS["promad"]["panels"] if each["type"] == "row"]
    closed = {
        row["title"]: [panel["repeat"] for panel in row["panels"]]
        for row in rows
        if row["collapsed"]
    }
    assert closed == {"Observed and expected values": ["feature"]}


# Queries


@each_target
def test_a_target_is_promql_once_variables_are_filled_in(expr):
    assert "$" not in substitute(expr)
    promql_parser.parse(substitute(expr))


@each_target
def test_a_target_uses_metrics_that_promad_exposes_and_labels_that_they_have(expr):
    for selector in selectors(expr):
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= EXPOSED[selector.name]


@each_target
def test_a_target_keeps_to_what_is_chosen(expr):
    found = re.findall(r"([\w:]+)\{([^}]*)\}", expr)
    assert [name for name, _ in found] == [selector.name for selector in selectors(expr)]
    for name, matchers in found:
        for label in EXPOSED[name] & {"job", "instance", "detector"}:
            assert re.search(rf'{label}=~"\$({label}|daemon)"', matchers)


@each_target
def test_a_target_counts_counters_by_rate_or_increase(expr):
    tree = promql_parser.parse(substitute(expr))
    for node, parents in nodes(tree):
        if isinstance(node, promql_parser.VectorSelector) and _is_counter(node.name):
            matrix, call = parents[-1], parents[-2]
            assert isinstance(matrix, promql_parser.MatrixSelector)
            assert call.func.name in {"rate", "increase"}


def test_daemons_and_groups_are_chosen_by_different_variables():
    select = Selector(PREFIX, ("instance",))
    assert 'instance=~"$instance"' in select(names.SCORE)
    assert 'instance=~"$daemon"' in select(names.SAMPLE_AGE)
    assert 'instance=~"$daemon"' in select(names.INCIDENT_OPEN)
    for board in SHIPPED.values():
        assert {"daemon", "instance"} <= {each["name"] for each in board["templating"]["list"]}


def test_groups_with_several_labels_have_a_variable_and_a_panel_for_each():
    labels = ("job", "datacenter", "instance")
    boards = built(Config(queries={"a": "up"}, group_by=labels))
    for text in boards.values():
        variables = [each["name"] for each in json.loads(text)["templating"]["list"]]
        expected = ["datasource", "daemon_job", "daemon", "detector", *labels]
        assert variables[: len(expected)] == expected
    fleet = json.loads(boards["promad-fleet"])
    titles = {each["title"] for each in panels(fleet)}
    assert {f"Anomalous groups by {label}" for label in labels} <= titles
    for _, expr in targets(fleet):
        promql_parser.parse(substitute(expr, datacenter=".*", daemon_job=".+"))


@each_target
def test_a_rate_is_over_grafanas_rate_interval(expr):
    for window in re.findall(r"\brate\(\w+\{[^}]*\}\[([^]]+)\]", expr):
        assert window == "$__rate_interval"


# What matters in single ones


@pytest.mark.parametrize(("name", "events"), EVENTS, ids=list(BOARDS))
def test_events_are_marked_for_as_long_as_they_last(name, events):
    metric, end = (
        (names.INCIDENT_OPEN, "} > 0") if name in SHIPPED else (names.IS_ANOMALY, "} == 1")
    )
    assert events["enable"] is True
    assert promql_parser.parse(substitute(events["expr"]))
    assert events["expr"].startswith(f"{metric.full_name(PREFIX)}{{")
    assert events["expr"].endswith(end)


@pytest.mark.parametrize(("name", "others"), OTHERS, ids=list(BOARDS))
def test_mutes_and_versions_can_be_marked_too(name, others):
    muted, versions = others
    assert (muted["name"], muted["enable"]) == ("Muted", False)
    assert f"{names.MUTED.full_name(PREFIX)}{{" in muted["expr"]
    assert (versions["name"], versions["enable"]) == ("Versions", True)
    assert versions["useValueForTime"] is True
    assert versions["expr"].startswith(f"{names.MARKER_AT.name}{{")
    assert versions["expr"].endswith("} * 1000")
    for each in others:
        assert promql_parser.parse(substitute(each["expr"]))


def panel(name: str, title: str) -> dict[str, Any]:
    (found,) = (each for where, each in PANELS if (where, each["title"]) == (name, title))
    return found


@pytest.mark.parametrize(
    ("name", "title", "limit"),
    [
        ("promad", "Score over threshold", 1.0),
        ("promad", "Elevation over time", 1.0),
        ("promad-fleet", "Incidents over expected", 3.0),
        ("promad-fleet without groups", "Events over expected", 3.0),
        ("promad-health", "Model age", 30 * 86400.0),
    ],
)
def test_what_is_odd_above_a_limit_is_held_against_it(name, title, limit):
    defaults = panel(name, title)["fieldConfig"]["defaults"]
    assert [step["value"] for step in defaults["thresholds"]["steps"]] == [None, limit]
    assert defaults["custom"]["thresholdsStyle"]["mode"] == "line+area"


def test_a_panel_that_only_the_plain_error_fills_is_not_empty_with_another_scoring():
    for _, each in PANELS:
        shown = {selector.name for one in each["targets"] for selector in selectors(one["expr"])}
        assert shown != {names.THRESHOLD_MSE.full_name(PREFIX)}


def test_observed_and_expected_are_shown_together_for_each_chosen_feature():
    (found,) = (each for each in panels(SHIPPED["promad"]) if each.get("repeat"))
    assert found["repeat"] == "feature"
    assert ["observed" in each["expr"] for each in found["targets"]] == [True, False]
    assert all('feature_name=~"$feature"' in each["expr"] for each in found["targets"])


def test_states_are_numbered_and_coloured_in_order():
    (mapping,) = panel("promad", "State")["fieldConfig"]["defaults"]["mappings"]
    shown = [(number, each["text"]) for number, each in mapping["options"].items()]
    assert shown == [(str(place), state.value) for place, state in enumerate(State)]


@pytest.mark.parametrize(
    ("board", "title"), [("promad-fleet", "Groups"), ("promad-fleet without groups", "Detectors")]
)
def test_the_table_of_the_fleet_has_a_column_for_each_query(board, title):
    (table,) = (
        each for each in panels(BOARDS[board]) if (each["title"], each["type"]) == (title, "table")
    )
    (arranged,) = (each for each in table["transformations"] if each["id"] == "organize")
    titles = arranged["options"]["renameByName"]
    assert list(titles)[:2] == ["instance", "detector"]
    assert list(titles.items())[2:] == [
        (f"Value #{each['refId']}", each["legendFormat"]) for each in table["targets"]
    ]
    assert all((each["format"], each["instant"]) == ("table", True) for each in table["targets"])


def test_only_the_rows_over_weeks_need_the_recording_rules():
    for name, title, expr in TARGETS:
        if {selector.name for selector in selectors(expr)} & set(RECORDED):
            assert panel(name, title)["timeFrom"] == "30d"
            assert "recording rules" in panel(name, title)["description"]


def test_every_recording_rule_is_shown():
    used = {selector.name for _, _, expr in TARGETS for selector in selectors(expr)}
    assert set(RECORDED) <= used


SCRAPE = re.compile(r"scrape_interval: \w+")


def test_provisioning_names_the_data_source_and_the_folder_of_the_dashboards():
    source, provider = (
        yaml.safe_load((ROOT / "grafana" / "provisioning" / name).read_text())
        for name in ("datasources/prometheus.yaml", "dashboards/promad.yaml")
    )
    assert source["datasources"][0]["type"] == "prometheus"
    scrape = yaml.safe_load(SCRAPE.search((ROOT / "README.md").read_text(encoding="utf-8"))[0])
    assert source["datasources"][0]["jsonData"]["timeInterval"] == scrape["scrape_interval"]
    assert provider["providers"][0]["options"]["path"].endswith("dashboards/promad")


def _is_counter(metric: str) -> bool:
    return metric.endswith(("_total", "_bucket", "_count"))
