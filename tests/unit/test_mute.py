"""Maintenance: when entries of `mute` are in effect, for which groups, and for which events."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import structlog
from prometheus_client import CollectorRegistry

from promad.config import Config
from promad.config.cron import leaves_breaks
from promad.config.durations import format_instant, parse_instant
from promad.config.mute_settings import Mute
from promad.config.server_settings import PrometheusSettings
from promad.data.groups import Grouping
from promad.data.relabeling import RelabelRule
from promad.detection.muting import MuteLog, MuteQueries, make_mute_queries
from promad.errors import PrometheusError
from promad.events.event_counts import count_begun
from promad.events.event_log import EventLog
from promad.events.mute_windows import WindowClock, list_windows
from promad.events.mutes import MarkedSeries, Mutes
from promad.exposition import DaemonMetrics
from promad.exposition.groups import SnapshotCollector
from promad.exposition.merging import collect_fleets
from promad.exposition.names import INCIDENT_MUTED, INCIDENT_OPEN, IS_ANOMALY, MUTED, SCORE
from promad.prometheus.client import PrometheusClient
from tests.support.bench import START as BENCH_START
from tests.support.bench import Bench, bench
from tests.support.detectors import detector_of
from tests.support.fleet_world import STEP as FLEET_STEP
from tests.support.fleet_world import FleetWorld, label
from tests.support.incidents import make_event
from tests.support.prometheus_stub import curves, stub_server
from tests.support.simulated import START as FLEET_START

GROUPS = [(("instance", f"db-{n}"), ("zone", "ab"[n % 2])) for n in range(4)]


def entry(**keys: Any) -> Mute:
    return Mute.model_validate(keys)


def instants(windows: list[tuple[float, float]]) -> list[str]:
    return ["/".join(map(format_instant, window)) for window in windows]


def windows_of(cron: str, duration: str, zone: str, day: str, days: float = 1) -> list[str]:
    start = parse_instant(day)
    each = entry(cron=cron, duration=duration, time_zone=zone)
    return instants(list_windows(each, start, start + days * 86400))


# When


def test_a_period_ends_before_its_end() -> None:
    clock = WindowClock(entry(**{"from": "1970-01-01T00:00:10Z", "to": "1970-01-01T00:00:20Z"}))
    assert [clock.is_open(at) for at in (9.9, 10.0, 19.9, 20.0)] == [False, True, True, False]


def test_a_window_is_as_long_in_winter_as_in_summer() -> None:
    winter = windows_of("0 2 * * *", "1h", "Europe/Berlin", "2026-01-10", 0.9)
    summer = windows_of("0 2 * * *", "1h", "Europe/Berlin", "2026-07-10", 0.9)
    assert winter == ["2026-01-10T01:00:00Z/2026-01-10T02:00:00Z"]
    assert summer == ["2026-07-10T00:00:00Z/2026-07-10T01:00:00Z"]


def test_a_time_that_clocks_skip_is_due_right_after_it() -> None:
    assert windows_of("30 2 * * *", "2h", "Europe/Berlin", "2026-03-29") == [
        "2026-03-29T01:00:00Z/2026-03-29T03:00:00Z"
    ]


def test_a_time_that_comes_twice_is_due_once_and_its_window_counts_real_hours() -> None:
    assert windows_of("30 2 * * *", "2h", "Europe/Berlin", "2026-10-25") == [
        "2026-10-25T00:30:00Z/2026-10-25T02:30:00Z"
    ]


def test_a_window_that_began_before_the_range_belongs_to_it() -> None:
    assert windows_of("0 22 * * *", "4h", "UTC", "2026-01-10T01:00:00Z", days=0.1) == [
        "2026-01-09T22:00:00Z/2026-01-10T02:00:00Z"
    ]


def test_windows_that_overlap_are_one() -> None:
    assert windows_of("0 23,0-2 * * *", "90m", "UTC", "2026-01-10T00:30:00Z", days=0.1) == [
        "2026-01-09T23:00:00Z/2026-01-10T03:30:00Z"
    ]


def test_a_clock_says_the_same_as_the_windows_whatever_the_order() -> None:
    each = entry(cron="*/40 3-5 * * SUN,TUE", duration="17m", time_zone="America/New_York")
    start = parse_instant("2026-10-30")
    times = start + np.random.default_rng(1).uniform(0, 14 * 86400, 300)
    windows = list_windows(each, start - 86400, start + 15 * 86400)
    clock = WindowClock(each)
    for at in times.tolist():
        assert clock.is_open(at) == any(first <= at < last for first, last in windows)


@pytest.mark.parametrize(
    ("cron", "duration", "breaks"),
    [
        ("0 * * * *", 3600.0, False),
        ("0 * * * *", 3599.0, True),
        ("* * * * 0", 90.0, True),
        ("0 0 1 * *", 31 * 86400.0, False),
        ("0 0 1 * *", 30 * 86400.0, True),
        ("0 0 29 2 *", 365 * 86400.0, True),
    ],
)
def test_windows_without_a_break_are_known(cron: str, duration: float, breaks: bool) -> None:
    assert leaves_breaks(cron, duration) == breaks


# Which groups


def find(mutes: Mutes, at: float = 5.0) -> list[str]:
    found = mutes.find(at)
    assert (found.entries >= 0).tolist() == found.flags.tolist()
    return [found.find_title(row) for row in range(len(found.flags))]


PERIOD = {"from": "1970-01-01T00:00:00Z", "to": "1970-01-01T00:01:00Z"}


@pytest.mark.parametrize(
    ("chosen", "muted"),
    [
        ({}, [0, 1, 2, 3]),
        ({"zone": "a"}, [0, 2]),
        ({"instance": "db-[12]"}, [1, 2]),
        ({"instance": "db-[12]", "zone": "b"}, [1]),
        ({"instance": "db"}, []),
    ],
)
def test_groups_are_chosen_by_value_or_by_an_expression_for_the_whole_value(
    chosen: dict[str, str], muted: list[int]
) -> None:
    mutes = Mutes([entry(**PERIOD, name="x", groups=chosen)], GROUPS)
    assert [row for row, title in enumerate(find(mutes)) if title] == muted
    assert find(mutes, 60.0) == [""] * 4


def test_a_value_with_signs_of_an_expression_matches_itself() -> None:
    mutes = Mutes([entry(**PERIOD, groups={"language": "a+b"})], [(("language", "a+b"),)])
    assert mutes.find(1.0).flags.tolist() == [True]


def test_the_first_entry_that_mutes_a_group_is_named() -> None:
    both = [entry(**PERIOD, name="one", groups={"zone": "a"}), entry(**PERIOD, reason="two")]
    assert find(Mutes(both, GROUPS)) == ["one", "two", "one", "two"]


def test_the_log_counts_the_groups_of_each_entry_and_ends_none_that_another_hides() -> None:
    both = [
        entry(**{"from": "1970-01-01T00:00:10Z", "to": "1970-01-01T00:00:20Z"}, name="short"),
        entry(**PERIOD, name="long", groups={"zone": "a"}),
    ]
    mutes, mute_log = Mutes(both, GROUPS), MuteLog(structlog.get_logger())
    told = []
    for at in (0.0, 10.0, 20.0, 60.0):
        with structlog.testing.capture_logs() as logs:
            mute_log.report(mutes.find(at))
        told.append([(each["event"], each["mute"], each.get("groups")) for each in logs])
    assert told == [
        [("mute began", "long", 2)],
        [("mute began", "short", 4)],
        [("mute ended", "short", None)],
        [("mute ended", "long", None)],
    ]


def test_without_entries_nothing_is_muted_or_configured() -> None:
    found = Mutes((), GROUPS).find(1.0)
    assert not found.flags.any()
    assert not found.is_configured


def test_a_query_mutes_the_groups_that_have_its_labels_until_it_is_answered_again() -> None:
    mutes = Mutes([entry(query="deploying")], GROUPS)
    assert find(mutes) == [""] * 4
    mutes.answer("deploying", [(("zone", "b"),), (("instance", "elsewhere"),)])
    assert find(mutes) == ["", "deploying", "", "deploying"]
    mutes.answer("deploying", [()])
    assert find(mutes) == ["deploying"] * 4
    others = Mutes([entry(query="deploying")], GROUPS[:2])
    others.adopt(mutes)
    assert find(others) == ["deploying"] * 2
    mutes.answer("deploying", [])
    assert find(mutes) == [""] * 4


def test_marks_mute_at_their_time() -> None:
    mutes = Mutes([entry(query="q")], GROUPS)
    ranges = [(10.0, 20.0), (40.0, 40.0)]
    mutes.mark({"q": [MarkedSeries((("instance", "db-3"),), ranges)]})
    muted = [at for at in range(0, 60, 10) if mutes.find(float(at)).flags[3]]
    assert muted == [10, 20, 40]
    assert not mutes.find(10.0).flags[:3].any()


def test_a_series_without_labels_of_groups_is_about_all_of_them_and_a_dropped_one_about_none() -> (
    None
):
    rule = RelabelRule(action="keep", source_labels=("job",), regex=re.compile("n"))
    grouping = Grouping(("instance",), (rule,))
    assert grouping.find_part((("alertname", "Maintenance"),)) == ()
    assert grouping.find_part((("instance", "a"), ("job", "n"))) == (("instance", "a"),)
    assert grouping.find_part((("instance", "a"), ("job", "other"))) is None


# Events of one group


def muted_from(first: float, last: float, name: str = "backup") -> Mute:
    """A period in seconds after the start of the bench."""
    times = {"from": format_instant(BENCH_START + first), "to": format_instant(BENCH_START + last)}
    return entry(**times, name=name)


def samples(it: Bench) -> dict[str, float]:
    """The group's metrics without their prefix."""
    collected = SnapshotCollector(lambda: [it.loop.snapshot]).collect()
    return {
        sample.name.removeprefix("anomaly_detector_"): sample.value
        for family in collected
        for sample in family.samples
    }


