"""The page of a fleet of a thousand groups in a real browser: incidents, groups, peers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from promad.data.groups import name_group
from tests.support.browser import chromium, read_axe
from tests.support.served import serve_detectors
from tests.support.served_fleet import create_fleet_groups, create_running_fleet, log_incidents

HOSTS = 1000
FEATURES = ("cpu", "load", "memory", "requests", *(f"metric_{number}" for number in range(34)))
RACK = tuple(range(3, HOSTS, 10))
"""The hosts of rack r3, all anomalous."""

GROUPS = "table.groups tbody tr"
INCIDENTS = "table.incidents tbody tr"
MEMBERS = "table.members tbody tr"
NOTE_LIST = """
    new MutationObserver(() => {
        if (document.querySelector("table.groups tbody tr")) {
            window.listShownAt ??= performance.now();
        }
    }).observe(document, { childList: true, subtree: true });
"""
NARROW = {"width": 360, "height": 740}


@dataclass
class Fleet:
    """The fleet's page, and complaints of the browser."""

    browser: Browser
    url: str
    incident: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/", **options: Any) -> Page:
        context = self.browser.new_context(timezone_id="UTC", locale="en-GB", **options)
        page = context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(f"{error}\n{error.stack}"))
        page.goto(self.url + path)
        return page

    def _note(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    running = create_running_fleet(
        tmp_path_factory.mktemp("fleet"),
        groups=HOSTS,
        features=FEATURES,
        anomalous=RACK,
        blind=(0, 1),
        pooled=RACK[:1],
    )
    (incident,) = log_incidents(running)
    with chromium() as browser, serve_detectors([running]) as url:
        yield Fleet(browser, url, incident)


@pytest.fixture
def fleet(served: Fleet) -> Iterator[Fleet]:
    yield served
    for context in served.browser.contexts:
        context.close()
    assert served.complaints == []


def name_of(number: int) -> str:
    return name_group("promad", create_fleet_groups(number + 1)[number])


def test_incidents_come_first_then_groups_worst_first(fleet: Fleet) -> None:
    page = fleet.open()
    incident = page.locator(INCIDENTS)
    expect(incident).to_have_count(1)
    for text in ("open", "100 of 1 000", "host-0993", "cpu (100)", 'in common: rack="r3"'):
        expect(incident).to_contain_text(text)
    expect(page.locator(GROUPS)).to_have_count(100)
    expect(page.locator(GROUPS).first).to_contain_text("host-0993:9100 · r3")
    expect(page).to_have_title("100 anomalous, 2 blind · promad")
    tops = [page.locator(place).bounding_box()["y"] for place in ("#incidents", "#list")]
    assert tops == sorted(tops)


def test_the_daemon_searches_sorts_and_pages(fleet: Fleet) -> None:
    page = fleet.open()
    rows = page.locator(GROUPS)
    expect(rows).to_have_count(100)
    page.get_by_label("Sort groups").select_option("name")
    expect(rows.first).to_contain_text("host-0000")
    expect(page).to_have_url(re.compile(r"\?sort=name$"))
    page.get_by_role("button", name="Show 100 more").click()
    expect(rows).to_have_count(200)
    page.get_by_label("Search groups").fill("host-0998")
    expect(rows).to_have_count(1)
    expect(page.locator("#list-note")).to_have_text(
        "Showing 1 of 1 matching group (1 000 in total)."
    )
    expect(page.locator('.chip[data-state="ok"]')).to_have_text("1 ok")


def test_an_incident_shows_its_groups_its_features_and_what_they_share(fleet: Fleet) -> None:
    page = fleet.open()
    page.locator(INCIDENTS).get_by_role("link").click()
    expect(page).to_have_url(f"{fleet.url}/?incident={fleet.incident}")
    expect(page.locator("#incident-state")).to_have_text("open")
    expect(page.locator("#incident-groups")).to_have_text("100 of 1 000 groups")
    expect(page.locator("#incident-text")).to_contain_text("100 of 1000 groups deviate since")
    expect(page.locator("#incident-facts")).to_contain_text('In commonrack="r3"')
    expect(page.locator("table.leading tbody tr").first).to_have_text(
        re.compile(r"cpu\s+100%\s+100 of 100")
    )
    members = page.locator(MEMBERS)
    expect(members).to_have_count(50)
    page.get_by_role("button", name="Show 50 more").click()
    expect(members).to_have_count(100)
    expect(page.locator("#list")).to_be_hidden()
    members.first.get_by_role("link").click()
    expect(page.locator("#group-name")).to_have_text(name_of(993))
    page.go_back()
    expect(members).to_have_count(50)
    page.keyboard.press("Escape")
    expect(page.locator(INCIDENTS).get_by_role("link")).to_be_focused()


def test_a_group_is_compared_with_its_peers_and_leads_to_its_incident(fleet: Fleet) -> None:
    page = fleet.open(f"/?group={quote(name_of(3))}")
    page.locator("#group[data-drawn]").wait_for()
    first = page.locator("table.peers tbody tr").first
    for text in ("cpu", "50", "10", "higher than 90% of the others"):
        expect(first).to_contain_text(text)
    expect(page.locator("#peers-text")).to_contain_text("Median of 997 other groups")
    expect(page.locator("#facts")).to_contain_text("Calibrationpooled")
    expect(page.locator("#group .headline")).to_have_attribute("data-state", "anomalous")
    expect(page.locator("#incidents")).to_be_hidden()
    page.locator("table.events").get_by_role("link", name="incident").click()
    expect(page.locator("#incident-groups")).to_contain_text("100")


def test_an_incident_that_is_not_there_is_shown_as_such(fleet: Fleet) -> None:
    page = fleet.open("/?incident=0123456789ab")
    expect(page.locator("#incident-lost")).to_contain_text("no incident has the id 0123456789ab")
    fleet.complaints[:] = [text for text in fleet.complaints if "404" not in text]


@pytest.mark.parametrize(
    ("path", "ready", "width", "scheme"),
    [
        ("/?search=0003", INCIDENTS, 360, "dark"),
        ("/?search=0003", INCIDENTS, 1300, "light"),
        ("/?incident={incident}&search=0003", MEMBERS, 360, "light"),
        ("/?incident={incident}&search=0003", MEMBERS, 1300, "dark"),
        (f"/?group={quote(name_of(3))}&search=0003", "#group[data-drawn]", 360, "dark"),
    ],
    ids=["list, phone", "list", "incident, phone", "incident", "group"],
)
def test_axe_finds_nothing_serious(
    fleet: Fleet, path: str, ready: str, width: int, scheme: str
) -> None:
    source, size = read_axe(), {"width": width, "height": 800}
    address = path.replace("{incident}", fleet.incident)
    page = fleet.open(address, viewport=size, color_scheme=scheme, bypass_csp=True)
    page.locator(ready).first.wait_for()
    page.evaluate(source)
    found = page.evaluate("() => axe.run(document.querySelector('main'))")
    serious = [
        (problem["id"], [node["html"][:120] for node in problem["nodes"]])
        for problem in found["violations"]
        if problem["impact"] in {"serious", "critical"}
    ]
    assert serious == []


def test_on_a_phone_every_view_is_as_wide_as_the_screen(fleet: Fleet) -> None:
    for path, ready in (
        ("/", INCIDENTS),
        (f"/?incident={fleet.incident}", MEMBERS),
        (f"/?group={quote(name_of(3))}", "table.peers tbody tr"),
    ):
        page = fleet.open(path, viewport=NARROW, has_touch=True, is_mobile=True)
        page.locator(ready).first.wait_for()
        assert page.evaluate("() => document.documentElement.scrollWidth") == NARROW["width"], path


def test_time_until_the_list_is_shown_and_bytes_of_a_refresh(fleet: Fleet) -> None:
    fleet.open().locator(GROUPS).first.wait_for()
    page = fleet.open("/docs")
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: dict[str, float] = {}
    paths: dict[str, str] = {}
    session.on("Network.requestWillBeSent", lambda sent: paths.update(
        {sent["requestId"]: sent["request"]["url"]}
    ))  # fmt: skip
    session.on("Network.loadingFinished", lambda done: sizes.update(
        {done["requestId"]: done["encodedDataLength"]}
    ))  # fmt: skip
    page.add_init_script(NOTE_LIST)
    page.goto(fleet.url)
    page.locator(GROUPS).first.wait_for()
    seconds = page.evaluate("() => window.listShownAt") / 1000
    expect(page.locator(INCIDENTS)).to_have_count(1)
    refresh = sum(size for id_, size in sizes.items() if "/api/" in paths.get(id_, ""))
    print(f"\nlist shown after {seconds:.2f} s; a refresh is {refresh / 1000:.1f} kB")  # noqa: T201
    assert 0 < refresh < 60_000
