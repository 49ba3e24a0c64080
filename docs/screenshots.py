"""The screenshots of the page in the documentation.

    python -m docs.screenshots

Writes docs/images/{page-light,page-dark,page-phone}.png of `promad demo` half an hour into its
incident, and groups.png of a thousand synthetic groups. Requires chromium and the test
dependencies.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Browser, Page

from promad.events.verdict import State
from tests.support.browser import chromium
from tests.support.prometheus_server import free_port
from tests.support.served import create_groups, create_running_detectors, serve_detectors

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
MINUTES_INTO_INCIDENT = 30.0
TRAINING_SECONDS = 280.0
FEATURES = (
    "latency_p99_seconds",
    "disk_io_busy_ratio",
    "queue_length",
    "cpu_busy_ratio",
    "memory_used_bytes",
    "requests_per_second",
)
STATES = (State.ANOMALOUS, *[State.OK] * 150, State.BLIND, *[State.OK] * 130, State.WARMING)
WIDE = {"viewport": {"width": 1280, "height": 1335}}
PHONE = {"viewport": {"width": 390, "height": 844}}


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with chromium() as browser, run_demo() as url:
        wait_for_incident(url)
        for name, options in {
            "page-light": {**WIDE, "color_scheme": "light"},
            "page-dark": {**WIDE, "color_scheme": "dark"},
            "page-phone": {**PHONE, "color_scheme": "dark"},
        }.items():
            page = open_page(browser, url, options)
            page.locator("#group[data-drawn]").wait_for()
            page.locator('#group-state[data-state="anomalous"]').wait_for()
            save_screenshot(page, name)
    with chromium() as browser, serve_thousand_groups() as url:
        page = open_page(browser, url, {"viewport": {"width": 1280, "height": 640}})
        page.locator("table.groups tbody tr").first.wait_for()
        save_screenshot(page, "groups")


@contextmanager
def run_demo() -> Iterator[str]:
    """Run the demo until the block ends; yields the address of the page."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="promad-pictures-") as artifacts:
        command = [sys.executable, "-m", "promad", "demo", f"--artifacts={artifacts}"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)  # noqa: S603
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_for_incident(url: str) -> None:
    """Wait until the demo's group has been anomalous for `MINUTES_INTO_INCIDENT`."""
    deadline = time.monotonic() + TRAINING_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.5)
        try:
            groups = requests.get(f"{url}/api/v1/groups", timeout=5).json()["groups"]
        except requests.RequestException:
            continue
        for group in groups:
            since = group["anomalous_since"]
            if since is not None and group["at"] - since > 60 * MINUTES_INTO_INCIDENT:
                return
    raise SystemExit("the demo did not detect its incident")


@contextmanager
def serve_thousand_groups() -> Iterator[str]:
    """Serve a thousand groups until the block ends; yields the address."""
    with tempfile.TemporaryDirectory(prefix="promad-pictures-") as name:
        groups = create_groups(1000)
        running = create_running_detectors(
            Path(name), groups=groups, states=STATES, features=FEATURES, samples=12
        )
        with serve_detectors(running) as url:
            yield url


def open_page(browser: Browser, url: str, options: dict[str, Any]) -> Page:
    """The page in a context of its own."""
    page = browser.new_context(timezone_id="UTC", locale="en-GB", **options).new_page()
    page.goto(url)
    return page


def save_screenshot(page: Page, name: str) -> None:
    """Save a screenshot, after the animations have ended."""
    page.wait_for_timeout(700)
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
