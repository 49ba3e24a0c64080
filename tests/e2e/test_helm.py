"""The Helm chart renders valid objects for each way of using it, and refuses what cannot work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import promad
from promad.cli import app as cli
from promad.config import load_config
from tests.support.helm import CHART, Helm, find_helm
from tests.support.manifests import (
    NEWEST,
    OLDEST,
    assert_is_restricted,
    find_pod,
    list_pods,
    require_known_keys,
)
from tests.support.prometheus_server import require_binary

DEPLOY = CHART.parents[1]
MONITORING = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
VALUES: dict[str, dict[str, Any]] = {
    "one pod": {},
    "the operator": MONITORING,
    "three shards": {"shards": 3, "bundles": {"accessMode": "ReadWriteMany"}},
    "two replicas of three shards": {
        "shards": 3,
        "replicas": 2,
        "bundles": {"accessMode": "ReadWriteMany", "storageClass": "nfs"},
        **MONITORING,
    },
    "a protected port": {
        "web": {
            "configFile": "secrets/web.yaml",
            "tls": True,
            "externalUrl": "https://example.com/promad",
            "routePrefix": "/promad/",
        },
        "secretFiles": [
            {"secretName": "web", "key": "web.yaml", "file": "web.yaml"},
            {"secretName": "server", "key": "password", "file": "password"},
        ],
        "serviceMonitor": {"enabled": True, "endpoint": {"tlsConfig": {"serverName": "promad"}}},
    },
    "existing objects": {
        "existingConfigMap": "own",
        "config": "",
        "bundles": {"existingClaim": "bundles"},
        "serviceAccount": {"create": False, "name": "own"},
        "imagePullSecrets": [{"name": "registry"}],
        "image": {"repository": "registry.example/promad", "digest": f"sha256:{'0' * 64}"},
    },
    "the least": {
        "training": {"enabled": False},
        "state": {"enabled": False},
        "probes": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
    },
    "everything else": {
        "fullnameOverride": "hosts",
        "extraArgs": ["--web.enable-lifecycle"],
        "extraEnv": [{"name": "OPENBLAS_NUM_THREADS", "value": "2"}],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "podLabels": {"team": "a"},
        "podAnnotations": {"example.com/a": "b"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "high",
        "training": {"tag": "full", "cache": {"enabled": False}},
    },
}
every_way = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)


@pytest.fixture(scope="module")
def helm(tmp_path_factory) -> Helm:
    return find_helm(tmp_path_factory.mktemp("helm"))


def pick(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == kind]


def pick_daemons(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The only container of each StatefulSet, in order."""
    return [pod["spec"]["containers"][0] for pod in map(find_pod, pick(objects, "StatefulSet"))
            if pod]  # fmt: skip


def read_environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", [])}


def is_selected(labels: dict[str, str], selector: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def test_the_chart_is_of_this_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["appVersion"], chart["version"]) == (promad.__version__, promad.__version__)


def test_the_configuration_and_rules_of_the_chart_are_those_of_the_kustomize_base():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["config"] == (DEPLOY / "kubernetes/base/config.yaml").read_text()
    rules = DEPLOY / "kubernetes/prometheus-operator/rules.yaml"
    assert (CHART / "files/rules.yaml").read_text() == rules.read_text()


def test_the_schema_has_each_value_and_accepts_the_defaults():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    assert set(schema["properties"]) == {*values, "global"}


@every_way
def test_the_chart_has_no_findings_of_lint(helm, values):
    file = helm.directory / "lint.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm.run("lint", "--strict", CHART, "--values", file)
    assert done.returncode == 0, done.stdout + done.stderr


@every_way
def test_kubernetes_knows_each_key(helm, values):
    objects = helm.render(values)
    assert len(objects) > 4
    require_known_keys(objects)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_chart_supports_a_version_of_kubernetes(helm, version):
    assert helm.template({}, "--kube-version", version).returncode == 0


@every_way
def test_each_pod_keeps_to_the_restricted_standard(helm, values):
    for pod in list_pods(helm.render(values)):
        assert_is_restricted(pod["spec"])


@every_way
def test_each_volume_is_mounted(helm, values):
    for one in helm.render(values):
        if pod := find_pod(one):
            volumes = {each["name"] for each in pod["spec"]["volumes"]}
            claims = one["spec"].get("volumeClaimTemplates", [])
            volumes |= {each["metadata"]["name"] for each in claims}
            mounts = pod["spec"]["containers"][0]["volumeMounts"]
            assert volumes == {each["name"] for each in mounts}


@every_way
def test_what_a_pod_refers_to_is_there(helm, values):
    objects = helm.render(values)
    named = {(each["kind"], each["metadata"]["name"]) for each in objects}
    given = {("PersistentVolumeClaim", "bundles"), ("ConfigMap", "own"), ("ServiceAccount", "own")}
    for pod in list_pods(objects):
        assert set(list_references(pod["spec"])) - given <= named


