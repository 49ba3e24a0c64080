"""What `promad doctor --online` finds in the answers of a server, as values."""

import pytest

from promad.diagnosis.checks import CHECKS, run_checks
from promad.diagnosis.evidence import Evidence, Host, Queries, Server
from promad.diagnosis.findings import Fact, Finding
from promad.prometheus.query_costs import QueryCost

URL = "http://prometheus.example"
HEALTHY = Server(
    URL,
    groups=5,
    series=175,
    memory_bytes=96e6,
    memory_limit=8e9,
    costs={"a": QueryCost(0.01, 40), "b": QueryCost(0.02, 60)},
    interval=30.0,
    tick_seconds=0.04,
)


def find(check, **known):
    return list(CHECKS[check].find(Server(**{**vars(HEALTHY), **known})))


def test_a_healthy_server_has_facts_only():
    names = [name for name, check in CHECKS.items() if check.area == "server"]
    assert [each for name in names for each in find(name)] == [
        Fact("series", "5 groups, up to 175 series on /metrics"),
        Fact("query cost", "100 samples read per tick, most for b (60)"),
        Fact("tick", "about 40 ms of 30s"),
        Fact("memory", "about 96 MB in detect"),
    ]


@pytest.mark.parametrize(
    ("check", "known", "finding"),
    [
        (
            "failing_query",
            {"problems": ["queries.a: no series in the requested period — check the name"]},
            Finding("error", "queries.a", "no series in the requested period", "check the name"),
        ),
        (
            "latency_offset",
            {"latency": "latency_offset: is 10s, but values repeat — set it to auto"},
            Finding("warning", "latency_offset", "is 10s, but values repeat", "set it to auto"),
        ),
        (
            "clock_skew",
            {"clock": f"{URL}: the server's clock is 10m behind — synchronise both clocks"},
            Finding("error", URL, "the server's clock is 10m behind", "synchronise both clocks"),
        ),
        (
            "honor_labels",
            {"hidden": ['state: job "promad" renames instance — add honor_labels: true']},
            Finding("error", "state", 'job "promad" renames instance', "add honor_labels: true"),
        ),
        (
            "refused_groups",
            {"refused": "max_groups: the queries return 9 groups — raise max_groups"},
            Finding("error", "max_groups", "the queries return 9 groups", "raise max_groups"),
        ),
        (
            "series",
            {"series": 120_000, "groups": 1},
            Finding(
                "warning",
                "real_time_anomaly_detection.max_feature_series",
                "up to 120,000 series on /metrics for 1 group, more than 100,000",
                "lower max_feature_series or max_groups, or split the groups among several "
                "configurations",
            ),
        ),
        (
            "tick_time",
            {
                "tick_seconds": 16.0,
                "costs": {"a": QueryCost(12.3, None), "b": QueryCost(3.0, None)},
            },
            Finding(
                "error",
                "real_time_anomaly_detection.query_interval_seconds",
                "a tick takes about 16 s, more than 50% of 30s; the slowest query is a (12 s)",
                "make slow queries recording rules, or raise query_interval_seconds and step",
            ),
        ),
        (
            "memory",
            {"memory_bytes": 1.7e9, "memory_limit": 2e9},
            Finding(
                "error",
                "memory",
                "about 1,700 MB in detect, more than 80% of 2,000 MB of this machine",
                "lower history_samples or max_groups, or run detect on a larger machine",
            ),
        ),
    ],
)
def test_what_is_wrong_is_found_with_its_remedy(check, known, finding):
    assert find(check, **known) == [finding]


def test_a_query_that_touches_many_samples_is_found():
    _, found = find("query_cost", costs={"a": QueryCost(0.1, 1_000_001), "b": QueryCost(0.1, 5)})
    assert found == Finding(
        "warning",
        "queries.a",
        "the server reads 1,000,001 samples for it per tick, more than 1,000,000",
        "shorten its range, narrow its label matchers, or query a recording rule",
    )


def test_the_cost_is_unknown_where_the_server_does_not_report_it():
    assert find("query_cost", costs={"a": QueryCost(0.1, None)}) == [
        Fact("query cost", "unknown: the server does not report how many samples it read")
    ]
    assert find("query_cost", costs={}) == []


def test_what_is_not_known_is_not_judged_and_never_a_number():
    assert find("tick_time", tick_seconds=None) == []
    assert find("memory", memory_limit=None) == [Fact("memory", "about 96 MB in detect")]


def test_checks_without_their_evidence_are_not_done(tmp_path):
    host = Host(tmp_path, "", (), None, 0)
    queries = Queries(tmp_path / "config.yaml", {"a": "a"}, 30.0)
    nothing = dict.fromkeys(Evidence.__dataclass_fields__, "missing — get it")
    outcomes = run_checks(Evidence(**{**nothing, "queries": queries, "host": host}))
    assert [outcome.check for outcome in outcomes] == list(CHECKS)
    for outcome in outcomes:
        known = CHECKS[outcome.check].needs in {"queries", "host"}
        assert outcome.not_checked == ("" if known else "missing — get it")
        assert outcome.findings == outcome.facts == ()
