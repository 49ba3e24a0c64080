"""Reloads: over HTTP, by the lock file, and by changed content; and the socket of systemd."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import typer
from prometheus_client import CollectorRegistry

from promad.cli.web_options import (
    parse_external_url,
    parse_peers,
    parse_reload_interval,
    parse_route_prefix,
)
from promad.detection import content_watch
from promad.detection.content_watch import RETRY_SECONDS, ContentWatch, digest_files
from promad.detection.directory_lock import (
    FILE_NAME,
    DaemonStatus,
    holds_directory,
    lock_directory,
    read_status,
)
from promad.detection.reloading import Reload, ReloadQueue
from promad.errors import PromadError
from promad.http_server import WebServer, listen, systemd_socket
from promad.http_server.systemd_socket import take_systemd_socket
from promad.stages import reload as stage
from promad.web.app import build_app

# POST and PUT /-/reload


@contextmanager
def serve(error: str = "", enabled: bool = True) -> Iterator[tuple[str, list[str]]]:
    """The address of the application, and the reloads that were asked for."""
    asked: list[str] = []

    def ask() -> Future[str]:
        asked.append("reload")
        done: Future[str] = Future()
        done.set_result(error)
        return done

    app = build_app(CollectorRegistry(), list, lambda: True, ask_reload=ask if enabled else None)
    server = WebServer(app, listen("127.0.0.1", 0))
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}/-/reload", asked
    finally:
        server.stop()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_the_port_reloads_where_that_is_enabled(method: str) -> None:
    with serve() as (url, asked):
        answer = requests.request(method, url, timeout=5)
        assert (answer.status_code, answer.text) == (200, "promad reloaded its configuration.\n")
    assert asked == ["reload"]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_it_does_not_by_default(method: str) -> None:
    with serve(enabled=False) as (url, asked):
        answer = requests.request(method, url, timeout=5)
    assert (answer.status_code, asked) == (403, [])
    assert answer.json()["detail"].startswith("the lifecycle API is off — start promad with")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_other_methods_change_nothing(method: str) -> None:
    with serve() as (url, asked):
        assert requests.request(method, url, timeout=5).status_code == 405
    assert asked == []


def test_a_failed_reload_is_reported_with_its_reason() -> None:
    with serve("config.yaml:3: steps: unknown key") as (url, _):
        answer = requests.post(url, timeout=5)
    assert (answer.status_code, answer.text) == (
        500,
        "reload failed: config.yaml:3: steps: unknown key\n",
    )


HERE = "HOST"
"""Stands for the address of the server."""


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Origin": f"http://{HERE}"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": f"http://{HERE}.evil.example"}, False),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Origin": f"http://{HERE}", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_a_page_of_another_site_cannot_reload(headers: dict[str, str], admitted: bool) -> None:
    with serve() as (url, asked):
        host = url.split("/")[2]
        sent = {name: value.replace(HERE, host) for name, value in headers.items()}
        answer = requests.post(url, headers=sent, timeout=5)
    assert (answer.status_code, bool(asked)) == ((200, True) if admitted else (403, False))


def test_a_reload_that_nobody_waits_for_is_left_out() -> None:
    reloads = ReloadQueue()
    first, second = reloads.ask(), reloads.ask()
    first.cancel()
    assert reloads.take() is second
    assert not second.cancel()
    reloads.ask()
    reloads.end()
    assert reloads.take() is None


# The lock file


def test_a_daemon_says_who_it_is_and_how_it_was_loaded(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    lock = lock_directory(tmp_path)
    try:
        assert read_status(tmp_path).process == os.getpid()
        lock.write(DaemonStatus(os.getpid(), 2.0, "a long error " * 100))
        lock.write(DaemonStatus(os.getpid(), 3.0))
        assert read_status(tmp_path) == DaemonStatus(os.getpid(), 3.0)
        assert holds_directory(os.getpid(), tmp_path)
        assert not holds_directory(os.getppid(), tmp_path)
    finally:
        lock.release()
    assert not holds_directory(os.getpid(), tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"process": "x"}', '"x"'])
def test_a_file_without_a_status_is_no_daemon(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    assert read_status(tmp_path) is None
    with pytest.raises(PromadError, match="no promad detect runs on this directory"):
        list(stage.reload([tmp_path]))


def test_a_process_that_only_has_the_same_id_gets_no_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_directory(tmp_path)
    lock.write(DaemonStatus(os.getpid(), 0.0))
    lock.release()
    monkeypatch.setattr(stage.os, "kill", lambda *_: pytest.fail("a signal was sent"))
    with pytest.raises(PromadError, match="no promad detect runs on this directory"):
        list(stage.reload([tmp_path]))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([(9.0, "old error"), (11.0, "")], None),
        ([(11.0, "config.yaml:1: x")], "reload failed in process .*: config.yaml:1: x"),
        ([], "has not reloaded within 120 s"),
    ],
)
def test_the_result_is_that_of_a_reload_that_began_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[Any], expected: str | None
) -> None:
    now, left = [10.0], list(answers)
    lock = lock_directory(tmp_path)

    def sleep(_: float) -> None:
        now[0] += 1.0
        if left:
            lock.write(DaemonStatus(os.getpid(), *left.pop(0)))

    monkeypatch.setattr(stage.os, "kill", lambda *_: None)
    lock.write(DaemonStatus(os.getpid(), 5.0))
    try:
        if expected is None:
            assert list(stage.reload([tmp_path], lambda: now[0], sleep)) == [os.getpid()]
        else:
            with pytest.raises(PromadError, match=expected):
                list(stage.reload([tmp_path], lambda: now[0], sleep))
    finally:
        lock.release()


# Changed content


class Watched:
    """A watch over one file, and a detector whose bundle a test switches."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = directory / "config.yaml"
        self.file.write_text("a")
        self.loaded = self.current = "b1"
        self.error = ""
        self.now = 0.0
        self.reloads = 0
        store = SimpleNamespace(current_id=lambda: self.current)
        monkeypatch.setattr(content_watch.BundleStore, "of", lambda config: store)
        digest = digest_files([self.file])
        self.watch = ContentWatch([self.file], self.serve, self.ask, digest, lambda: self.now)

    def serve(self) -> list[Any]:
        config, bundle = SimpleNamespace(name="d"), SimpleNamespace(id=self.loaded)
        return [SimpleNamespace(config=config, bundle=bundle)]

    def ask(self) -> Reload:
        self.reloads += 1
        if not self.error:
            self.loaded = self.current
            self.watch.use(digest_files([self.file]))
        done = Reload()
        done.set_result(self.error)
        return done


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch)