def list_references(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of what a pod needs, apart from Secrets."""
    yield "ServiceAccount", pod["serviceAccountName"]
    for volume in pod["volumes"]:
        if claim := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", claim["claimName"]
        for source in volume.get("projected", {}).get("sources", []):
            if config := source.get("configMap"):
                yield "ConfigMap", config["name"]


@every_way
def test_each_selector_finds_the_daemon_alone(helm, values):
    objects = helm.render(values)
    by_component = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["metadata"]["labels"]
        for pod in list_pods(objects)
    }
    selectors = [each["spec"]["selector"] for each in pick(objects, "Service")]
    selectors += [each["spec"]["selector"]["matchLabels"]
                  for each in pick(objects, "PodDisruptionBudget")]  # fmt: skip
    for selector in selectors:
        found = {name for name, labels in by_component.items() if is_selected(labels, selector)}
        assert found == {"daemon"}


def list_peers(objects: list[dict[str, Any]]) -> list[str]:
    """The URLs in --web.peers, which all pods have alike."""
    [found] = {
        tuple(each for each in daemon["args"] if each.startswith("--web.peers="))
        for daemon in pick_daemons(objects)
    }
    return [url for each in found for url in each.partition("=")[2].split(",")]


def test_each_pod_shows_all_shards_by_the_names_of_the_pods(helm):
    assert list_peers(helm.render({})) == []
    shards = {"shards": 2, "replicas": 2, "bundles": {"accessMode": "ReadWriteMany"}}
    objects = helm.render(shards)
    names = [each["metadata"]["name"] for each in pick(objects, "StatefulSet")]
    [headless] = [each["metadata"]["name"] for each in pick(objects, "Service")
                  if each["spec"].get("clusterIP") == "None"]  # fmt: skip
    assert list_peers(objects) == [
        f"http://{name}-{number}.{headless}:8001" for name in names for number in range(2)
    ]


def test_pods_of_a_protected_port_ask_each_other_only_with_credentials(helm):
    shards = {"shards": 2, "bundles": {"accessMode": "ReadWriteMany"}}
    protected = {
        **shards,
        "web": {"configFile": "secrets/web.yaml", "routePrefix": "/a", "tls": True},
    }
    assert list_peers(helm.render(protected)) == []
    own = yaml.safe_load((CHART / "values.yaml").read_text())["config"]
    client = "web: {peers_http_config: {basic_auth: {username: a, password_file: secrets/a}}}\n"
    [first, _] = list_peers(helm.render({**protected, "config": own + client}))
    assert first.startswith("https://")
    assert first.endswith("-headless:8001/a")
    chosen = own + "web: {peers: []}\n"
    assert list_peers(helm.render({**shards, "config": chosen})) == []


def test_promad_has_the_options_of_each_container(helm, monkeypatch):
    """A command with --help fails on an option that it does not have."""
    commands = {
        tuple(pod["spec"]["containers"][0]["args"])
        for values in VALUES.values()
        for pod in list_pods(helm.render(values))
    }
    assert {command[0] for command in commands} == {"detect", "run", "check-config"}
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["promad", *command, "--help"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code


def test_promad_reads_the_configuration_of_the_config_map(helm, tmp_path):
    [found] = pick(helm.render({}), "ConfigMap")
    (tmp_path / "config.yaml").write_text(found["data"]["config.yaml"])
    assert load_config(tmp_path / "config.yaml").artifacts_dir == Path("/var/lib/promad")


def test_a_file_becomes_the_configuration(helm, tmp_path):
    own = "# mine\nartifacts_dir: /var/lib/promad\nqueries:\n  a: sum(up)  # {{ no template }}\n"
    (tmp_path / "config.yaml").write_text(own)
    [found] = pick(helm.render({}, "--set-file", f"config={tmp_path}/config.yaml"), "ConfigMap")
    assert found["data"]["config.yaml"].strip() == own.strip()


def test_a_long_release_name_leaves_room_for_what_is_appended(helm):
    longest = {"CronJob": 52, "StatefulSet": 52, "Service": 63, "Pod": 63}
    done = helm.run("template", "r" * 53, CHART)
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    for kind, length in longest.items():
        names = [each["metadata"]["name"] for each in pick(objects, kind)]
        assert names
        assert all(len(name) <= length for name in names), names


def test_one_pod_has_no_shard(helm):
    [container] = pick_daemons(helm.render({}))
    assert "PROMAD_SHARD" not in read_environment(container)


def test_each_pod_of_a_replica_is_a_shard(helm):
    objects = helm.render(VALUES["two replicas of three shards"])
    sets = pick(objects, "StatefulSet")
    assert [each["metadata"]["name"] for each in sets] == ["promad", "promad-replica-2"]
    assert [each["spec"]["replicas"] for each in sets] == [3, 3]
    shards = [read_environment(each)["PROMAD_SHARD"] for each in pick_daemons(objects)]
    assert shards == ["auto/3", "auto/3"]
    one, other = (each["spec"]["selector"]["matchLabels"] for each in sets)
    assert {**one, "replica": "2"} == other


def test_the_pods_share_bundles_and_nothing_else(helm):
    for one in pick(helm.render(VALUES["three shards"]), "StatefulSet"):
        mounts = one["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        paths = {each["mountPath"]: each["name"] for each in mounts}
        assert paths["/var/lib/promad"] == "state"
        assert paths["/var/lib/promad/bundles"] == "bundles"
        assert [each["metadata"]["name"] for each in one["spec"]["volumeClaimTemplates"]] == [
            "state"
        ]


def test_training_follows_the_only_pod_to_its_node(helm):
    def find_affinity(values: dict[str, Any]) -> Any:
        [job] = pick(helm.render(values), "CronJob")
        return job["spec"]["jobTemplate"]["spec"]["template"]["spec"].get("affinity")

    assert "podAffinity" in find_affinity({})
    assert find_affinity(VALUES["three shards"]) is None


def test_a_protected_port_is_asked_over_tls_below_its_path(helm):
    objects = helm.render(VALUES["a protected port"])
    [container] = pick_daemons(objects)
    assert "--web.config.file=/etc/promad/secrets/web.yaml" in container["args"]
    for probe in ("readinessProbe", "startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
        assert container[probe]["httpGet"]["path"].startswith("/promad/-/")
    [endpoint] = pick(objects, "ServiceMonitor")[0]["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["path"]) == ("https", "/promad/metrics")
    assert endpoint["tlsConfig"] == {"serverName": "promad"}


def test_secrets_are_files_beside_the_configuration(helm):
    for pod in list_pods(helm.render(VALUES["a protected port"])):
        [config] = [each for each in pod["spec"]["volumes"] if each["name"] == "config"]
        items = [
            (item["key"], item["path"])
            for source in config["projected"]["sources"]
            for one in source.values()
            for item in one["items"]
        ]
        assert items == [
            ("config.yaml", "config.yaml"),
            ("web.yaml", "secrets/web.yaml"),
            ("password", "secrets/password"),
        ]


def test_the_operator_scrapes_each_pod_once_and_keeps_the_labels_of_groups(helm):
    objects = helm.render(VALUES["two replicas of three shards"])
    [monitor] = pick(objects, "ServiceMonitor")
    selector = monitor["spec"]["selector"]["matchLabels"]
    selected = [
        each["metadata"]["name"]
        for each in pick(objects, "Service")
        if is_selected(each["metadata"]["labels"], selector)
    ]
    assert selected == ["promad-headless"]
    assert monitor["spec"]["endpoints"][0]["honorLabels"] is True
    assert monitor["spec"]["podTargetLabels"] == ["replica"]


def test_prometheus_accepts_the_rules(helm, tmp_path):
    [rule] = pick(helm.render(MONITORING), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((CHART / "files/rules.yaml").read_text())["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    command = [require_binary("promtool"), "check", "rules", tmp_path / "rules.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_rules_are_those_of_a_manifest_of_promad_mixin(helm, tmp_path):
    own = {"kind": "PrometheusRule", "spec": {"groups": [{"name": "own", "rules": []}]}}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(own))
    given = f"prometheusRule.manifest={tmp_path}/rules.yaml"
    [rule] = pick(helm.render(MONITORING, "--set-file", given), "PrometheusRule")
    assert rule["spec"] == own["spec"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shards": 2}, "bundles.accessMode is ReadWriteOnce, which is for one pod"),
        ({"replicas": 2}, "set it to ReadWriteMany, or shards and replicas to 1"),
        ({"config": "artifacts_dir: artifacts"}, "artifacts_dir is artifacts"),
        ({"config": "name: a"}, "artifacts_dir is missing"),
        ({"config": "a: ["}, "config is not YAML"),
        ({"config": {"name": "a"}}, "config"),
        ({"shards": 0}, "shards"),
        ({"shard": 2}, "shard"),
        ({"training": {"ifOlderThan": "a week"}}, "ifOlderThan"),
        ({"secretFiles": [{"secretName": "a"}]}, "secretFiles"),
        ({"prometheusRule": {"enabled": True, "manifest": "groups: []"}}, "not a PrometheusRule"),
    ],
)
def test_values_that_cannot_work_are_refused(helm, values, message):
    done = helm.template(values)
    assert done.returncode != 0
    assert message in done.stderr


def test_the_notes_name_the_commands_of_the_release(helm):
    done = helm.run("install", "promad", CHART, "--namespace", "metrics", "--dry-run=client")
    if "unreachable" in done.stderr:
        pytest.skip("this helm asks a cluster before it shows notes")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "kubectl -n metrics create job --from=cronjob/promad-train promad-first" in notes
    assert "promad runs in 1 pod." in notes
