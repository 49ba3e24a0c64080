"""Nothing in the package runs code that a file contains: no pickles, no Keras files, no shell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "promad"

IMPORTS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "runpy", "code"}
CALLS = re.compile(
    r"(builtins\.)?(eval|exec)|os\.(system|popen)|joblib\.load|(tf\.|tensorflow\.|keras\.).*\bload\w*"
    r"|(read|from)_pickle|pd\.read_pickle|yaml\.(load|load_all|full_load|unsafe_load)\w*"
)


def find_runners(tree: ast.AST) -> Iterator[str]:
    """What could run code from a file, in a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name in IMPORTS)
            case ast.ImportFrom(module=str(module), names=names):
                called = (f"{module}.{each.name}" for each in names)
                yield from (each for each in called if module in IMPORTS or CALLS.fullmatch(each))
            case ast.Call(func=function, keywords=keywords):
                if not isinstance(function, ast.Name | ast.Attribute):
                    continue
                name, given = ast.unparse(function), {each.arg: each.value for each in keywords}
                is_array = name in {"np.load", "numpy.load"} and not is_false(given, "allow_pickle")
                in_shell = "shell" in given and not is_false(given, "shell")
                if CALLS.fullmatch(name) or is_array or in_shell:
                    yield name


def is_false(given: Mapping[str | None, ast.expr], key: str) -> bool:
    """Whether an argument is given as False."""
    value = given.get(key)
    return isinstance(value, ast.Constant) and value.value is False


def test_nothing_runs_code_from_a_file():
    modules = sorted(PACKAGE.rglob("*.py"))
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in modules
        for name in find_runners(ast.parse(path.read_text()))
    }
    assert len(modules) > 200
    assert found == set()


def test_what_would_run_code_is_found():
    source = """
import pickle
from joblib import load
from keras.models import load_model
exec(text)
joblib.load(path)
keras.saving.load_model(path, safe_mode=True)
np.load(path)
np.load(path, allow_pickle=True)
subprocess.run(text, shell=True)
yaml.unsafe_load(text)
np.load(path, allow_pickle=False)
load_model(path)
json.loads(text)
"""
    assert len(list(find_runners(ast.parse(source)))) == 10