def test_without_a_change_nothing_is_reloaded(watched: Watched) -> None:
    os.utime(watched.file)
    watched.file.write_text("a")
    watched.watch.look()
    assert watched.reloads == 0


def test_changed_content_is_reloaded_once(watched: Watched) -> None:
    watched.file.write_text("b")
    for _ in range(3):
        watched.watch.look()
    assert watched.reloads == 1


def test_a_change_while_the_daemon_started_is_found(watched: Watched) -> None:
    watched.watch.use("the digest from before the files were read")
    watched.watch.look()
    assert watched.reloads == 1


def test_another_current_bundle_is_reloaded_once(watched: Watched) -> None:
    watched.current = "b2"
    for _ in range(3):
        watched.watch.look()
    assert watched.reloads == 1


def test_a_failed_reload_is_tried_again_after_a_minute_or_a_change(watched: Watched) -> None:
    watched.file.write_text("b")
    watched.error = "wrong"
    for _ in range(3):
        watched.watch.look()
    assert watched.reloads == 1
    watched.now += RETRY_SECONDS
    watched.watch.look()
    assert watched.reloads == 2
    watched.file.write_text("c")
    watched.watch.look()
    assert watched.reloads == 3
    watched.file.write_text("a")
    watched.watch.look()
    assert watched.reloads == 3, "what is in use is there again"


