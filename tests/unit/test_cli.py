"""The command line: exit codes, one line for what went wrong, and help that teaches."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import structlog
import typer

import promad
from promad.bundle import FORMAT, BundleStore, Manifest, Range
from promad.cli import app as cli
from promad.cli.commands.collect import _format_shortfall
from promad.cli.commands.train import format_threshold
from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.config import load_config, read_config
from promad.simulation import SimulatedHost, SimulationServer
from promad.thresholds import Threshold

ROOT = Path(__file__).parents[2]
HEAVY = ("tensorflow", "keras", "onnx", "onnxruntime", "pandas", "sklearn", "matplotlib", "pyarrow")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROMAD_CONFIG", raising=False)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process: exit code, standard output, standard error."""

    def run_command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["promad", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run_command


@pytest.fixture(scope="module")
def server():
    host = SimulatedHost(seed=7, restarted_at=time.time() - 40_000.0)
    with SimulationServer(host) as url:
        yield url


ARTIFACTS = {"t": "artifacts", "u": "others"}


def write(path: Path, url: str = "http://127.0.0.1:9", name: str = "t", **queries: str) -> Path:
    lines = [f"  {alias}: {expr}" for alias, expr in (queries or {"load": "host_load1"}).items()]
    path.write_text(
        f"name: {name}\nprometheus_url: {url}\nartifacts_dir: {ARTIFACTS[name]}\nqueries:\n"
        + "\n".join(lines)
        + "\n"
        "data_settings: {collection_period_hours: 1}\n"
    )
    return path


def subprocess_run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "promad"]), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


# Light on its feet


