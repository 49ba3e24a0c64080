"""The dashboards are what Grafana's own types say a dashboard is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.dashboards import FOLDER, NAMES, ROOT

NPM = ROOT / "tests" / "npm"
TSC = NPM / "node_modules" / ".bin" / "tsc"

OPTIONS = (
    "--noEmit",
    "--strict",
    "--module",
    "nodenext",
    "--target",
    "esnext",
    "--pretty",
    "false",
)


@pytest.fixture
def checked(tmp_path: Path):
    """What the type checker has to say about dashboards: nothing, or a line for each mistake."""
    if not TSC.exists():
        message = f"{TSC} is missing — npm ci in {NPM.relative_to(ROOT)}"
        (pytest.fail if os.environ.get("PROMAD_REQUIRE_REAL") == "1" else pytest.skip)(message)
    (tmp_path / "node_modules").symlink_to(NPM / "node_modules")
    shutil.copy(NPM / "dashboard.ts", tmp_path)

    def check(dashboards: dict[str, str]) -> str:
        """The dashboards by name; each is written out, for imported JSON loses its literals."""
        for name, text in dashboards.items():
            kind = 'import type { DashboardFile } from "./dashboard";\n'
            written = f"{kind}export const dashboard: DashboardFile = {text};\n"
            (tmp_path / f"{name}.ts").write_text(written, encoding="utf-8")
        command = [TSC, *OPTIONS, *(f"{name}.ts" for name in dashboards)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return check


def text(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


def test_every_dashboard_is_one_by_grafanas_types(checked):
    assert checked({name: text(name) for name in NAMES}) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"refresh": "30s"', '"refreshh": "30s"'),
        ('"gridPos": {', '"gridPosition": {'),
        ('"mode": "absolute"', '"mode": "absolut"'),
        ('"graphMode": "none"', '"graphMode": "nine"'),
        ('"lineWidth": 1', '"lineWidht": 1'),
        ('"titleFormat": ', '"titelFormat": '),
    ],
    ids=["a field", "of a panel", "a value", "an option", "of a kind of panel", "of events"],
)
def test_a_misspelt_field_is_refused(checked, right, wrong):
    assert right in text("promad")
    assert "error TS" in checked({"misspelt": text("promad").replace(right, wrong, 1)})


def test_the_packages_are_locked_and_the_lock_names_no_registry():
    """npm install --omit-lockfile-registry-resolved keeps it so."""
    lock = (NPM / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in lock
    assert lock.count('"integrity": ') == lock.count('"node_modules/')
