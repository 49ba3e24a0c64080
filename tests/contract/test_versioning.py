"""What docs/versioning.md promises names the tests that hold it."""

from promad.cli.app import build_app
from tests.support.named_tests import ROOT, is_test, list_named_tests, read_rows

TEXT = (ROOT / "docs" / "versioning.md").read_text()


def test_every_promise_names_tests_that_exist():
    rows = read_rows(TEXT.partition("## What is stable")[2].partition("\nNot stable")[0])
    assert len(rows) >= 8
    for row in rows:
        named = list_named_tests(row)
        assert named, row
        assert all(map(is_test, named)), row


def test_the_exit_codes_are_those_of_the_help():
    for code, meaning in (
        (0, "success"),
        (1, "runtime error"),
        (2, "usage or configuration error"),
        (3, "problems found"),
    ):
        assert f"{code} {meaning}" in TEXT
        assert f"{code} {meaning}" in str(build_app().info.epilog)
