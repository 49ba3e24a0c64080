"""`check-config --online` with `group_by`: each group's series, and what a fleet will cost."""

import re
import time

from promad.cli.commands.check_config import run_fleet_check
from promad.config import Config
from tests.support.prometheus_stub import Say, matrix, stub_server


def answering(series, interval=15.0, hidden=(), ahead=0.0):
    """A server with these label sets by metric name, and jobs that store exported labels."""

    def handle(asked):
        expr = asked.form["query"]
        if "exported_" in expr:
            found = {(("job", job),): [(time.time(), 1.0)] for job in hidden}
            return Say(body=matrix(found))
        start, step = float(asked.form["start"]), float(asked.form["step"])
        name = next(name for name in series if re.search(rf"\b{name}\b", expr))
        known = {}
        for labels in series[name]:
            for place in range(asked.points):
                at = start + place * step
                scraped = at // interval * interval
                if at <= time.time() + ahead and at - scraped <= 300:
                    value = scraped if "timestamp(" in expr else 1.0 + at % 7
                    known.setdefault(labels, []).append((at, value))
        return Say(body=matrix(known))

    return handle


def host(number, **more):
    return tuple(sorted({"instance": f"h{number}:9100", **more}.items()))


def check(capsys, handle, queries, **sections):
    with stub_server(handle) as stub:
        config = Config.model_validate(
            {
                "prometheus_url": stub.url,
                "queries": queries,
                "group_by": ["instance"],
                "real_time_anomaly_detection": {"latency_offset": "10s"},
                **sections,
            }
        )
        problems = run_fleet_check(config)
        return problems, capsys.readouterr().out.replace(stub.url, "URL").splitlines()


HOSTS = [host(number) for number in range(5)]


def test_groups_and_series_are_counted_and_their_cost_is_predicted(capsys):
    problems, lines = check(capsys, answering({"a": HOSTS, "b": HOSTS}), {"a": "a", "b": "b"})
    assert problems == 0
    queries = [line for line in lines if re.match(r"  [ab]:", line)]
    assert [line.partition(", newest")[0] for line in queries] == [
        "  a: 5 groups, 5 series",
        "  b: 5 groups, 5 series",
    ]
    assert lines[-1].startswith(
        "  expected: 5 groups of 2 features, up to 175 series (75 about groups, 100 about features)"
    )


def test_groups_that_lack_a_query_are_named(capsys):
    handle = answering({"a": HOSTS, "b": HOSTS[:4]})
    problems, lines = check(capsys, handle, {"a": "a", "b": "b"})
    assert problems == 0
    assert '  b: 1 group lacks it: {instance="h4:9100"}' in lines


def test_several_series_of_one_group_are_refused_with_their_labels_and_the_remedy(capsys):
    devices = [host(1, device="sda"), host(1, device="sdb"), host(2, device="sda")]
    problems, lines = check(capsys, answering({"a": devices}), {"a": "a"})
    assert problems == 1
    assert (
        "  a: a: several series of one group in 1 of 2 groups, such as "
        '{device="sda", instance="h1:9100"}, {device="sdb", instance="h1:9100"} — aggregate with '
        "sum by (instance) (…), or add labels to group_by"
    ) in lines
    assert lines[-1] == "URL: problems with 1 of 1 queries"


def test_more_groups_than_max_groups_are_a_problem(capsys):
    problems, lines = check(capsys, answering({"a": HOSTS}), {"a": "a"}, max_groups=3)
    assert problems == 1
    assert (
        "max_groups: the queries return 5 groups, 2 more than max_groups (3), which are not "
        "monitored — raise max_groups, or drop groups with group_relabel_configs"
    ) in lines
    assert any(line.startswith("  expected: 3 groups") for line in lines)


def test_a_job_that_stores_exported_labels_is_a_problem_with_its_remedy(capsys):
    handle = answering({"a": HOSTS}, hidden=["promad"])
    problems, lines = check(capsys, handle, {"a": "a"})
    assert problems == 1
    assert lines[-1] == (
        'anomaly_detector_state: job "promad" stores the label instance of the groups as '
        "exported_instance, so their series do not join with those of the groups — add "
        "honor_labels: true to this job in the scrape configuration"
    )


def test_rules_that_drop_everything_are_a_problem(capsys):
    rules = [{"action": "drop", "source_labels": ["instance"], "regex": ".+"}]
    handle = answering({"a": HOSTS})
    problems, lines = check(capsys, handle, {"a": "a"}, group_relabel_configs=rules)
    assert problems == 1
    assert "  a: a: group_relabel_configs drops all series — change the rules" in lines


def test_a_scrape_interval_above_stale_after_is_a_problem(capsys):
    problems, lines = check(capsys, answering({"a": HOSTS}, interval=250.0), {"a": "a"})
    assert problems == 1
    assert "stale_after" in "\n".join(lines)


def test_a_query_without_series_is_a_problem(capsys):
    problems, lines = check(capsys, answering({"a": HOSTS, "b": []}), {"a": "a", "b": "b"})
    assert problems == 1
    assert any(line.startswith("  b: b: no series in the requested period") for line in lines)


def test_a_mute_shows_how_many_groups_it_mutes_or_which_labels_none_of_them_has(capsys):
    known = {"a": HOSTS, "two": HOSTS[:2], "other": [host(77, job="x")]}
    entries = [{"query": query} for query in ("two", "other")]
    problems, lines = check(capsys, answering(known), {"a": "a"}, mute=entries)
    assert problems == 0
    assert [line for line in lines if "mute." in line] == [
        "  mute.0: mutes 2 of 5 groups now",
        '  mute.1: mutes nothing now: no group of the entry has {instance="h77:9100"}',
    ]
