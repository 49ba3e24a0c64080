"""Requests to the API of another daemon over the network: bounded, and to that server alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promad.config import PeerSettings
from promad.http_server import listen
from promad.shards import SilentError, client
from promad.shards.client import HttpClient
from tests.support.prometheus_stub import Asked, Say, stub_server
from tests.support.served import create_running_detectors, serve_detectors

SETTINGS = PeerSettings(timeout="2s")


def get(url: str, target: str = "api/v1/groups?limit=1", **settings: Any) -> Any:
    asking = HttpClient(url, SETTINGS.model_copy(update=settings))
    try:
        return asking.get(target)
    finally:
        asking.close()


def fail(url: str, **settings: Any) -> SilentError:
    with pytest.raises(SilentError) as caught:
        get(url, **settings)
    return caught.value


def test_a_daemon_below_a_prefix_is_asked(tmp_path: Path) -> None:
    running = create_running_detectors(tmp_path)
    with serve_detectors(running, prefix="/promad") as url:
        reply = get(url)
    assert (reply.status, b'"total":1' in reply.body) == (200, True)


def test_credentials_are_sent_as_to_prometheus(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    settings = PeerSettings.model_validate(
        {"basic_auth": {"username": "me", "password_file": secret}}
    )
    with stub_server([Say(401, '{"detail": "wrong"}')]) as stub:
        reply = HttpClient(stub.url, settings).get("api/v1/groups")
        assert (reply.status, stub.asked[0].headers["Authorization"]) == (
            401,
            "Basic bWU6aHVudGVyMg==",
        )
        secret.unlink()
        with pytest.raises(SilentError) as caught:
            HttpClient(stub.url, settings).get("api/v1/groups")
    assert str(caught.value) == (
        f"web.peers_http_config.basic_auth.password_file: {secret} cannot be read (No such file or "
        "directory)"
    )


def test_a_redirect_to_another_server_is_not_followed() -> None:
    with stub_server([Say(302, headers={"Location": "http://127.0.0.1:1/x"})]) as stub:
        error = fail(stub.url)
    assert str(error) == "redirect to another server (http://127.0.0.1) not followed"
    assert error.timed_out is False


def test_nobody_there_is_an_error() -> None:
    bound = listen("127.0.0.1", 0)
    port = bound.getsockname()[1]
    bound.close()
    assert str(fail(f"http://127.0.0.1:{port}")) == "connection failed (Connection refused)"


def test_a_daemon_that_does_not_answer_is_waited_for_as_long_as_configured() -> None:
    bound = listen("127.0.0.1", 0)  # accepts, and says nothing
    try:
        error = fail(f"http://127.0.0.1:{bound.getsockname()[1]}", timeout=0.2)
    finally:
        bound.close()
    assert (str(error), error.timed_out) == ("no response within 0.2 s", True)


def test_an_answer_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LARGEST_BODY_BYTES", 2**20)

    def answer(asked: Asked) -> Say:
        return Say(200, b" " * (2**20 + 1))

    with stub_server(answer) as stub:
        assert str(fail(stub.url)) == "response larger than 1 MiB"