def test_a_file_that_is_being_written_is_waited_for(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file differs at every look until it is complete."""
    stop, waits = threading.Event(), iter(["half", "whole", None, None, None])

    def wait(_: float) -> bool:
        text = next(waits, "end")
        if text in {"half", "whole"}:
            watched.file.write_text(text)
        return text == "end"

    monkeypatch.setattr(stop, "wait", wait)
    watched.watch.run(1.0, stop)
    assert (watched.reloads, watched.file.read_text()) == (1, "whole")


# The socket of systemd


@pytest.fixture
def variables() -> dict[str, str]:
    """What systemd sets for a process to which it passes one socket."""
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "OTHER": "x"}


def test_a_passed_socket_is_used_and_its_variables_removed(variables, monkeypatch) -> None:
    with listen("127.0.0.1", 0) as made:
        monkeypatch.setattr(systemd_socket, "FIRST_DESCRIPTOR", os.dup(made.fileno()))
        with take_systemd_socket(variables) as taken:
            assert taken.getsockname() == made.getsockname()
            assert (variables, taken.get_inheritable()) == ({"OTHER": "x"}, False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "systemd has passed no socket — start promad by a .socket unit"),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, "systemd has passed no socket"),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}, "systemd has passed no socket"),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}, "systemd has passed no socket"),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}, "2 sockets — keep one ListenStream"),
    ],
)
def test_without_one_socket_the_daemon_does_not_start(variables, expected: str) -> None:
    with pytest.raises(PromadError, match=expected):
        take_systemd_socket(variables)


@pytest.mark.parametrize(
    "made",
    [
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    ],
    ids=["UDP", "UNIX", "not listening"],
)
def test_another_kind_of_socket_is_refused(made, variables, monkeypatch) -> None:
    with made() as one:
        monkeypatch.setattr(systemd_socket, "FIRST_DESCRIPTOR", os.dup(one.fileno()))
        with pytest.raises(PromadError, match="not a listening TCP socket — write ListenStream"):
            take_systemd_socket(variables)


def test_a_descriptor_that_is_no_socket_is_refused(variables, monkeypatch, tmp_path) -> None:
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setattr(systemd_socket, "FIRST_DESCRIPTOR", file.fileno())
        with pytest.raises(PromadError, match="is no socket"):
            take_systemd_socket(variables)


# Options


@pytest.mark.parametrize("prefix", ["/a?b", "/a//b", "/../a", "a b", "/a#b", "/ä", "/%2f"])
def test_a_prefix_is_a_plain_path(prefix: str) -> None:
    with pytest.raises(Exception, match=r"write --web\.route-prefix /PATH"):
        parse_route_prefix(prefix, None)


def test_peers_are_urls_without_credentials() -> None:
    assert parse_peers("http://a:8001/,https://b/promad") == ("http://a:8001", "https://b/promad")
    assert parse_peers(None) is None
    with pytest.raises(typer.BadParameter, match=r"--web.peers: URL 2: credentials") as told:
        parse_peers("http://a,http://me:hunter2@b")
    assert "hunter2" not in str(told.value)


def test_an_external_url_is_one() -> None:
    assert parse_external_url("https://a.example/promad/") == "https://a.example/promad"
    with pytest.raises(Exception, match="not a valid URL — write it like"):
        parse_external_url("a.example")


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), ("30s", 30.0), ("1m", 60.0), ("0s", None)]
)
def test_an_interval_is_a_duration(text: str | None, seconds: float | None) -> None:
    assert parse_reload_interval(text) == seconds


@pytest.mark.parametrize("text", ["5", "100ms", "soon"])
def test_an_interval_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Exception, match=f"--config.auto-reload-interval {text}: "):
        parse_reload_interval(text)


def test_a_configuration_in_a_pipe_is_left_to_its_reader(tmp_path: Path) -> None:
    """As of `promad -c <(...) detect`: what a digest reads would be missing to the daemon."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"queries: {a: up}\n")
        digest_files([Path(f"/proc/self/fd/{reading}")])
        assert os.read(reading, 100) == b"queries: {a: up}\n"
    finally:
        os.close(reading)
        os.close(writing)
