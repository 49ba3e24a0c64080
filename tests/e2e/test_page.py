"""The page at `/`: what is served, and what a person sees of it in a real browser."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from promad.detection.recent_history import RecentHistory
from promad.detection.running_detector import RunningDetector
from promad.events.markers import Marker
from promad.events.verdict import State
from tests.support.browser import chromium, read_axe
from tests.support.prometheus_server import free_port
from tests.support.running_world import (
    Target,
    World,
    build_server,
    configuration,
    detecting,
    promad,
    until,
)
from tests.support.served import (
    FEATURES,
    NOW,
    create_detector,
    create_groups,
    create_running_detectors,
    serve_detectors,
)

EVIL = "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
MIXED = (State.ANOMALOUS, State.OK, State.OK, State.BLIND, State.OK, State.WARMING)
PHONE = {"width": 360, "height": 740}
EVENTS = "table.events tbody tr"
GROUPS = "table.groups tbody tr"


@dataclass
class Visits:
    """Opens pages, and takes note of whatever a browser complains of."""

    browser: Browser
    url: str = ""
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, path: str = "/", **options: Any) -> Page:
        """A page in a context of its own."""
        context = self.browser.new_context(**{"timezone_id": "UTC", "locale": "en-GB", **options})
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(f"{error}\n{error.stack}"))
        page.goto(self.url + path)
        return page

    def _note(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as some:
        yield some


@pytest.fixture
def visits(browser: Browser, stack: ExitStack) -> Iterator[Visits]:
    """What goes wrong in the browser, a violated security policy among it, fails the test.

    The pages are closed before the server that `stack` holds.
    """
    some = Visits(browser)
    yield some
    for context in some.contexts:
        context.close()
    assert some.complaints == []


@pytest.fixture
def one(visits: Visits, stack: ExitStack, tmp_path: Path) -> Visits:
    """One group, anomalous for ten samples."""
    web = {"prometheus_url": "http://prometheus.example/prom", "grafana_url": "http://g.example"}
    visits.url = stack.enter_context(
        serve_detectors(create_running_detectors(tmp_path, web=web, samples=200))
    )
    return visits


@pytest.fixture
def several(visits: Visits, stack: ExitStack, tmp_path: Path) -> Visits:
    """Six groups: one is anomalous, one blind, one warming."""
    running = create_running_detectors(tmp_path, groups=create_groups(6), states=MIXED)
    visits.url = stack.enter_context(serve_detectors(running))
    return visits


def name_of(number: int) -> str:
    return f'promad{{instance="host-{number:04d}:9100", job="node"}}'


def wait_for_charts(page: Page) -> Page:
    """The page once its charts are drawn."""
    page.locator("#group[data-drawn]").wait_for()
    return page


# What is served


@pytest.fixture
def site(stack: ExitStack, tmp_path: Path) -> str:
    return stack.enter_context(serve_detectors(create_running_detectors(tmp_path)))


def asset(site: str, name: str) -> str:
    """The address that the page has for one of its files."""
    html = requests.get(site, timeout=5).text
    stamp = re.search(r"static/(\w{12})/page\.js", html)
    assert stamp
    return f"{site}/static/{stamp[1]}/{name}"


def test_the_page_allows_itself_nothing_but_its_own_files(site: str) -> None:
    answer = requests.get(site, timeout=5)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_without_javascript_the_page_says_where_else_to_look(site: str) -> None:
    html = requests.get(site, timeout=5).text
    inside = html.partition("<noscript>")[2].partition("</noscript>")[0]
    assert re.findall('href="(.*?)"', inside) == ["api/v1/groups", "docs", "metrics"]


def test_every_module_is_fetched_at_once(site: str) -> None:
    html = requests.get(site, timeout=5).text
    folder = Path(__file__).parents[2] / "promad" / "web" / "static"
    modules = {path.name for path in folder.glob("*.js")} - {"page.js"}
    assert set(re.findall(r'modulepreload" href="static/\w+/(.*?)"', html)) == modules


def test_files_are_kept_until_an_upgrade_and_the_page_is_asked_for_again(site: str) -> None:
    page = requests.get(site, timeout=5)
    assert page.headers["cache-control"] == "no-cache"
    again = requests.get(site, headers={"If-None-Match": page.headers["etag"]}, timeout=5)
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" in requests.get(asset(site, "page.css"), timeout=5).headers["cache-control"]


def test_a_page_from_before_an_upgrade_finds_its_files_but_keeps_none(site: str) -> None:
    old = requests.get(f"{site}/static/before/charts.js", timeout=5)
    assert old.ok
    assert old.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["page.css", "page.js", "icon.svg", "plotly.min.js"])
def test_head_is_answered_as_get_is(site: str, name: str) -> None:
    head, get = (ask(asset(site, name), timeout=5) for ask in (requests.head, requests.get))
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2fpage.py", "__init__.py"])
def test_other_files_are_404(site: str, name: str) -> None:
    assert requests.get(asset(site, name), timeout=5).status_code == 404


def test_plotlys_script_is_the_installed_one_compressed_for_whoever_asks(site: str) -> None:
    url = asset(site, "plotly.min.js")
    plain = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=5)
    assert plain.content.startswith(b"/**\n* plotly.js v")
    with requests.get(url, stream=True, timeout=5) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(answer.raw.read(decode_content=False)) == plain.content


def test_plotly_is_found_without_being_imported() -> None:
    code = (
        "import sys, promad.web.page as page; assert page._find_plotly();"
        "assert page._compute_stamp(); assert 'plotly' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# The list of groups


def test_groups_are_listed_worst_first_by_shape_word_and_score(several: Visits) -> None:
    page = several.open()
    rows = page.locator(GROUPS)
    expect(rows).to_have_count(6)
    states = [row.locator(".state").inner_text().strip() for row in rows.all()]
    assert states == ["anomalous", "blind", "warming", "ok", "ok", "ok"]
    icons = [row.locator("use").get_attribute("href") for row in rows.all()]
    assert icons[:3] == ["#icon-anomalous", "#icon-blind", "#icon-warming"]
    expect(rows.first).to_contain_text("host-0000:9100 · node")
    expect(rows.first).to_contain_text("2.00")
    expect(rows.first).to_contain_text("cpu, load, memory")
    expect(rows.nth(1)).to_contain_text("query cpu failed: timeout")
    expect(rows.nth(1).locator('[data-part="score"]')).to_have_text("")
    expect(page).to_have_title("1 anomalous, 1 blind · promad")


def test_groups_are_narrowed_by_state_and_by_words_and_the_address_says_so(several: Visits) -> None:
    page = several.open()
    page.get_by_role("button", name="1 blind").click()
    expect(page.locator(GROUPS)).to_have_count(1)
    expect(page).to_have_url(re.compile(r"\?state=blind$"))
    page.get_by_role("button", name="1 blind").click()
    page.get_by_label("Search groups").fill("0004")
    expect(page.locator(GROUPS)).to_have_count(1)
    shared = several.open(f"/?{urlsplit(page.url).query}")
    expect(shared.locator(GROUPS)).to_have_count(1)
    expect(shared.get_by_label("Search groups")).to_have_value("0004")


def test_a_thousand_groups_are_listed_searched_and_within_bounds(
    visits: Visits, stack: ExitStack, tmp_path: Path
) -> None:
    running = create_running_detectors(
        tmp_path, groups=create_groups(1000), states=MIXED, samples=12
    )
    visits.url = stack.enter_context(serve_detectors(running))
    page = visits.open()
    rows = page.locator(GROUPS)
    expect(rows).to_have_count(100)
    expect(page.locator("#list-note")).to_have_text("Showing 100 of 1 000 groups.")
    assert page.locator("*").count() < 3000
    page.get_by_label("Search groups").fill("host-0998 node")
    expect(rows).to_have_count(1)
    page.get_by_label("Search groups").fill("")
    page.get_by_role("button", name="Show 100 more").click()
    expect(rows).to_have_count(200)
    page.get_by_role("button", name="167 blind").click()
    expect(rows).to_have_count(100)
    expect(page.locator("#list-note")).to_have_text(
        "Showing 100 of 167 matching groups (1 000 in total)."
    )


# One group


def test_one_group_alone_is_shown_at_once_with_what_one_asks_at_night(one: Visits) -> None:
    page = wait_for_charts(one.open())
    expect(page.locator("#group-state")).to_have_text("anomalous")
    expect(page.locator("#group-since")).to_contain_text("since 15:02:30, 5 min")
    expect(page.locator("#group-since time")).to_have_attribute("datetime", "2025-06-15T15:02:30Z")
    expect(page.locator("#group-score")).to_contain_text("2.00 ×")
    expect(page.locator("#paragraph")).to_contain_text("cpu: 53% of the deviation")
    expect(page.get_by_role("link", name="All groups")).to_be_hidden()
    expect(page.locator("#score")).to_have_attribute(
        "aria-label", re.compile(r"14:07:00 to 15:07:00: highest 2\.00 at 15:07:00, last 2\.00")
    )
    expect(page.locator("#heat")).to_have_attribute("aria-label", re.compile("cpu up to 2.00"))
    expect(page.locator("#feature-charts figure")).to_have_count(4)
    expect(page.locator("#feature-charts figure").first).to_contain_text("expected 10")
    expect(page).to_have_title("promad anomalous · promad")


def test_times_are_the_viewers_with_utc_beside_them(one: Visits) -> None:
    page = wait_for_charts(one.open(timezone_id="America/New_York"))
    expect(page.locator("#group-since")).to_contain_text("since 11:02:30")
    expect(page.locator("#group-since time")).to_have_attribute("title", re.compile("15:02:30Z"))
    expect(page.locator("#paragraph")).to_contain_text("anomalous since 11:02:30")
    expect(page.locator("#score .xtick text").first).to_contain_text(re.compile("^1[01]:"))


def test_each_feature_has_its_values_its_promql_and_links(one: Visits) -> None:
    page = wait_for_charts(one.open("/?range=15m"))
    rows = page.locator("table.features tbody")
    expect(rows).to_have_count(4)
    for shown in ("cpu", "53%", "above", "12", "10", "2.00", "avg(cpu)"):
        expect(rows.first).to_contain_text(shown)
    expect(rows.last).to_contain_text("–")
    prometheus = urlsplit(rows.first.get_by_role("link", name="Prometheus").get_attribute("href"))
    assert prometheus.path == "/prom/graph"
    assert parse_qs(prometheus.query) == {
        "g0.expr": ["avg(cpu)"],
        "g0.tab": ["0"],
        "g0.range_input": ["900s"],
        "g0.end_input": ["2025-06-15 15:07:00"],
    }
    explore = urlsplit(rows.first.get_by_role("link", name="Grafana").get_attribute("href"))
    panes = json.loads(parse_qs(explore.query)["panes"][0])
    assert explore.path == "/explore"
    assert panes["promad"]["queries"][0]["expr"] == "avg(cpu)"
    assert panes["promad"]["range"] == {"from": f"{NOW - 900:.0f}000", "to": f"{NOW:.0f}000"}
    everything = page.locator("#range-links a")
    assert "g3.expr=avg%28requests%29" in everything.first.get_attribute("href")
    assert everything.last.get_attribute("href") == (
        f"http://g.example/d/promad?from={NOW - 900:.0f}000&to={NOW:.0f}000"
    )


def test_only_web_addresses_are_linked(one: Visits) -> None:
    page = one.open()
    script = """async ([url, base]) =>
        (await import(url)).linkToPrometheus(base, ["up"], { start: 0, end: 9 })"""
    url = asset(one.url, "links.js")
    for base in ("javascript:alert(1)//", "file:///etc/passwd", "nonsense"):
        assert page.evaluate(script, [url, base]) is None
    assert page.evaluate(script, [url, "http://user:secret@p.example"]).startswith(
        "http://p.example/graph?g0.expr=up&"
    )


def test_copying_a_query(one: Visits) -> None:
    page = wait_for_charts(one.open(permissions=["clipboard-read", "clipboard-write"]))
    page.get_by_role("button", name="Copy the PromQL of load").click()
    expect(page.locator("#announcer")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == "avg(load)"


def test_events_are_listed_newest_first_and_lead_to_their_time(one: Visits) -> None:
    page = wait_for_charts(one.open())
    events = page.locator(EVENTS)
    expect(events).to_have_count(3)
    expect(events.first).to_contain_text("open, 5 min")
    expect(events.nth(1)).to_contain_text("10 min")
    expect(events.nth(1)).to_contain_text("1.50 ×")
    expect(events.nth(1)).to_contain_text("cpu 53%, load 27%, memory 13%")
    events.first.get_by_role("link").click()
    expect(page).to_have_url(re.compile("start=2025-06-15T14:47:30Z.*at=2025-06-15T15:07:00Z"))
    expect(page.locator("#explained")).to_contain_text("At 15:07:00")
    expect(page.locator("#explained")).to_contain_text("Score: 2× the threshold")
    page.get_by_role("button", name="Back to live").click()
    expect(page.locator("#explained")).to_be_hidden()
    expect(page).to_have_url(f"{one.url}/?group=promad")


def test_what_is_no_longer_kept_is_said_and_the_event_still_explained(one: Visits) -> None:
    page = wait_for_charts(one.open())
    page.locator(EVENTS).nth(2).get_by_role("link").click()
    expect(page.locator("#explained")).to_contain_text("Score: 4× the threshold")
    expect(page.locator("#score-empty")).to_contain_text("No samples of this time range in memory")
    expect(page.locator("#range-links a").first).to_have_attribute(
        "href", re.compile("g0.end_input=2025-06-14")
    )


def test_older_events_are_fetched_on_request(
    visits: Visits, stack: ExitStack, tmp_path: Path
) -> None:
    (served,) = create_running_detectors(tmp_path)
    newest = served.events.find(limit=1)[0].event
    for day in range(1, 25):
        past = 86400.0 * day
        moved = type(newest)(
            newest.group, newest.start - past, newest.start - past, NOW - past, newest.peak
        )
        served.events.record(moved, "b", NOW)
    visits.url = stack.enter_context(serve_detectors([served]))
    page = wait_for_charts(visits.open())
    expect(page.locator(EVENTS)).to_have_count(20)
    page.get_by_role("button", name="Older events").click()
    expect(page.locator(EVENTS)).to_have_count(27)
    expect(page.get_by_role("button", name="Older events")).to_be_hidden()


def test_blind_is_shown_as_blind_with_its_reason_and_without_numbers(several: Visits) -> None:
    page = wait_for_charts(several.open(f"/?group={quote(name_of(3))}"))
    expect(page.locator("#group-state")).to_have_text("blind")
    expect(page.locator("#group-since")).to_contain_text("since 15:02:30, 5 min")
    expect(page.locator("#group-score")).to_have_text("no score")
    expect(page.locator("#paragraph")).to_have_text("Blind: query cpu failed: timeout.")
    expect(page.locator("#failed")).to_have_text("cputimeout after 10 s")
    expect(page.locator("#score")).to_contain_text("blind")
    observed = page.locator('table.features [data-part="observed"]')
    assert observed.all_inner_texts() == ["–"] * 4


def test_an_address_brings_back_group_range_and_moment(several: Visits) -> None:
    query = f"group={quote(name_of(1))}&start=2025-06-15T14:50:00Z&end=2025-06-15T15:00:00Z"
    page = wait_for_charts(several.open(f"/?{query}&at=2025-06-15T14:53:00Z"))
    expect(page.locator("#group-name")).to_have_text(name_of(1))
    expect(page.locator("#range-text")).to_have_text("14:50:00 – 15:00:00")
    expect(page.locator("#explained")).to_contain_text("At 14:53:00")
    expect(page.locator("#features-when")).to_contain_text("at 14:53:00")


def test_back_leads_through_the_views(several: Visits) -> None:
    page = several.open()
    page.get_by_role("link", name="host-0000").click()
    page.get_by_role("button", name="15 min").click()
    expect(page).to_have_url(re.compile("group=promad.*&range=15m$"))
    page.go_back()
    expect(page.get_by_role("button", name="1 h", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    page.go_back()
    expect(page.locator("#group")).to_be_hidden()
    expect(page).to_have_url(f"{several.url}/")


def test_a_stretch_of_the_chart_can_be_chosen_and_a_moment_of_it(one: Visits) -> None:
    page = wait_for_charts(one.open(viewport={"width": 1300, "height": 900}))
    plot = page.locator("#score .nsewdrag").bounding_box()
    assert plot
    middle = plot["y"] + plot["height"] / 2
    page.mouse.move(plot["x"] + plot["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(plot["x"] + plot["width"] * 0.75, middle, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"start=2025-06-15T14:(36:59|37:0.)Z&end=.*T14:5[12]:"))
    score = page.locator("#score")
    expect(score).to_have_attribute("aria-label", re.compile("from 14:36:59"))
    page.mouse.move(plot["x"] + plot["width"] / 3, middle)
    expect(score.locator(".hoverlayer")).to_contain_text("14:42:00")
    expect(score.locator(".hoverlayer")).to_contain_text("threshold, ok")
    page.mouse.down()
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"at=2025-06-15T14:42:00Z"))
    expect(page.locator("#explained")).to_contain_text("At 14:42:00")


def test_a_group_that_is_not_there_is_said(several: Visits) -> None:
    page = several.open("/?group=nothing")
    expect(page.locator("#empty")).to_have_text("No group is named nothing.")
    expect(page.locator(GROUPS)).to_have_count(6)


def test_while_the_daemon_starts_the_page_says_so(visits: Visits, stack: ExitStack) -> None:
    visits.url = stack.enter_context(serve_detectors([]))
    expect(visits.open().locator("#empty")).to_contain_text("promad is starting")


def test_without_plotly_the_tables_still_say_it(one: Visits) -> None:
    page = one.open("/docs")
    page.route("**/plotly.min.js", lambda route: route.abort())
    page.goto(one.url)
    expect(page.locator("#charts-note")).to_contain_text(
        "Charts are unavailable: could not load plotly.min.js"
    )
    expect(page.locator("table.features tbody")).to_have_count(4)
    one.complaints[:] = [text for text in one.complaints if "ERR_FAILED" not in text]


def test_a_group_that_cannot_be_looked_at_again_is_not_shown_as_current(one: Visits) -> None:
    page = one.open("/docs")
    page.clock.install()
    page.goto(one.url)
    wait_for_charts(page)
    page.route(
        "**/api/v1/history*", lambda route: route.fulfill(status=500, json={"detail": "ill"})
    )
    page.clock.fast_forward(31_000)
    lost = page.locator("#group-lost")
    expect(lost).to_contain_text("Could not refresh this group: ill. The data below is from")
    page.unroute("**/api/v1/history*")
    page.clock.fast_forward(61_000)
    expect(lost).to_be_hidden()
    one.complaints[:] = [text for text in one.complaints if "500" not in text]


def test_before_the_first_sample_there_is_a_group_without_charts_or_numbers(
    visits: Visits, stack: ExitStack, tmp_path: Path
) -> None:
    (served,) = create_running_detectors(tmp_path, states=(State.WARMING,))
    empty = replace(served, histories={"promad": RecentHistory(FEATURES, 10)})
    visits.url = stack.enter_context(serve_detectors([empty]))
    page = wait_for_charts(visits.open())
    expect(page.locator("#group-state")).to_have_text("warming")
    expect(page.locator("#score")).to_have_attribute("aria-label", re.compile("no score"))
    expect(page.locator("#score-empty")).to_be_visible()


def test_a_query_that_is_a_mere_condition_is_last_and_marked(
    visits: Visits, stack: ExitStack, tmp_path: Path
) -> None:
    running = create_running_detectors(tmp_path, detector=create_detector(scored=3))
    visits.url = stack.enter_context(serve_detectors(running))
    page = wait_for_charts(visits.open())
    last = page.locator("table.features tbody").last
    expect(last).to_contain_text("requests")
    expect(last).to_contain_text("not scored")
    expect(page.locator("#feature-charts figure")).to_have_count(3)


# Escaping


def test_a_label_with_a_script_in_it_is_shown_as_text(
    visits: Visits, stack: ExitStack, tmp_path: Path
) -> None:
    labels = [(("instance", EVIL),), (("instance", "b"),)]
    visits.url = stack.enter_context(
        serve_detectors(create_running_detectors(tmp_path, groups=labels))
    )
    page = visits.open()
    expect(page.get_by_text(EVIL, exact=True)).to_be_visible()
    page.get_by_role("link", name=EVIL).click()
    wait_for_charts(page)
    expect(page.locator("#group-name")).to_have_text(f'promad{{instance="{EVIL}"}}')
    assert_unharmed(page)


def test_whatever_the_api_says_is_shown_as_text(one: Visits) -> None:
    page = one.open("/docs")
    page.route("**/api/v1/**", answer_with_scripts)
    page.goto(f"{one.url}/?start=2025-06-15T14:50:00Z&end=2025-06-15T15:07:00Z&at={NOW}")
    wait_for_charts(page)
    expect(page.locator("#heat .ytick text").first).to_contain_text("cpu<script>")
    page.locator("#scale").scroll_into_view_if_needed()
    heat = page.locator("#heat .nsewdrag").bounding_box()
    assert heat
    page.mouse.move(heat["x"] + heat["width"] - 5, heat["y"] + 5)
    expect(page.locator("#heat .hoverlayer")).to_contain_text(f"cpu{EVIL}: ")
    for place in ("#group-name", "#paragraph", "#explained-text", "table.features code", "#facts"):
        expect(page.locator(place).first).to_contain_text(EVIL)
    expect(page.locator("#feature-charts strong").first).to_have_text(f"cpu{EVIL}")
    expect(page.locator(EVENTS).first).to_contain_text(EVIL)
    assert_unharmed(page)


def answer_with_scripts(route: Route) -> None:
    """The true answer with a script after every text that is not one of a few words."""
    answer = route.fetch(
        url=route.request.url.replace(quote(EVIL, safe=""), "").split("%3Cscript")[0]
    )
    route.fulfill(response=answer, json=_poisoned(answer.json()))


def _poisoned(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _poisoned(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [_poisoned(part, key) for part in value]
    fixed = {"state", "states", "direction", "end_reason", "prometheus_url", "version"}
    return value + EVIL if isinstance(value, str) and key not in fixed else value


def assert_unharmed(page: Page) -> None:
    assert page.evaluate("() => window.pwned") is None
    assert page.locator("script:not([src])").count() == 0
    assert page.locator("main img").count() == 0


# Liveliness


@dataclass
class Requests:
    """Counts what a page asks the API for."""

    paths: list[str] = field(default_factory=list)

    def attach(self, page: Page) -> None:
        page.on("request", lambda request: self.paths.append(urlsplit(request.url).path))

    def count(self, name: str) -> int:
        return self.paths.count(f"/api/v1/{name}")


def hide(page: Page, hidden: bool) -> None:
    page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_only_what_is_new_of_the_history_is_asked_for_again(one: Visits) -> None:
    page = one.open("/docs")
    starts: list[list[str]] = []

    def note(request: Any) -> None:
        if "/api/v1/history" in request.url:
            starts.append(parse_qs(urlsplit(request.url).query)["start"])

    page.clock.install()
    page.on("request", note)
    page.goto(one.url)
    wait_for_charts(page)
    page.clock.fast_forward(60_000)
    until(lambda: len(starts) == 2 or page.wait_for_timeout(50), 10)
    assert starts == [[f"{NOW - 3600:.0f}"], [f"{NOW - 120:.0f}"]]


def test_a_hidden_page_asks_nothing_and_catches_up_when_it_is_seen(several: Visits) -> None:
    page = several.open("/docs")
    page.clock.install()
    page.goto(several.url)
    expect(page.locator(GROUPS)).to_have_count(6)
    asked = Requests()
    asked.attach(page)
    hide(page, True)
    expect(page.locator("#connection")).to_contain_text("paused")
    page.clock.fast_forward(600_000)
    page.wait_for_timeout(300)
    assert asked.count("groups") == 0
    hide(page, False)
    expect(page.locator("#connection")).to_contain_text("live")
    page.wait_for_timeout(300)
    assert asked.count("groups") == 1
    page.clock.fast_forward(6_000)
    page.wait_for_timeout(300)
    assert asked.count("groups") == 2


def test_changes_are_shown_and_announced(visits: Visits, stack: ExitStack, tmp_path: Path) -> None:
    groups = create_groups(2)
    calm = create_running_detectors(tmp_path / "calm", groups=groups, states=(State.OK,))
    wild = create_running_detectors(
        tmp_path / "wild", groups=groups, states=(State.OK, State.ANOMALOUS)
    )
    running: list[RunningDetector] = [*calm]
    visits.url = stack.enter_context(serve_detectors(running))
    page = visits.open("/docs")
    page.clock.install()
    page.goto(visits.url)
    expect(page).to_have_title("all ok · promad")
    page.get_by_role("link", name="host-0000").focus()
    running[:] = wild
    page.clock.fast_forward(6_000)
    expect(page.locator("#announcer")).to_have_text(f"{name_of(1)} is anomalous")
    expect(page.locator(GROUPS).first).to_contain_text("host-0001")
    expect(page.get_by_role("link", name="host-0000")).to_be_focused()
    expect(page).to_have_title("1 anomalous · promad")
    for served in calm:
        served.events.close()


def test_what_is_old_is_never_shown_as_current(
    visits: Visits, stack: ExitStack, tmp_path: Path
) -> None:
    port = free_port()
    server = ExitStack()
    visits.url = server.enter_context(
        serve_detectors(create_running_detectors(tmp_path / "a"), port=port)
    )
    page = visits.open("/docs")
    page.clock.install()
    page.goto(visits.url)
    wait_for_charts(page)
    server.close()
    page.clock.fast_forward(6_000)
    lost = page.locator("#lost")
    expect(lost).to_contain_text("The daemon has not responded since")
    expect(lost).to_contain_text("The data below is from")
    expect(page.locator("#connection")).to_contain_text("no response")
    expect(page).to_have_title("no response · promad")
    stack.enter_context(serve_detectors(create_running_detectors(tmp_path / "b"), port=port))
    page.clock.fast_forward(60_000)
    expect(lost).to_be_hidden()
    expect(page.locator("#connection")).to_contain_text("live")
    visits.complaints[:] = [text for text in visits.complaints if "ERR_CONNECTION" not in text]


# For everyone


def test_the_list_and_a_group_can_be_used_from_the_keyboard(several: Visits) -> None:
    page = several.open(viewport={"width": 900, "height": 800})
    expect(page.locator(GROUPS)).to_have_count(6)
    page.keyboard.press("/")
    expect(page.get_by_label("Search groups")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="host-0000")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#group")).to_be_focused()
    expect(page.locator("#group-name")).to_have_text(name_of(0))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="All groups")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="host-0000")).to_be_focused()


@pytest.mark.parametrize("path", ["/", f"/?group={quote(name_of(0))}"])
@pytest.mark.parametrize("width", [360, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(several: Visits, path: str, width: int, scheme: str) -> None:
    source = read_axe()
    page = several.open(
        path, viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    expect(page.locator(GROUPS)).to_have_count(6)
    if "group" in path:
        wait_for_charts(page)
    page.evaluate(source)
    found = page.evaluate("() => axe.run()")
    serious = [
        (problem["id"], [node["html"][:120] for node in problem["nodes"]])
        for problem in found["violations"]
        if problem["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    assert len(found["passes"]) > 15


@pytest.mark.parametrize("path", ["/", f"/?group={quote(name_of(0))}"])
def test_on_a_phone_the_page_is_as_wide_as_the_screen(several: Visits, path: str) -> None:
    page = several.open(path, viewport=PHONE, has_touch=True, is_mobile=True)
    expect(page.locator(GROUPS)).to_have_count(6)
    if "group" in path:
        wait_for_charts(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"]
    small = page.locator("button:visible, main a:visible").evaluate_all(
        """(all) => all.filter((one) => one.getBoundingClientRect().height < 24)
            .filter((one) => !one.closest("table.groups")).map((one) => one.outerHTML)"""
    )
    assert small == []


ALIKE = (
    "disk_read_bytes", "disk_written_bytes", "disk_read_again_bytes", "disk_busy_ratio",
    "network_received_bytes_per_second", "network_received_bytes_per_minute", "network_sent_bytes",
    "memory_a_very_long_name_first_bytes", "memory_a_very_long_name_second_bytes", "cpu", "cpu2",
)  # fmt: skip


def test_on_a_phone_labels_of_the_heat_map_are_told_apart(
    visits: Visits, stack: ExitStack, tmp_path: Path
) -> None:
    running = create_running_detectors(tmp_path, features=ALIKE)
    visits.url = stack.enter_context(serve_detectors(running))
    page = wait_for_charts(visits.open(viewport=PHONE, has_touch=True, is_mobile=True))
    labels = page.locator("#heat .ytick text").all_text_contents()
    assert len(labels) == len(set(labels)) == len(ALIKE)
    assert max(map(len, labels)) <= 11
    assert {"cpu", "cpu2"} < set(labels)
    left = page.locator("#heat").bounding_box()["x"]
    for label in page.locator("#heat .ytick text").all():
        assert label.bounding_box()["x"] >= left - 1


def test_on_a_phone_the_table_of_features_shows_that_it_continues(several: Visits) -> None:
    page = several.open(
        f"/?group={quote(name_of(0))}", viewport=PHONE, has_touch=True, is_mobile=True
    )
    wait_for_charts(page)
    hint = page.get_by_text("Scroll the table sideways for observed and expected values.")
    expect(hint).to_be_visible()
    page.set_viewport_size({"width": 1300, "height": 800})
    expect(hint).to_be_hidden()


def test_charts_follow_light_and_dark(one: Visits) -> None:
    page = wait_for_charts(one.open(color_scheme="light"))
    line = page.locator("#score .scatterlayer .js-line").last
    light = line.evaluate("(path) => path.style.stroke")
    page.emulate_media(color_scheme="dark")
    expect(line).not_to_have_css("stroke", light)
    assert (
        page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    )


# The real thing: a daemon on a Prometheus


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world of test_end_to_end with a model that is trained in a second."""
    directory = tmp_path_factory.mktemp("page")
    target, port = Target(), free_port()
    prometheus = build_server(directory, target, port)
    config = directory / "config.yaml"
    text = configuration(prometheus.url, port)
    quick = "model: linear\n  scoring: {smoothing_samples: 3}"
    config.write_text(text.replace("preset: improved", quick))
    with prometheus:
        stages = promad(config, "run", "--retrain")
        assert stages.returncode == 0, stages.stdout + stages.stderr
        with detecting(prometheus, target, config, port) as whole:
            yield whole


