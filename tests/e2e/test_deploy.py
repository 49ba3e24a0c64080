"""What deploy/ has for containers, systemd and Kubernetes is valid, and agrees with config.yaml."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_parser import parse as parse_promql

from promad.config import load_config
from promad.mixin.writing import build_operator_files
from tests.support.manifests import assert_is_restricted, list_pods, require_known_keys
from tests.support.prometheus_server import require_binary

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ALERTMANAGER = ROOT / "docs/alertmanager.md"
OPERATIONS = (ROOT / "docs/operations.md").read_text()
CONFIGS = ("compose/promad.yaml", "kubernetes/base/config.yaml")
SHARDS = "docker-compose.shards.yml"
UNITS = sorted((DEPLOY / "systemd").iterdir())
LARGEST_EXPOSURE = 2.0


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment or None
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def read(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text())


@pytest.mark.parametrize("path", CONFIGS)
def test_a_deployed_configuration_has_the_queries_of_the_shipped_one(path):
    deployed, shipped = load_config(DEPLOY / path), load_config(ROOT / "config.yaml")
    assert (deployed.promql, deployed.group_by) == (shipped.promql, shipped.group_by)
    assert deployed.artifacts_dir == Path("/var/lib/promad")


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.rest.yml", SHARDS])
def test_a_compose_file_is_one(name):
    path = DEPLOY / name
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def test_the_compose_file_mounts_what_exists():
    services = read("docker-compose.yml")["services"]
    sources = [
        mount.partition(":")[0] for each in services.values() for mount in each.get("volumes", [])
    ]
    files = [DEPLOY / source for source in sources if source.startswith(".")]
    assert len(files) > 4
    assert [str(file) for file in files if not file.exists()] == []


@pytest.mark.parametrize("service", ["train", "promad"])
def test_a_container_of_promad_writes_to_its_volume_alone(service):
    found = read("docker-compose.yml")["services"][service]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    writable = [mount for mount in found["volumes"] if not mount.endswith(":ro")]
    assert writable == ["promad-data:/var/lib/promad"]


def list_shards() -> dict[str, dict[str, Any]]:
    """The services of the daemon; the first is described by both files."""
    alone, shards = read("docker-compose.yml")["services"], read(SHARDS)["services"]
    return {
        name: {**alone.get(name, {}), **shard}
        for name, shard in shards.items()
        if "PROMAD_SHARD" in shard.get("environment", {})
    }


def test_the_compose_file_of_shards_has_each_shard_once():
    shards = list_shards()
    assert [each["environment"]["PROMAD_SHARD"] for each in shards.values()] == [
        f"{number}/{len(shards)}" for number in range(len(shards))
    ]
    [scraped] = read("compose/shards.yml")
    assert scraped["targets"] == [f"{name}:8001" for name in shards]


def test_each_shard_of_the_compose_file_shows_all():
    shards = list_shards()
    urls = ",".join(f"http://{name}:8001" for name in shards)
    for shard in shards.values():
        assert f"--web.peers={urls}" in shard["command"]


def test_the_shards_differ_in_their_number_and_their_port_alone():
    own = {"environment", "ports", "healthcheck", "entrypoint"}
    first, *more = (
        {key: value for key, value in one.items() if key not in own}
        for one in list_shards().values()
    )
    assert more == [first, first]


def test_the_container_of_the_api_writes_nothing():
    [found] = read("docker-compose.rest.yml")["services"].values()
    assert found["read_only"] is True
    assert found["command"] == ["serve"]
    assert all(mount.endswith(":ro") for mount in found["volumes"])


def test_prometheus_accepts_its_configuration_in_the_compose_file():
    run(require_binary("promtool"), "check", "config", DEPLOY / "compose/prometheus.yml")
    jobs = {job["job_name"]: job for job in read("compose/prometheus.yml")["scrape_configs"]}
    assert jobs["promad"]["honor_labels"] is True


def test_alertmanager_accepts_its_configuration_in_the_compose_file():
    run(require_binary("amtool"), "check-config", DEPLOY / "compose/alertmanager.yml")


def test_alertmanager_accepts_the_configuration_in_the_documentation(tmp_path):
    [example] = re.findall(r"```yaml\n(.*?)```", ALERTMANAGER.read_text(), re.DOTALL)
    (tmp_path / "alertmanager.yml").write_text(example)
    run(require_binary("amtool"), "check-config", tmp_path / "alertmanager.yml")


def test_prometheus_accepts_the_examples_for_replicas(tmp_path):
    scraping, rules = re.findall(r"```yaml\n(.*?)```", OPERATIONS, re.DOTALL)
    (tmp_path / "rules.yml").write_text(rules)
    (tmp_path / "prometheus.yml").write_text(f"{scraping}rule_files: [rules.yml]\n")
    run(require_binary("promtool"), "check", "config", tmp_path / "prometheus.yml")
    [job] = yaml.safe_load(scraping)["scrape_configs"]
    assert job["honor_labels"] is True


def test_what_to_watch_is_promql_of_metrics_that_exist():
    rows = re.findall(r"^\| `(.+?)` \| ", OPERATIONS.partition("## What to watch")[2], re.MULTILINE)
    queries = [row for row in rows if re.search(r"[({>]|_total|_seconds", row)]
    assert len(queries) > 7
    known = set(re.findall(r"\bpromad_\w+", (ROOT / "docs/metrics.md").read_text()))
    for query in queries:
        assert parse_promql(query)
        named = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bpromad_\w+", query)}
        assert named <= known


def test_the_alerts_in_the_examples_for_alertmanager_exist():
    rules = yaml.safe_load((DEPLOY / "prometheus/promad-alerts.yaml").read_text())["groups"]
    known = {rule["alert"] for group in rules for rule in group["rules"]}
    known |= {"PromadAnomaly", "PromadAnomalySevere", "PromadBlind"}  # without group_by
    text = ALERTMANAGER.read_text() + (DEPLOY / "compose/alertmanager.yml").read_text()
    assert set(re.findall(r"\bPromad[A-Z][a-z]+[A-Za-z]*", text)) <= known


def test_the_image_has_a_base_by_digest_and_no_root_user():
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON_IMAGE=docker\.io/library/python:3\.12-slim@sha256:[0-9a-f]{64}$",
                     text, re.MULTILINE)  # fmt: skip
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {
        "${PYTHON_IMAGE}",
        "build",
        "runtime",
    }
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001:10001"]
    assert text.count("--require-hashes") == 2


def select(folder: Path, installed: list[str], locked: str) -> subprocess.CompletedProcess[str]:
    report = {"install": [{"metadata": {"name": name}} for name in installed]}
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "locked.txt").write_text(locked)
    return subprocess.run(
        [sys.executable, DEPLOY / "select_locked.py", "report.json", "locked.txt"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


LOCKED = """-i https://pypi.org/simple
a-b==1 ; python_version >= '3.9' --hash=sha256:00
c[more]==2 --hash=sha256:11
d==3 --hash=sha256:22
"""


def test_an_image_installs_the_locked_requirements_of_what_it_needs(tmp_path):
    done = select(tmp_path, ["C", "a_b", "promad-exporter"], LOCKED)
    assert done.stdout.splitlines() == [LOCKED.splitlines()[1], LOCKED.splitlines()[2]]


def test_an_image_is_not_built_of_what_is_not_locked(tmp_path):
    done = select(tmp_path, ["a-b", "e", "f"], LOCKED)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "not in Pipfile.lock: e, f\n")


def test_systemd_accepts_the_units(tmp_path):
    program = require_binary("systemd-analyze")
    for unit in UNITS:  # the program that they start need not be installed
        text = unit.read_text().replace("/opt/promad/bin/promad", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    run(program, "verify", *(tmp_path / unit.name for unit in UNITS))


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"])
def test_a_service_is_hardened(unit):
    program = require_binary("systemd-analyze")
    found = run(program, "security", "--offline=true", "--no-pager", unit)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", found)
    assert exposure is not None, found
    assert float(exposure[1]) <= LARGEST_EXPOSURE


def read_manifests() -> dict[tuple[str, str], Any]:
    """Everything below kubernetes/, by kind and name."""
    found = {}
    for path in (DEPLOY / "kubernetes").rglob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text()):
            if isinstance(one, dict) and "kind" in one and "metadata" in one:
                found[one["kind"], one["metadata"]["name"]] = one
    return found


def test_kustomize_finds_every_manifest():
    for folder in ("base", "prometheus-operator"):
        named = read(f"kubernetes/{folder}/kustomization.yaml")["resources"]
        there = {path.name for path in (DEPLOY / "kubernetes" / folder).glob("*.yaml")}
        own = {name for name in named if not name.startswith("..")}
        assert own == there - {"kustomization.yaml", "config.yaml"}


@pytest.mark.parametrize("pod", list_pods([*read_manifests().values()]))
def test_a_pod_keeps_to_the_restricted_standard(pod):
    assert_is_restricted(pod["spec"])


def test_kubernetes_knows_each_key():
    require_known_keys([*read_manifests().values()])


def test_the_rules_for_the_operator_are_those_for_prometheus():
    """If not: promad mixin -o mixin, and copy mixin/kubernetes into deploy."""
    rules = read_manifests()["PrometheusRule", "promad"]["spec"]["groups"]
    files = ("prometheus/promad-recording.yaml", "prometheus/promad-alerts.yaml")
    assert rules == [group for file in files for group in read(file)["groups"]]
    built = build_operator_files({file: (DEPLOY / file).read_text() for file in files})
    assert built == {name: (DEPLOY / name).read_text() for name in built}


def test_the_operator_keeps_the_labels_of_groups():
    [endpoint] = read_manifests()["ServiceMonitor", "promad"]["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True
