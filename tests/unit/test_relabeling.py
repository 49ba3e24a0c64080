"""Relabelling does what Prometheus documents of `relabel_configs`."""

from __future__ import annotations

import pytest

from promad.config.settings import RelabelConfig
from promad.data.groups import Grouping, sort_labels
from promad.data.relabeling import RelabelRule, relabel

POD = {"pod": "web-6f7d-x2k", "namespace": "shop"}


def apply(labels, *rules):
    return relabel(labels, [RelabelRule.of(RelabelConfig(**rule)) for rule in rules])


def test_replace_sets_the_target_label_from_parts_of_the_match():
    found = apply(
        POD, {"source_labels": ["pod"], "regex": "(.+)-[^-]+-[^-]+", "target_label": "workload"}
    )
    assert found == {**POD, "workload": "web"}


def test_replace_joins_source_labels_with_the_separator():
    rule = {"source_labels": ["namespace", "pod"], "target_label": "both"}
    assert apply(POD, rule)["both"] == "shop;web-6f7d-x2k"
    assert apply(POD, {**rule, "separator": "/"})["both"] == "shop/web-6f7d-x2k"


def test_a_regex_must_match_the_whole_value():
    rule = {"source_labels": ["pod"], "regex": "web", "target_label": "kind"}
    assert apply(POD, rule) == POD
    assert apply(POD, {**rule, "regex": "web|shop"}) == POD
    assert apply(POD, {**rule, "action": "keep"}) is None


def test_a_missing_source_label_is_empty():
    rule = {"source_labels": ["zone"], "regex": "", "replacement": "none", "target_label": "zone"}
    assert apply(POD, rule)["zone"] == "none"
    rule = {"source_labels": ["zone", "pod"], "target_label": "both"}
    assert apply(POD, rule)["both"] == ";web-6f7d-x2k"


def test_an_empty_replacement_removes_the_target_label():
    assert apply(POD, {"replacement": "", "target_label": "namespace"}) == {"pod": POD["pod"]}


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        ("$1-$2", "web-x2k"),
        ("${1}x", "webx"),
        ("$1x", ""),  # the name is as long as possible: it is the part "1x"
        ("$$1", "$1"),
        ("a$", "a$"),
        ("${", "${"),
        ("$9", ""),
        ("${id}", "x2k"),
        ("$id!", "x2k!"),
        ("$01", ""),
        ("${²}", ""),
        ("$0", "web-6f7d-x2k"),
    ],
)
def test_a_replacement_refers_to_parts_of_the_match(replacement, expected):
    rule = {
        "source_labels": ["pod"],
        "regex": "([^-]+)-.*-(?P<id>[^-]+)",
        "target_label": "found",
        "replacement": replacement,
    }
    assert apply(POD, rule).get("found", "") == expected


def test_the_target_label_refers_to_the_match_too_and_must_be_a_label_name():
    rule = {"source_labels": ["namespace"], "target_label": "in_$1", "replacement": "yes"}
    assert apply(POD, rule)["in_shop"] == "yes"
    assert apply({"namespace": "a b"}, rule) == {"namespace": "a b"}


def test_letters_and_digits_are_ascii_as_in_re2():
    rule = {"source_labels": ["pod"], "regex": r"\d+", "action": "keep"}
    assert apply({"pod": "42"}, rule) == {"pod": "42"}
    assert apply({"pod": "٤٢"}, rule) is None


def test_keep_and_drop_choose_series():
    keep = {"action": "keep", "source_labels": ["namespace"], "regex": "shop|bank"}
    assert apply(POD, keep) == POD
    assert apply({"namespace": "test"}, keep) is None
    assert apply(POD, {**keep, "action": "drop"}) is None
    assert apply({"namespace": "test"}, {**keep, "action": "drop"}) == {"namespace": "test"}


def test_labeldrop_and_labelkeep_choose_labels_by_their_names():
    assert apply(POD, {"action": "labeldrop", "regex": "name.*"}) == {"pod": POD["pod"]}
    assert apply(POD, {"action": "labelkeep", "regex": "pod|zone"}) == {"pod": POD["pod"]}
    assert apply(POD, {"action": "labeldrop", "regex": "po"}) == POD


def test_lowercase_and_uppercase_change_the_joined_source_labels():
    rule = {"action": "lowercase", "source_labels": ["a", "b"], "target_label": "c"}
    assert apply({"a": "X", "b": "Y"}, rule)["c"] == "x;y"
    assert apply({"a": "x"}, {**rule, "action": "uppercase", "separator": ""})["c"] == "X"


def test_rules_see_what_the_rules_before_them_did():
    found = apply(
        POD,
        {"source_labels": ["pod"], "regex": "([^-]+).*", "target_label": "pod"},
        {"action": "drop", "source_labels": ["pod"], "regex": "web"},
    )
    assert found is None


def test_a_group_has_the_labels_of_group_by_that_its_series_have():
    grouping = Grouping(("instance", "job"))
    assert grouping.find_group(sort_labels({"job": "node", "instance": "a", "cpu": "0"})) == (
        ("instance", "a"),
        ("job", "node"),
    )
    assert grouping.find_group(sort_labels({"instance": "a", "job": ""})) == (("instance", "a"),)
    assert Grouping().find_group(sort_labels({"job": "node"})) == ()


def test_pods_of_one_workload_are_one_group_and_a_dropped_series_has_none():
    rules = [
        {"source_labels": ["pod"], "regex": "(.+)-[^-]+-[^-]+", "target_label": "workload"},
        {"action": "drop", "source_labels": ["namespace"], "regex": "test"},
    ]
    grouping = Grouping(("workload",), [RelabelRule.of(RelabelConfig(**rule)) for rule in rules])
    groups = {
        grouping.find_group(sort_labels({"pod": pod, "namespace": "shop"}))
        for pod in ("web-6f7d-x2k", "web-99aa-b31")
    }
    assert groups == {(("workload", "web"),)}
    assert grouping.find_group(sort_labels({"pod": "web-1-2", "namespace": "test"})) is None