@pytest.fixture
def log(tmp_path: Any) -> Any:
    with closing(EventLog(tmp_path / "events.db")) as opened:
        yield opened


def test_an_event_during_a_mute_is_recorded_as_muted_and_shows_no_flag(log: EventLog) -> None:
    it = bench(log=log, mute=[muted_from(20, 200)])
    it.tick_at(0)
    assert (samples(it)[MUTED.name], samples(it)[IS_ANOMALY.name]) == (0, 0)
    it.rise("cpu", (30, 40, 50))
    it.tick_at(30)
    shown = samples(it)
    assert (shown[MUTED.name], it.status.muted_by) == (1, "backup")
    assert shown[SCORE.name] > 1
    assert IS_ANOMALY.name not in shown
    for at in range(40, 120, 10):
        it.tick_at(at)
    (logged,) = log.find()
    assert (logged.event.muted, logged.event.unmuted_at) == ("backup", None)
    assert logged.event.end is not None
    assert samples(it)[IS_ANOMALY.name] == 0
    assert count_begun(log.path, "events", "b1", 0.0) == 0


def test_an_event_that_outlasts_the_mute_shows_its_flag_from_then_on(log: EventLog) -> None:
    it = bench(log=log, mute=[muted_from(20, 60)])
    it.rise("cpu", range(30, 120, 10))
    flags = {}
    for at in range(0, 90, 10):
        it.tick_at(at)
        flags[at] = samples(it).get(IS_ANOMALY.name)
    assert [flags[at] for at in (20, 30, 50, 60, 80)] == [0, None, None, 1, 1]
    (logged,) = log.find()
    assert (logged.event.muted, logged.event.unmuted_at) == ("backup", BENCH_START + 60)
    assert count_begun(log.path, "events", "b1", 0.0) == 1


