"""Everything below a prefix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.served import create_running_detectors, serve_detectors

PATHS = ("/", "/metrics", "/-/healthy", "/-/ready", "/health", "/docs", "/api/v1/groups")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = create_running_detectors(tmp_path_factory.mktemp("prefix"))
    with serve_detectors(running, prefix="/team/promad") as address:
        yield address


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=5, allow_redirects=False)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_below_the_prefix_and_nowhere_else(url: str, path: str) -> None:
    assert get(url + path).status_code == 200
    outside = get(url.removesuffix("/team/promad") + path)
    assert outside.status_code == (308 if path == "/" else 404)
    assert outside.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["", "/?group=a%20b"])
def test_the_root_and_the_bare_prefix_redirect_to_the_page(url: str, path: str) -> None:
    start = url if path == "" else url.removesuffix("/team/promad")
    answer = get(start + path)
    assert answer.status_code == 308
    assert answer.headers["location"] == f"/team/promad/{path.removeprefix('/')}"


def test_what_is_missing_says_where_the_reference_is(url: str) -> None:
    assert get(f"{url}/nothing").json() == {
        "detail": "/team/promad/nothing does not exist — GET /team/promad/docs lists all paths"
    }
    for other in ("/team", "/team/promadx", "//team/promad/", "/other"):
        answer = get(url.removesuffix("/team/promad") + other)
        assert answer.status_code == 404, other
        assert answer.json()["detail"].endswith(
            "does not exist — everything is below /team/promad/"
        )


def test_the_description_of_the_api_has_the_prefix(url: str) -> None:
    assert get(f"{url}/openapi.json").json()["servers"] == [{"url": "/team/promad"}]


def test_scoring_works_below_the_prefix(url: str) -> None:
    answer = requests.post(f"{url}/score", json={"data": [[0.0] * 4] * 20}, timeout=5)
    assert answer.status_code == 200, Path(answer.text)
