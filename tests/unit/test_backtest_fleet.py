"""Looking back on a fleet: backtest and its metrics, explain, and the report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from promad.bundle import open_detector
from promad.cli import app as cli
from promad.cli.commands.backtest import format_fleet
from promad.config import Config, load_config
from promad.config.durations import format_instant
from promad.config.known_incidents import Incident
from promad.data.frame import MetricFrame
from promad.detection import fleet_replay
from promad.detection.backtest_results import FleetBacktest
from promad.detection.fleet_history import FleetHistory
from promad.detection.fleet_loop import FleetLoop, FleetOutputs
from promad.detection.fleet_persistence import FleetPersistence
from promad.detection.fleet_replay import Piece, Roster, make_rules
from promad.detection.group_replay import make_poll_options
from promad.detection.live import begin_live
from promad.detection.loop import LoopOptions
from promad.detection.state_file import StateFile
from promad.errors import DataError
from promad.events.event_log import open_event_log
from promad.events.incident_book import IncidentBook
from promad.exposition import DaemonMetrics, DetectorMetrics
from promad.exposition.openmetrics import write_openmetrics
from promad.exposition.pushing import push_samples
from promad.exposition.scrape_target import ScrapeTarget
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.polling import GroupPoller
from promad.stages.backtest import backtest, backtest_fleet
from promad.stages.explain import explain_at
from tests.support.rounding import round_numbers
from tests.support.small_fleet import (
    SAMPLES,
    STEP,
    Fault,
    SmallFleet,
    at,
    serve_fleet,
    train_fleet,
    write_config,
)

FLEET = SmallFleet(
    lives={
        "a": (0, SAMPLES),
        "b": (0, SAMPLES),
        "c": (0, SAMPLES),
        "pod-1": (715, 790),
        "pod-2": (800, 870),
    },
    faults=(
        Fault(("a", "b"), 760, 772),
        Fault(("pod-1",), 782, 800),
        Fault(("c",), 840, 850),
    ),
    alerts={(("alertname", "Slow"), ("instance", "b")): (764, 780)},
)
FIRST, LAST = 702, 880


@dataclass(frozen=True)
class World:
    path: Path

    @property
    def config(self) -> Config:
        return load_config(self.path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("fleet") / "config.yaml"
    with serve_fleet(FLEET) as stub:
        write_config(path, stub.url, live="event_end: {below: 0.3}")
        train_fleet(load_config(path))
        yield World(path)


@pytest.fixture(scope="module")
def found(world: World) -> FleetBacktest:
    known = (
        Incident(start=at(759), end=at(775), name="slow"),
        Incident(start=at(710), end=at(712), name="nothing"),
    )
    return backtest_fleet(world.config, at(FIRST), at(LAST), known)


def run(world: World, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["promad", "-c", str(world.path), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


# The replay


@dataclass
class SteppingClock:
    time: float

    def now(self) -> float:
        return self.time

    def elapsed(self) -> float:
        return self.time

    def wait_until(self, at: float, stop: object) -> None:
        raise NotImplementedError


def watch_live(config: Config, directory: Path):
    """What a daemon that ticks at each sample writes to its event log."""
    opened = open_detector(config)
    clock = SteppingClock(at(745))
    metrics = DetectorMetrics(DaemonMetrics(CollectorRegistry()), {"detector": "web"})
    log, _ = open_event_log(directory / "events.sqlite")
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        samples = opened.detector.samples_needed + 40
        poller = GroupPoller(client, make_poll_options(config, samples))
        outputs = FleetOutputs(
            metrics,
            FleetHistory(opened.detector.scored_features, 100),
            FleetPersistence(log, StateFile(directory, "b"), "b", 1e9, 1200.0, metrics),
            IncidentBook(make_rules(opened)),
            1000,
        )
        options = LoopOptions("web", "x_", STEP, lambda now: 0.0, 0.5)
        loop = FleetLoop(options, partial(begin_live, opened), poller, clock, outputs)
        for sample in range(745, 861):
            clock.time = at(sample)
            loop.tick()
    return log


def test_a_backtest_finds_the_incidents_of_a_daemon_with_the_same_ids(found, world, tmp_path):
    log = watch_live(world.config, tmp_path)
    live = {each.incident.id: each.incident for each in log.find_incidents()}
    assert {each.id for each in found.found} == set(live)
    for incident in found.found:
        other = live[incident.id]
        assert (incident.end, incident.groups_watched) == (other.end, other.groups_watched)
        assert [each.group for each in incident.members] == [each.group for each in other.members]
        assert [each.event for each in incident.members] == [each.event for each in other.members]


def test_events_that_began_together_are_one_incident(found) -> None:
    both, pod, other = found.found
    assert {each.labels[0][1] for each in both.members} == {"a", "b"}
    assert [each.first.group for each in (pod, other)] == [
        'web{instance="pod-1"}',
        'web{instance="c"}',
    ]
    assert at(760) <= both.start <= at(764)


def test_an_event_ends_with_its_group_and_no_later(found) -> None:
    (event,) = [each for each in found.events if each.group == 'web{instance="pod-1"}']
    assert event.end is not None
    assert at(782) <= event.start < event.end < at(790)


def test_pieces_of_time_change_nothing(found, world, monkeypatch) -> None:
    monkeypatch.setattr(fleet_replay, "_LONGEST_PIECE", 21)
    again = backtest_fleet(world.config, at(FIRST), at(LAST), found.incidents)
    assert [each.id for each in again.found] == [each.id for each in found.found]
    assert round_numbers(again.events) == round_numbers(found.events)
    assert [replace(each, events=()) for each in again.groups] == [
        replace(each, events=()) for each in found.groups
    ]
    np.testing.assert_array_equal(again.times, found.times)


def test_groups_are_counted_while_they_are_watched(found) -> None:
    samples = {group.labels[0][1]: group.samples for group in found.groups}
    assert samples["a"] == LAST - FIRST + 1
    forgotten_after = 600.0 / STEP
    assert samples["pod-1"] == 790 - 716 + forgotten_after
    assert sum(found.groups[0].states) == found.groups[0].samples


def test_known_incidents_are_compared_with_incidents(found) -> None:
    figures = found.figures
    assert (figures.segments, figures.found, figures.episodes) == (2, 1, 3)
    assert found.incidents_per_week == figures.false_episodes_per_week


def test_an_alert_with_the_labels_of_a_group_is_compared_with_its_events(found) -> None:
    (alert,) = found.alerts
    assert found.match_alert(alert).group == 'web{instance="b"}'
    other = replace(alert, series=(("instance", "c"),))
    assert found.match_alert(other) is None
    assert found.match_alert(replace(alert, series=())) == found.found[0]


def test_one_group_of_many_is_replayed_alone(found, world) -> None:
    alone = backtest(world.config, at(FIRST), at(LAST), group="b")
    assert alone.group == 'web{instance="b"}'
    (event,) = alone.events
    assert event.id in {each.id for each in found.events}


# Which groups are watched


def roster_frame(*rows: str) -> MetricFrame:
    """A frame of which each row is one group; a dot is a missing sample."""
    values = np.array([[np.nan if letter == "." else 1.0 for letter in row] for row in rows])
    groups = tuple((("pod", str(number)),) for number in range(len(rows)))
    return MetricFrame(0.0, 10.0, ("x",), groups, values[:, :, np.newaxis])


def plan(roster: Roster, frame: MetricFrame, first: int = 0) -> list[tuple[int, int, list[int]]]:
    return [tuple(stretch) for stretch in roster.plan(Piece(frame, first))]


def test_a_group_is_watched_from_its_second_sample_until_it_is_forgotten() -> None:
    frame = roster_frame("xxxxxxxxx", "..xxx....")
    assert plan(Roster(20.0, 10), frame, 1) == [(1, 3, [0]), (3, 7, [0, 1]), (7, 9, [0])]


def test_a_group_that_returns_needs_two_samples_again() -> None:
    frame = roster_frame("xx....xx")
    assert plan(Roster(10.0, 10), frame, 1) == [(1, 3, [0]), (3, 7, []), (7, 8, [0])]


def test_no_more_than_max_groups_are_watched_and_those_admitted_stay() -> None:
    frame = roster_frame("..xxxxxx", "xxxx....")
    assert plan(Roster(10.0, 1), frame, 1) == [(1, 5, [1]), (5, 8, [0])]


# What is exposed

TARGET = ScrapeTarget("web", "x_", {"job": "promad", "instance": "localhost:8001"})


def test_metrics_have_the_labels_of_their_groups(world, tmp_path) -> None:
    sent: dict = {}

    def push(series) -> None:
        for labels, samples in series.items():
            sent.setdefault(labels, []).extend(samples)

    with write_openmetrics(tmp_path / "h.om", TARGET) as file, push_samples(TARGET, push) as sender:
        for export in (file, sender):
            backtest_fleet(
                world.config,
                at(780),
                at(815),
                visitors=[
                    lambda sample, export=export: export.add_snapshot(
                        sample.judgements.at, sample.build_snapshot("web", "x_", 1000)
                    )
                ],
            )
    text = (tmp_path / "h.om").read_text()
    scores = re.findall(r'^x_score\{detector="web",instance="([^"]*)",job="promad"\} ', text, re.M)
    assert set(scores) == {"a", "b", "c", "pod-1", "pod-2"}
    of_pod = {
        dict(labels)["__name__"]: samples
        for labels, samples in sent.items()
        if dict(labels)["instance"] == "pod-1" and "feature_name" not in dict(labels)
    }
    assert of_pod["x_score"][-1][1] is None
    assert of_pod["x_score"][-1][0] < at(815)


# The commands


def test_the_lines_lead_with_incidents_then_groups(found) -> None:
    lines = list(format_fleet(found))
    assert re.match(rf"  {found.found[0].id}  \S+ +\S+  2 of \d groups, first web", lines[0])
    assert any(re.match(r"  slow, \S+: detected by incident \w+ after", line) for line in lines)
    assert any("known incidents: 1 of 2 detected (recall 0.50)" in line for line in lines)
    assert any(re.search(r'event of web\{instance="b"\} \S+ earlier', line) for line in lines)
    groups = [line for line in lines if re.match(r"  web\{.*1 event, peak", line)]
    assert len(groups) == 4
    assert re.match(
        r"backtest: 3 incidents in 179 samples of web .* \S+ false incidents per week of scored "
        r"time \(budget: 1 false alarm per week\); 4 events in 4 of 5 groups; ",
        lines[-1],
    )


def test_explain_names_what_drove_one_group(world, monkeypatch, capsys) -> None:
    moment = format_instant(at(766))
    arguments = ["explain", "--at", moment, "--group", 'web{instance="b"}']
    assert run(world, *arguments, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.startswith(f'web{{instance="b"}} at {moment}: anomalous\n')


def test_explain_asks_for_a_group_and_names_some(world, monkeypatch, capsys) -> None:
    moment = format_instant(at(766))
    assert run(world, "explain", "--at", moment, monkeypatch=monkeypatch) == 1
    error = capsys.readouterr().err
    assert error.startswith("promad: web has 4 groups — name one with --group: web{instance=")
    assert error.count("\n") == 1


def test_a_group_that_was_not_trained_on_is_explained_too(world) -> None:
    explained = explain_at(world.config, at(760), "pod-1")
    assert explained.group == 'web{instance="pod-1"}'
    assert explained.explanation.verdict.score is not None


def test_an_unknown_group_is_one_line(world) -> None:
    with pytest.raises(DataError, match=r"unknown group z — use one of web\{instance="):
        explain_at(world.config, at(760), "z")


def test_a_period_before_all_data_is_one_line(world, monkeypatch, capsys) -> None:
    arguments = ["backtest", "--from", "2020-01-01", "--to", "2020-01-01T00:30:00Z"]
    assert run(world, *arguments, monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err == (
        "promad: no samples of any query in the period — choose another period\n"
    )


def test_group_needs_group_by(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("queries: {a: up}\n")
    assert run(World(path), "backtest", "--group", "x", monkeypatch=monkeypatch) == 1
    assert "--group x needs group_by in the configuration" in capsys.readouterr().err


def test_a_report_shows_incidents_and_the_groups_with_the_highest_peaks(
    world, found, monkeypatch, tmp_path, capsys
) -> None:
    page = tmp_path / "report.html"
    period = ["--from", format_instant(at(FIRST)), "--to", format_instant(at(LAST))]
    assert run(world, "report", *period, "-o", str(page), monkeypatch=monkeypatch) == 0
    assert "report: 3 incidents, 4 events in 4 groups in 179 samples" in capsys.readouterr().out
    text = page.read_text()
    for incident in found.found:
        assert f'<h3 id="{incident.id}">' in text
    assert text.count('<div class="chart" id="group-') == 4
    assert not re.search(r'(src|href)="', text.partition("</head>")[2])


def test_a_report_of_one_group(world, monkeypatch, tmp_path, capsys) -> None:
    page = tmp_path / "report.html"
    period = ["--from", format_instant(at(750)), "--to", format_instant(at(790))]
    arguments = ["report", *period, "-o", str(page), "--group", "b"]
    assert run(world, *arguments, monkeypatch=monkeypatch) == 0
    assert "report: 1 event in 41 samples" in capsys.readouterr().out
    assert "web{instance=&#34;b&#34;}" in page.read_text()
