"""The demo: what a stranger sees first."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from promad.errors import DataError
from promad.events.events import AnomalyEvent
from promad.events.verdict import FeatureView, State, Verdict
from promad.simulation.incidents import Incident
from promad.stages.demo import Referee, SimulatedTime, build_real_config
from tests.support.prometheus_server import PrometheusServer, free_port

ROOT = Path(__file__).parents[2]
START = 1_000_000.0
INCIDENT = Incident("slow_disk", START)
LATENCY = FeatureView("latency_p99_seconds", 1.0, 1.0, 2.0, 1.0)


def verdict(seconds: float, state: State) -> Verdict:
    return Verdict(START + seconds, state, 1.0, 2.0, features=(LATENCY,))


def event(start: float, end: float, peak: float = 3.0) -> AnomalyEvent:
    highest = replace(verdict(start, State.ANOMALOUS), score=peak)
    return AnomalyEvent("demo", START + start, START + start, START + end, highest)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_ends_with_the_incident_detected_and_explained(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "promad", "demo", "--until-detected"]
    command += [f"--web.listen-address=127.0.0.1:{port}", f"--artifacts={tmp_path}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=590, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert f"open http://127.0.0.1:{port}/ " in done.stdout
    assert re.search(r"slow_disk detected \d+m(30s)? after its first effect, 0 false", done.stdout)
    assert re.search(r"top features at the peak: latency_p99_seconds \d+%", done.stdout)
    assert "ground truth:             latency_p99_seconds, " in done.stdout
    assert (tmp_path / "bundles" / "current" / "manifest.json").exists()


def test_an_unknown_incident_is_a_usage_error_that_names_the_known_ones() -> None:
    command = [sys.executable, "-m", "promad", "demo", "--incident", "meteorite"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "slow_disk" in done.stderr


def test_the_delay_runs_from_the_first_effect_to_the_flag() -> None:
    referee = Referee(INCIDENT)
    referee.observe(verdict(-30, State.OK), None)
    referee.observe(verdict(240, State.ANOMALOUS), None)
    referee.observe(verdict(270, State.ANOMALOUS), None)
    assert referee.outcome().delay_seconds == 240


def test_it_is_over_once_the_flag_is_gone_and_not_before_the_incident_is() -> None:
    referee = Referee(INCIDENT)
    referee.observe(verdict(240, State.ANOMALOUS), None)
    referee.observe(verdict(600, State.OK), event(200, 500))
    assert not referee.over.is_set()
    referee.observe(verdict(INCIDENT.scenario.duration, State.OK), None)
    assert referee.over.is_set()


def test_an_event_that_ended_before_the_incident_is_a_false_alarm() -> None:
    referee = Referee(INCIDENT)
    referee.observe(verdict(-30, State.OK), event(-300, -200))
    outcome = referee.outcome()
    assert (outcome.event, len(outcome.false_alarms)) == (None, 1)


def test_of_several_events_the_highest_counts() -> None:
    referee = Referee(INCIDENT)
    referee.observe(verdict(600, State.OK), event(200, 500))
    referee.observe(verdict(900, State.OK), event(700, 800, peak=9.0))
    assert referee.outcome().event == event(700, 800, peak=9.0)


def test_an_incident_that_is_not_noticed_is_given_up_in_the_end() -> None:
    referee = Referee(INCIDENT)
    referee.observe(verdict(INCIDENT.end - START + 1801, State.OK), None)
    assert referee.over.is_set()
    assert referee.outcome().delay_seconds is None


def test_simulated_time_stands_still_until_it_is_let_run() -> None:
    simulated = SimulatedTime(START)
    assert simulated.now() == simulated.now() == START
    clock = simulated.run()
    assert clock.now() > START
    assert simulated.now() > START


def test_a_real_server_without_data_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with (
        PrometheusServer(tmp_path) as server,
        pytest.raises(DataError, match="only 0 of the demo's 17 queries have data"),
    ):
        build_real_config(server.url, tmp_path, time.time(), "linear")


def test_on_a_real_server_the_demo_takes_the_queries_that_have_data(tmp_path: Path) -> None:
    server = PrometheusServer(tmp_path)
    target = f"{{static_configs: [{{targets: ['127.0.0.1:{server.port}']}}], job_name: prometheus}}"
    (tmp_path / "prometheus.yml").write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs: [{target}]\n"
    )
    with server:
        first_sample_on_the_grid = time.time() + 40
        while len(server.query("rate(prometheus_http_requests_total[2m])")) == 0:
            assert time.time() < first_sample_on_the_grid
            time.sleep(0.2)
        config = build_real_config(server.url, tmp_path, first_sample_on_the_grid, "linear")
    assert "prometheus_series" in config.queries
    assert "load1" not in config.queries
