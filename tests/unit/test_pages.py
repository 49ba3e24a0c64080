"""Pages: what is hostile in a value stays text, and a page needs no other file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from playwright.sync_api import expect
from plotly.offline import get_plotlyjs

from promad.errors import DataError
from promad.pages.figures import create_layout, create_line
from promad.pages.rendering import write_page
from promad.pages.timelines import draw_elevations, draw_feature, draw_score
from tests.support.browser import chromium

EVIL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>'\"&"


def hostile_values(**changes: object) -> dict[str, object]:
    """What report.html shows, a script in every text."""
    times = 1_750_000_000.0 + 30.0 * np.arange(20)
    ones = np.ones((20, 1))
    figure = draw_feature(EVIL, times, ones[:, 0], 2 * ones[:, 0], (times[3], times[5]))
    event = {
        "id": "e1",
        "title": EVIL,
        "paragraph": EVIL,
        "features": {EVIL: [EVIL] * 6},
        "charts": {"event-e1-0": figure},
    }
    return {
        "title": EVIL,
        "summary": EVIL,
        "alerts": {EVIL: [EVIL]},
        "score": draw_score(times, ones[:, 0], [(times[3], times[5])], [(times[7], times[8])]),
        "elevation": draw_elevations(times, [EVIL], ones),
        "feature_headings": ["share", "direction", "observed", "expected", "error", "since"],
        "events": [event],
        "queries": {EVIL: f'up{{job="{EVIL}"}}'},
        **changes,
    }


def test_hostile_text_is_escaped_in_html_and_in_json(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "report.html", **hostile_values())
    own = (tmp_path / "page.html").read_text().replace(get_plotlyjs(), "")
    assert own.count("<script>") == own.count("</script>") == 4  # plotly's, and three charts
    assert "<img" not in own
    assert "&lt;/script&gt;" in own
    assert r"\u003c/script" not in own  # figures escape for plotly first, then for JSON
    assert r"\u0026lt;/script\u0026gt;" in own


def test_a_figure_survives_the_way_into_the_page(tmp_path: Path) -> None:
    figure = {"data": [create_line(EVIL, [1, 2], [3.0, None])], "layout": create_layout("x", "y")}
    write_page(tmp_path / "page.html", "report.html", **hostile_values(score=figure))
    own = (tmp_path / "page.html").read_text().replace(get_plotlyjs(), "")
    found = re.search(r'newPlot\("score", (\[.*\]), (\{.*\}), \{responsive: true\}\);', own)
    assert found
    assert json.loads(found[1]) == figure["data"]
    assert json.loads(found[2]) == figure["layout"]


def test_a_browser_shows_hostile_text_literally_and_runs_none_of_it(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "report.html", **hostile_values())
    complaints: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        page.locator(".chart .main-svg").first.wait_for()
        assert page.locator(".chart .plot-container").count() == 3
        assert page.locator("h1").inner_text() == EVIL
        assert EVIL in page.locator("code").inner_text()
        expect(page.locator("#elevation .yaxislayer-above")).to_contain_text("<script>")
        assert page.evaluate("() => window.pwned") is None
        assert page.locator("img").count() == 0
    assert complaints == []


def test_on_a_phone_a_report_is_as_wide_as_the_screen(tmp_path: Path) -> None:
    long = "node_network_transmitted_bytes_per_second_without_loopback_interfaces"
    times, ones = 1_750_000_000.0 + 30.0 * np.arange(20), np.ones((20, 1))
    values = hostile_values(
        title=f"Report of {long}",
        elevation=draw_elevations(times, [long], ones),
        queries={long: long},
    )
    write_page(tmp_path / "page.html", "report.html", **values)
    with chromium() as browser:
        phone = {"width": 360, "height": 740}
        page = browser.new_page(viewport=phone, has_touch=True, is_mobile=True)
        page.goto((tmp_path / "page.html").as_uri())
        page.locator("#elevation .main-svg").first.wait_for()
        assert page.evaluate("() => document.documentElement.scrollWidth") == 360
        assert page.evaluate("() => innerWidth") == 360
        page.set_viewport_size({"width": 740, "height": 360})  # turned around
        expect(page.locator("#elevation .main-svg").first).to_have_attribute("width", "708")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_an_error_not_a_broken_page(
    tmp_path: Path, value: float
) -> None:
    figure = {"data": [create_line("a", [1], [value])], "layout": {}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_page(tmp_path / "page.html", "report.html", **hostile_values(score=figure))
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_a_template_lacks_is_an_error(tmp_path: Path) -> None:
    values = hostile_values()
    del values["summary"]
    with pytest.raises(UndefinedError, match="summary"):
        write_page(tmp_path / "page.html", "report.html", **values)


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_page(tmp_path / "file" / "page.html", "report.html", **hostile_values())
