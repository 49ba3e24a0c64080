"""How requests and responses are put on a connection, and when it is used again."""

import gzip
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from promad.config import PrometheusSettings
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus import PrometheusClient, deadline, transport
from tests.support.prometheus_server import require_binary
from tests.support.prometheus_stub import Say, stub_server

GRID = (0.0, 60.0, 15.0)
BODY = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + LENGTH + b"\r\n" + BODY


@dataclass
class Raw:
    """A server that sends bytes: its address, and what was sent to it on each connection."""

    url: str
    connections: list[list[bytes]] = field(default_factory=list)


@contextmanager
def raw_server(*scripts: Sequence[bytes | list[bytes]]) -> Iterator[Raw]:
    """Answer the requests of each connection in turn, then close it; pieces are sent apart."""
    listening = socket.create_server(("127.0.0.1", 0))
    raw = Raw(f"http://127.0.0.1:{listening.getsockname()[1]}")

    def serve() -> None:
        for script in scripts:
            with suppress(OSError), listening.accept()[0] as connection:
                asked: list[bytes] = []
                raw.connections.append(asked)
                for answer in script:
                    asked.append(receive(connection))
                    for piece in [answer] if isinstance(answer, bytes) else answer:
                        connection.sendall(piece)
                        time.sleep(0.002)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield raw
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def receive(connection: socket.socket) -> bytes:
    """One request with a form."""
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"timeout=29s"):
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError
        received += piece
    return received


def ask(url, times=1, retries=0, **settings):
    chosen = PrometheusSettings(**settings)
    with PrometheusClient(url, chosen, retries=retries) as client:
        for _ in range(times):
            found = client.query_range("up", *GRID)
    return found


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
PACKED = gzip.compress(BODY)
RESPONSES = {
    "length": [WHOLE],
    "byte by byte": [WHOLE[at : at + 1] for at in range(len(WHOLE))],
    "body apart": [WHOLE[: -len(BODY)], BODY],
    "chunks": [OK + CHUNKED],
    "chunks with a trailer": [OK + CHUNKED[:-2] + b"X-Sum: 1\r\n\r\n"],
    "until the end": [OK + b"\r\n" + BODY],
    "HTTP/1.0": [b"HTTP/1.0 200 OK\r\n\r\n" + BODY],
    "without a reason": [b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + BODY],
    "line feeds": [WHOLE.replace(b"\r\n", b"\n")],
    "other case": [OK + LENGTH.upper() + b"\r\n" + BODY],
    "no space": [OK + LENGTH.replace(b": ", b":") + b"\r\n" + BODY],
    "continue": [b"HTTP/1.1 100 Continue\r\n\r\n", WHOLE],
    "gzip": [OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED],
    "gzip in chunks": [
        OK
        + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(PACKED), PACKED)
    ],
}


@pytest.mark.parametrize("kind", RESPONSES)
def test_a_response_is_read_however_it_is_sent(kind):
    with raw_server([RESPONSES[kind]]) as raw:
        assert ask(raw.url).series == ()