def test_python_m_promad_says_its_version():
    done = subprocess_run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"promad {promad.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["check-config"], ["collect", "-h"]]
)
def test_nothing_heavy_is_imported(arguments, tmp_path):
    write(tmp_path / "config.yaml")
    code = f"""
import sys
from promad.cli import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as ended:
    print("exit", ended.code or 0, [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess_run(code=code)
    assert done.stdout.endswith("exit 0 []\n"), done.stdout + done.stderr


# Exit codes


def test_0_is_done(run, tmp_path):
    path = write(tmp_path / "config.yaml")
    assert run("check-config") == (0, "config.yaml: 1 query, no mistakes\n", "")
    assert run("-c", path, "check-config")[0] == 0


def test_1_is_failed_at_run_time(run, tmp_path):
    write(tmp_path / "config.yaml")
    missing = f"promad: {tmp_path}/artifacts/bundles: no bundle yet — run promad train first\n"
    assert run("models", "show") == (1, "", missing)


def test_2_is_a_wrong_configuration(run, tmp_path):
    (tmp_path / "config.yaml").write_text("queries: {a: up}\nnaem: x\n")
    told = "config.yaml:2: naem: unknown key — did you mean name?\n"
    for command in ("check-config", "collect", "detect"):
        assert run(command) == (2, "", told)


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["collect", "--nonsense"], ["models", "promote"],
     ["--log-level", "loud", "collect"], ["detect", "--web.listen-address", "8001"],
     ["detect", "--web.listen-address", ":1", "--web.systemd-socket"],
     ["detect", "--web.external-url", "promad.example"], ["detect", "--web.route-prefix", "/a//b"],
     ["detect", "--config.auto-reload-interval", "5"],
     ["demo", "--incident", "meteorite"],
     ["demo", "--until-detected", "--prometheus", "http://localhost:9090"]],
    ids=" ".join,
)  # fmt: skip
def test_2_is_wrong_usage_too(run, tmp_path, arguments):
    write(tmp_path / "config.yaml")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Usage:" in err


def test_3_is_findings(run, tmp_path, server):
    path = write(tmp_path / "c.yaml", server, load="host_load1", gone="host_nothing")
    code, out, err = run("-c", path, "check-config", "--online")
    assert (code, err) == (3, "")
    first, latency, load, gone, last = out.splitlines()
    assert first == f"{path}: 2 queries, no mistakes"
    assert latency == "  latency_offset: 10s (auto)"
    assert load.startswith("  load: 1 series, newest sample ")
    assert "host_nothing: no series in the requested period" in gone
    assert last == f"{server}: problems with 1 of 2 queries"


def test_no_findings_are_done(run, tmp_path, server):
    path = write(tmp_path / "c.yaml", server)
    assert run("-c", path, "check-config", "--online")[0] == 0


def test_promql_that_only_a_server_may_know_is_a_warning(run, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "queries: {vm: rate(up), up: up}\ndata_settings: {exclude: ['mode_over_time(up[5m])']}\n"
    )
    code, out, _ = run("-c", path, "check-config")
    lines = out.splitlines()
    assert (code, lines[0]) == (0, f"{path}: 2 queries, no mistakes")
    assert lines[1].startswith(f"{path}: warning: queries.vm: unknown PromQL: ")
    assert lines[2].startswith(f"{path}: warning: data_settings.exclude.0: unknown PromQL: ")
    assert len(lines) == 3


# One line on standard error


def test_a_missing_configuration_is_told_with_what_to_do(run):
    told = (
        "config.yaml: cannot read the file (No such file or directory) "
        "— set its path with promad -c FILE\n"
    )
    assert run("collect") == (2, "", told)


def test_a_port_in_use_is_one_line(run, tmp_path):
    write(tmp_path / "config.yaml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run("detect", "--web.listen-address", f"127.0.0.1:{port}")
    assert (code, out) == (1, "")
    assert err == (
        f"promad: cannot listen on 127.0.0.1:{port} (Address already in use) — free the port, "
        "or set another with exporter_port or --web.listen-address\n"
    )


@pytest.mark.parametrize("command", ["preprocess", "train", "filter"])
def test_a_stage_without_the_one_before_it_says_which_to_run(run, tmp_path, command):
    write(tmp_path / "config.yaml")
    code, out, err = run(command)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "run promad " in err


def test_a_server_that_does_not_know_the_query_fails_collect_and_leaves_nothing(
    run, tmp_path, server
):
    path = write(tmp_path / "config.yaml", server, gone="host_nothing")
    code, out, err = run("-c", path, "collect")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("promad: query gone: host_nothing: no series")
    assert not list(tmp_path.rglob("*.parquet*"))


def test_collect_ends_with_one_summary_line(run, tmp_path, server):
    path = write(tmp_path / "config.yaml", server)
    code, out, err = run("-c", path, "collect")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("collect: 12")
    assert (tmp_path / "artifacts" / "prometheus_metrics_data.parquet").exists()


# Several files


def test_collect_reports_how_much_of_the_requested_time_has_samples():
    config = read_config("prometheus_url: http://prometheus.example\nqueries: {up: up}\n")
    collected = SimpleNamespace(samples=120, missing_share={"up": 0.0})
    assert list(_format_shortfall(collected, config, 1e9)) == [
        "  1 h of data for 168 h requested — the server has no other samples of these queries"
    ]
    collected.samples = 168 * 120
    assert list(_format_shortfall(collected, config, 1e9)) == []


def test_the_shipped_configuration_is_printed_and_valid(run):
    code, out, _ = run("config")
    assert (code, out) == (0, (ROOT / "config.yaml").read_text())
    Path("config.yaml").write_text(out)
    assert run("check-config")[0] == 0


def test_two_detectors_need_two_names(run, tmp_path):
    one, two = write(tmp_path / "1.yaml"), write(tmp_path / "2.yaml")
    told = (
        f"{one}: name: another configuration file has the same value (t) "
        "— set a different one in each file\n"
    )
    assert run("-c", one, "-c", two, "check-config") == (2, "", told)
    assert run("detect", "-c", one, "-c", two) == (2, "", told)


def test_two_detectors_need_two_folders(run, tmp_path):
    one, two = write(tmp_path / "1.yaml"), write(tmp_path / "2.yaml", name="u")
    two.write_text(two.read_text().replace("others", "artifacts"))
    folder = tmp_path / "artifacts"
    told = (
        f"{one}: artifacts_dir: another configuration file has the same value ({folder}) "
        "— set a different one in each file\n"
    )
    assert run("detect", "-c", one, "-c", two) == (2, "", told)


def test_only_detect_takes_several_files(run, tmp_path):
    one, two = write(tmp_path / "1.yaml"), write(tmp_path / "2.yaml", name="u")
    told = f"{two}: this command accepts one configuration file — use -c once\n"
    assert run("-c", one, "-c", two, "collect") == (2, "", told)
    assert run("-c", one, "-c", two, "check-config")[0] == 0


@pytest.mark.parametrize("place", ["before", "after"])
def test_detect_takes_its_file_before_and_after_its_name(run, tmp_path, place):
    path = write(tmp_path / "other.yaml")
    arguments = ["-c", path, "detect"] if place == "before" else ["detect", "-c", path]
    code, _, err = run(*arguments, "--web.listen-address", "127.0.0.1:0")
    assert code == 1
    assert "no bundle yet — run promad train first" in err


def test_the_environment_may_name_the_file(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMAD_CONFIG", str(write(tmp_path / "other.yaml")))
    assert run("check-config")[1] == f"{tmp_path}/other.yaml: 1 query, no mistakes\n"


# Help


def commands(
    command: click.Command | None = None, path: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], click.Command]]:
    command = command or typer.main.get_command(cli.build_app())
    inner = getattr(command, "commands", {})
    return [(path, command)] + [
        found for name, each in inner.items() for found in commands(each, (*path, name))
    ]


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_has_help_that_says_what_it_does(run, path):
    code, out, err = run(*path, "--help")
    assert (code, err) == (0, "")
    assert "Usage: " in out
    assert len(dict(commands())[path].help) > 20


def test_every_option_says_what_it_is_for():
    for path, command in commands():
        for parameter in command.params:
            assert getattr(parameter, "help", ""), f"{' '.join(path)} {parameter.name}"


def test_the_help_names_the_exit_codes(run):
    codes = "0 success, 1 runtime error, 2 usage or configuration error, 3 problems found"
    assert codes in " ".join(run("--help")[1].split())


def test_the_help_names_no_python_types_of_options(run):
    for path, _ in commands():
        assert not re.search(r" -[^ ]+ +<(list|path|str|int)", run(*path, "--help")[1]), path


def test_without_a_command_the_help_is_shown(run):
    code, out, err = run()
    assert code == 2
    assert "Commands" in out + err


# Logs


def test_json_logs_are_one_object_a_line(capsys):
    configure_logging(LogLevel.INFO, LogFormat.JSON)
    log = structlog.get_logger()
    log.debug("not worth a line")
    log.warning("query failed", query="load", error='said "no"\nand left', nothing=None)
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert datetime.fromisoformat(entry.pop("time")).tzinfo is not None
    assert entry == {
        "level": "warning",
        "msg": "query failed",
        "query": "load",
        "error": 'said "no"\nand left',
    }


def test_logfmt_logs_begin_with_time_level_and_message(capsys):
    configure_logging(LogLevel.WARN, LogFormat.LOGFMT)
    structlog.get_logger().info("not worth a line")
    structlog.get_logger().warning("state changed", state="blind")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("time=20")
    assert line.endswith('level=warning msg="state changed" state=blind')


# Training


@pytest.mark.parametrize(
    ("rate", "interval", "line"),
    [
        (1.0, (0.4, 2.1), "expected 1 false alarm per week (90 % interval 0.4 to 2.1)"),
        (2.345, (0.0, 12.34), "expected 2.3 false alarms per week (90 % interval 0 to 12)"),
        (251.9, (0.0, 754.0), "expected 250 false alarms per week (90 % interval 0 to 750)"),
        (0.5, None, "expected 0.5 false alarms per week"),
        (None, None, "expected rate of false alarms unknown"),
    ],
)
def test_the_threshold_is_printed_with_its_uncertainty(rate, interval, line):
    threshold = Threshold("pot", 0.35412, rate, "by the tail", interval)
    assert format_threshold(threshold) == f"threshold 0.3541: {line}"


# Bundles


def keep_bundle(config: Path, minute: int) -> str:
    """A made-up bundle in the store of a configuration."""
    store = BundleStore.of(load_config(config))
    span = Range(start="2026-11-01T00:00:00Z", end="2026-11-02T00:00:00Z", windows=100)
    manifest = Manifest(
        format=FORMAT,
        created=datetime(2026, 11, 3, 6, minute, tzinfo=UTC).isoformat(),
        name="t",
        model="lstm_autoencoder",
        preset="improved",
        trained_on="all windows",
        server="http://127.0.0.1:9",
        queries={"load": "host_load1"},
        step_seconds=30,
        sequence_length=30,
        scaler="ParetoScaler",
        scoring="normalised",
        threshold={"value": 0.25},
        training=span,
        validation=span,
        seed=1,
        versions={},
        figures={"validation_loss": 0.125},
    )
    with store.writing() as directory:
        for name in ("model.onnx", "preparation.json", "scoring.json", "threshold.json"):
            (directory / name).write_bytes(b"made up")
        return store.keep(directory, manifest).id


def test_bundles_are_listed_shown_promoted_and_rolled_back(run, tmp_path):
    path = write(tmp_path / "config.yaml")
    first, second = keep_bundle(path, 1), keep_bundle(path, 2)
    summary = (
        "lstm_autoencoder, 1 feature, trained on all windows, validation loss 0.125, threshold 0.25"
    )
    assert run("models", "list")[1] == f"  {first}  {summary}\n* {second}  {summary}\n"
    assert json.loads(run("models", "show")[1])["created"] == "2026-11-03T06:02:00+00:00"
    assert json.loads(run("models", "show", first)[1])["created"] == "2026-11-03T06:01:00+00:00"
    reload = "run promad reload, or send SIGHUP, to load it in a running daemon"
    assert run("models", "rollback") == (0, f"models: rolled back to {first}; {reload}\n", "")
    assert run("models", "list")[1] == f"* {first}  {summary}\n  {second}  {summary}\n"
    code, _, err = run("models", "rollback")
    assert (code, err.count("\n")) == (1, 1)
    promoted = f"models: {second} is now current; {reload}\n"
    assert run("models", "promote", second) == (0, promoted, "")


def test_a_bundle_that_is_not_there_or_damaged_is_one_line(run, tmp_path):
    path = write(tmp_path / "config.yaml")
    bundle = keep_bundle(path, 1)
    code, _, err = run("models", "promote", "20990101T000000Z-00000000")
    assert (code, err.count("\n")) == (1, 1)
    assert f"no such bundle in {tmp_path}/artifacts/bundles (there: {bundle})" in err
    (tmp_path / "artifacts" / "bundles" / bundle / "model.onnx").write_bytes(b"changed")
    code, _, err = run("models", "show")
    assert (code, err.count("\n")) == (1, 1)
    assert "was changed since training" in err


def test_a_damaged_bundle_does_not_hide_the_others_from_the_list(run, tmp_path):
    path = write(tmp_path / "config.yaml")
    damaged, sound = keep_bundle(path, 1), keep_bundle(path, 2)
    (tmp_path / "artifacts" / "bundles" / damaged / "model.onnx").write_bytes(b"changed")
    code, out, _ = run("models", "list")
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith(f"  {damaged}  unusable: ")
    assert second.startswith(f"* {sound}  lstm_autoencoder, ")


def test_evaluating_a_folder_without_labelled_data_is_one_line(run, tmp_path):
    write(tmp_path / "config.yaml")
    code, _, err = run("evaluate", str(tmp_path / "nowhere"))
    assert (code, err.count("\n")) == (1, 1)
    assert f"{tmp_path}/nowhere" in err


def test_without_a_bundle_the_list_says_how_to_get_one(run, tmp_path):
    write(tmp_path / "config.yaml")
    told = f"no bundle in {tmp_path}/artifacts/bundles — run promad train\n"
    assert run("models", "list") == (0, told, "")
