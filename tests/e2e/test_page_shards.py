"""The page of one shard shows all shards in a real browser, and which of them does not respond."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from promad.config import WebSettings
from tests.support.browser import chromium, read_axe
from tests.support.served_shards import ShardedFleet, name_url

ODD, BLIND = (3, 7, 12, 20, 33, 41, 58), (5, 6, 30)
GROUPS = "table.groups tbody tr"
INCIDENTS = "table.incidents tbody tr"
FIRST, SECOND, THIRD = map(name_url, range(3))


@dataclass
class Shown:
    """The shards, the page of the first one, what it asked for, and complaints of the browser."""

    browser: Browser
    fleet: ShardedFleet
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/", **options: Any) -> Page:
        context = self.browser.new_context(timezone_id="UTC", locale="en-GB", **options)
        page = context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(f"{error}\n{error.stack}"))
        page.on("request", lambda request: self._note_request(request.url))
        page.goto(self.url + path)
        return page

    def _note(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _note_request(self, url: str) -> None:
        path = url.removeprefix(self.url).partition("?")[0]
        if path.startswith("/api/"):
            self.asked.append(path)

    def fetch_again(self, page: Page) -> None:
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Shown]:
    fleet = ShardedFleet(tmp_path, groups=90, anomalous=ODD, blind=BLIND)
    with fleet.serve(0) as url:
        shown = Shown(browser, fleet, url)
        yield shown
        for context in browser.contexts:
            context.close()
    fleet.close()
    assert shown.complaints == []


def find_group(fleet: ShardedFleet, shard: int) -> str:
    name: str = fleet.get(shard, "groups", limit=1)["groups"][0]["group"]
    return name


def test_groups_and_incidents_of_all_shards_are_shown(shown: Shown) -> None:
    page = shown.open()
    expect(page.locator(GROUPS)).to_have_count(90)
    expect(page).to_have_title("7 anomalous, 3 blind · promad")
    expect(page.locator(INCIDENTS)).to_have_count(3)
    expect(page.locator(INCIDENTS).nth(1).locator('[data-part="shard"]')).to_have_text("1")
    expect(page.get_by_role("columnheader", name="Shard")).to_have_count(2)
    expect(page.locator('.chip[data-state="ok"]')).to_have_text("80 ok")
    expect(page.locator("#silent")).to_be_hidden()
    expect(page.locator("#connection")).to_contain_text("live")


def test_a_group_is_asked_of_its_shard_and_its_address_names_it(shown: Shown) -> None:
    name = find_group(shown.fleet, 2)
    page = shown.open()
    page.locator(f"{GROUPS}[data-group={quote_css(name)}]").get_by_role("link").click()
    expect(page).to_have_url(re.compile(r"\?shard=2&group="))
    expect(page.locator("#group-name")).to_have_text(name)
    expect(page.locator("#facts")).to_contain_text("Shard2")
    expect(page.locator("#peers-text")).to_contain_text("other groups of shard 2")
    details = {path for path in shown.asked if path.rpartition("/")[2] in {"group", "history"}}
    assert details == {"/api/v1/shards/2/group", "/api/v1/shards/2/history"}
    page.reload()
    expect(page.locator("#group-state")).to_contain_text("anomalous")
    page.locator("table.events").get_by_role("link", name="incident").click()
    expect(page).to_have_url(re.compile(r"\?shard=2&incident=[0-9a-f]{12}$"))
    expect(page.locator("#incident-groups")).to_contain_text("3 of 24 groups")
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{shown.url}/")


def quote_css(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def test_an_address_without_a_shard_leads_to_the_group_all_the_same(shown: Shown) -> None:
    name = find_group(shown.fleet, 1)
    page = shown.open(f"/?group={quote(name)}")
    expect(page.locator("#group-state")).to_contain_text("anomalous")
    expect(page.locator("#facts")).to_contain_text("Shard1")


def test_a_shard_that_does_not_respond_is_named_until_it_does(shown: Shown) -> None:
    page = shown.open()
    expect(page.locator(GROUPS)).to_have_count(90)
    shown.fleet.network.silence(SECOND)
    shown.fetch_again(page)
    silent = page.locator("#silent")
    expect(silent).to_have_text(
        "Shard 1 (http://shard-1:8001) has not responded since 15:07:00: connection failed "
        "(Connection refused). Its groups and incidents are not shown."
    )
    expect(page).to_have_title("5 anomalous, 2 blind, only 2 of 3 shards · promad")
    expect(page.locator("#connection")).to_contain_text("2 of 3 shards")
    expect(page.locator(INCIDENTS)).to_have_count(2)
    expect(page.locator(GROUPS)).to_have_count(55)
    shown.fleet.network.restore(SECOND)
    shown.fleet.time.pass_by(60)
    shown.fetch_again(page)
    expect(silent).to_be_hidden()
    expect(page.locator(GROUPS)).to_have_count(90)


def test_the_title_is_never_all_ok_while_a_shard_is_silent(
    browser: Browser, tmp_path: Path
) -> None:
    fleet = ShardedFleet(tmp_path, groups=30)
    with fleet.serve(0) as url:
        shown = Shown(browser, fleet, url)
        page = shown.open()
        expect(page).to_have_title("all ok · promad")
        fleet.network.silence(SECOND, THIRD)
        shown.fetch_again(page)
        expect(page).to_have_title("only 1 of 3 shards · promad")
        expect(page.locator("#silent p")).to_have_count(2)
        page.context.close()
    fleet.close()


def test_a_group_of_a_silent_shard_says_why_it_is_not_shown(shown: Shown) -> None:
    name = find_group(shown.fleet, 1)
    shown.fleet.get(0, "shards/groups")
    shown.fleet.network.silence(SECOND)
    page = shown.open(f"/?shard=1&group={quote(name)}")
    expect(page.locator("#group-lost")).to_contain_text(
        "shard 1 (http://shard-1:8001): connection failed (Connection refused)"
    )
    page = shown.open(f"/?group={quote(name)}")
    expect(page.locator("#empty")).to_have_text(
        f"No group is named {name} in the shards that respond."
    )
    shown.complaints[:] = [text for text in shown.complaints if "502" not in text]


def test_without_peers_the_page_asks_for_what_it_did_before(shown: Shown) -> None:
    shown.fleet.settings[FIRST] = WebSettings()
    page = shown.open()
    expect(page.locator(GROUPS)).to_have_count(31)
    page.wait_for_load_state("networkidle")
    assert sorted(shown.asked) == ["/api/v1/groups", *["/api/v1/incidents"] * 2]
    expect(page.locator(GROUPS).first).not_to_contain_text("shard")
    expect(page.get_by_role("columnheader", name="Shard")).to_have_count(0)


def test_a_reload_that_sets_or_removes_peers_is_followed(shown: Shown) -> None:
    page = shown.open()
    expect(page.locator(GROUPS)).to_have_count(90)
    shown.fleet.settings[FIRST] = WebSettings()
    shown.fetch_again(page)
    expect(page.locator(GROUPS)).to_have_count(31)
    expect(page.locator("#lost")).to_be_hidden()
    shown.fleet.settings[FIRST] = WebSettings(peers=shown.fleet.urls)
    shown.fetch_again(page)
    expect(page.locator(GROUPS)).to_have_count(90)
    shown.complaints[:] = [text for text in shown.complaints if "404" not in text]


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (360, "light"), (1300, "dark")])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    shown: Shown, width: int, scheme: str
) -> None:
    shown.fleet.network.silence(SECOND)
    size = {"width": width, "height": 800}
    page = shown.open(viewport=size, color_scheme=scheme, bypass_csp=True)
    page.locator(INCIDENTS).first.wait_for()
    expect(page.locator("#silent")).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
    page.evaluate(read_axe())
    found = page.evaluate("() => axe.run(document)")
    serious = [
        (problem["id"], [node["html"][:120] for node in problem["nodes"]])
        for problem in found["violations"]
        if problem["impact"] in {"serious", "critical"}
    ]
    assert serious == []
