"""The protected port: every way to authenticate, with a right and a wrong secret, over sockets."""

from __future__ import annotations

import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import requests
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from promad.http_server import Security, WebServer, handshake, listen, load_security, passwords
from promad.http_server.passwords import (
    FAILURES_AT_ONCE,
)
from promad.web.headers import HEADERS
from tests.support.certificates import CLIENT_NAME, make_certificate, make_certificates
from tests.support.served import create_running_detectors, serve_detectors

PASSWORD = "correct horse: ½"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
RIGHT, WRONG = ("alice", PASSWORD), ("alice", "wrong")
PATHS = (
    *("/", "/metrics", "/-/healthy", "/-/ready", "/api/v1/groups", "/health", "/docs"),
    *("/openapi.json", "/static/x/page.js", "/nothing", "/models", "/config"),
)


@dataclass
class Port:
    """A protected server, and what it counted."""

    url: str
    directory: Path
    refused: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.url.rpartition(":")[2])

    def get(
        self, path: str = "/metrics", auth: tuple[str, str] | None = None, client: str | None = None
    ) -> requests.Response:
        """An answer; `auth` is encoded as UTF-8, and `client` the name of a certificate."""
        pair = None if auth is None else (auth[0].encode(), auth[1].encode())
        files = (
            None
            if client is None
            else tuple(str(self.directory / f"{client}.{end}") for end in ("pem", "key"))
        )
        trusted = str(self.directory / "ca.pem")
        return requests.get(f"{self.url}{path}", auth=pair, cert=files, verify=trusted, timeout=5)


@contextmanager
def serve(directory: Path, text: str, **options: Any) -> Iterator[Port]:
    """The whole application with a web configuration file."""
    path = directory / "web.yml"
    path.write_text(text)
    port = Port("", directory)
    with serve_detectors(
        create_running_detectors(directory / "detectors"),
        security=load_security(path),
        on_refusal=lambda reason: port.refused.update([reason]),
        on_close=lambda reason: port.closed.update([reason]),
        **options,
    ) as port.url:
        yield port


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    make_certificate(made, "unnamed", "DNS:else.example")
    return made


@pytest.fixture
def directory(tmp_path: Path, certificates: Path) -> Path:
    for each in certificates.iterdir():
        (tmp_path / each.name).symlink_to(each)
    return tmp_path


USERS = f"basic_auth_users:\n  alice: {HASH}\n"


def tls(client_auth: str = "", more: str = "") -> str:
    clients = f", client_ca_file: ca.pem, client_auth_type: {client_auth}" if client_auth else ""
    return f"tls_server_config: {{cert_file: server.pem, key_file: server.key{clients}{more}}}\n"


# Passwords


def test_everything_needs_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "FAILURES_AT_ONCE", 100)
    with serve(tmp_path, USERS) as port:
        for path in PATHS:
            answer = port.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == 'Basic realm="promad", charset="UTF-8"'
            assert answer.json() == {
                "detail": "a user name and a password are required — send them as basic auth"
            }
            assert HEADERS.items() <= {k.lower(): v for k, v in answer.headers.items()}.items()
            assert port.get(path, WRONG).status_code == 401, path
            assert port.get(path, RIGHT).status_code in {200, 404}, path
        assert requests.post(f"{port.url}/score", json={}, timeout=5).status_code == 401
    assert port.refused == {"wrong_password": len(PATHS)}


WRONG_ONES = (
    *(WRONG, ("alice", ""), ("alice", f"{PASSWORD} ")),
    *(("bob", PASSWORD), ("", ""), ("Alice", PASSWORD)),
)


def test_a_wrong_secret_is_refused_before_and_after_a_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "FAILURES_AT_ONCE", 100)
    with serve(tmp_path, USERS) as port:
        assert {port.get(auth=auth).status_code for auth in WRONG_ONES} == {401}
        assert port.get(auth=RIGHT).status_code == 200
        answers = [port.get(auth=auth) for auth in WRONG_ONES]
    assert {answer.json()["detail"] for answer in answers} == {
        "user name or password is wrong — check both"
    }
    assert port.refused == {"wrong_password": 2 * len(WRONG_ONES)}


WITHOUT_PASSWORD = ("Basic", "Basic !", "Basic YWxpY2U=", "Bearer x", "Basic " + "A" * 9000)


def test_a_header_that_is_no_password_is_refused(tmp_path: Path) -> None:
    with serve(tmp_path, USERS) as port:
        for header in WITHOUT_PASSWORD:
            request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\n\r\n"
            with socket.create_connection(port.address, 5) as client:
                client.sendall(request.encode())
                assert client.recv(12)[9:] == b"401", header