def test_a_mute_that_begins_during_an_event_takes_its_flag_but_not_its_record(
    log: EventLog,
) -> None:
    it = bench(log=log, mute=[muted_from(50, 70)])
    it.rise("cpu", range(30, 120, 10))
    flags = {}
    for at in range(0, 90, 10):
        it.tick_at(at)
        flags[at] = samples(it).get(IS_ANOMALY.name)
    assert [flags[at] for at in (30, 40, 50, 60, 70)] == [1, 1, None, None, 1]
    (logged,) = log.find()
    assert (logged.event.muted, logged.event.unmuted_at) == (None, None)


def test_a_muted_event_continues_as_such_over_a_restart(log: EventLog) -> None:
    mute = [muted_from(20, 60)]
    it = bench(log=log, mute=mute)
    it.rise("cpu", range(30, 120, 10))
    for at in range(0, 50, 10):
        it.tick_at(at)
    saved = json.loads(json.dumps(it.live.state.to_json(0)))
    other = bench(log=log, mute=mute)
    other.live.state.resume(0, saved)
    event = other.live.state.events.open_event(0)
    assert event is not None
    assert (event.muted, event.alerts_from) == ("backup", None)
    other.rise("cpu", range(30, 120, 10))
    for at in (50, 60, 70):
        other.tick_at(at)
    (logged,) = log.find()
    assert logged.event.unmuted_at == BENCH_START + 60


