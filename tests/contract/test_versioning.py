"""What docs/versioning.md promises names the tests that hold it."""

import re
from pathlib import Path

from promad.cli.app import build_app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "versioning.md").read_text()


def test_every_promise_names_tests_that_exist():
    table = TEXT.partition("## What is stable")[2].partition("\nNot stable")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 8
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", row)
        assert named, row
        assert all((ROOT / name).is_file() for name in named), row


def test_the_exit_codes_are_those_of_the_help():
    for code, meaning in (
        (0, "success"),
        (1, "runtime error"),
        (2, "usage or configuration error"),
        (3, "problems found"),
    ):
        assert f"{code} {meaning}" in TEXT
        assert f"{code} {meaning}" in str(build_app().info.epilog)
