"""The client asks politely, gives up in time, and says clearly what went wrong."""

import base64
import json
import ssl
import subprocess
import threading
import time
from contextlib import closing

import pytest
import urllib3

from promad.config import PrometheusSettings
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus import PrometheusClient, transport
from promad.prometheus.retrying import RetryPolicy
from promad.prometheus.sessions import open_session
from tests.support.prometheus_server import free_port, require_binary
from tests.support.prometheus_stub import Say, matrix, stub_server

GRID = (0.0, 60.0, 15.0)
SECRET = "hunter2"


def asking(stub, retries=0, path="", **settings):
    return PrometheusClient(stub.url + path, PrometheusSettings(**settings), retries=retries)


def failure(stub, expr="up", retries=0, **settings):
    with asking(stub, retries, **settings) as client, pytest.raises(PrometheusError) as caught:
        client.query_range(expr, *GRID)
    return caught.value


def test_a_query_is_a_form_that_is_posted():
    with stub_server([Say()]) as stub, asking(stub) as client:
        client.query_range("sum(up)", 0.5, 60.0, 15.0)
    (asked,) = stub.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/query_range")
    assert asked.form == {
        "query": "sum(up)",
        "start": "0.5",
        "end": "60",
        "step": "15",
        "timeout": "29s",
    }


PARAMS = {"dedup": [True], "extra_label": ["a=1", "b=2&c"], "max_source_resolution": "5m"}
IN_URL = [
    ("dedup", "true"),
    ("extra_label", "a=1"),
    ("extra_label", "b=2&c"),
    ("max_source_resolution", "5m"),
]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_parameters_are_in_the_url_of_every_request(method):
    version = Say(body='{"status":"success","data":{"version":"1"}}')
    with (
        stub_server([Say(), Say(), version]) as stub,
        asking(stub, params=PARAMS, http_method=method) as client,
    ):
        client.query_range("up", *GRID)
        client.query("up", 60.0)
        client.build_info()
    assert [list(asked.in_url)[: len(IN_URL)] for asked in stub.asked] == [IN_URL] * 3
    assert [asked.method for asked in stub.asked] == [method, method, "GET"]
    assert [asked.form["query"] for asked in stub.asked[:2]] == ["up", "up"]


def test_parameters_are_kept_when_get_takes_the_place_of_post():
    with stub_server([Say(405), Say(), Say()]) as stub, asking(stub, params=PARAMS) as client:
        for _ in range(2):
            client.query_range("up", *GRID)
    assert [asked.method for asked in stub.asked] == ["POST", "GET", "GET"]
    assert [list(asked.in_url)[: len(IN_URL)] for asked in stub.asked] == [IN_URL] * 3


def test_the_server_is_told_to_give_up_a_little_before_the_client_does():
    with stub_server([Say()]) as stub, asking(stub, timeout="2s") as client:
        client.query_range("up", *GRID)
    assert stub.asked[0].form["timeout"] == "1s800ms"


@pytest.mark.parametrize("compression", ["identity", "gzip"])
def test_compression_is_what_the_configuration_says(compression):
    with stub_server([Say()]) as stub, asking(stub, compression=compression) as client:
        client.query_range("up", *GRID)
    assert stub.asked[0].headers["Accept-Encoding"] == compression


def test_promad_says_who_it_is():
    with stub_server([Say()]) as stub, asking(stub) as client:
        client.query_range("up", *GRID)
    assert stub.asked[0].headers["User-Agent"].startswith("promad/")


def test_a_path_in_the_address_is_kept():
    with stub_server([Say()]) as stub, asking(stub, path="/prom/") as client:
        client.query_range("up", *GRID)
    assert stub.asked[0].path == "/prom/api/v1/query_range"


def test_an_instant_query_names_its_time():
    body = '{"status":"success","data":{"resultType":"vector","result":[]}}'
    with stub_server([Say(body=body)]) as stub, asking(stub) as client:
        assert client.query("up", 12.0).series == ()
    assert stub.asked[0].path == "/api/v1/query"
    assert stub.asked[0].form["time"] == "12"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_busy_server_is_asked_again(status):
    with stub_server([Say(status), Say(status), Say()]) as stub, asking(stub, 3) as client:
        client.query_range("up", *GRID)
    assert len(stub.asked) == 3