def test_what_is_muted_moves_no_threshold() -> None:
    class Followed:
        def __init__(self) -> None:
            self.scores: list[float] = []

        def limits(self) -> Any:
            return np.ones(1)

        @property
        def adaptations(self) -> Any:
            return np.zeros(1, np.int64)

        def follow(self, scores: Any, recent: Any = None, held: Any = None) -> Any:
            self.scores.append(float(scores[0]))
            return self.limits()

    limits = Followed()
    it = bench(limits=limits, mute=[muted_from(20, 40)])  # type: ignore[arg-type]
    for at in range(0, 60, 10):
        it.tick_at(at)
    assert [np.isnan(score) for score in limits.scores[-5:]] == [False, True, True, False, False]


def test_without_mute_nothing_more_is_exposed() -> None:
    it = bench()
    it.tick_at(0)
    assert MUTED.name not in samples(it)
    assert it.status.muted is None


# Queries


def queries_of(
    ask: Any, *entries: Mute, wait: float = 2.0
) -> tuple[MuteQueries, CollectorRegistry]:
    """Queries that a function answers, `(query, at) -> series`."""
    registry = CollectorRegistry()
    metrics = DaemonMetrics(registry).of("promad")
    client = SimpleNamespace(
        query_range=lambda query, at, *_, **__: SimpleNamespace(
            series=[
                SimpleNamespace(labels=labels, values=np.array([value]))
                for labels, value in ask(query, at)
            ]
        )
    )
    made = MuteQueries(
        entries,
        client,  # type: ignore[arg-type]
        Grouping(),
        metrics,
        structlog.get_logger(),
        wait,
    )
    return made, registry


def failures(registry: CollectorRegistry, mute: str) -> float | None:
    labels = {"detector": "promad", "mute": mute}
    return registry.get_sample_value("promad_mute_query_failures_total", labels)


def test_a_query_mutes_while_it_is_not_zero_and_fails_open() -> None:
    answers: dict[str, Any] = {"value": 1.0}

    def ask(query: str, at: float) -> Any:
        if isinstance(answers["value"], Exception):
            raise answers["value"]
        return [((), answers["value"])]

    deploying = entry(query="deploying", name="deployment")
    mutes, registry = queries_of(ask, deploying)
    it = bench(mute=[deploying], mutes=mutes)
    assert failures(registry, "deployment") == 0
    shown = []
    with structlog.testing.capture_logs() as logs:
        for at, value in enumerate(
            (1.0, 0.0, 2.0, PrometheusError("no", "timeout"), ValueError("odd"), np.nan, 1.0)
        ):
            answers["value"] = value
            it.tick_at(10 * at)
            shown.append(it.status.muted)
    assert shown == [True, False, True, False, False, False, True]
    assert failures(registry, "deployment") == 2
    texts = [each["event"] for each in logs if "mute" in each["event"]]
    assert texts == [
        *("mute began", "mute ended", "mute began"),
        *("mute query failed; it mutes nothing", "mute ended"),
        *("mute query answered again", "mute began"),
    ]


def test_a_query_that_does_not_answer_mutes_nothing_and_holds_up_no_tick() -> None:
    hung, asked = threading.Event(), []

    def ask(query: str, at: float) -> Any:
        asked.append(at)
        hung.wait(20)
        return [((), 1.0)]

    mutes, registry = queries_of(ask, entry(query="slow"), wait=0.02)
    it = bench(mute=[entry(query="slow")], mutes=mutes)
    for at in (0, 10, 20):
        it.tick_at(at)
        assert it.status.muted is False
    assert (failures(registry, "slow"), len(asked)) == (3, 1)
    hung.set()


