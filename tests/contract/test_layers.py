"""The house: who may import whom, and who alone may do what."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from promad.config import RealTimeSettings
from promad.exposition.names import METRICS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "promad"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}

ROWS = (
    "__main__",
    "cli",
    "stages",
    "experiments web",
    "detection",
    "training mixin diagnosis",
    "bundle datasets presets shards",
    "scoring",
    "models thresholds evaluation prometheus exposition simulation",
    "events",
    "data",
    "http_server pages parallel",
    "config files",
    "clock errors",
)
"""From the top down: a part imports only from rows below its own."""

ROW_OF = {part: number for number, row in enumerate(ROWS) for part in row.split()}


def part_of(module: str) -> str:
    """`config` of promad.config.reading; nothing for promad itself."""
    return [*module.split("."), ""][1]


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a file, or a name from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def each_module(function):
    return pytest.mark.parametrize("module", sorted(MODULES))(function)


def test_every_part_of_the_house_has_its_place():
    parts = {part_of(module) for module in MODULES} - {""}
    assert parts - set(ROW_OF) == set()


@each_module
def test_imports_point_down_only(module):
    own = part_of(module)
    for name in imported(TREES[module]):
        if name.partition(".")[0] != "promad" or name == "promad":
            continue
        other = part_of(name)
        assert other == own or ROW_OF[other] > ROW_OF.get(own, -1), f"{module} imports {name}"


def test_nothing_is_imported_in_a_circle():
    """Imports within functions count; those of a name from an enclosing package do not."""
    below: dict[str, set[str]] = {
        module: {
            name
            for name in imported(TREES[module])
            if name in MODULES and name != module and not module.startswith(f"{name}.")
        }
        for module in MODULES
    }
    done: set[str] = set()
    while waiting := set(below) - done:
        ready = {module for module in waiting if not (below[module] - done)}
        assert ready, f"a circle among {sorted(waiting)}"
        done |= ready


def users(*libraries: str) -> set[str]:
    """The parts of the house that import any of the libraries."""
    return {
        part_of(module)
        for module, tree in TREES.items()
        if any(name.partition(".")[0] in libraries for name in imported(tree))
    }


@pytest.mark.parametrize(
    ("libraries", "owner"),
    [
        (("keras", "tensorflow", "jax", "onnx", "onnxruntime"), {"models"}),
        (("requests", "urllib3"), {"prometheus"}),
        (("botocore",), {"prometheus"}),
        (("pooch",), {"datasets"}),
        (("typer", "rich"), {"cli"}),
        (("yaml",), {"config", "mixin"}),
        (("cronsim",), {"config"}),
        (("grafana_foundation_sdk",), {"mixin"}),
        (("prometheus_client",), {"exposition", "web"}),
        (("starlette",), {"http_server", "simulation", "web"}),
        (("fastapi",), {"web"}),
        (("uvicorn",), {"http_server"}),
        (("bcrypt",), {"http_server"}),
        (("matplotlib",), {"training"}),
        (("joblib",), {"parallel", "stages"}),
        (("dask", "distributed", "ray", "pyspark", "joblibspark", "py4j"), {"parallel"}),
        (("jinja2",), {"pages"}),
        (("sklearn", "pandas"), {"data"}),
    ],
)
def test_a_library_has_one_owner(libraries, owner):
    assert users(*libraries) == owner


def test_only_the_command_line_prints_and_exits():
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and part_of(module) != "cli":
                assert ast.unparse(node.func) not in {
                    *("print", "exit", "quit", "sys.exit", "os._exit"),
                    *("sys.stdout.write", "sys.stderr.write", "input"),
                }, module


def test_importing_does_nothing():
    """A module holds definitions, constants and a docstring; only __main__ runs something."""
    for module, tree in TREES.items():
        if module != "promad.__main__":
            for node in tree.body:
                assert not isinstance(node, ast.For | ast.While | ast.With | ast.Try), module
                docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                assert docstring or not isinstance(node, ast.Expr), module


METRICS_PREFIX = RealTimeSettings.model_fields["metrics_prefix"].default
DAEMON_PREFIX = "promad_"
METRIC = re.compile(
    rf"(?:(?<![a-z0-9_])|(?<=[A-Z]_))(?:(?:{DAEMON_PREFIX}|{METRICS_PREFIX})[a-z0-9_]*"
    rf"|{'|'.join(spec.name for spec in METRICS if '_' in spec.name)})(?![a-z0-9_])"
)
"""A metric's whole name, or what follows the prefix, unless that is an ordinary word."""


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """The string constants of a module, those in f-strings too, without its docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text and id(node) not in docstrings:
            yield node


@pytest.mark.parametrize(
    "text",
    [
        '"feature_contribution_ratio"',
        '"promad_polls_total"',
        "f\"{prefix}feature_elevation_ratio{{job='a'}}\"",
        '"PREFIX:total_anomalies_count_total:rate5m"',
        '"promad_something_new"',
        '"PREFIX_feature_observed_value{%s}"',
        '"anomaly_detector_score > 1"',
    ],
)
def test_a_metric_name_that_is_spelled_out_is_found(text):
    assert any(METRIC.search(each.value) for each in texts(ast.parse(f"metric = {text}")))


@each_module
def test_metric_names_are_spelled_out_in_the_table_alone(module):
    if module == "promad.exposition.names":
        return
    allowed = {METRICS_PREFIX, DAEMON_PREFIX} if part_of(module) == "config" else set()
    for node in texts(TREES[module]):
        found = METRIC.search(node.value)
        assert found is None or found[0] in allowed, f"{module}:{node.lineno}: {found[0]}"


@each_module
def test_every_module_says_what_it_is_for(module):
    assert ast.get_docstring(TREES[module])


@each_module
def test_every_public_name_says_what_one_gets(module):
    public = [
        node
        for node in TREES[module].body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_tests_share_by_support_alone(path):
    """No test module imports another: what several need is in tests/support."""
    for name in imported(ast.parse(path.read_text())):
        assert not re.match(r"tests\.(unit|contract|e2e|faults)\b", name), name
