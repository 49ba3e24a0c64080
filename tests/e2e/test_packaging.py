"""What is declared, locked, built and published is what the code needs, and nothing else."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from promad.bundle import HISTOGRAM_PLOT, HISTORY_PLOT
from promad.presets import PRESETS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PIPFILE = tomllib.loads((ROOT / "Pipfile").read_text())
LOCK = json.loads((ROOT / "Pipfile.lock").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))

NEVER_IMPORTED = {
    "fastapi-swagger",  # /docs serves its files; the package itself would patch FastAPI
    "requests",  # pooch downloads with it
    "tensorflow",  # Keras runs on it
    "tzdata",  # zoneinfo reads it where the system has no time zones
}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


BASE = names(PROJECT["dependencies"])
TRAIN = names(PROJECT["optional-dependencies"]["train"])
LINEAR = names(PROJECT["optional-dependencies"]["linear"])
MIXIN = names(PROJECT["optional-dependencies"]["mixin"])
SIGV4 = names(PROJECT["optional-dependencies"]["sigv4"])
NOT_LOCKED = ("jax", "dask", "ray", "spark")
"""Extras of which a user takes one, for a cluster or a GPU."""
ELSEWHERE = {"distributed", "jax", "joblibspark", "py4j", "pyspark", "ray"}
"""What is imported only where such an extra is installed."""


PROVIDERS = cache(packages_distributions)
"""The distributions that provide each top-level module."""


@cache
def imported_modules() -> set[str]:
    """Top-level names of all that promad imports, wherever in a file the import stands."""
    found = set()
    for path in (ROOT / "promad").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"promad"}


def imported_distributions() -> set[str]:
    return {
        canonicalize_name(provider)
        for module in imported_modules()
        for provider in PROVIDERS().get(module, [f"{module}, which nothing installed provides"])
    }


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_lock_names_no_index():
    assert LOCK["_meta"]["sources"] == []
    packages = LOCK["default"] | LOCK["develop"]
    assert not [name for name, package in packages.items() if "index" in package]
    assert "://" not in (ROOT / "Pipfile.lock").read_text()
    assert "source" not in PIPFILE


@pytest.mark.parametrize(
    ("section", "locked"), [("packages", "default"), ("dev-packages", "develop")]
)
def test_the_lock_is_in_step_with_the_pipfile(section, locked):
    for name, wanted in PIPFILE[section].items():
        version = LOCK[locked][canonicalize_name(name)]["version"].removeprefix("==")
        assert SpecifierSet("" if wanted == "*" else wanted).contains(version), name


def test_every_locked_file_has_its_hash():
    packages = LOCK["default"] | LOCK["develop"]
    assert not [name for name, package in packages.items() if not package.get("hashes")]


def test_what_promad_imports_is_what_it_declares():
    imported = {name.partition(",")[0] for name in imported_distributions()}
    assert imported >= ELSEWHERE
    assert imported - ELSEWHERE | NEVER_IMPORTED == BASE | TRAIN | MIXIN | SIGV4


def test_an_extra_declares_what_is_imported_where_it_is_installed():
    extras = PROJECT["optional-dependencies"]
    declared = {Requirement(line).name for name in NOT_LOCKED for line in extras[name]}
    assert declared - TRAIN == ELSEWHERE - {"py4j"}  # which comes with pyspark


def test_the_wheel_and_the_pipfile_declare_the_same():
    parts = (BASE, TRAIN, MIXIN, SIGV4)
    assert len(set().union(*parts)) == sum(map(len, parts))
    assert {canonicalize_name(name) for name in PIPFILE["packages"]} == BASE | TRAIN | MIXIN | SIGV4


def test_the_locked_versions_satisfy_the_wheel():
    extras = PROJECT["optional-dependencies"]
    locked = [lines for name, lines in extras.items() if name not in NOT_LOCKED]
    for line in [*PROJECT["dependencies"], *chain.from_iterable(locked)]:
        wanted = Requirement(line)
        version = LOCK["default"][canonicalize_name(wanted.name)]["version"].removeprefix("==")
        assert wanted.specifier.contains(version), line


def without(extra: set[str], then: str) -> list[str]:
    """A command that runs some Python where what the extra brings is not installed."""
    hidden = [
        module
        for module in imported_modules()
        if extra & {canonicalize_name(provider) for provider in PROVIDERS().get(module, [])}
    ]
    hide = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))"
    return [sys.executable, "-c", f"{hide}; {then}"]


def test_the_daemon_starts_without_the_extras():
    names = ("collect", "filter", "detect", "explain", "backtest", "report")
    stages = ", ".join(f"promad.stages.{name}" for name in names)
    run(*without(TRAIN | MIXIN | SIGV4, f"import promad.cli, promad.mixin.alerts, {stages}"))


LINEAR_WORKS = """
from pathlib import Path
from promad.bundle import BundleStore, load_detector
from promad.stages.filter import filter_windows
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support import simulated

