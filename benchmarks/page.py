"""How fast the page is there: bytes and milliseconds of a first and of a repeated visit.

    python -m benchmarks.page [--rounds 9]

Headless chromium and the server on one machine, groups of 15 features that are made up; with one
group, and with 1,000. `list` is from the start of the navigation until the first group stands in
the document, `charts` until every chart of the group is drawn, both in milliseconds: the median,
and in brackets the fastest and the slowest. A repeated visit finds the browser's cache filled. At
the end: how long the browser is busy with one look at the list, as it takes every five seconds.
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

from promad.data.frame import group_name
from promad.events.verdict import State
from tests.support.browser import chromium
from tests.support.served import many_groups, served_detectors, serving

FEATURES = tuple(f"feature_{number}" for number in range(15))
STATES = (State.ANOMALOUS, *[State.OK] * 98, State.BLIND)
SAMPLES = 130
LOOKS = 4

_WATCH = """
    window.seen = {};
    new MutationObserver(() => {
        const note = (name, there) => { if (there) window.seen[name] ??= performance.now(); };
        note("list", document.querySelector("table.groups tbody tr"));
        note("charts", document.querySelector("#group[data-drawn]"));
    }).observe(document, { subtree: true, childList: true, attributes: true });
"""


@dataclass(frozen=True)
class Visit:
    """What one visit took: bytes over the wire, and milliseconds by what was seen."""

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
            with served_groups(count) as address:
                report(count, measured(browser, address, rounds))
                busy[count] = busy_milliseconds(browser, address.partition("?")[0])
    for count, milliseconds in busy.items():
        print(f"\n{count:,} groups: {milliseconds:.0f} ms busy with each look at the list")


@contextmanager
def served_groups(count: int) -> Iterator[str]:
    """A server with so many groups; yields the address of one group's view."""
    with tempfile.TemporaryDirectory(prefix="promad-benchmark-") as name:
        groups = many_groups(count)
        at_work = served_detectors(
            Path(name), groups=groups, states=STATES, features=FEATURES, samples=SAMPLES
        )
        with serving(at_work) as url:
            yield f"{url}/?group={quote(group_name('promad', groups[0]))}"


def measured(browser: Browser, address: str, rounds: int) -> dict[str, list[Visit]]:
    """First and repeated visits, each pair in a context of its own; one pair to warm up."""
    visits: dict[str, list[Visit]] = {"first": [], "repeated": []}
    for number in range(rounds + 1):
        context = browser.new_context()
        for name in visits:
            one = visit(context, address)
            if number:
                visits[name].append(one)
        context.close()
    return visits


def visit(context: BrowserContext, address: str) -> Visit:
    """One visit until the charts are drawn."""
    page = context.new_page()
    received = 0

    def add(event: dict[str, Any]) -> None:
        nonlocal received
        received += event["encodedDataLength"]

    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", add)
    page.add_init_script(_WATCH)
    page.goto(address)
    page.locator("#group[data-drawn]").wait_for()
    page.wait_for_timeout(100)
    seen = page.evaluate("() => window.seen")
    page.close()
    return Visit(int(received), seen)


def busy_milliseconds(browser: Browser, address: str) -> float:
    """What the page's thread does while the list is open, for each time that it asks."""
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
    page.wait_for_timeout(LOOKS * 5000)
    after = busy()
    page.context.close()
    return 1000 * (after - before) / LOOKS


def report(count: int, visits: dict[str, list[Visit]]) -> None:
    for name, all_of_it in visits.items():
        kilobytes = statistics.median(one.received for one in all_of_it) / 1000
        times = [spread([one.seen[what] for one in all_of_it]) for what in ("list", "charts")]
        print(f"| {count:,} | {name} | {kilobytes:,.1f} | {' | '.join(times)} |")


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


if __name__ == "__main__":
    main()
