"""`check-config --online` compares when samples are there with what the daemon needs of them."""

import re
import time
from email.utils import formatdate

import pytest

from promad.cli.commands.check_config import run_check
from promad.config import Config, PrometheusSettings
from promad.prometheus import PrometheusClient
from tests.support.prometheus_stub import Say, matrix, stub_server

LOOKBACK = 300.0


def scraped(interval, since=-1e18, until=1e18, value=lambda t: t % 7):
    """Answers like those of Prometheus to any selector, by the time of the server."""

    def curve(expr, t):
        at = (t - 3) // interval * interval + 3
        if not since <= at <= until or t - at > LOOKBACK:
            return None
        return at if "timestamp(" in expr else value(at)

    return curve


def answering(curves, ahead=0.0, say_date=True):
    """A server with these series, by metric name, whose clock is ahead by some seconds."""

    def handle(asked):
        expr, start, step = (asked.form[key] for key in ("query", "start", "step"))
        now = time.time() + ahead
        times = [float(start) + i * float(step) for i in range(asked.points)]
        curve = next(
            (curves[name] for name in curves if re.search(rf"\b{name}\b", expr)),
            lambda _, at: at,  # time()
        )
        samples = [(t, curve(expr, t if expr == "time()" else min(t, now))) for t in times]
        known = {(): [(t, v) for t, v in samples if v is not None]}
        headers = {"Date": formatdate(now, usegmt=True)} if say_date else {"Date": "now"}
        return Say(body=matrix({k: v for k, v in known.items() if v}), headers=headers)

    return handle


def check(capsys, handle, queries, **sections):
    """How many problems there are, and the lines on the queries and the clock."""
    with stub_server(handle) as stub:
        config = Config.model_validate(
            {"prometheus_url": stub.url, "queries": queries, **sections},
        )
        problems = run_check(config)
    lines = capsys.readouterr().out.replace(stub.url, "URL").splitlines()
    return problems, [line for line in lines if not line.startswith("  latency_offset: ")]


def test_a_healthy_server_has_no_problem(capsys):
    problems, lines = check(
        capsys, answering({"a": scraped(15), "b": scraped(30)}), {"a": "a", "b": "sum(b)"}
    )
    assert problems == 0
    assert len(lines) == 2


def test_a_scrape_interval_above_stale_after_is_a_problem(capsys):
    problems, lines = check(capsys, answering({"a": scraped(290)}), {"a": "sum(a)"})
    assert problems == 1
    assert "of the samples of the last hour were older than stale_after (2m) when used" in lines[0]
    assert "set stale_after to at least 5m, and data_settings.step to no less than" in lines[0]


def test_the_remedy_for_a_long_scrape_interval_holds(capsys):
    problems, _ = check(
        capsys,
        answering({"a": scraped(290)}),
        {"a": "sum(a)"},
        data_settings={"step": "5m"},
        real_time_anomaly_detection={"stale_after": "5m"},
    )
    assert problems == 0


@pytest.mark.parametrize(
    ("ahead", "told"),
    [
        (
            -600,
            r"URL: the server's clock is (9m59|10m|10m1)s? behind this machine's, more than "
            r"latency_offset \(10s\) — synchronise both clocks, or set latency_offset to at least "
            r"10m1[0-2]s",
        ),
        (
            900,
            r"URL: the server's clock is (14m59|15m|15m1)s? ahead of this machine's, more than "
            r"latency_offset \(10s\) — synchronise both clocks; until then new samples are scored "
            r"late",
        ),
    ],
)
def test_clocks_that_differ_are_one_problem(capsys, ahead, told):
    handle = answering({"a": scraped(15), "b": scraped(15)}, ahead)
    problems, lines = check(capsys, handle, {"a": "a", "b": "sum(b)"})
    assert problems == 1
    assert [line.partition(":")[0].strip() for line in lines[:2]] == ["a", "b"]
    assert all("1 series, newest sample" in line for line in lines[:2])
    assert re.fullmatch(told, lines[2])


def test_the_remedy_for_a_clock_that_is_behind_holds(capsys):
    handle = answering({"a": scraped(15)}, -600)
    live = {"latency_offset": "10m12s"}
    assert check(capsys, handle, {"a": "a"}, real_time_anomaly_detection=live)[0] == 0


def test_a_server_that_does_not_say_the_time_is_not_judged_by_it(capsys):
    problems, lines = check(capsys, answering({"a": scraped(15)}, say_date=False), {"a": "a"})
    assert (problems, len(lines)) == (0, 1)


def test_a_cached_reply_says_nothing_about_the_clock():
    old = Say(headers={"Date": formatdate(time.time() - 900, usegmt=True), "Age": "900"})
    with stub_server([old]) as stub, PrometheusClient(stub.url, PrometheusSettings()) as client:
        client.query_range("a", 0.0, 60.0, 30.0)
        assert client.clock_offset is None


def test_a_clock_that_differs_by_less_than_the_reply_takes_agrees():
    now = iter([1000.0, 1005.0])
    say = Say(headers={"Date": formatdate(1003.0, usegmt=True)})
    with (
        stub_server([say]) as stub,
        PrometheusClient(stub.url, PrometheusSettings(), now=lambda: next(now)) as client,
    ):
        client.query_range("a", 0.0, 60.0, 30.0)
        assert client.clock_offset == 0.0


