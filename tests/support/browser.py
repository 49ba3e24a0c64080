"""Debian's chromium driven by Playwright: for the page's tests, its benchmark and its pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

AXE = Path(__file__).parents[1] / "npm" / "node_modules" / "axe-core" / "axe.min.js"

_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""A browser that asks nobody but the page's server, and runs as root in a container."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser until the block ends.

    Without chromium the test is skipped, or failed when PROMAD_REQUIRE_REAL=1.
    """
    path = shutil.which("chromium")
    if path is None:
        skip_or_fail("chromium is not installed (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_QUIET))
        try:
            yield browser
        finally:
            browser.close()


def read_axe() -> str:
    """The source of axe-core, which finds what keeps people out."""
    if not AXE.exists():
        skip_or_fail("axe-core is not installed (npm ci --prefix tests/npm)")
    return AXE.read_text()


def skip_or_fail(message: str) -> None:
    """Skip the test, or fail it when PROMAD_REQUIRE_REAL=1."""
    if os.environ.get("PROMAD_REQUIRE_REAL") == "1":
        pytest.fail(message)
    pytest.skip(message)