def test_a_lost_connection_is_opened_again():
    with stub_server([Say(hang_up=True), Say()]) as stub, asking(stub, 3) as client:
        client.query_range("up", *GRID)
    assert len(stub.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_other_refusals_are_final(status):
    with stub_server([Say(status, headers={"Retry-After": "1"})]) as stub:
        failure(stub, retries=3)
    assert len(stub.asked) == 1


def test_retries_end():
    with stub_server([Say(500, body="oops")] * 3) as stub:
        error = failure(stub, retries=2)
    assert error.reason == "server_error"
    assert len(stub.asked) == 3


def test_retry_after_is_respected():
    later = Say(429, headers={"Retry-After": "1"})
    with stub_server([later, Say()]) as stub, asking(stub, 1) as client:
        began = time.monotonic()
        client.query_range("up", *GRID)
    assert time.monotonic() - began >= 1.0


class Sleepless(threading.Event):
    """A clock that only notes how long it was to wait."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        return False


@pytest.mark.parametrize("wish", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_no_server_can_make_promad_sleep_for_long(wish):
    clock = Sleepless()
    session = open_session(PrometheusSettings(), RetryPolicy(1, 30.0, clock), None)
    with stub_server([Say(503, headers={"Retry-After": wish}), Say()]) as stub, closing(session):
        transport.exchange(session, "POST", stub.url, {"query": "up"}, 5.0, 5.0, clock)
    assert clock.waits == [30.0]


@pytest.mark.parametrize(("wish", "requests"), [("1", 2), ("2", 2), ("3", 1), ("3600", 1)])
def test_a_request_is_not_repeated_if_the_wait_is_too_long(wish, requests):
    clock = Sleepless()
    session = open_session(PrometheusSettings(), RetryPolicy(1, 2.0, clock), None)
    with stub_server([Say(429, headers={"Retry-After": wish})] * 2) as stub, closing(session):
        reply = transport.exchange(session, "POST", stub.url, {"query": "up"}, 5.0, 5.0, clock)
    assert reply.status == 429
    assert len(stub.asked) == requests
    assert clock.waits == [float(wish)] * (requests - 1)


def test_waits_grow_and_differ():
    clock = Sleepless()
    session = open_session(PrometheusSettings(), RetryPolicy(9, 30.0, clock), None)
    with stub_server([Say(503)] * 10) as stub, closing(session):
        transport.exchange(session, "POST", stub.url, {"query": "up"}, 5.0, 5.0, clock)
    longest = [min(0.25 * 2**n, 30.0) for n in range(1, 10)]
    assert all(most / 2 <= wait <= most for wait, most in zip(clock.waits, longest, strict=True))
    assert clock.waits[0] != longest[0] / 2


def test_closing_the_client_ends_its_waits():
    with stub_server([Say(503, headers={"Retry-After": "20"})] * 2) as stub:
        client = asking(stub, 1)
        threading.Timer(0.2, client.close).start()
        began = time.monotonic()
        with pytest.raises(PrometheusError) as caught:
            client.query_range("up", *GRID)
    assert caught.value.reason == "closed"
    assert time.monotonic() - began < 20


def test_a_server_that_is_not_there_is_unreachable():
    url = f"http://127.0.0.1:{free_port()}"
    client = PrometheusClient(url, PrometheusSettings(), retries=0)
    with client, pytest.raises(UnreachableError) as caught:
        client.query_range("up", *GRID)
    assert str(caught.value) == (
        f"{url}: up: connection failed (Connection refused) — check prometheus_url and the server"
    )


def test_an_unknown_host_is_unreachable():
    client = PrometheusClient("http://promad.invalid", PrometheusSettings(), retries=0)
    with client, pytest.raises(UnreachableError, match="connection failed"):
        client.query_range("up", *GRID)


def test_a_server_that_says_nothing_is_asked_once_and_unreachable():
    quiet = threading.Event()
    with stub_server(lambda _: Say(hang_up=quiet.wait(5))) as stub:
        error = failure(stub, retries=3, timeout="200ms")
        quiet.set()
    assert isinstance(error, UnreachableError)
    assert "no response within 0.2 s" in str(error)
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, "bad_data", "bad_data"),
        (422, "execution", "execution"),
        (422, "422", "execution"),
        (503, "timeout", "timeout"),
        (503, "unavailable", "server_error"),
        (429, "", "too_many_requests"),
        (401, "", "unauthorized"),
        (403, "", "unauthorized"),
        (404, "", "not_found"),
        (418, "", "bad_answer"),
    ],
)
def test_every_refusal_has_its_reason_and_the_servers_own_words(status, kind, reason):
    body = json.dumps({"status": "error", "errorType": kind, "error": "no\nsuch luck"})
    with stub_server([Say(status, body)]) as stub:
        error = failure(stub, "up\n+ 1")
    assert error.reason == reason
    assert str(error).startswith(f"{stub.url}: up + 1: HTTP {status} (no such luck) —")
    assert "\n" not in str(error)


def test_a_refusal_without_words_shows_its_status():
    with stub_server([Say(502, "<html>bad gateway</html>")]) as stub:
        assert str(failure(stub)) == (
            f"{stub.url}: up: HTTP 502 (Bad Gateway) — check the server's log"
        )


def test_an_answer_that_breaks_off_is_an_error():
    body = matrix({(): [(t, 1.0) for t in range(2000)]})
    with stub_server([Say(body=body, cut=True)]) as stub:
        error = failure(stub)
    assert error.reason == "bad_answer"
    assert "response incomplete (" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>sign in</html>",
        "[]",
        "null",
        '{"status":"success"}',
        '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{}}]}}',
        '{"status":"success","data":{"resultType":"string","result":[1,"a"]}}',
        '{"status":"error","error":"nope"}',
        matrix({(): [(0.0, 1.0)]})[:-30],
        "[" * 100_000,
    ],
)
def test_an_answer_that_is_no_answer_is_an_error(body):
    with stub_server([Say(body=body)]) as stub:
        error = failure(stub)
    assert error.reason == "bad_answer"
    assert str(error).startswith(f"{stub.url}: up: unusable response: ")


def test_native_histograms_are_refused_with_a_way_out():
    series = '{"metric":{},"histograms":[[0,{"count":"1","sum":"1","buckets":[]}]]}'
    body = f'{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}'
    with stub_server([Say(body=body)]) as stub:
        assert "histogram_quantile" in str(failure(stub))


def test_an_answer_too_large_for_memory_is_refused(monkeypatch):
    monkeypatch.setattr(transport, "LARGEST_BODY_BYTES", 2**20)
    with stub_server([Say(body=b" " * (2**20 + 1))]) as stub:
        error = failure(stub)
    assert "larger than 1 MiB — aggregate the expression" in str(error)


def test_a_redirect_on_the_same_server_is_followed_with_the_form():
    moved = Say(307, headers={"Location": "/elsewhere"})
    with stub_server([moved, Say()]) as stub, asking(stub) as client:
        client.query_range("up", *GRID)
    assert [asked.path for asked in stub.asked] == ["/api/v1/query_range", "/elsewhere"]
    assert stub.asked[1].method == "POST"
    assert stub.asked[1].form["query"] == "up"


def test_a_redirect_to_another_server_is_refused_before_any_secret_goes_there():
    with stub_server([Say()]) as other:
        moved = Say(307, headers={"Location": f"{other.url}/steal"})
        with stub_server([moved]) as stub:
            error = failure(stub, basic_auth={"username": "u", "password": SECRET})
    assert error.reason == "redirect"
    assert "redirect to another server (" in str(error)
    assert other.asked == []


@pytest.mark.parametrize("location", ["http://[", "http://[x]/", "//[::1"])
def test_a_redirect_to_an_invalid_url_is_refused(location):
    with stub_server([Say(307, headers={"Location": location})]) as stub:
        error = failure(stub)
    assert error.reason == "redirect"
    assert "redirect to an invalid URL (" in str(error)


def test_redirects_in_a_circle_end():
    with stub_server([Say(307, headers={"Location": "/round"})] * 3) as stub:
        assert failure(stub).reason == "redirect"


def test_build_info_is_what_the_server_says():
    body = '{"status":"success","data":{"version":"2.42.0"}}'
    with stub_server([Say(body=body), Say(body="{}")]) as stub, asking(stub) as client:
        assert client.build_info() == {"version": "2.42.0"}
        with pytest.raises(PrometheusError, match="status/buildinfo"):
            client.build_info()
    assert stub.asked[0].method == "GET"


def authorization_of(**settings):
    with stub_server([Say()]) as stub, asking(stub, **settings) as client:
        client.query_range("up", *GRID)
    return stub.asked[0].headers["Authorization"]


def test_basic_auth_is_sent():
    sent = authorization_of(basic_auth={"username": "ü", "password": SECRET})
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"ü:{SECRET}"


def test_the_user_name_may_be_in_a_file_too(tmp_path):
    (tmp_path / "user").write_text("u\n")
    basic = {"username_file": tmp_path / "user", "password": SECRET}
    sent = authorization_of(basic_auth=basic)
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"u:{SECRET}"


def test_credentials_are_sent_with_their_type():
    assert authorization_of(authorization={"credentials": SECRET}) == f"Bearer {SECRET}"
    other = {"type": "Token", "credentials": SECRET}
    assert authorization_of(authorization=other) == f"Token {SECRET}"


def test_a_rotated_secret_is_used_at_the_next_request(tmp_path):
    file = tmp_path / "token"
    file.write_text("old\n")
    bearer = {"credentials_file": file}
    with stub_server([Say(), Say()]) as stub, asking(stub, authorization=bearer) as client:
        client.query_range("up", *GRID)
        file.write_text("new\n")
        client.query_range("up", *GRID)
    assert [asked.headers["Authorization"] for asked in stub.asked] == ["Bearer old", "Bearer new"]


def test_extra_headers_come_from_values_secrets_and_files(tmp_path):
    (tmp_path / "tenant").write_text("c\n")
    header = {"values": ["a"], "secrets": ["b"], "files": [tmp_path / "tenant"]}
    extra = {"X-Scope-OrgID": header}
    with stub_server([Say()]) as stub, asking(stub, http_headers=extra) as client:
        client.query_range("up", *GRID)
    assert stub.asked[0].headers["X-Scope-OrgID"] == "a, b, c"


def test_an_unreadable_secret_file_is_named(tmp_path):
    with stub_server([Say()]) as stub:
        basic = {"username": "u", "password_file": tmp_path / "gone"}
        error = failure(stub, basic_auth=basic)
    assert error.reason == "unauthorized"
    assert f"prometheus.basic_auth.password_file: {tmp_path}/gone cannot be read" in str(error)
    assert stub.asked == []


@pytest.mark.parametrize(
    "settings",
    [
        {"basic_auth": {"username": "u", "password": SECRET}},
        {"authorization": {"credentials": SECRET}},
        {"authorization": {"credentials": f"{SECRET}\nX: y"}},
        {"http_headers": {"X-Key": {"secrets": [f"{SECRET}ü"]}}},
    ],
)
def test_no_error_shows_a_secret(settings):
    with stub_server([Say(401)]) as stub:
        error = failure(stub, **settings)
    assert error.reason == "unauthorized"
    assert SECRET not in str(error)
    assert error.__cause__ is None


def test_a_proxys_password_is_not_shown():
    with stub_server([]) as stub:
        error = failure(stub, proxy_url=f"http://u:{SECRET}@127.0.0.1:{free_port()}")
    assert (
        "connection through the proxy failed (Connection refused) — check prometheus.proxy_url"
        in str(error)
    )
    assert SECRET not in str(error)


def test_the_proxy_of_the_configuration_is_used():
    with stub_server([Say()]) as proxy:
        settings = PrometheusSettings(proxy_url=proxy.url)
        with PrometheusClient("http://promad.invalid", settings, retries=0) as client:
            client.query_range("up", *GRID)
    assert proxy.asked[0].path == "http://promad.invalid/api/v1/query_range"


def test_the_proxy_of_the_environment_is_not(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with stub_server([Say()]) as stub, asking(stub) as client:
        client.query_range("up", *GRID)
    assert len(stub.asked) == 1


@pytest.fixture
def tls_server(tmp_path):
    """An HTTPS server on 127.0.0.1: its address, and the certificate that vouches for it."""
    command = f"{require_binary('openssl')} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with stub_server(lambda _: Say(), tls=context) as stub:
        yield stub.url, tmp_path / "cert.pem"


def over_tls(url, **tls):
    with PrometheusClient(url, PrometheusSettings(tls_config=tls), retries=0) as client:
        return client.query_range("up", *GRID)


def test_a_certificate_is_checked_against_the_configured_authority(tls_server):
    url, certificate = tls_server
    assert over_tls(url, ca_file=certificate).series == ()
    assert over_tls(url, insecure_skip_verify=True).series == ()
    with pytest.raises(
        UnreachableError, match=r"TLS connection failed .*check prometheus.tls_config"
    ):
        over_tls(url)


def test_tls_files_that_are_not_there_are_named(tls_server, tmp_path):
    url, certificate = tls_server
    with pytest.raises(PrometheusError, match=r"gone.pem — check prometheus.tls_config"):
        over_tls(url, ca_file=certificate, cert_file=tmp_path / "gone.pem")


def test_the_network_can_be_replaced():
    class Nowhere(urllib3.PoolManager):
        def connection_from_host(self, *_, **__):
            raise urllib3.exceptions.ProtocolError

    client = PrometheusClient("http://x", PrometheusSettings(), pools=Nowhere())
    with client, pytest.raises(UnreachableError):
        client.query_range("up", *GRID)