def test_health_and_readiness_are_open_only_if_wanted(tmp_path: Path) -> None:
    with serve(tmp_path, USERS, open_probes=True) as port:
        assert [port.get(path).status_code for path in ("/-/healthy", "/-/ready")] == [200, 200]
        others = ("/metrics", "/-/healthy/", "//-/healthy", "/-/healthyx", "/health", "/-/reload")
        assert {port.get(path).status_code for path in others} == {401}


def test_a_long_password_is_compared_as_bcrypt_does(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    with serve(tmp_path, f"basic_auth_users: {{alice: {hashed}}}") as port:
        assert port.get(auth=("alice", "x" * 100)).status_code == 200
        assert port.get(auth=("alice", "x" * 71)).status_code == 401


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
def test_each_version_of_bcrypt_is_known(tmp_path: Path, version: str) -> None:
    hashed = HASH.replace("2b", version)
    with serve(tmp_path, f"basic_auth_users: {{alice: {hashed}}}") as port:
        assert (port.get(auth=RIGHT).status_code, port.get(auth=WRONG).status_code) == (200, 401)


def test_too_many_failures_are_answered_429(tmp_path: Path) -> None:
    with serve(tmp_path, USERS) as port:
        assert port.get(auth=RIGHT).status_code == 200
        codes = [port.get(auth=WRONG).status_code for _ in range(FAILURES_AT_ONCE + 1)]
        assert codes == [401] * FAILURES_AT_ONCE + [429]
        assert port.get(auth=WRONG).headers["retry-after"] == "2"
        assert port.get(auth=RIGHT).status_code == 200
        assert port.get().status_code == 401
    assert port.refused["wrong_password"] == FAILURES_AT_ONCE
    assert port.refused["too_many_failures"] == 2


# Client certificates


@pytest.mark.parametrize(
    ("client", "admitted"),
    [("client", True), (None, False), ("stranger", False), ("unnamed", False)],
)
def test_only_the_right_client_certificate_connects(directory, client, admitted) -> None:
    names = f", client_allowed_sans: [{CLIENT_NAME.removeprefix('DNS:')}]"
    with serve(directory, tls("RequireAndVerifyClientCert", names)) as port:
        if admitted:
            assert port.get(client=client).status_code == 200
            assert port.closed == {}
        else:
            with pytest.raises(requests.ConnectionError):
                port.get(client=client)
            wait_until(lambda: port.closed == {"tls_handshake": 1})


@pytest.mark.parametrize(
    ("client", "admitted"), [("client", True), (None, True), ("stranger", False)]
)
def test_a_certificate_may_be_optional_but_not_wrong(directory, client, admitted) -> None:
    with serve(directory, tls("VerifyClientCertIfGiven")) as port:
        if admitted:
            assert port.get(client=client).status_code == 200
        else:
            with pytest.raises(requests.ConnectionError):
                port.get(client=client)


@pytest.mark.parametrize("auth", [None, WRONG, RIGHT])
@pytest.mark.parametrize("client", [None, "stranger", "client"])
def test_certificate_and_password_are_both_needed(directory, client, auth) -> None:
    with serve(directory, tls("RequireAndVerifyClientCert") + USERS) as port:
        if client != "client":
            with pytest.raises(requests.ConnectionError):
                port.get(client=client, auth=auth)
        else:
            expected = 200 if auth == RIGHT else 401
            assert port.get(client=client, auth=auth).status_code == expected


def test_a_client_that_does_not_trust_the_server_gets_nothing(directory: Path) -> None:
    with serve(directory, tls()) as port, pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{port.url}/metrics", verify=str(directory / "other.pem"), timeout=5)


def test_plain_http_is_not_answered_where_tls_is_expected(directory: Path) -> None:
    with serve(directory, tls()) as port:
        with socket.create_connection(port.address, 5) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in client.recv(1000)
        wait_until(lambda: port.closed == {"tls_handshake": 1})


@pytest.mark.parametrize(
    ("keys", "options", "connects"),
    [
        (", min_version: TLS13", {"maximum": ssl.TLSVersion.TLSv1_2}, False),
        (", min_version: TLS13", {}, True),
        (", max_version: TLS12", {"minimum": ssl.TLSVersion.TLSv1_3}, False),
        (", max_version: TLS12", {}, True),
        (
            ", cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]",
            {"maximum": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"},
            False,
        ),
        (
            ", cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]",
            {"maximum": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"},
            True,
        ),
        (
            ", cipher_suites: [TLS_AES_128_GCM_SHA256]",
            {"maximum": ssl.TLSVersion.TLSv1_2},
            False,
        ),
        (", curve_preferences: [CurveP384]", {"curve": "prime256v1"}, False),
        (", curve_preferences: [CurveP384]", {"curve": "secp384r1"}, True),
        (", curve_preferences: [X25519]", {"curve": "X25519"}, True),
    ],
)
def test_versions_ciphers_and_curves_are_as_configured(directory, keys, options, connects) -> None:
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    if "minimum" in options:
        context.minimum_version = options["minimum"]
    if "maximum" in options:
        context.maximum_version = options["maximum"]
    if "ciphers" in options:
        context.set_ciphers(options["ciphers"])
    if "curve" in options:
        context.set_ecdh_curve(options["curve"])
    with serve(directory, tls(more=keys)) as port:
        refused = pytest.raises((ssl.SSLError, ConnectionError))
        with ExitStack() as stack:
            raw = stack.enter_context(socket.create_connection(port.address, 5))
            if not connects:
                stack.enter_context(refused)
            secure = stack.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
            secure.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert secure.recv(12) == b"HTTP/1.1 200"


# Clients that are silent or slow, over TLS


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.3)


def test_silent_clients_block_no_scrape(directory: Path) -> None:
    with serve(directory, tls()) as port, ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(socket.create_connection(port.address, 5))
        half = stack.enter_context(socket.create_connection(port.address, 5))
        half.sendall(b"\x16\x03\x01\x02")
        assert port.get().status_code == 200


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_never_ends_is_cut_off(directory: Path, begun: bytes) -> None:
    with serve(directory, tls()) as port, socket.create_connection(port.address, 5) as client:
        client.sendall(begun)
        assert client.recv(1) == b""
        wait_until(lambda: port.closed == {"tls_handshake": 1})


def test_handshakes_count_as_connections(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promad.http_server.connections.MOST_CONNECTIONS", 3)
    with serve(directory, tls()) as port, ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(socket.create_connection(port.address, 5))
            time.sleep(0.02)
        assert port.get().status_code == 200
        wait_until(lambda: port.closed["made_room"] == 4)


def test_the_server_ends_though_a_handshake_is_under_way(directory: Path) -> None:
    path = directory / "web.yml"
    path.write_text(tls())
    security = load_security(path)
    server = WebServer(Starlette(), listen("127.0.0.1", 0), find_tls=lambda: security.tls)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), 5) as client:
        time.sleep(0.2)
        server.stop()
        assert client.recv(1) == b""
    assert not server._thread.is_alive()


def test_a_large_response_is_complete_though_the_client_reads_slowly(directory: Path) -> None:
    path = directory / "web.yml"
    path.write_text(tls())
    security = load_security(path)
    large = b"x" * 8 * 2**20
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse(large))])
    server = WebServer(app, listen("127.0.0.1", 0), find_tls=lambda: security.tls)
    server.start()
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    try:
        with (
            socket.create_connection(("127.0.0.1", server.port), 5) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = 0
            while part := client.recv(2**16):
                received += len(part)
                if received % 7 == 0:
                    time.sleep(0.02)
        assert received > len(large)
    finally:
        server.stop()


# The rest of the file


def test_headers_are_sent_with_every_response(tmp_path: Path) -> None:
    text = (
        "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n"
        "    Strict-Transport-Security: max-age=60\n" + USERS
    )
    with serve(tmp_path, text) as port:
        for answer in (port.get(), port.get(auth=RIGHT), port.get("/nothing", RIGHT)):
            assert answer.headers["x-frame-options"] == "sameorigin"
            assert answer.headers["strict-transport-security"] == "max-age=60"
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_requests_are_limited(tmp_path: Path) -> None:
    with serve(tmp_path, "rate_limit: {interval: 1h, burst: 3}") as port:
        assert [port.get().status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert port.refused == {"rate_limit": 2}


def test_users_and_certificates_change_while_the_server_runs(directory: Path) -> None:
    path = directory / "web.yml"
    path.write_text(tls() + USERS)
    current = [load_security(path)]
    find: Callable[[], Security] = lambda: current[0]  # noqa: E731
    from promad.web.protection import protect

    app = Starlette(routes=[Route("/metrics", lambda request: PlainTextResponse("fine"))])
    server = WebServer(protect(app, find), listen("127.0.0.1", 0), find_tls=lambda: find().tls)
    server.start()
    port = Port(f"https://127.0.0.1:{server.port}", directory)
    try:
        assert port.get(auth=RIGHT).status_code == 200
        path.write_text(tls("RequireAndVerifyClientCert") + USERS.replace("alice", "bob"))
        current[0] = load_security(path)
        with pytest.raises(requests.ConnectionError):
            port.get(auth=RIGHT)
        assert port.get(auth=RIGHT, client="client").status_code == 401
        assert port.get(auth=("bob", PASSWORD), client="client").status_code == 200
    finally:
        server.stop()


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
