"""`promad mixin`: what it writes, where, and when it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import structlog
import yaml

from promad.cli import app as cli
from promad.config import Config
from promad.exposition import names
from promad.mixin.deployment import Deployment
from promad.mixin.rules import Rule, render_rules
from tests.support.dashboards import committed

CONFIG = "name: {name}\nartifacts_dir: {name}\nqueries: {{a: up}}\n"


@pytest.fixture
def promad(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty directory with three configurations: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    for name in ("web", "db"):
        Path(f"{name}.yaml").write_text(CONFIG.format(name=name))
    other_prefix = "real_time_anomaly_detection: {metrics_prefix: mine_}\n"
    Path("other.yaml").write_text(CONFIG.format(name="other") + other_prefix)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["promad", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        structlog.reset_defaults()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_it_writes_dashboards_and_rules_and_says_so_in_one_line(promad):
    code, out, err = promad("-c", "web.yaml", "mixin", "-o", "out/here")
    assert (code, err) == (0, "")
    assert out == (
        "mixin: 3 dashboards, 3 recording rules and 8 alerts for metrics anomaly_detector_* "
        "→ out/here\n"
    )
    written = {str(path.relative_to("out/here")) for path in Path("out/here").rglob("*.*")}
    assert written == {
        "grafana/dashboards/promad.json",
        "grafana/dashboards/promad-fleet.json",
        "grafana/dashboards/promad-health.json",
        "kubernetes/prometheus-operator/rules.yaml",
        "prometheus/promad-recording.yaml",
        "prometheus/promad-alerts.yaml",
    }


def test_it_writes_what_prometheus_sends_to_promad(promad):
    web = CONFIG.format(name="web") + "group_by: [instance]\ndata_settings: {step: 15s}\n"
    Path("web.yaml").write_text(web.replace("a: up", "a: up, b: 'rate(x[1m]) # per second'"))
    Path("db.yaml").write_text(CONFIG.format(name="d.b"))
    url = "http://promad:8001/api/v1/write"
    code, out, err = promad(
        *("-c", "web.yaml", "-c", "db.yaml", "mixin", "-o", "out", "--remote-write", url)
    )
    assert (code, err) == (0, "")
    assert "alerts for metrics anomaly_detector_*, 3 recorded queries → out" in out
    text = Path("out/prometheus/promad-features.yaml").read_text()
    web, db = yaml.safe_load(text)["groups"]
    assert (web["name"], web["interval"]) == ("promad-features-web", "15s")
    assert (db["name"], db["interval"]) == ("promad-features-d.b", "30s")
    assert web["rules"][0] == {
        "record": "promad:feature",
        "labels": {"detector": "web", "feature_name": "a"},
        "expr": "(\nup\n)\nunless on (instance)\n"
        "count by (instance) (up unless on (instance) last_over_time(up[120001ms]))",
    }
    assert web["rules"][1]["expr"] == "rate(x[1m]) # per second"
    sent = yaml.safe_load(Path("out/prometheus/promad-remote-write.yaml").read_text())
    assert "# write-receiver" not in Path("out/prometheus/promad-remote-write.yaml").read_text()
    [block] = sent["remote_write"]
    assert block["url"] == url
    assert block["write_relabel_configs"] == [
        {
            "source_labels": ["__name__", "detector"],
            "regex": r"promad:feature;(web|d\.b)",
            "action": "keep",
        }
    ]
    assert (
        "promad-features-web" in Path("out/kubernetes/prometheus-operator/rules.yaml").read_text()
    )


def test_a_url_that_is_none_is_refused(promad):
    code, _, err = promad("-c", "web.yaml", "mixin", "-o", "out", "--remote-write", "promad:8001")
    assert code == 2
    assert "--remote-write promad:8001" in err
    assert not Path("out").exists()


def test_alerts_name_the_detector_by_its_label(promad):
    code, out, _ = promad("-c", "web.yaml", "-c", "db.yaml", "mixin", "-o", "out")
    assert (code, out.count("\n")) == (0, 1)
    assert "Detector {{ $labels.detector }} is blind" in alerts(Path("out"))
    promad("-c", "web.yaml", "mixin", "-o", "out")
    assert "Detector {{ $labels.detector }} is blind" in alerts(Path("out"))


def test_detectors_whose_metrics_begin_differently_have_none(promad):
    code, _, err = promad("-c", "web.yaml", "-c", "other.yaml", "mixin", "-o", "out")
    assert code == 2
    assert err == (
        "real_time_anomaly_detection.metrics_prefix: is anomaly_detector_ in web and mine_ in "
        "other — a mixin covers one prefix; run promad mixin once for each\n"
    )
    assert not Path("out").exists()


def test_the_job_is_what_the_scrape_configuration_calls_it(promad):
    promad("-c", "web.yaml", "mixin", "-o", "out", "--job", "anomalies")
    assert 'up{job="anomalies"}' in alerts(Path("out"))


def alerts(directory: Path) -> str:
    return (directory / "prometheus" / "promad-alerts.yaml").read_text(encoding="utf-8")


def deployment(*configs: dict[str, object]) -> Deployment:
    detectors = [{"name": f"d{place}", "queries": {"a": "up"}} for place in range(len(configs))]
    merged = [{**one, **other} for one, other in zip(detectors, configs, strict=True)]
    return Deployment.from_configs([Config.model_validate(one) for one in merged], "promad")


def test_times_are_those_of_the_slowest_detector():
    slow = {
        "data_settings": {"step": "5m"},
        "real_time_anomaly_detection": {"query_interval_seconds": 60.0, "stale_after": "15m"},
        "training_settings": {"sequence_length": 12},
    }
    both = deployment({}, slow)
    assert (both.interval, both.step, both.window) == (60.0, 300.0, 3600.0)
    assert both.oldest_sample == 900.0 + 40.0 + 300.0
    assert both.false_alarms_per_week == 2.0


def test_links_are_those_of_the_first_file():
    web = {"external_url": "https://promad.example", "runbook_url": "https://wiki.example"}
    first = deployment({"web": web}, {})
    assert (first.external_url, first.runbook_url) == tuple(web.values())


def test_a_rule_stands_below_the_reason_for_it_and_text_of_several_lines_stays_so():
    text = render_rules("All of it.", {"g": [Rule("Why.", {"record": "a:b:c", "expr": "x\n+ y"})]})
    assert text == (
        "# All of it.\ngroups:\n  - name: g\n    rules:\n      # Why.\n"
        "      - record: a:b:c\n        expr: |-\n          x\n          + y\n"
    )
    assert yaml.safe_load(text)["groups"][0]["rules"][0]["expr"] == "x\n+ y"


def test_the_health_dashboard_has_all_that_is_counted_of_remote_write():
    panels = committed("promad-health")["panels"]
    row = next(panel for panel in panels if panel["title"] == "Remote write")
    assert row["collapsed"]  # most have no such metrics, and query nothing for it
    shown = " ".join(target["expr"] for panel in row["panels"] for target in panel["targets"])
    counted = {
        *(names.RECEIVED_SAMPLES, names.RECEIVED_NEWEST, names.CATCH_UPS),
        *(names.RECEIVED_REQUESTS, names.RECEIVED_UNUSED),
    }
    assert {spec.name for spec in counted if f"{spec.name}{{" not in shown} == set()