config = simulated.config_for(Path("{}"), training_settings={{"model": "linear", "gate": True}})
simulated.write_raw(config, [simulated.frame_of(simulated.host_values(600))])
preprocess(config)
train(config, simulated.silent, now=lambda: simulated.NOW)
filter_windows(config)
assert load_detector(BundleStore.of(config).open_current())
"""


@pytest.mark.parametrize(("extra", "files"), [(set(), False), (LINEAR, True)])
def test_the_linear_model_needs_no_extra(tmp_path, extra, files):
    """The extra `linear` only adds what other programs and people look at."""
    assert LINEAR < TRAIN
    script = tmp_path / "stages.py"
    script.write_text(LINEAR_WORKS.format(tmp_path / "artifacts"))
    script_alone = f"import runpy; runpy.run_path({str(script)!r})"
    run(*without((TRAIN - extra) | MIXIN, script_alone))
    found = {path.name for path in (tmp_path / "artifacts").rglob("*")}
    more = {"fitted_scaler.joblib", HISTORY_PLOT, HISTOGRAM_PLOT}
    assert found & more == (more if files else set())


def run_promad(extra: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """promad where what the extra brings is not installed."""
    argv = ["promad", *arguments]
    command = without(extra, f"sys.argv = {argv}; from promad.cli import main; main()")
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message", "extra"),
    [
        (
            ("demo", "--model", "lstm_autoencoder"),
            "demo with model lstm_autoencoder needs Keras, TensorFlow, ONNX ",
            "train",
        ),
        (
            ("evaluate", "nothing", "--model", "lstm_autoencoder"),
            "evaluate with model lstm_autoencoder needs Keras, ",
            "train",
        ),
        (("datasets", "fetch", "nab"), "datasets fetch needs pooch (not installed)", "train"),
    ],
)
def test_without_its_extra_a_command_names_it_and_does_nothing(arguments, message, extra):
    done = run_promad(TRAIN, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"promad: {message}")
    assert done.stderr.endswith(f" — pip install 'promad-exporter[{extra}]'\n")
    assert done.stderr.count("\n") == 1


def test_without_its_extra_mixin_says_what_to_install_and_writes_nothing(tmp_path):
    sys_argv = ["promad", "mixin", "-o", str(tmp_path / "out")]
    command = without(MIXIN, f"sys.argv = {sys_argv}; from promad.cli import main; main()")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("promad: dashboards need Grafana's SDK (")
    assert done.stderr.endswith(" — pip install 'promad-exporter[mixin]'\n")
    assert not (tmp_path / "out").exists()


def test_without_its_extra_signing_says_what_to_install(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("queries: {load: up}\nprometheus: {sigv4: {region: eu-central-1}}\n")
    done = run_promad(SIGV4, "-c", str(config), "collect")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "promad: prometheus.sigv4 needs botocore (not installed) "
        "— pip install 'promad-exporter[sigv4]'\n"
    )


def test_pipenv_runs_what_the_readme_names():
    assert PIPFILE["scripts"].keys() == {"promad", "test", "lint", "demo"}
    for script in PIPFILE["scripts"].values():
        assert re.match(r"python -m promad\b|pytest\b|sh -c ", script)


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path),
        ROOT,
    )
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        content = set(archive.namelist())
        info = next(name for name in content if name.endswith("/METADATA")).partition("/")[0]
        commands = archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read("promad/config/config.yaml") == (ROOT / "config.yaml").read_bytes()
    assert wheel.name.startswith("promad_exporter-")
    assert {name.partition("/")[0] for name in content} == {"promad", info}
    assert {"promad/py.typed", f"{info}/licenses/LICENSE"} <= content
    assert {f"promad/presets/{name}.yaml" for name in PRESETS} <= content
    assert {"promad/web/static/index.html", "promad/web/swagger/index.html"} <= content
    assert {"promad/pages/templates/page.html", "promad/pages/templates/report.html"} <= content
    assert "promad = promad.cli:main" in commands


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.dependabot", [ROOT / ".github/dependabot.yml"]),
    ],
)
def test_the_workflows_are_valid(schema, files):
    run(BIN / "check-jsonschema", "--builtin-schema", schema, *files)


def test_the_workflows_are_safe():
    run(BIN / "zizmor", "--offline", "--no-progress", ROOT / ".github")


def test_every_change_is_held_to_the_same_script():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert jobs["test"]["steps"][-1] == {"run": ".ci/run"}


def test_only_the_last_step_of_a_release_may_publish():
    jobs = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text())["jobs"]
    assert [name for name, job in jobs.items() if "id-token" in job["permissions"]] == ["publish"]
    assert (jobs["test"]["needs"], jobs["publish"]["needs"]) == ("build", "test")
    assert jobs["release"]["needs"] == ["publish", "images"]


def test_two_builds_are_the_same(tmp_path):
    for folder in ("one", "two"):
        run(sys.executable, "-m", "hatchling", "build", "-d", tmp_path / folder)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("one", "two")
    )
    assert len(first) == 2
    assert first == second