def test_a_query_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hung, waits = threading.Event(), []

    def ask(query: str, at: float) -> Any:
        hung.wait(20)
        return []

    def read(wait: float) -> None:
        waits.append(wait > 0)

    mutes, _ = queries_of(ask, entry(query="slow"))
    monkeypatch.setattr(mutes._asked[0], "read", read)
    it = bench(mute=[entry(query="slow")], mutes=mutes)
    for at in (0, 10, 20):
        it.tick_at(at)
    assert waits == [True, False, False]
    hung.set()


@pytest.mark.parametrize(("interval", "wait"), [(30, 2.0), (8, 2.0), (1, 0.25)])
def test_a_tick_waits_for_a_quarter_of_its_interval_at_most(interval: int, wait: float) -> None:
    config = Config.model_validate(
        {
            "queries": {"cpu": "up"},
            "mute": [{"query": "slow"}],
            "data_settings": {"step": f"{interval}s"},
            "real_time_anomaly_detection": {"query_interval_seconds": interval},
        }
    )
    metrics = DaemonMetrics(CollectorRegistry()).of("promad")
    with closing(PrometheusClient("http://localhost:1", PrometheusSettings())) as client:
        made = make_mute_queries(config, client, metrics)
    assert made is not None
    assert made._wait == wait


def test_a_comparison_mutes_where_it_holds_even_if_that_is_zero() -> None:
    comparing = entry(query="up == 0")
    mutes, _ = queries_of(lambda query, at: [((), 0.0)], comparing)
    it = bench(mute=[comparing], mutes=mutes)
    it.tick_at(0)
    assert it.status.muted


def test_a_tick_between_two_samples_asks_about_the_newest_one() -> None:
    asked = []

    def ask(query: str, at: float) -> Any:
        asked.append(at)
        return [((), 1.0)]

    deploying = entry(query="deploying")
    mutes, _ = queries_of(ask, deploying)
    it = bench(mute=[deploying], mutes=mutes)
    for at in (0, 17):
        it.tick_at(at)
        assert asked[-1] == it.status.verdict.at


def test_the_server_is_asked_for_the_time_of_the_samples() -> None:
    known = {"deploying": [({"job": "x"}, lambda time: float(time >= 600))]}
    with stub_server(curves(known)) as stub:
        client = PrometheusClient(stub.url, PrometheusSettings())
        with closing(client):
            metrics = DaemonMetrics(CollectorRegistry()).of("promad")
            asked = MuteQueries(
                [entry(query="deploying")], client, Grouping(), metrics, structlog.get_logger()
            )
            found = []
            for at in (540.0, 600.0):
                mutes = Mutes([entry(query="deploying")], [()])
                asked.begin(at)
                asked.answer(mutes)
                found.append(bool(mutes.find(at).flags[0]))
    assert found == [False, True]


# Many groups


def fleet(directory: Any, *entries: Mute, hosts: int = 3) -> FleetWorld:
    detector = detector_of(threshold=3.0, share=0.6)
    return FleetWorld(directory, detector, hosts, 80, mute=entries)


def fleet_period(first: int, last: int, **keys: Any) -> Mute:
    """From a sample until before another."""
    times = [FLEET_START + sample * FLEET_STEP for sample in (first, last)]
    return entry(**{"from": format_instant(times[0]), "to": format_instant(times[1])}, **keys)


def exposed(world: FleetWorld) -> dict[tuple[str, str], float]:
    """Values by metric and instance."""
    return {
        (sample.name.removeprefix("promad"), sample.labels.get("instance", "")): sample.value
        for family in collect_fleets([world.loop.snapshot])
        for sample in family.samples
    }


def test_only_the_chosen_groups_of_a_fleet_are_muted(tmp_path: Any) -> None:
    only = fleet_period(35, 60, name="work", groups={"instance": "host-1"})
    world = fleet(tmp_path, only)
    world.jump(1, 40, 8)
    world.run(43)
    shown = exposed(world)
    assert (IS_ANOMALY.name, "host-1") not in shown
    assert [shown[MUTED.name, f"host-{host}"] for host in range(3)] == [0, 1, 0]
    assert (shown[INCIDENT_OPEN.name, ""], shown[INCIDENT_MUTED.name, ""]) == (0, 1)
    status = next(each for each in world.loop.snapshot.groups if each.group == label(1))
    assert (status.muted, status.muted_by) == (True, "work")
    world.jump(2, 43, 8)
    world.run(46)
    shown = exposed(world)
    assert shown[IS_ANOMALY.name, "host-2"] == 1
    assert (IS_ANOMALY.name, "host-1") not in shown
    assert (shown[INCIDENT_OPEN.name, ""], shown[INCIDENT_MUTED.name, ""]) == (1, 0)
    world.run(75)
    first, second = sorted(world.events.find(), key=lambda each: each.event.start)
    assert (first.event.muted, first.event.unmuted_at) == ("work", None)
    assert second.event.muted is None
    (logged,) = world.events.find_incidents()
    assert logged.incident.muted == "work"
    assert logged.incident.unmuted_at == second.event.flagged_at


