"""The pictures of the page in README.md.

    python -m docs.screenshots

Writes docs/images/{page-light,page-dark,page-phone}.png of `promad demo` half an hour into its
incident, and groups.png of a thousand made-up groups. Needs chromium and what the tests need.
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
from tests.support.served import many_groups, served_detectors, serving

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
MINUTES_INTO_IT = 30.0
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
    with chromium() as browser, demo() as url:
        wait_for_incident(url)
        for name, options in {
            "page-light": {**WIDE, "color_scheme": "light"},
            "page-dark": {**WIDE, "color_scheme": "dark"},
            "page-phone": {**PHONE, "color_scheme": "dark"},
        }.items():
            page = opened(browser, url, options)
            page.locator("#group[data-drawn]").wait_for()
            page.locator('#group-state[data-state="anomalous"]').wait_for()
            keep(page, name)
    with chromium() as browser, thousand() as url:
        page = opened(browser, url, {"viewport": {"width": 1280, "height": 640}})
        page.locator("table.groups tbody tr").first.wait_for()
        keep(page, "groups")


@contextmanager
def demo() -> Iterator[str]:
    """The demo from the end of its training on; yields the page's address."""
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
    """Wait until the demo's group has been anomalous long enough to look at."""
    deadline = time.monotonic() + TRAINING_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.5)
        try:
            groups = requests.get(f"{url}/api/v1/groups", timeout=5).json()["groups"]
        except requests.RequestException:
            continue
        for group in groups:
            since = group["anomalous_since"]
            if since is not None and group["at"] - since > 60 * MINUTES_INTO_IT:
                return
    raise SystemExit("the demo's incident was not seen")


@contextmanager
def thousand() -> Iterator[str]:
    """A server that shows a thousand groups; yields its address."""
    with tempfile.TemporaryDirectory(prefix="promad-pictures-") as name:
        groups = many_groups(1000)
        at_work = served_detectors(
            Path(name), groups=groups, states=STATES, features=FEATURES, samples=12
        )
        with serving(at_work) as url:
            yield url


def opened(browser: Browser, url: str, options: dict[str, Any]) -> Page:
    """The page in a context of its own."""
    page = browser.new_context(timezone_id="UTC", locale="en-GB", **options).new_page()
    page.goto(url)
    return page


def keep(page: Page, name: str) -> None:
    """Write what is seen, once its bars have stopped moving."""
    page.wait_for_timeout(700)
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