BROKEN = {
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", "connection failed"),
    "nothing": (b"", "connection failed"),
    "many headers": (OK + b"X: 1\r\n" * 200, "connection failed"),
    "long header": (OK + b"X: " + b"1" * 70_000, "connection failed"),
    "short body": (WHOLE[:-1], "response incomplete"),
    "short chunk": (OK + CHUNKED[:-20], "response incomplete"),
    "bad chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "response incomplete"),
    "no gzip": (OK + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n" + BODY, "incomplete"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_response_that_is_none_is_an_error(kind):
    answer, words = BROKEN[kind]
    with raw_server([answer]) as raw, pytest.raises(PrometheusError, match=words):
        ask(raw.url)


@pytest.mark.parametrize("kind", ["length", "chunks", "gzip", "gzip in chunks"])
def test_a_connection_is_used_again(kind):
    with raw_server([RESPONSES[kind]] * 3) as raw:
        ask(raw.url, times=3)
    assert [len(asked) for asked in raw.connections] == [3]


CLOSING = {
    "asked for": OK + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY,
    "closed while idle": WHOLE,
}


@pytest.mark.parametrize("kind", CLOSING)
def test_a_connection_that_the_server_closed_is_replaced_at_once(kind):
    with (
        raw_server([CLOSING[kind]], [WHOLE]) as raw,
        PrometheusClient(raw.url, PrometheusSettings(), retries=0) as client,
    ):
        client.query_range("up", *GRID)
        time.sleep(0.1)
        client.query_range("up", *GRID)
    assert [len(asked) for asked in raw.connections] == [1, 1]


def test_a_body_that_is_not_read_to_its_end_is_not_taken_for_the_next_response(monkeypatch):
    monkeypatch.setattr(transport, "LARGEST_BODY_BYTES", 10)
    monkeypatch.setattr(transport, "_PIECE_BYTES", 20)
    with (
        raw_server([WHOLE], [WHOLE]) as raw,
        PrometheusClient(raw.url, PrometheusSettings(), retries=0) as client,
    ):
        with pytest.raises(PrometheusError, match="response larger than"):
            client.query_range("up", *GRID)
        monkeypatch.setattr(transport, "LARGEST_BODY_BYTES", 2**20)
        assert client.query_range("up", *GRID).series == ()


def test_a_request_names_the_host_and_the_length_of_its_form_once():
    with raw_server([WHOLE]) as raw:
        ask(raw.url, http_headers={"user-agent": {"values": ["mine"]}})
    head, _, form = raw.connections[0][0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /api/v1/query_range HTTP/1.1"
    headers = dict(line.split(": ") for line in lines[1:])
    assert len(headers) == len(lines) - 1
    assert headers == {
        "Host": raw.url.removeprefix("http://"),
        "Accept-Encoding": "identity",
        "Accept": "*/*",
        "Content-Type": "application/x-www-form-urlencoded",
        "user-agent": "mine",
        "Content-Length": str(len(form)),
    }


def test_characters_of_an_expression_arrive_as_they_are():
    expr = 'up{a="ä+&= %\\n"} # é\n'
    for method in ("GET", "POST"):
        with (
            stub_server([Say()]) as stub,
            PrometheusClient(stub.url, PrometheusSettings(http_method=method)) as client,
        ):
            client.query_range(expr, *GRID)
        assert stub.exprs == [expr]


# Proxies and TLS


def test_the_password_of_a_proxy_is_sent_to_it():
    with stub_server([Say()]) as proxy:
        url = proxy.url.replace("http://", "http://me:p%40ss@")
        with PrometheusClient("http://promad.invalid", PrometheusSettings(proxy_url=url)) as client:
            client.query_range("up", *GRID)
    headers = {name.lower(): value for name, value in proxy.asked[0].headers.items()}
    assert headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
    assert headers["host"] == "promad.invalid"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for 127.0.0.1 that vouches for itself, in a folder."""
    folder = tmp_path_factory.mktemp("tls")
    command = f"{require_binary('openssl')} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, capture_output=True, check=True)
    return folder


@contextmanager
def tls_server(certificate, answer=lambda _: Say(), **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    if options.get("asks"):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate / "cert.pem")
    with stub_server(answer, tls=context) as stub:
        yield stub


def test_a_server_that_asks_for_a_certificate_gets_it(certificate):
    ca, key = certificate / "cert.pem", certificate / "key.pem"
    with tls_server(certificate, asks=True) as stub:
        with pytest.raises(PrometheusError):
            ask(stub.url, tls_config={"ca_file": ca})
        tls = {"ca_file": ca, "cert_file": ca, "key_file": key}
        assert ask(stub.url, tls_config=tls).series == ()


def read_pem(certificate):
    """The certificate, which is its own authority, and its key, as in a configuration."""
    return (certificate / "cert.pem").read_text(), (certificate / "key.pem").read_text()


def test_certificates_may_be_in_the_configuration(certificate):
    pem, key = read_pem(certificate)
    with tls_server(certificate, asks=True) as stub:
        assert ask(stub.url, tls_config={"ca": pem, "cert": pem, "key": key}).series == ()
        assert ask(stub.url, tls_config={"ca": pem, "cert": pem + key}).series == ()
        assert ask(stub.url, tls_config={"insecure_skip_verify": True, "cert": pem + key})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"ca": None}, "TLS connection failed (self-signed certificate"),
        ({"ca": "not PEM"}, "check prometheus.tls_config"),
        ({"cert": None, "key": None}, "TLS connection failed ("),
        ({"cert": "not PEM"}, "prometheus.tls_config.cert: no certificate with its key ("),
        ({"key": "not PEM"}, "check cert and key, which are PEM text without a password"),
        ({"key": None}, "prometheus.tls_config.cert: no certificate with its key ("),
        ({"min_version": "TLS13", "server_name": "other"}, "TLS connection failed ("),
    ],
)
def test_a_wrong_certificate_in_the_configuration_is_one_line(certificate, wrong, words):
    pem, key = read_pem(certificate)
    with tls_server(certificate, asks=True) as stub, pytest.raises(PrometheusError) as caught:
        ask(stub.url, tls_config={"ca": pem, "cert": pem, "key": key} | wrong)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert key.splitlines()[1] not in str(caught.value)


def test_authorities_may_be_a_folder(certificate, tmp_path):
    command = [require_binary("openssl"), "x509", "-hash", "-noout", "-in", "cert.pem"]
    name = subprocess.run(command, cwd=certificate, capture_output=True, check=True, text=True)
    (tmp_path / f"{name.stdout.strip()}.0").write_bytes((certificate / "cert.pem").read_bytes())
    with tls_server(certificate) as stub:
        assert ask(stub.url, tls_config={"ca_file": tmp_path}).series == ()


@contextmanager
def tunnel() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy for one connection over TLS: its address, and what it was asked."""
    listening = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        client, _ = listening.accept()
        asked.append(client.recv(65536))
        host, _, port = asked[0].split()[1].decode().partition(":")
        with client, socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()

    threading.Thread(target=serve, daemon=True).start()
    with listening:
        yield f"http://me:secret@127.0.0.1:{listening.getsockname()[1]}", asked


def test_a_server_over_tls_is_asked_through_a_tunnel_of_the_proxy(certificate):
    settings = {"tls_config": {"ca_file": certificate / "cert.pem"}}
    with tls_server(certificate) as stub, tunnel() as (url, asked):
        ask(stub.url, times=2, proxy_url=url, **settings)
    assert asked[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1." % stub.port)
    assert b"proxy-authorization: basic bwu6c2vjcmv0" in asked[0].lower()
    assert len(stub.asked) == 2
    assert "proxy-authorization" not in map(str.lower, stub.asked[0].headers)


def test_the_proxy_gets_headers_of_its_own_with_connect_alone(certificate):
    settings = {
        "tls_config": {"ca_file": certificate / "cert.pem"},
        "proxy_connect_header": {"X-Token": ["right", "more"], "Proxy-Authorization": ["other"]},
    }
    with tls_server(certificate) as stub, tunnel() as (url, asked):
        ask(stub.url, times=2, proxy_url=url, **settings)
    sent = asked[0].lower()
    assert b"x-token: right, more\r\n" in sent
    assert sent.count(b"proxy-authorization") == 1, "that of the URL counts"
    assert "x-token" not in map(str.lower, stub.asked[0].headers)


def test_a_proxy_that_forwards_gets_no_headers_for_connect():
    with stub_server([Say()]) as proxy:
        ask("http://promad.invalid", proxy_url=proxy.url, proxy_connect_header={"X-Token": ["a"]})
    assert "x-token" not in map(str.lower, proxy.asked[0].headers)


def test_a_header_that_no_proxy_can_get_is_refused_without_its_value(certificate):
    with tls_server(certificate) as stub, pytest.raises(PrometheusError) as caught:
        ask(stub.url, proxy_url="http://127.0.0.1:9", proxy_connect_header={"X-Token": ["a\nb"]})
    assert "prometheus.proxy_connect_header.X-Token (hidden): a header cannot" in str(caught.value)
    assert "a\nb" not in str(caught.value)


# Limits


def test_a_limit_that_ended_in_time_shuts_nothing_down():
    ended = []
    with deadline.Limit(0.05, lambda: ended.append("first")) as limit:
        pass
    with (
        deadline.Limit(60.0, lambda: ended.append("long")),
        deadline.Limit(0.05, lambda: ended.append("second")) as short,
    ):
        time.sleep(0.3)
    assert (limit.is_over, short.is_over, ended) == (False, True, ["second"])


def test_limits_that_ended_do_not_pile_up():
    for _ in range(1000):
        with deadline.Limit(3600.0, lambda: None):
            pass
    assert len(deadline._watchdog._pending) < 100


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_is_silent_is_given_up_and_its_late_response_is_not_read(scheme, certificate):
    waits = [0.5, 0.0]

    def answer(_):
        time.sleep(waits.pop(0))
        return Say()

    settings = {"timeout": "200ms"}
    if scheme == "https":
        settings["tls_config"] = {"ca_file": certificate / "cert.pem"}
    serve = tls_server(certificate, answer) if scheme == "https" else stub_server(answer)
    with serve as stub:
        client = PrometheusClient(stub.url, PrometheusSettings(**settings), retries=0)
        with client:
            with pytest.raises(UnreachableError, match=r"no response within 0\.2 s"):
                client.query_range("up", *GRID)
            assert client.query_range("up", *GRID).series == ()


def test_a_body_that_stalls_is_given_up():
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"

    def serve():
        connection, _ = listening.accept()
        connection.recv(65536)
        connection.sendall(OK + LENGTH + b"\r\n" + BODY[:9])
        time.sleep(1.0)
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    with listening, pytest.raises(PrometheusError, match=r"response incomplete \("):
        ask(url, timeout="200ms")
