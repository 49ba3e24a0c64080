"""The page and the reference of the API in a real browser: below a prefix, behind a password."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
import pytest
from playwright.sync_api import Browser, Page, Response, expect

from promad.http_server import Security
from tests.support.browser import chromium
from tests.support.served import create_running_detectors, serve_detectors

PASSWORD = "a long password"
PREFIX = "/team/promad"


@dataclass
class Visit:
    """A page of a browser that knows a password, and what it has requested and complained of."""

    page: Page
    url: str
    requested: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def note(self, response: Response) -> None:
        self.requested.append(response.url)
        if response.status >= 400:
            self.refused.append(f"{response.status} {response.url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10))
    security = Security(users={b"alice": hashed})
    running = create_running_detectors(tmp_path)
    with serve_detectors(running, security=security, prefix=PREFIX) as url:
        context = browser.new_context(http_credentials={"username": "alice", "password": PASSWORD})
        made = Visit(context.new_page(), url)
        made.page.on("response", made.note)
        made.page.on("console", lambda message: made.complaints.append(message.text))
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        yield made
        context.close()


def test_the_page_works_below_a_prefix_and_behind_a_password(visit: Visit) -> None:
    root = visit.url.removesuffix(PREFIX)
    visit.page.goto(f"{root}/")
    expect(visit.page).to_have_url(f"{visit.url}/")
    expect(visit.page.locator("#group-name")).to_have_text("promad")
    expect(visit.page.locator("#score .xtick text").first).to_be_visible(timeout=15_000)
    assert any(each.startswith(f"{visit.url}/api/v1/history") for each in visit.requested)
    others = [each for each in visit.requested if not each.startswith(f"{visit.url}/")]
    assert set(others) == {f"{root}/"}
    assert {each.split()[0] for each in visit.refused} <= {"401"}, "of the first request only"
    assert [text for text in visit.complaints if "401" not in text] == []
    visit.page.locator("footer a").first.click()
    expect(visit.page).to_have_url(f"{visit.url}/metrics")


def test_the_reference_calls_the_api_below_the_prefix(visit: Visit) -> None:
    visit.page.goto(f"{visit.url}/docs")
    operation = visit.page.locator("#operations-State-models")
    operation.locator("button").first.click()
    operation.locator("button.execute").click()
    expect(operation.locator(".request-url pre")).to_have_text(f"{visit.url}/models")
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text(
        "200"
    )
    assert [text for text in visit.complaints if "401" not in text] == []


def test_a_wrong_password_shows_nothing(visit: Visit, browser: Browser) -> None:
    context = browser.new_context(http_credentials={"username": "alice", "password": "wrong"})
    page = context.new_page()
    answer = page.goto(f"{visit.url}/")
    assert answer is not None
    assert answer.status == 401
    expect(page.locator("body")).to_contain_text("user name or password is wrong")
    context.close()