def test_an_incident_that_outlasts_its_mute_is_open_from_then_on(tmp_path: Any) -> None:
    world = fleet(tmp_path, fleet_period(35, 46, name="work"))
    for host in (0, 1):
        world.jump(host, 40, 12)
    world.run(46)
    assert exposed(world)[INCIDENT_OPEN.name, ""] == 0
    world.tick()
    shown = exposed(world)
    assert (shown[INCIDENT_OPEN.name, ""], shown[INCIDENT_MUTED.name, ""]) == (1, 0)
    assert shown[IS_ANOMALY.name, "host-0"] == 1
    ended_at = FLEET_START + 46 * FLEET_STEP
    assert {each.event.unmuted_at for each in world.events.find()} == {ended_at}
    (logged,) = world.events.find_incidents()
    assert (logged.incident.muted, logged.incident.unmuted_at) == ("work", ended_at)
    assert count_begun(world.events.path, "incidents", "bundle", 0.0) == 1


def test_a_restart_of_a_fleet_continues_muted_events(tmp_path: Any) -> None:
    world = fleet(tmp_path, fleet_period(35, 46, name="work"))
    world.jump(1, 40, 12)
    world.run(43)
    world.loop.retire()
    world.events.close()
    world.open()
    world.run(45)
    events = world.loop.live.state.events
    assert (events.muted, events.silent.tolist()) == (["", "work", ""], [False, True, False])
    world.run(48)
    (logged,) = world.events.find()
    assert logged.event.unmuted_at == FLEET_START + 46 * FLEET_STEP


def test_a_series_of_a_group_mutes_that_group_of_a_fleet(tmp_path: Any) -> None:
    deploying = entry(query="deploying")
    registry = CollectorRegistry()
    client = SimpleNamespace(
        query_range=lambda *_, **__: SimpleNamespace(
            series=[
                SimpleNamespace(labels=(("instance", "host-2"), ("job", "x")), values=np.ones(1))
            ]
        )
    )
    mutes = MuteQueries(
        [deploying],
        client,  # type: ignore[arg-type]
        Grouping(("instance",)),
        DaemonMetrics(registry).of("fleet"),
        structlog.get_logger(),
    )
    detector = detector_of(threshold=3.0, share=0.6)
    world = FleetWorld(tmp_path, detector, 3, 80, mute=[deploying], mutes=mutes)
    world.run(30)
    assert world.loop.snapshot.columns.muted.tolist() == [False, False, True]


def test_configuration_of_a_fleet_and_its_mutes_fit() -> None:
    config = Config.model_validate(
        {
            "queries": {"cpu": "up"},
            "group_by": ["instance"],
            "mute": [{"query": "deploying", "groups": {"instance": "a"}}],
        }
    )
    assert config.mute[0].title == "deploying"


def test_events_of_a_log_from_before_mutes_count_and_are_upgraded(tmp_path: Any) -> None:
    path = tmp_path / "events.db"
    with closing(EventLog(path)) as log:
        log.record(make_event(10.0), "b1", 40.0)
    with closing(sqlite3.connect(path)) as raw:
        for table in ("events", "incidents"):
            for column in ("muted", "unmuted_at"):
                raw.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        for table in ("markers", "marker_versions"):
            raw.execute(f"DROP TABLE {table}")
        raw.execute("PRAGMA user_version = 2")
        raw.commit()
    assert count_begun(path, "events", "b1", 0.0) == 1
    with closing(EventLog(path)) as log:
        (logged,) = log.find()
        assert (logged.event.muted, logged.event.unmuted_at) == (None, None)
    assert count_begun(path, "events", "b1", 0.0) == 1
