"""The page about `promad doctor` lists every check, in the order of the report."""

import re
from pathlib import Path

from promad.diagnosis.checks import CHECKS
from promad.diagnosis.evidence import Evidence

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")


def read_documented():
    """Check names by the heading under which they are."""
    found, area = [], ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            area = line.removeprefix("## ").lower()
        elif row := re.match(r"\| `(\w+)` \| .+ \| .+ \|$", line):
            found.append((area, row[1]))
    return [(area, name) for area, name in found if area != "json"]


def test_the_page_lists_every_check_under_its_area():
    assert read_documented() == [(check.area, name) for name, check in CHECKS.items()]


def test_every_check_needs_a_part_of_the_evidence():
    assert {check.needs for check in CHECKS.values()} <= set(Evidence.__dataclass_fields__)


def test_the_page_names_the_number_of_checks():
    (number,) = re.findall(r"(\d+) checks not done", PAGE)
    assert int(number) == len(CHECKS)
