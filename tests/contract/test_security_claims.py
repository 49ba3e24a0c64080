"""What SECURITY.md claims names the tests that show it."""

import pytest

from tests.support.named_tests import ROOT, is_test, list_named_tests, read_rows

TEXT = (ROOT / "SECURITY.md").read_text()
CLAIMS = read_rows(TEXT.partition("\n## Claims")[2].partition("\n## ")[0])


def test_there_are_claims():
    assert len(CLAIMS) >= 40
    assert read_rows(TEXT) == CLAIMS


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.split("|")[1].strip())
def test_a_claim_names_test_functions_that_exist(claim):
    threat, does, tests = (cell.strip() for cell in claim.strip("|").split("|"))
    named = list_named_tests(tests)
    assert threat
    assert does
    assert named
    assert [name for name in named if "::" not in name or not is_test(name)] == []
    assert "tests/" not in threat + does


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("tests/contract/test_security_claims.py", True),
        ("tests/contract/test_security_claims.py::test_there_are_claims", True),
        ("tests/contract/test_security_claims.py::test_there_are_no_claims", False),
        ("tests/contract/test_security_claims.py::CLAIMS", False),
        ("tests/contract/test_nothing.py", False),
        ("tests/contract/test_nothing.py::test_there_are_claims", False),
    ],
)
def test_a_test_that_does_not_exist_is_found(name, exists):
    assert is_test(name) is exists