@pytest.mark.parametrize("expr", ["rel offset -5m", "avg(rate(rel[2m] offset -5m)) / 2"])
def test_a_negative_offset_is_a_problem(capsys, expr):
    handle = answering({"rel": scraped(15)})
    problems, lines = check(capsys, handle, {"r": expr})
    assert problems == 1
    assert "a negative offset looks 5m ahead, where there are no samples yet" in lines[0]
    assert "remove it, or set latency_offset to at least 5m" in lines[0]


def test_samples_that_come_and_go_are_a_problem(capsys):
    handle = answering({"errors_total": scraped(15)})

    def sparse(asked):
        if float(asked.form["start"]) > 0 and "timestamp" not in asked.form["query"]:
            start, step = float(asked.form["start"]), float(asked.form["step"])
            times = [start + step * i for i in range(asked.points)]
            return Say(body=matrix({(): [(t, 1.0) for i, t in enumerate(times) if i % 10 < 2]}))
        return handle(asked)

    problems, lines = check(capsys, sparse, {"e": "sum(rate(errors_total[2m]))"})
    assert problems == 1
    assert "of the samples of the last hour are missing" in lines[0]
    assert "append `or vector(0)` to the expression" in lines[0]


def test_gaps_that_never_let_a_window_fill_are_a_problem(capsys):
    def gappy(asked):
        start, step = float(asked.form["start"]), float(asked.form["step"])
        times = [start + step * i for i in range(asked.points)]
        return Say(body=matrix({(): [(t, 1.0) for i, t in enumerate(times) if i % 15]}))

    def run(**training):
        return check(
            capsys,
            gappy,
            {"e": "sum(rate(e[2m]))"},
            preprocessing_settings={"max_fill_steps": 0},
            training_settings=training,
        )

    problems, lines = run(sequence_length=20)
    assert problems == 1
    assert "are longer than max_fill_steps (0), with at most 14 samples between them" in lines[0]
    assert "fewer than sequence_length (20)" in lines[0]
    assert run(sequence_length=10)[0] == 0


def test_a_series_that_has_just_begun_is_no_problem(capsys):
    handle = answering({"a": scraped(15, since=time.time() - 900)})
    assert check(capsys, handle, {"a": "a"})[0] == 0


def test_a_target_that_is_gone_is_named_by_its_age(capsys):
    handle = answering({"a": scraped(15, until=time.time() - 900)})
    problems, lines = check(capsys, handle, {"a": "a"})
    assert problems == 1
    assert "check that its target is still scraped" in lines[0]


def test_queries_with_the_same_problem_share_a_line(capsys):
    handle = answering({"one": scraped(290), "two": scraped(290), "third": scraped(15)})
    problems, lines = check(capsys, handle, {"a": "sum(one)", "b": "sum(two)", "c": "sum(third)"})
    assert problems == 2
    assert [line.partition(":")[0] for line in lines[:2]] == ["  a, b", "  c"]
    assert len(lines) == 3


def test_a_problem_of_one_query_names_its_expression(capsys):
    _, lines = check(capsys, answering({"a": scraped(290)}), {"a": "sum(a)"})
    assert lines[0].startswith("  a: sum(a): ")


MUTE = [{"cron": "0 2 * * *", "duration": "1h"}, {"query": "deploying"}]
MARKERS = [{"name": "api", "query": "app_build"}]


def lines_of(lines, *keys):
    return [line for line in lines if line.strip().startswith(keys)]


def test_queries_of_mute_and_markers_are_asked_and_their_answers_shown(capsys):
    curves = {"a": scraped(15), "deploying": lambda _, at: 1.0, "app_build": lambda _, at: 17.0}
    problems, lines = check(capsys, answering(curves), {"a": "a"}, mute=MUTE, markers=MARKERS)
    assert problems == 0
    assert lines_of(lines, "mute", "markers") == [
        "  mute.1: mutes now",
        "  markers.api: 1 version now: 17",
    ]


def test_a_query_of_mute_that_fails_and_one_of_a_marker_without_series_are_problems(capsys):
    handle = answering({"a": scraped(15)})

    def refusing(asked):
        if asked.form["query"] == "deploying":
            return Say(422, '{"status":"error","errorType":"execution","error":"too much"}')
        return Say(body=matrix({})) if asked.form["query"] == "app_build" else handle(asked)

    problems, lines = check(capsys, refusing, {"a": "a"}, mute=MUTE, markers=MARKERS)
    assert problems == 2
    mute, marker = lines_of(lines, "mute", "markers")
    assert mute.startswith("  mute.1: URL: deploying: ")
    assert "too much" in mute
    assert marker.startswith("  markers.api: app_build: no version now — check the metric's name")
    assert lines[-1] == "URL: problems with 2 of 3 queries"


def test_a_mute_without_series_is_no_problem(capsys):
    handle = answering({"a": scraped(15)})

    def nothing(asked):
        return Say(body=matrix({})) if asked.form["query"] == "deploying" else handle(asked)

    problems, lines = check(capsys, nothing, {"a": "a"}, mute=MUTE)
    assert (problems, lines_of(lines, "mute")) == (0, ["  mute.1: mutes nothing now"])


def test_a_server_that_is_down_is_one_line_and_not_asked_about_mutes(capsys):
    asked = []

    def down(each):
        asked.append(each.form["query"])
        return Say(503)

    problems, lines = check(capsys, down, {"a": "a", "b": "b"}, mute=MUTE, markers=MARKERS)
    assert problems == 2
    assert not {"deploying", "app_build"} & {*asked}
    assert not lines_of(lines, "mute", "markers")
