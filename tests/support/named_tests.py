"""Tables of the documentation whose rows name the tests that hold them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read_rows(text: str) -> list[str]:
    """The rows of all Markdown tables in a text, without their headings."""
    lines = text.splitlines()
    first = [number for number, line in enumerate(lines) if line.startswith("|---")]
    hidden = {number for each in first for number in (each - 1, each)}
    return [line for i, line in enumerate(lines) if line.startswith("|") and i not in hidden]


def list_named_tests(row: str) -> list[str]:
    """What a row names: `tests/…/test_x.py`, or `tests/…/test_x.py::test_function`."""
    return re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", row)


def is_test(name: str) -> bool:
    """Whether a file exists, and has the function if one is named."""
    path, _, function = name.partition("::")
    return (ROOT / path).is_file() and (not function or function in _list_functions(path))


@cache
def _list_functions(path: str) -> frozenset[str]:
    """The test functions of a module."""
    body = ast.parse((ROOT / path).read_text()).body
    names = {each.name for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    return frozenset(name for name in names if name.startswith("test_"))
