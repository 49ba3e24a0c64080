"""README and docs are true: commands, configuration, metrics, messages and links."""

import ast
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry

from promad.cli import app as cli
from promad.config import Config, RealTimeSettings, load_config, read_config
from promad.config.known_incidents import load_incidents
from promad.config.settings import key_paths
from promad.events.events import AnomalyEvent
from promad.events.status import GroupStatus
from promad.events.verdict import FeatureView, LargestDeviation, State, Verdict
from promad.exposition import DaemonMetrics, Snapshot, SnapshotCollector, WebMetrics, collect_fleets
from promad.exposition.names import GROUP_METRICS, INCIDENT_METRICS
from promad.exposition.peers import PeerMetrics
from promad.exposition.receiver import ReceiverMetrics
from promad.http_server import CLOSE_REASONS
from promad.models import MODELS
from promad.web.protection import REFUSAL_REASONS
from tests.support.fleet_snapshots import make_incident_snapshot
from tests.support.prometheus_server import require_binary

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCS = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTS = tomllib.loads((ROOT / "Pipfile").read_text())["scripts"]
PREFIX = Config(queries={"a": "up"}).real_time_anomaly_detection.metrics_prefix
SET_UP = "python3 -m venv .pipenv && .pipenv/bin/pip install -q pipenv && .pipenv/bin/pipenv sync"


def blocks(language: str, text: str = README) -> list[str]:
    """The code blocks of one language, without the indentation of a list around them."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


def commands(text: str) -> list[str]:
    """The lines of the shell blocks, without comments."""
    lines = [line for block in blocks("sh", text) for line in block.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines]


def rows(pattern: str, text: str) -> list[tuple[str, ...]]:
    """The cells of the table rows that look so."""
    return re.findall(rf"^\| {pattern} \|$", text, re.MULTILINE)


def inline(text: str) -> list[str]:
    """What is set as code within a line."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


USAGE = (
    *("training", "models", "scoring", "daemon"),
    *("grafana", "bundles", "looking-back", "troubleshooting"),
)
"""The pages about using promad."""

COMMANDS = commands(README)
INLINE = [word for text in (README, *map(DOCS.get, USAGE)) for word in inline(text)]
PROMAD = [
    each
    for each in (*(line for page in PAGES for line in commands(page.read_text())), *INLINE)
    if re.match(r"promad [a-z-]", each)
]
OTHERS = [
    line
    for text in (README, DOCS["evaluating"], (ROOT / "CONTRIBUTING.md").read_text())
    for line in commands(text)
    if not line.startswith("promad ")
]


# Commands


def test_the_two_set_up_commands_stand_at_the_top():
    assert COMMANDS[:2] == [
        f"{SET_UP} && .pipenv/bin/pipenv run demo",
        f"{SET_UP} --dev && .pipenv/bin/pipenv run test",
    ]


def test_exactly_one_line_runs_the_tests():
    assert len(re.findall(r"pipenv run test$", README, re.MULTILINE)) == 1


