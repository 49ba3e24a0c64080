"""docs/migrating.md has every key of the system that promad took over."""

import re
from pathlib import Path

from promad.config.original import SECTION_KEYS
from promad.config.settings import Config

DOCS = Path(__file__).parents[2] / "docs"
TABLE = (DOCS / "migrating.md").read_text().partition("## Keys")[2].partition("## Metrics")[0]


def list_keys() -> set[str]:
    """The keys of the table, with their sections."""
    found, section = set(), ""
    for line in re.findall(r"^\| (`.*?) \| ", TABLE, re.MULTILINE):
        for key in re.findall(r"`([a-z0-9_.]+)`", line):
            section = f"{key.rpartition('.')[0]}." if "." in key else section
            found.add(key if "." in key else f"{section}{key}")
        section = ""
    return found


def test_every_key_is_described_and_no_other():
    keys = {f"{section}.{key}" for section, keys in SECTION_KEYS.items() for key in keys}
    assert list_keys() == keys | {"prometheus_url", "queries"}


def test_every_key_is_one_of_promad():
    for key in list_keys():
        section, _, name = key.rpartition(".")
        model = Config.model_fields[section].annotation if section else Config
        assert name in model.model_fields, key
