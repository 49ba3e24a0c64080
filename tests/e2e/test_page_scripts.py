"""The page's scripts without a browser: their types, and the modules that need no document."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from promad.web.app import description
from tests.support.api_types import write_interfaces
from tests.support.browser import skip_or_fail

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "promad" / "web" / "static"
NPM = ROOT / "tests" / "npm"
TSC = NPM / "node_modules" / ".bin" / "tsc"
OPTIONS = (
    *("--noEmit", "--allowJs", "--checkJs", "--strict", "--noUnusedLocals", "--noUnusedParameters"),
    *("--module", "esnext", "--moduleResolution", "bundler", "--target", "esnext"),
    *("--lib", "esnext,dom,dom.iterable", "--types", "", "--pretty", "false"),
)


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., str]:
    """Type checks the scripts after a change: no output, or a line for each mistake."""
    if not TSC.exists():
        skip_or_fail("typescript is not installed (npm ci --prefix tests/npm)")
    folder = tmp_path / "static"
    shutil.copytree(SCRIPTS, folder)
    shutil.copy(NPM / "page.d.ts", tmp_path)
    schemas = json.loads(description())["components"]["schemas"]
    (tmp_path / "api.d.ts").write_text(write_interfaces(schemas))

    def check_scripts(name: str = "page.js", right: str = "", wrong: str = "") -> str:
        text = (SCRIPTS / name).read_text()
        assert right in text
        (folder / name).write_text(text.replace(right, wrong, 1))
        scripts = [f"static/{path.name}" for path in sorted(folder.glob("*.js"))]
        command = [TSC, *OPTIONS, "api.d.ts", "page.d.ts", *scripts]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return check_scripts


def test_the_scripts_are_free_of_type_errors(check: Callable[..., str]) -> None:
    assert check() == ""


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("group-list.js", "group.top_features.join", "group.top_feature.join"),
        ("event-table.js", "event.acknowledged_at !== null", "event.comment"),
        ("event-table.js", "event.peak_score", "event.peakScore"),
        ("charts.js", "toWallClock(at)", "toWallClock(String(at))"),
        ("page.js", "groupView.refresh()", "groupView.reload()"),
    ],
    ids=["a field of the API", "a missing null", "a spelling", "a kind of value", "a method"],
)
def test_a_mistake_is_found(check: Callable[..., str], name: str, right: str, wrong: str) -> None:
    assert "error TS" in check(name, right, wrong)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_the_modules_without_a_document(zone: str) -> None:
    node = shutil.which("node")
    if node is None:
        skip_or_fail("node is not installed (on Debian: apt-get install nodejs)")
    tests = sorted((NPM / "page").glob("*.test.mjs"))
    done = subprocess.run(
        [node, "--test", *tests],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TZ": zone, "LC_ALL": "en_GB.UTF-8"},
    )
    assert tests
    assert done.returncode == 0, done.stdout + done.stderr
