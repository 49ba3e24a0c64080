"""Looking back on a real Prometheus: explain, backtest and its metrics, and the report."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from promad.cli import app as cli
from promad.config import Config, load_config
from promad.config.durations import format_instant
from promad.config.known_incidents import Incident, load_incidents
from promad.detection.backtest_results import Backtest
from promad.errors import ConfigError, PrometheusError
from promad.events.status import GroupStatus
from promad.events.verdict import State
from promad.exposition.openmetrics import write_openmetrics
from promad.exposition.pushing import push_samples
from promad.exposition.scrape_target import ScrapeTarget
from promad.prometheus.remote_write import RemoteWriter
from promad.stages.backtest import backtest
from promad.stages.explain import explain_at
from tests.support.browser import chromium
from tests.support.prometheus_server import PrometheusServer, openmetrics
from tests.support.rounding import round_numbers

STEP = 10.0
HOURS = 8
FEATURES = ("cpu", "latency", "requests")

HISTORY_ENDS, INCIDENT_BEGINS, INCIDENT_LASTS = -600.0, -2400.0, 600.0
"""In seconds before the world's now."""

GAP_BEGINS, GAP_LASTS = -4000.0, 200.0


def value(feature: int, since: float) -> float:
    """A value, by seconds since the world's now: the same in every run."""
    noise = np.random.default_rng([int(since) + 10**6, feature]).normal()
    wave = math.sin(2 * math.pi * since / (3000 + 700 * feature))
    return 5.0 + feature + wave + 0.3 * float(noise)


def wrong(since: float) -> float:
    """What the incident adds: latency jumps up and down."""
    if not INCIDENT_BEGINS <= since < INCIDENT_BEGINS + INCIDENT_LASTS:
        return 0.0
    return 3.0 if since % (2 * STEP) == 0 else -3.0


@dataclass
class World:
    """A server with a history, and a model trained on its first part."""

    server: PrometheusServer
    config_path: Path
    now: float

    @property
    def config(self) -> Config:
        return load_config(self.config_path)

    def at(self, before: float) -> float:
        return self.now + before


def history(now: float) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for number, name in enumerate(FEATURES):
        samples = []
        for at in np.arange(now - HOURS * 3600, now + HISTORY_ENDS, STEP).tolist():
            since = at - now
            if GAP_BEGINS <= since < GAP_BEGINS + GAP_LASTS:
                continue
            samples.append((at, value(number, since) + wrong(since) * (name == "latency")))
        series[f'app_{name}{{job="app"}}'] = samples
    fired = np.arange(now + INCIDENT_BEGINS + 120, now + INCIDENT_BEGINS + 500, STEP)
    for alert in ("HighLatency", "PromadAnomaly"):
        key = f'ALERTS{{alertname="{alert}",alertstate="firing",severity="page"}}'
        series[key] = [(at, 1.0) for at in fired.tolist()]
    return openmetrics(series)


