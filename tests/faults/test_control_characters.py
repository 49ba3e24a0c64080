"""Escape sequences and line breaks in what servers and clients send."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.cli.output import print_lines, print_warnings
from promad.errors import PrometheusError, escape_control_characters
from promad.web.app import build_app

HOSTILE = "\x1b[2J\x00\r\nlevel=info\u202e\x9b31m\u2028\x7f"


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("text", [HOSTILE, f"a{HOSTILE}b", "\ud800"])
def test_what_is_escaped_is_printable(text: str) -> None:
    assert escape_control_characters(text).isprintable()


@pytest.mark.parametrize("text", ["", "plain", "größer — 5 µs", 'a "quoted" \\ text', "日本語"])
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert escape_control_characters(text) == text


def test_the_message_of_a_failed_query_is_one_line() -> None:
    message = str(PrometheusError(f"query cpu: HTTP 500: {HOSTILE}", "server_error"))
    assert message.isprintable()
    assert message.startswith("query cpu: HTTP 500: \\x1b[2J\\x00\\r\\nlevel=info")


@pytest.mark.parametrize("format_", list(LogFormat))
@pytest.mark.parametrize("value", [HOSTILE, Path(f"/{HOSTILE}"), ValueError(HOSTILE), "a\nb"])
def test_a_log_line_is_one_printable_line(
    format_: LogFormat, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogLevel.INFO, format_)
    structlog.get_logger().error("query failed", error=value, attempts=3)
    line = capsys.readouterr().err
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert "attempts" in line


@pytest.mark.parametrize("format_", list(LogFormat))
def test_a_traceback_is_one_printable_line(
    format_: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogLevel.INFO, format_)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        structlog.get_logger().exception("tick failed")
    line = capsys.readouterr().err
    assert line[:-1].isprintable()
    assert "Traceback (most recent call last)" in line


@pytest.mark.parametrize("print_all", [print_lines, print_warnings])
def test_what_a_command_prints_has_no_sequences_for_a_terminal(
    print_all: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    print_all(["größer — 5 µs\n\tcpu", 'job="\x1b[2J\r\x9b\u202e"'])
    assert "".join(capsys.readouterr()) == (
        "größer — 5 µs\n\tcpu\n" + r'job="\u001b[2J\u000d\u009b\u202e"' + "\n"
    )


def test_a_refusal_quotes_a_request_in_printable_text() -> None:
    client = TestClient(build_app(CollectorRegistry(), list, lambda: True))
    for answer in (
        client.get(f"/{quote(HOSTILE)}"),
        client.get("/api/v1/events", params={"limit": HOSTILE}),
        client.post("/score", content=b"{}", headers={"content-type": b"text/\x9b31m"}),
        client.post(
            "/score",
            content=json.dumps({HOSTILE: 1, "data": [[1]]}),
            headers={"content-type": "application/json"},
        ),
    ):
        assert answer.status_code in {400, 404, 415}
        assert answer.json()["detail"].isprintable(), answer.json()
