"""Markers: when a version is deployed, and which events name it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest

from promad.config.marker_settings import MarkerSettings
from promad.config.server_settings import PrometheusSettings
from promad.data.groups import Grouping, Labels
from promad.detection.marker_queries import MarkerQueries, make_marker_rule
from promad.errors import PrometheusError
from promad.events.event_log import EventLog
from promad.events.markers import (
    Marker,
    MarkerBook,
    MarkerIndex,
    MarkerRule,
    collect_versions,
    describe_marker,
    find_marker,
)
from promad.exposition import DaemonMetrics
from promad.exposition.daemon import MOST_MARKERS
from promad.pages.timelines import draw_score
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span
from promad.prometheus.version_queries import fetch_markers
from tests.support.bench import START, bench
from tests.support.incidents import make_event
from tests.support.prometheus_stub import curves, stub_server

BY_INSTANCE = Grouping(("instance",))
RULE = MarkerRule({"api": 1800.0}, 30.0)


def versions(*series: tuple[dict[str, str], float]) -> dict[Labels, frozenset[str]]:
    return collect_versions(
        [(tuple(sorted(labels.items())), value) for labels, value in series], BY_INSTANCE
    )


def titles(book: MarkerBook, at: float, *series: tuple[dict[str, str], float]) -> list[str]:
    return [
        f"{marker.title} {dict(marker.labels)}" if marker.labels else marker.title
        for marker in book.follow("api", at, versions(*series))[0]
    ]


# Versions


def test_a_new_value_of_a_label_is_a_marker_and_the_first_one_is_none() -> None:
    book = MarkerBook()
    assert titles(book, 0.0, ({"version": "1.4.1"}, 1.0)) == []
    assert titles(book, 1.0, ({"version": "1.4.1"}, 1.0)) == []
    assert titles(book, 2.0, ({"version": "1.4.2"}, 1.0)) == ["api 1.4.2"]


def test_a_rollout_is_marked_once_and_a_rollback_again() -> None:
    book = MarkerBook()
    old, new = ({"version": "1"}, 1.0), ({"version": "2"}, 1.0)
    marked = [
        titles(book, 600.0 * at, *series)
        for at, series in enumerate([[old], [old, new], [old, new], [new], [new], [old, new]])
    ]
    assert marked == [[], ["api 2"], [], [], [], ["api 1"]]


def test_an_exporter_that_restarts_marks_nothing_beside_another_version() -> None:
    book = MarkerBook()
    old, new = ({"version": "1"}, 1.0), ({"version": "2"}, 1.0)
    story = [[old, new], [old], [old], [old, new], [new], [old, new]]
    assert [titles(book, 60.0 * at, *series) for at, series in enumerate(story)] == [[]] * 6


def test_a_version_that_stays_away_is_marked_when_it_returns() -> None:
    book = MarkerBook()
    old, new = ({"version": "1"}, 1.0), ({"version": "2"}, 1.0)
    for at in range(0, 420, 60):
        assert titles(book, float(at), old, *([new] if at == 0 else [])) == []
    assert titles(book, 420.0, old, new) == ["api 2"]


def test_a_version_that_another_replaces_at_once_is_marked_when_it_returns() -> None:
    book = MarkerBook()
    marked = [titles(book, float(at), ({"version": text}, 1.0)) for at, text in enumerate("121")]
    assert marked == [[], ["api 2"], ["api 1"]]


def test_a_gap_is_no_deployment() -> None:
    book = MarkerBook()
    one = ({"version": "1"}, 1.0)
    assert [titles(book, float(at), *series) for at, series in enumerate([[one], [], [one]])] == [
        [],
        [],
        [],
    ]


def test_without_other_labels_the_value_is_the_version() -> None:
    book = MarkerBook()
    marked = [titles(book, value, ({}, value)) for value in (16.0, 17.0, 17.0, 16.5)]
    assert marked == [[], ["api 17"], [], ["api 16.5"]]


def test_labels_of_groups_tell_whom_a_version_is_about() -> None:
    book = MarkerBook()
    series = [({"instance": "a", "version": "1"}, 1.0), ({"instance": "b", "version": "1"}, 1.0)]
    assert titles(book, 0.0, *series) == []
    series[1] = ({"instance": "b", "version": "2"}, 1.0)
    assert titles(book, 1.0, *series) == ["api 2 {'instance': 'b'}"]


def test_a_group_that_is_new_marks_nothing() -> None:
    book = MarkerBook()
    assert titles(book, 0.0, ({"instance": "a", "version": "1"}, 1.0)) == []
    both = [({"instance": "a", "version": "1"}, 1.0), ({"instance": "b", "version": "1"}, 1.0)]
    assert titles(book, 1.0, *both) == []


def test_zero_and_nan_are_no_version_and_several_labels_are_one() -> None:
    assert versions(({"version": "1"}, 0.0), ({"version": "2"}, np.nan), ({}, np.nan)) == {}
    found = versions(({"__name__": "x", "version": "1", "branch": "main"}, 1.0))
    assert found == {(): frozenset({"branch=main, version=1"})}


# Events


@pytest.mark.parametrize(
    ("start", "named"),
    [(970.0, True), (969.0, False), (1000.0, True), (2800.0, True), (2801.0, False)],
)
def test_an_event_names_the_newest_marker_shortly_before_it(start: float, named: bool) -> None:
    marker = Marker("api", "2", 1000.0)
    older = Marker("api", "1", 900.0)
    expected = marker if named else (older if start in {969.0} else None)
    assert find_marker([older, marker], (), start, RULE) == expected


def test_a_marker_of_another_group_is_not_named() -> None:
    marker = Marker("api", "2", 1000.0, (("instance", "a"),))
    assert find_marker([marker], (("instance", "b"),), 1100.0, RULE) is None
    assert find_marker([marker], (("instance", "a"), ("zone", "x")), 1100.0, RULE) == marker


def test_an_index_finds_the_same_marker_as_a_search() -> None:
    groups: list[Labels] = [(("instance", f"h{n}"), ("zone", "ab"[n % 2])) for n in range(4)]
    about: list[Labels] = [(), (("zone", "a"),), (("instance", "h1"),), groups[3], (("job", "x"),)]
    numbers = np.random.default_rng(3).integers(0, 5000, 40).tolist()
    markers = [Marker("api", str(n), float(n), about[n % len(about)]) for n in numbers]
    index = MarkerIndex(markers)
    for start in range(0, 6000, 250):
        for group in groups:
            expected = find_marker(markers, group, float(start), RULE)
            assert index.find(group, float(start), RULE) == expected


def test_a_version_of_thousands_of_groups_is_named_by_the_events_of_each(log: EventLog) -> None:
    markers = [Marker("api", "2", 1000.0, (("instance", f"h{n}"),)) for n in range(3000)]
    log.record_markers("api", 1000.0, markers, {})
    index = MarkerIndex(log.find_markers(0.0, 2000.0))
    named = (index.find((("instance", f"h{n}"),), 1100.0, RULE) for n in range(3000))
    assert all(named)


def test_the_text_says_how_long_after_it() -> None:
    marker = Marker("api", "1.4.2", 1000.0)
    assert describe_marker(marker, 1120.0) == "Began 2m after api 1.4.2."
    assert describe_marker(marker, 990.0) == "Began together with api 1.4.2."


# At work


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with closing(EventLog(tmp_path / "events.db")) as opened:
        yield opened


def queries_of(ask: Any, log: EventLog) -> tuple[MarkerQueries, CollectorRegistry]:
    """A marker `api` that a function answers, `at -> (labels, value)`."""
    registry = CollectorRegistry()
    client = SimpleNamespace(
        query_range=lambda query, at, *_, **__: SimpleNamespace(
            series=[
                SimpleNamespace(labels=labels, values=np.array([value]))
                for labels, value in ask(at)
            ]
        )
    )
    entry = MarkerSettings(name="api", query="max by (version) (build_info)")
    made = MarkerQueries(
        [entry],
        client,  # type: ignore[arg-type]
        Grouping(),
        log,
        DaemonMetrics(registry).of("promad"),
        RULE,
        structlog.get_logger(),
    )
    return made, registry


def deploys(*changes: tuple[float, str]) -> Any:
    """Versions from times on, in seconds after the start of the bench."""

    def ask(at: float) -> Any:
        version = [text for since, text in changes if at >= START + since][-1]
        return [((("version", version),), 1.0)]

    return ask


def settle(markers: MarkerQueries) -> None:
    """Wait for the answers that the next tick reads."""
    for asked in markers._asked.values():
        assert asked._thread is not None
        asked._thread.join(10)


def test_a_deployment_is_recorded_exposed_and_named_in_the_log(log: EventLog) -> None:
    markers, registry = queries_of(deploys((0, "1"), (20, "2")), log)
    it = bench(log=log, markers=markers)
    it.rise("cpu", (50, 60, 70))
    with structlog.testing.capture_logs() as logs:
        for at in range(0, 80, 10):
            it.tick_at(at)
            settle(markers)
    assert log.find_markers() == [Marker("api", "2", START + 20)]
    (began,) = (each for each in logs if each["event"] == "anomaly began")
    assert began["marker"] == "api 2"
    labels = {"detector": "promad", "marker": "api", "version": "2"}
    assert registry.get_sample_value("promad_marker_timestamp_seconds", labels) == START + 20
    assert it.status.muted is None


def test_a_rollback_is_exposed_at_its_own_time(log: EventLog) -> None:
    markers, registry = queries_of(deploys((0, "1"), (20, "2"), (40, "1")), log)
    for at in range(0, 60, 10):
        markers.follow(START + at)
        settle(markers)
    labels = {"detector": "promad", "marker": "api"}
    shown = [
        registry.get_sample_value("promad_marker_timestamp_seconds", {**labels, "version": version})
        for version in ("1", "2")
    ]
    assert shown == [START + 40, START + 20]


def test_a_restart_marks_what_was_deployed_meanwhile(log: EventLog) -> None:
    before, _ = queries_of(deploys((0, "1")), log)
    for at in (0.0, 10.0):
        before.follow(START + at)
        settle(before)
    after, registry = queries_of(deploys((0, "2")), log)
    assert b"promad_marker_timestamp_seconds{" not in generate_latest(registry)
    for at in (100.0, 110.0):
        after.follow(START + at)
        settle(after)
    assert [marker.title for marker in log.find_markers()] == ["api 2"]
    _, registry = queries_of(deploys((0, "2")), log)
    assert b"promad_marker_timestamp_seconds{" in generate_latest(registry)


def test_versions_that_stay_are_known_for_longer_than_events_are_kept(log: EventLog) -> None:
    day = 86400.0
    markers, _ = queries_of(deploys((0, "1")), log)
    for at in (0.0, 10.0, 50 * day, 100 * day, 100 * day + 10):
        markers.follow(START + at)
        settle(markers)
    log.prune(before=START + 99 * day)
    assert log.read_versions() == {"api": {(): frozenset({"1"})}}


def test_a_query_that_fails_or_hangs_is_counted_and_holds_up_nothing(log: EventLog) -> None:
    hung = threading.Event()
    answers = iter([PrometheusError("no", "timeout"), ValueError("odd"), None])

    def ask(at: float) -> Any:
        answer = next(answers, None)
        if isinstance(answer, Exception):
            raise answer
        hung.wait(20)
        return []

    markers, registry = queries_of(ask, log)
    it = bench(markers=markers)
    with structlog.testing.capture_logs() as logs:
        for at in (0, 10):
            it.tick_at(at)
            settle(markers)
        for at in (20, 30, 40):
            assert it.tick_at(at).score is not None
    labels = {"detector": "promad", "marker": "api"}
    assert registry.get_sample_value("promad_marker_query_failures_total", labels) == 2
    assert [each["event"] for each in logs if "marker" in each["event"]] == ["marker query failed"]
    hung.set()


def test_a_log_that_cannot_be_written_ends_no_tick(log: EventLog) -> None:
    markers, registry = queries_of(deploys((0, "1"), (10, "2")), log)
    it = bench(markers=markers)
    it.tick_at(0)
    settle(markers)
    log.close()
    for at in (10, 20, 30):
        assert it.tick_at(at).score is not None
        settle(markers)
    labels = {"detector": "promad"}
    assert registry.get_sample_value("promad_event_log_failures_total", labels) >= 1


def test_the_log_keeps_a_bounded_number_of_markers(log: EventLog) -> None:
    markers = [Marker("api", str(at), float(at)) for at in range(10_050)]
    log.record_markers("api", 1.0, markers, {(): frozenset({"x"})})
    log.record(make_event(5.0), "b1", 40.0)
    log.prune(before=20.0)
    kept = log.find_markers(limit=20_000)
    assert (len(kept), kept[0].at, kept[-1].at) == (10_000, 10_049.0, 50.0)
    assert log.read_versions() == {}


def test_a_bounded_number_of_versions_is_exposed(log: EventLog) -> None:
    registry = CollectorRegistry()
    metrics = DaemonMetrics(registry).of("promad")
    metrics.show_markers({("api", str(at)): float(at) for at in range(50)})
    metrics.show_markers({("api", str(at)): float(at) for at in range(60)})
    lines = generate_latest(registry).decode().splitlines()
    shown = [line for line in lines if line.startswith("promad_marker_timestamp_seconds{")]
    assert len(shown) == MOST_MARKERS
    assert any('version="59"' in line for line in shown)


def test_the_rule_is_that_of_the_configuration() -> None:
    from promad.config import Config

    config = Config.model_validate(
        {
            "queries": {"cpu": "up"},
            "markers": [{"name": "api", "query": "x", "within": "5m"}],
            "data_settings": {"step": "10s"},
        }
    )
    assert make_marker_rule(config) == MarkerRule({"api": 300.0}, 30.0)


# Reports


def test_a_period_is_searched_for_changes(tmp_path: Path) -> None:
    known = {
        "build_info": [
            ({"version": "1"}, lambda time: 1.0 if time < 600 else math.nan),
            ({"version": "2"}, lambda time: 1.0 if time >= 600 else math.nan),
        ]
    }
    span = Span(0.0, 1200.0)
    with (
        stub_server(curves(known)) as stub,
        closing(PrometheusClient(stub.url, PrometheusSettings())) as client,
    ):
        found = fetch_markers(client, "api", "build_info", span, 30.0, Grouping())
    assert found == [Marker("api", "2", 600.0)]


def test_a_chart_has_a_labelled_line_at_a_marker() -> None:
    times = np.arange(5) * 30.0
    figure = draw_score(times, np.ones(5), [], [], [(60.0, "api <2>")])
    (mark,) = figure["layout"]["shapes"]
    assert (mark["type"], mark["x0"]) == ("line", "1970-01-01T00:01:00Z")
    assert mark["label"]["text"] == "api &lt;2&gt;"