@pytest.mark.parametrize("command", dict.fromkeys(PROMAD))
def test_every_promad_command_exists_with_its_options(command, monkeypatch, capsys):
    arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [*arguments, "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0, capsys.readouterr().err
    command_named = next((word for word in arguments[1:] if word.isidentifier()), "")
    assert f" {command_named}" in capsys.readouterr().out.partition("[OPTIONS]")[0]


@pytest.mark.parametrize("command", dict.fromkeys(OTHERS))
def test_every_other_command_runs_what_is_there(command):
    last = command.rpartition("&& ")[2].removeprefix(".pipenv/bin/")
    match last.split():
        case ["pipenv", "run", "python", "-m", "pytest", "-q", path]:
            assert (ROOT / path).exists()
        case ["pipenv", "run", "python", "-m", module, *_]:
            assert (ROOT / (module.replace(".", "/") + ".py")).exists()
        case ["pipenv", "run", script]:
            assert script in SCRIPTS
        case ["pipenv", "sync", "--dev"] | [
            "alias",
            "promad='.pipenv/bin/pipenv",
            "run",
            "promad'",
        ]:
            assert "promad" in SCRIPTS
        case _:
            pytest.fail(command)


# YAML


def test_the_yaml_is_what_promtool_takes(tmp_path):
    promtool = require_binary("promtool")
    kinds = []
    for text in blocks("yaml"):
        kind = "config" if "scrape_configs" in yaml.safe_load(text) else "rules"
        (tmp_path / "x.yml").write_text(text)
        done = subprocess.run(
            [promtool, "check", kind, tmp_path / "x.yml"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        kinds.append(kind)
    assert kinds == ["config"]


# Metrics


def exposed() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of every metric of one detector, by its name in the text format."""
    registry = CollectorRegistry()
    daemon = DaemonMetrics(registry)
    daemon.show_reload(1.0)
    daemon.show_shard(0, 3)
    received = ReceiverMetrics(registry)
    received.begin("d")
    received.count_request(204)
    PeerMetrics(registry).begin(["http://promad-1:8001"])
    received.count_samples("d", 1, 1.0)
    own = daemon.of("d")
    own.show_mute_queries(["m"])
    own.show_marker_queries(["m"])
    own.show_markers({("m", "1.0"): 1.0})
    own.show_bundle("m", "b", trained_at=1.0)
    own.show_expected(1.0, (0.5, 2.0))
    own.count_adaptations(1)
    own.count_poll(["q"], {})
    own.show_sample_age(1.0)
    largest = LargestDeviation(1.0, observed=1.0, expected=1.0, elevation=2.0)
    view = FeatureView(
        "a", 1.0, 1.0, observed=1.0, expected=1.0, elevation=2.0, since=1.0, largest=largest
    )
    verdict = Verdict(1.0, State.ANOMALOUS, 1.0, score=1.0, mse=1.0, plain=True, features=(view,))
    event = AnomalyEvent("d", 1.0, 1.0, None, verdict)
    status = GroupStatus(verdict, event=event, last_scored_at=1.0, muted=False)
    snapshot = Snapshot("d", PREFIX, (status,))
    registry.register(SnapshotCollector(lambda: [snapshot]))
    WebMetrics(registry, CLOSE_REASONS, REFUSAL_REASONS).show_web_config(1.0)
    of_groups = {"le", "instance", "zone"}
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels) - of_groups,
        )
        for family in [*collect_fleets([make_incident_snapshot()]), *registry.collect()]
    }


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    found = rows(r"`([a-z0-9_]+)` \| (\w+) \| (.*?) ?\| .+ \| .+", DOCS["metrics"])
    return {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in found
        if kind in {"gauge", "counter", "histogram"}
    }


def test_the_table_of_metrics_is_what_is_exposed():
    assert documented() == exposed()


def test_those_that_begin_with_the_prefix_come_first():
    names = list(documented())
    first = len(GROUP_METRICS) + len(INCIDENT_METRICS)
    own = [name.startswith(PREFIX) for name in names]
    assert own == [True] * first + [False] * (len(names) - first)


def test_every_metric_in_the_rules_is_exposed():
    for block in blocks("yaml"):
        for name in re.findall(r"\b(?:promad|anomaly_detector)_\w+", block):
            assert name in exposed()


def test_every_model_is_introduced():
    text = DOCS["models"]
    assert set(rows(r"`(\w+)` \| .+ \| .+", text)) == set(MODELS)
    assert set(re.findall(r"^## (\w+)$", text, re.MULTILINE)) == set(MODELS)


def test_every_threshold_is_introduced():
    _, _, thresholds = DOCS["scoring"].partition("\n## Threshold\n")
    cells = rows(r"(`\w+`(?:, `\w+`)?) \| .+", thresholds)
    named = {name for cell in cells for name in re.findall(r"\w+", cell)}
    assert named == set(get_args(RealTimeSettings.model_fields["threshold"].annotation))


def test_every_state_is_explained():
    scored = {State.OK, State.ANOMALOUS}
    assert dict(rows(r"`(\w+)` \| .+ \| (absent|present)", DOCS["daemon"])) == {
        state.value: "present" if state in scored else "absent" for state in State
    }


# Words


def test_every_key_that_is_mentioned_exists():
    paths = {".".join(path) for path in key_paths()}
    for word in INLINE:
        if re.fullmatch(r"\w+(\.\w+)+", word) and word.split(".")[0] in paths:
            assert word in paths


OF_VMANOMALY = {
    "detection_direction",
    "min_dev_from_expected",
    "min_rel_dev_from_expected",
    "data_range",
    "anomaly_score_outside_data_range",
}
"""Keys that readers may know from there."""


def test_every_word_with_an_underscore_is_a_key_or_a_metric_or_a_label():
    labels = {label for _, names in exposed().values() for label in names}
    short = {name.removeprefix(PREFIX) for name in exposed()}
    known = {path[-1] for path in key_paths()} | set(exposed()) | short | labels | set(MODELS)
    words = {word for word in INLINE if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", word)}
    of_prometheus = {"honor_labels", "rule_files", "exported_instance", "remote_write"}
    assert words - known == {*of_prometheus, "not_received", *OF_VMANOMALY}


def test_every_default_in_the_table_is_the_default():
    defaults = Config(queries={"a": "up"})
    found = rows(r"`([\w.]+)` \| ([\w.]+) \| .+", DOCS["training"])
    said = {key: value for key, value in found if "." in key}
    assert said.pop("preprocessing_settings.time_features") == "none"
    for key, value in said.items():
        default: object = defaults
        for step in key.split("."):
            default = getattr(default, step)
        assert float(value.removesuffix("s")) == default, key
    ((_, queries),) = rows(r"`(queries)` \| (\d+) of node_exporter \| .+", DOCS["training"])
    assert int(queries) == len(load_config(ROOT / "config.yaml").queries)
    assert "70 % of the features" in DOCS["daemon"]
    assert defaults.training_settings.scoring.required_share == 0.7
    live = RealTimeSettings()
    assert (live.enter_after_samples, live.leave_after_samples) == (2, 5)
    for text in (README, DOCS["scoring"]):
        assert "wo samples in a row above the threshold begin an event" in text


def test_every_message_in_troubleshooting_exists():
    strings = "\n".join(
        node.value
        for path in (ROOT / "promad").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    for message in rows(r"`([a-z][^`|]{9,})` \| .+", DOCS["troubleshooting"]):
        assert message in strings


def test_the_incidents_in_the_docs_can_be_loaded(tmp_path):
    (text,) = blocks("yaml", DOCS["looking-back"])
    (tmp_path / "incidents.yaml").write_text(text)
    (incident,) = load_incidents(tmp_path / "incidents.yaml")
    assert incident.name == "slow disk"


def test_the_exclusions_in_the_docs_are_valid():
    (text,) = blocks("yaml", DOCS["training"])
    assert len(read_config(f"queries: {{a: up}}\n{text}").data_settings.exclude) == 2


def test_every_package_is_in_the_architecture():
    cells = rows(r"(`\w+`(?:, `\w+`)?) \| .+", DOCS["architecture"].partition("## Glossary")[0])
    named = {name for cell in cells for name in re.findall(r"\w+", cell)}
    parts = {path.stem for path in (ROOT / "promad").iterdir() if path.suffix in {"", ".py"}}
    assert named == parts - {"__init__", "__main__", "__pycache__"}


# Links


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_local_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), target


def test_every_page_is_in_the_index():
    for name in DOCS.keys() - {"README"}:
        assert f"({name}.md)" in DOCS["README"]


# Changelog


def test_the_changelog_has_the_usual_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[0] == "Unreleased"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) <= kinds
