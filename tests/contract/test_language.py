"""What a user can read is in plain technical English: words that have to be translated are out.

Read are strings of the package that are not docstrings, docstrings of commands (they are the help),
the configuration, the documentation, dashboards, rules and the page.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BANNED = {
    r"mends?|mended": "fix",
    r"go(es)? on|gone on|went on": "continue, resume",
    r"com(es|ing) to|came to": "yield, is, result",
    r"of no use": "unusable",
    r"standings?": "saved state, threshold state",
    r"learns? (next to )?nothing": "untrained baseline",
    r"whatever": "any",
    r"so long ago": "age",
    r"so many": "how many, that many",
    r"so often": "how often",
    r"afresh|anew": "from scratch, again",
    r"told|tells": "reports, shows, is",
    r"stands? (in|at|there|here|as|for)|as it stands": "is, current",
    r"(is|are|was|were|been) drawn|draws (whole|each)( windows?)?( again)?": "reconstruct, show",
    r"out of all proportion": "extreme",
    r"times the usual|what is usual": "baseline",
    r"befalls?|befell": "affects",
    r"shown out": "closed",
    r"<(list\[|path>|str>|int>)": "FILE, NAME or N as metavar",
    r"\b1 (events|queries|features|samples|seeds|windows)": "the singular",
}
"""A pattern of words, and what to say instead."""

COMMANDS = ROOT / "promad" / "cli" / "commands"
TEXTS = sorted(
    path
    for pattern in (
        "config.yaml", "README.md", "SECURITY.md", "docs/**/*.md", "deploy/**/*.y*ml",
        "grafana/**/*.json", "promad/web/static/*.html", "promad/web/static/*.js", "promad/**/*.py",
    )
    for path in ROOT.glob(pattern)
)  # fmt: skip


def read_strings(path: Path) -> Iterator[tuple[int, str]]:
    """What a user can read of a file, with its line: strings of code, or every line of text."""
    match path.suffix:
        case ".py":
            yield from _strings_of_python(
                ast.parse(path.read_text()), path.is_relative_to(COMMANDS)
            )
        case ".json":
            yield from ((1, text) for text in _strings_of_json(json.loads(path.read_text())))
        case ".js":
            for number, line in _lines(path):
                if not re.match(r"\s*(//|\*|/\*)", line):
                    yield from ((number, text) for text in re.findall(r"""["'`](.*?)["'`]""", line))
        case _:
            yield from _lines(path)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    yield from enumerate(path.read_text().splitlines(), 1)


def _strings_of_python(tree: ast.Module, help_too: bool) -> Iterator[tuple[int, str]]:
    """Strings that are neither docstrings nor mere keys and names.

    With `help_too` the docstrings of public functions as well.
    """
    hidden: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            command = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if not (help_too and command):
                hidden |= {child.value for child in node.body if isinstance(child, ast.Expr)}
    for node in ast.walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text and node not in hidden and not node.value.isidentifier():
            yield node.lineno, node.value


def _strings_of_json(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings_of_json(inner)


def find_banned(text: str) -> Iterator[str]:
    """The banned words in a text, each with its replacement."""
    for pattern, instead in BANNED.items():
        bounded = pattern if pattern.startswith(("<", r"\b")) else rf"\b({pattern})\b"
        for found in re.finditer(bounded, " ".join(text.split()), re.IGNORECASE):
            yield f'"{found.group()}": say {instead}'


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_user_reads_plain_words(path):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {complaint}"
        for line, text in read_strings(path)
        for complaint in find_banned(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("the last standing is of no use", 2),
        ("An open event\ngoes on", 1),
        ("1 events in 11 events", 1),
        ("--json <path>", 1),
        ("fix the expression, then continue", 0),
    ],
)
def test_banned_words_are_found(text, complaints):
    assert len(list(find_banned(text))) == complaints


def test_docstrings_are_read_of_commands_alone():
    tree = ast.parse('"""A module."""\ndef run():\n    """Some help."""\n    print(f"one {2}")\n')
    assert {text for _, text in _strings_of_python(tree, help_too=True)} == {"Some help.", "one "}
    assert {text for _, text in _strings_of_python(tree, help_too=False)} == {"one "}