def run(config: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["promad", "-c", str(config), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("looking-back")
    now = float(int(time.time()) // 10 * 10)
    server = PrometheusServer(directory)
    server.backfill(history(now))
    queries = "\n".join(f"  {name}: sum(app_{name})" for name in FEATURES)
    start, end = (format_instant(now + before) for before in (-HOURS * 3600 + 60, -5000))
    config = directory / "config.yaml"
    config.write_text(
        f"name: web\nprometheus_url: {server.url}\nqueries:\n{queries}\n"
        f"data_settings: {{step: 10s, start_time_iso: '{start}', end_time_iso: '{end}'}}\n"
        "training_settings: {model: linear, gate: false}\n"
        "real_time_anomaly_detection: {stale_after: 30s}\n"
    )
    with server, pytest.MonkeyPatch.context() as patch:
        assert run(config, "run", monkeypatch=patch) == 0
        yield World(server, config, now)


@pytest.fixture(scope="module")
def found(world: World) -> tuple[Backtest, list[GroupStatus]]:
    statuses: list[GroupStatus] = []
    incidents = (
        Incident(start=world.at(INCIDENT_BEGINS), end=world.at(INCIDENT_BEGINS + INCIDENT_LASTS)),
        Incident(start=world.at(-4900.0), end=world.at(-4800.0), name="nothing to see"),
    )
    start, end = world.at(-5000.0), world.at(HISTORY_ENDS - STEP)
    return backtest(world.config, start, end, incidents, [statuses.append]), statuses


def test_a_backtest_finds_the_incident_and_what_drove_it(found, world) -> None:
    (event,) = found[0].events
    assert 0 <= event.start - world.at(INCIDENT_BEGINS) <= 60
    assert event.top_features[0].name == "latency"
    assert event.peak.threshold == found[1][0].verdict.threshold


def test_it_is_blind_where_samples_are_missing(found, world) -> None:
    """Some samples of the gap are filled, and staleness is told by the age of samples."""
    blind = [status.verdict for status in found[1] if status.verdict.state is State.BLIND]
    assert blind
    assert all(
        world.at(GAP_BEGINS) <= verdict.at < world.at(GAP_BEGINS + GAP_LASTS) for verdict in blind
    )
    assert found[0].share(State.BLIND) == len(blind) / len(found[1])
    assert 100 <= blind[-1].at - blind[0].at < GAP_LASTS


def test_figures_of_events_know_no_point_adjustment(found) -> None:
    figures = found[0].figures
    assert (figures.segments, figures.found, figures.episodes) == (2, 1, 1)
    assert (figures.event_recall, figures.alarm_precision) == (0.5, 1.0)
    assert 0 < figures.median_delay_seconds <= 60
    extents = found[0].extents
    assert extents.fragments.tolist() == [1]
    assert 0 < extents.coverage[0] <= 1
    assert -60 <= extents.overhang[0] * STEP <= 600


def test_an_alert_that_fired_is_seen_and_promads_own_is_not(found, world) -> None:
    (alert,) = found[0].alerts
    assert alert.labels == '{alertname="HighLatency", severity="page"}'
    assert alert.start == world.at(INCIDENT_BEGINS + 120)
    assert found[0].lead(alert) == alert.start - found[0].events[0].flagged_at > 0


def test_an_explanation_of_the_past_is_what_the_backtest_saw(found, world) -> None:
    moment = world.at(INCIDENT_BEGINS + 120)
    explained = explain_at(world.config, moment + 3.0)
    (status,) = [each for each in found[1] if each.verdict.at == moment]
    assert explained.group == "web"
    verdict = explained.explanation.verdict
    assert round_numbers(verdict) == round_numbers(status.verdict)
    assert explained.explanation.since == status.anomalous_since
    assert explained.explanation.features[0].since is not None


# The commands


def test_explain_says_it_in_words_and_numbers(world, monkeypatch, capsys) -> None:
    moment = format_instant(world.at(INCIDENT_BEGINS + 120))
    assert run(world.config_path, "explain", "--at", moment, monkeypatch=monkeypatch) == 0
    first, paragraph, feature, *_ = capsys.readouterr().out.splitlines()
    assert first == f"web at {moment}: anomalous"
    assert re.search(r"latency: \d+% of the deviation", paragraph)
    assert re.match(r" +latency +\d+%  above  observed", feature)


def test_explain_says_why_there_is_no_score(world, monkeypatch, capsys) -> None:
    moment = format_instant(world.at(GAP_BEGINS + GAP_LASTS - 20))
    assert run(world.config_path, "explain", "--at", moment, monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert ": blind" in out
    assert "missing: cpu, latency, requests" in out


def test_explain_knows_its_groups(world, monkeypatch, capsys) -> None:
    assert run(world.config_path, "explain", "--group", "db", monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err == "promad: explain: unknown group db — use one of web\n"


@pytest.mark.parametrize("at", ["yesterday", "12:00", "-3"])
def test_a_time_that_is_none_says_how_to_write_one(world, monkeypatch, capsys, at) -> None:
    assert run(world.config_path, "explain", f"--at={at}", monkeypatch=monkeypatch) == 2
    assert f"invalid time {at}; write it like" in capsys.readouterr().err


def test_backtest_prints_events_incidents_alerts_and_the_sum(
    world, monkeypatch, capsys, tmp_path
) -> None:
    times = [format_instant(world.at(INCIDENT_BEGINS + after)) for after in (0, INCIDENT_LASTS)]
    incidents = tmp_path / "incidents.yaml"
    incidents.write_text(
        f"incidents:\n  - {{start: {times[0]}, end: {times[1]}, name: slow answers}}\n"
    )
    arguments = ["--from", format_instant(world.at(-5000)), "--to", format_instant(world.at(-700))]
    arguments += ["--events", str(incidents)]
    assert run(world.config_path, "backtest", *arguments, monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert re.search(r"slow answers, \S+: detected by event [0-9a-f]{12} after \d+s", out)
    assert "1 of 1 detected (recall 1.00)" in out
    assert re.search(r'alert \{alertname="HighLatency", .* event \S+ earlier', out)
    budget = r"\(budget: 1 false alarm per week\)"
    assert re.search(rf"1 event, \S+ per week of scored time {budget}", out)


def test_a_time_before_all_data_is_one_line(world, monkeypatch, capsys) -> None:
    arguments = ["backtest", "--from", "2020-01-01", "--to", "2020-01-02"]
    assert run(world.config_path, *arguments, monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err == (
        "promad: no samples of any query in the period — choose another period\n"
    )


def test_a_report_is_one_page_with_everything_in_it(world, monkeypatch, tmp_path) -> None:
    page = tmp_path / "report.html"
    arguments = ["report", "--from", "90m", "-o", str(page)]
    assert run(world.config_path, *arguments, monkeypatch=monkeypatch) == 0
    text = page.read_text()
    assert re.search(r'<h3 id="([0-9a-f]{12})">.*event \1</h3>', text)
    assert re.search(r"latency: \d+% of the deviation", text)
    assert "sum(app_latency)" in text
    assert not re.search(r'(src|href)="', text.partition("</head>")[2])


def test_a_report_is_drawn_by_a_browser_that_reaches_nothing(world, monkeypatch, tmp_path) -> None:
    page_file, complaints, asked = tmp_path / "report.html", [], []
    arguments = ["report", "--from", "90m", "-o", str(page_file)]
    assert run(world.config_path, *arguments, monkeypatch=monkeypatch) == 0
    with chromium() as browser:
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        expect(page.locator(".chart .main-svg").first).to_be_visible()
        charts = page.locator(".chart").count()
        assert page.locator(".chart .plot-container").count() == charts >= 3
    assert complaints == []
    assert asked == [page_file.as_uri()]


# What is exposed, for dashboards


SCRAPED = ScrapeTarget("web", "anomaly_detector_", {"job": "promad", "instance": "a:8001"})


def scraped(server: PrometheusServer, status: GroupStatus) -> dict[str, float]:
    """What the server has of a sample's time, by feature, for a few metrics."""
    found = {}
    for name in ("score", "is_anomaly_detected", "feature_observed_value", "state"):
        for series in server.query(f"anomaly_detector_{name}", at=status.verdict.at):
            labels = series["metric"]
            assert (labels["job"], labels["instance"]) == ("promad", "a:8001")
            key = name + labels.get("feature_name", "") + labels.get("state", "")
            found[key] = float(series["value"][1])
    return found


def expected(status: GroupStatus) -> dict[str, float]:
    verdict = status.verdict
    values = {f"state{state}": float(state is verdict.state) for state in State}
    if verdict.score_ratio is not None:
        values["score"] = verdict.score_ratio
        values["is_anomaly_detected"] = float(verdict.state is State.ANOMALOUS)
    for view in verdict.features:
        if not math.isnan(view.observed):
            values[f"feature_observed_value{view.name}"] = view.observed
    return values


def test_promtool_imports_what_the_daemon_would_have_exposed(found, tmp_path) -> None:
    statuses = found[1]
    with write_openmetrics(tmp_path / "history.om", SCRAPED) as file:
        for status in statuses:
            file.add(status)
    server = PrometheusServer(tmp_path / "prometheus")
    server.backfill(tmp_path / "history.om")
    with server:
        for status in statuses[::40]:
            if status.verdict.score is not None and status.verdict.features:
                assert scraped(server, status) == expected(status)


def test_remote_write_ends_what_is_not_known_any_more(found, tmp_path) -> None:
    statuses = found[1]
    flags = ["--web.enable-remote-write-receiver"]
    with PrometheusServer(tmp_path, flags=flags) as server:
        url = f"{server.url}/api/v1/write"
        with (
            closing(
                RemoteWriter(url, server.url, Config(queries={"a": "up"}).prometheus)
            ) as writer,
            push_samples(SCRAPED, writer.push) as sending,
        ):
            for status in statuses:
                sending.add(status)
        blind = [status for status in statuses if status.verdict.state is State.BLIND]
        for status in (*statuses[::40], *blind[::4]):
            assert scraped(server, status) == expected(status)


def test_a_server_that_takes_no_remote_write_says_so(world) -> None:
    url = f"{world.server.url}/api/v1/write"
    with (
        closing(RemoteWriter(url, world.server.url, world.config.prometheus)) as writer,
        pytest.raises(PrometheusError, match=r"HTTP 404 .* enable the remote write receiver"),
    ):
        writer.push({(("__name__", "a"),): [(1.0, 1.0)]})


# Incidents


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- start: x\n", "1: not a mapping of keys to values"),
        ("incidents: []\n", "1: incidents: "),
        (
            "incidents:\n  - {start: 2026-01-02, end: 2026-01-01}\n",
            "2: incidents.0: the period ends before it starts",
        ),
        (
            "incidents:\n  - {start: 2026-01-01, end: 2026-01-02}\n  - {start: noon, end: noon}\n",
            "3: incidents.1.start: not a time",
        ),
        ("incidents:\n  - {start: 2026-01-01}\n", "2: incidents.0.end: Field required"),
        ("events: []\n", "1: "),
    ],
)
def test_a_mistake_in_incidents_is_told_with_its_line(tmp_path, text, told) -> None:
    path = tmp_path / "incidents.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_incidents(path)
    assert str(caught.value).startswith(f"{path}:{told}")


def test_incidents_come_in_order_of_time(tmp_path) -> None:
    path = tmp_path / "incidents.yaml"
    path.write_text(
        "incidents:\n"
        "  - {start: 2026-01-03, end: 2026-01-04, name: later}\n"
        "  - {start: 2026-01-01T00:00:00Z, end: 2026-01-02}\n"
    )
    assert [incident.name for incident in load_incidents(path)] == ["incident", "later"]
