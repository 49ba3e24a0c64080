"""`promad doctor` on files alone: exit codes, the report as text and as JSON, data and bundle."""

import json
import sys
from contextlib import closing
from dataclasses import replace

import pytest
import yaml

from promad.bundle import BundleStore
from promad.cli import app as cli
from promad.clock import DAY_SECONDS
from promad.diagnosis.checks import CHECKS
from promad.events.event_log import FILE_NAME, EventLog
from promad.stages.doctor import count_findings, diagnose
from tests.support.simulated import NAMES, NOW, STEP, frame_of, host_values, write_raw
from tests.support.statuses import ANOMALOUS


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROMAD_CONFIG", raising=False)

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["promad", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run_command


def write(path, name="web", **queries):
    content = {"name": name, "artifacts_dir": name, "queries": queries or {"load": "host_load1"}}
    path.write_text(yaml.safe_dump({**content, "group_by": ["instance"]}))
    return path


def look(config, tmp_path, now=NOW, **known):
    """The outcome of each check by its name."""
    outcomes = diagnose(config, tmp_path / "config.yaml", online=False, now=now, **known)
    return {outcome.check: outcome for outcome in outcomes}


# The command


def test_nothing_to_find_is_exit_code_0_and_says_what_was_not_done(run, tmp_path):
    write(tmp_path / "config.yaml")
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "config.yaml:"
    assert "  not checked: needs the server — run promad doctor --online" in lines
    assert (
        f"  not checked: {tmp_path}/web/prometheus_metrics_data.parquet: no such file — run promad "
        "collect first"
    ) in lines
    assert f"  not checked: no bundle in {tmp_path}/web/bundles — run promad train" in lines
    assert lines[-1] == "config.yaml: no findings, 21 of 30 checks not done"


def test_findings_are_exit_code_3_a_line_each_with_the_name_of_the_check(run, tmp_path):
    write(tmp_path / "config.yaml", a="e_total", b="up offset 1h", c="x offset 1h")
    code, out, _ = run("doctor")
    assert code == 3
    assert out.splitlines()[1:4] == [
        "queries:",
        "  warning: queries.a: e_total looks like a counter, which only rises and resets — use "
        "rate(e_total[…]) [counter_without_rate]",
        "  warning: queries.b, queries.c: offset 1h: an incident shows up again 1h later, as an "
        "anomaly — remove offset; for daily or weekly patterns set "
        "preprocessing_settings.time_features [time_shift]",
    ]
    assert out.splitlines()[-1] == (
        "config.yaml: 3 findings (0 errors, 3 warnings), 21 of 30 checks not done"
    )


def test_json_has_the_documented_schema(run, tmp_path):
    one = write(tmp_path / "one.yaml", "one", a="e_total")
    two = write(tmp_path / "two.yaml", "two")
    code, out, _ = run("-c", one, "-c", two, "doctor", "--json")
    assert code == 3
    report = json.loads(out)
    assert {key: report[key] for key in ("schema", "online")} == {"schema": 1, "online": False}
    first, second = report["configurations"]
    assert (first["file"], first["detector"]) == (str(one), "one")
    assert first["findings"] == [
        {
            "check": "counter_without_rate",
            "area": "queries",
            "severity": "warning",
            "subject": "queries.a",
            "found": "e_total looks like a counter, which only rises and resets",
            "remedy": "use rate(e_total[…])",
        }
    ]
    assert second["findings"] == []
    assert [set(fact) for fact in second["facts"]] == [{"check", "area", "subject", "text"}]
    assert {"check": "drift", "area": "bundle", "reason": second["not_checked"][-1]["reason"]} in (
        second["not_checked"]
    )
    assert {each["check"] for each in second["not_checked"]} <= set(CHECKS)


def test_a_mistake_in_the_configuration_is_exit_code_2(run, tmp_path):
    (tmp_path / "config.yaml").write_text("queries: {a: 'up{'}\n")
    code, out, err = run("doctor")
    assert (code, out) == (2, "")
    assert err.startswith("config.yaml:1: queries.a")


# Collected data


def test_collected_data_are_judged(sketched, tmp_path):
    values = host_values(3000)
    values[:, 2] = 5.0
    write_raw(sketched.config, [frame_of(values)], queries=json.dumps(sketched.config.promql))
    found = look(sketched.config, tmp_path)
    assert [each.subject for each in found["constant_feature"].findings] == [f"queries.{NAMES[2]}"]


def test_data_of_other_queries_are_not_judged(sketched, tmp_path):
    write_raw(sketched.config, [frame_of(host_values(300))], queries='{"other": "up"}')
    assert look(sketched.config, tmp_path)["gaps"].not_checked == (
        f"{sketched.config.artifacts_dir}/prometheus_metrics_data.parquet: was collected with "
        "other queries — run promad collect"
    )


def test_damaged_data_are_not_judged(sketched, tmp_path):
    path = sketched.config.artifacts_dir / sketched.config.data_settings.output_filename
    path.write_bytes(b"nothing")
    assert "cannot be read" in look(sketched.config, tmp_path)["gaps"].not_checked


# The bundle


def test_a_sound_bundle_has_its_age_only(sketched, tmp_path):
    found = look(sketched.config, tmp_path, NOW + DAY_SECONDS)
    assert [fact.text for fact in found["bundle_age"].facts] == ["trained 1d ago"]
    for name in ("damaged_bundle", "bundle_misfit", "bundle_age"):
        assert found[name].findings == ()
    assert found["drift"].not_checked.endswith(
        "has less than a day after the training — run promad collect, or use --online"
    )


def test_a_bundle_that_does_not_fit_is_found_and_its_drift_is_not_judged(sketched, tmp_path):
    queries = sketched.config.queries
    more = {"queries": {**queries, "more": queries[NAMES[0]]}}
    config = sketched.config.model_copy(update=more)
    found = look(config, tmp_path)
    (misfit,) = found["bundle_misfit"].findings
    assert misfit.found.startswith("the bundle has the features")
    assert found["drift"].not_checked == "the current bundle cannot be used — fix that first"


def test_a_damaged_bundle_is_found(sketched, tmp_path):
    bundle = BundleStore.of(sketched.config).open_current()
    (bundle.directory / "scoring.json").write_text("{}")
    found = look(sketched.config, tmp_path)
    (damage,) = found["damaged_bundle"].findings
    assert (damage.severity, damage.subject) == ("error", f"{bundle.directory}/scoring.json")
    assert damage.remedy == "promad models rollback, or train again"
    assert found["alert_budget"].not_checked == "the current bundle cannot be used — fix that first"


def test_drift_is_found_in_data_that_are_newer_than_the_training(sketched, tmp_path):
    days = 3 * int(DAY_SECONDS / STEP)
    values = host_values(420 + days)
    values[-days // 2 :, 1] += 1e6
    write_raw(sketched.config, [frame_of(values)])
    found = look(sketched.config, tmp_path)
    shares = {each.subject: each.found for each in found["drift"].findings}
    assert shares[f"queries.{NAMES[1]}"].endswith(
        "of its values of the newest 3d are outside of the training range"
    )


def test_events_of_the_bundle_are_held_against_the_budget(sketched, tmp_path):
    bundle = BundleStore.of(sketched.config).current_id()
    with closing(EventLog(sketched.config.artifacts_dir / FILE_NAME)) as log:
        for number in range(30):
            at = NOW + number * 1000.0
            log.record(replace(ANOMALOUS.event, start=at, flagged_at=at), bundle, at)

    def list_texts(days):
        found = look(sketched.config, tmp_path, NOW + days * DAY_SECONDS)
        return [each.found for each in found["alert_budget"].findings]

    text = "30 events in the last 10 days, 21 per week; the alert budget is 1 per week"
    assert text in list_texts(10)
    assert not any("events" in each for each in list_texts(2))


def test_findings_are_counted(sketched, tmp_path):
    outcomes = diagnose(sketched.config, tmp_path / "c.yaml", online=False, now=NOW)
    assert count_findings(outcomes) == sum(len(outcome.findings) for outcome in outcomes)
