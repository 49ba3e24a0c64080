"""How fast the page loads: bytes and milliseconds of a first and of a repeated visit.

    python -m benchmarks.page [--rounds 9]

Headless chromium and the server run on one machine, with 1 and with 1,000 synthetic groups of 15
features. `list` is the time from the start of the navigation until the first group is in the
document, `charts` until all charts of the group are drawn: the median, and in brackets the fastest
and the slowest, in milliseconds. A repeated visit has a filled cache. The last lines are the time
that the browser needs for one update of the list, which happens every five seconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, BrowserContext

from promad.data.groups import name_group
from promad.events.verdict import State
from tests.support.browser import chromium
from tests.support.served import create_groups, create_running_detectors, serve_detectors

FEATURES = tuple(f"feature_{number}" for number in range(15))
STATES = (State.ANOMALOUS, *[State.OK] * 98, State.BLIND)
SAMPLES = 130
UPDATES = 4

_OBSERVER = """
    window.seen = {};
    new MutationObserver(() => {
        const note = (name, there) => { if (there) window.seen[name] ??= performance.now(); };
        note("list", document.querySelector("table.groups tbody tr"));
        note("charts", document.querySelector("#group[data-drawn]"));
    }).observe(document, { subtree: true, childList: true, attributes: true });
"""


@dataclass(frozen=True)
class Visit:
    """The bytes received during one visit, and the milliseconds until `list` and `charts`."""

    received: int
    seen: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print("| groups | visit | kB | list, ms | charts, ms |\n|---|---|---|---|---|")
    with chromium() as browser:
        busy = {}
        for count in (1, 1000):
            with serve_groups(count) as address:
                print_row(count, measure_visits(browser, address, rounds))
                busy[count] = measure_busy_milliseconds(browser, address.partition("?")[0])
    for count, milliseconds in busy.items():
        print(f"\n{count:,} groups: {milliseconds:.0f} ms busy for each update of the list")


@contextmanager
def serve_groups(count: int) -> Iterator[str]:
    """Serve groups until the block ends; yields the address of one group's view."""
    with tempfile.TemporaryDirectory(prefix="promad-benchmark-") as name:
        groups = create_groups(count)
        running = create_running_detectors(
            Path(name), groups=groups, states=STATES, features=FEATURES, samples=SAMPLES
        )
        with serve_detectors(running) as url:
            yield f"{url}/?group={quote(name_group('promad', groups[0]))}"


def measure_visits(browser: Browser, address: str, rounds: int) -> dict[str, list[Visit]]:
    """First and repeated visits, each pair in a context of its own; one pair to warm up."""
    visits: dict[str, list[Visit]] = {"first": [], "repeated": []}
    for number in range(rounds + 1):
        context = browser.new_context()
        for name in visits:
            one = visit_page(context, address)
            if number:
                visits[name].append(one)
        context.close()
    return visits


def visit_page(context: BrowserContext, address: str) -> Visit:
    """One visit until the charts are drawn."""
    page = context.new_page()
    received = 0

    def add(event: dict[str, Any]) -> None:
        nonlocal received
        received += event["encodedDataLength"]

    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", add)
    page.add_init_script(_OBSERVER)
    page.goto(address)
    page.locator("#group[data-drawn]").wait_for()
    page.wait_for_timeout(100)
    seen = page.evaluate("() => window.seen")
    page.close()
    return Visit(int(received), seen)


def measure_busy_milliseconds(browser: Browser, address: str) -> float:
    """The time of the page's main thread for each update of the list."""
    page = browser.new_context().new_page()
    page.goto(f"{address}?group=none")
    page.locator("table.groups tbody tr").first.wait_for()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def busy() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    page.wait_for_timeout(1000)
    before = busy()
    page.wait_for_timeout(UPDATES * 5000)
    after = busy()
    page.context.close()
    return 1000 * (after - before) / UPDATES


def print_row(count: int, visits: dict[str, list[Visit]]) -> None:
    for name, all_of_it in visits.items():
        kilobytes = statistics.median(one.received for one in all_of_it) / 1000
        times = [
            format_spread([one.seen[what] for one in all_of_it]) for what in ("list", "charts")
        ]
        print(f"| {count:,} | {name} | {kilobytes:,.1f} | {' | '.join(times)} |")


def format_spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


if __name__ == "__main__":
    main()