@pytest.mark.slow
def test_a_spike_is_seen_explained_and_remembered(world: World, visits: Visits) -> None:
    until(world.is_quiet, 180)
    visits.url = f"http://127.0.0.1:{world.port}"
    page = wait_for_charts(visits.open())
    expect(page.locator("#group-state")).to_have_text("ok")
    world.target.spike = 8.0
    patiently = expect(page.locator("#group-state"))
    patiently.to_have_text("anomalous", timeout=30_000)
    expect(page.locator("#paragraph")).to_contain_text(
        re.compile(r"latency: \d+% of the deviation")
    )
    expect(page.locator("table.features tbody").first).to_contain_text("latency")
    expect(page.locator("#feature-charts strong").first).to_have_text("latency")
    expect(page.locator(EVENTS).first).to_contain_text("open")
    world.target.spike = 0.0
    patiently.to_have_text("ok", timeout=120_000)
    expect(page.locator(EVENTS).first).not_to_contain_text("open", timeout=10_000)
    expect(page.locator(EVENTS).first).to_contain_text("latency")


@pytest.mark.slow
def test_without_prometheus_the_page_is_blind_and_recovers(world: World, visits: Visits) -> None:
    until(lambda: world.state() == "ok")
    visits.url = f"http://127.0.0.1:{world.port}"
    page = wait_for_charts(visits.open())
    world.prometheus.kill()
    state = expect(page.locator("#group-state"))
    state.to_have_text("blind", timeout=30_000)
    expect(page.locator("#group-score")).to_have_text("no score")
    expect(page.locator("#failed dt").first).to_have_text("load")
    world.prometheus.start()
    state.to_have_text("ok", timeout=60_000)
    expect(page.locator("#group-score")).to_contain_text("threshold")


# Maintenance and deployments


def test_a_muted_event_and_a_deployed_version_are_shown(
    visits: Visits, stack: ExitStack, tmp_path: Path
) -> None:
    (served,) = create_running_detectors(tmp_path, markers=[{"name": "api", "query": "x"}])
    (status,) = served.snapshot().groups
    assert status.event is not None
    log, start = served.events, status.event.start
    log.record(replace(status.event, muted="backup", unmuted_at=start + 120.0), "b1", start)
    log.record_markers("api", start, [Marker("api", "1.4.2", start - 120.0)], {})
    snapshot = replace(served.snapshot(), groups=(replace(status, muted=True, muted_by="backup"),))
    shown = replace(served, snapshot=lambda: snapshot)
    visits.url = stack.enter_context(serve_detectors([shown]))
    page = visits.open()
    expect(page.locator("#group-since")).to_contain_text("muted: backup")
    expect(page.locator(EVENTS).first).to_contain_text("muted: backup until")
    tooltip = page.locator(f"{EVENTS} [data-part=features]").first
    expect(tooltip).to_have_attribute("title", re.compile("Began 2m after api 1.4.2.$"))
    page.locator("#group[data-drawn]").wait_for()
    expect(page.locator("#score")).to_contain_text("api 1.4.2")
