"""A token is fetched once, replaced in time, and nothing that is secret is shown."""

import base64
import json
import threading
from contextlib import contextmanager
from urllib.parse import unquote_plus

import pytest

from promad.config import PrometheusSettings
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus import Poller, PrometheusClient
from promad.prometheus.authentication import hash_selection
from promad.prometheus.oauth2 import Token, Tokens, read_token
from promad.prometheus.remote_write import RemoteWriter
from tests.support.prometheus_server import free_port
from tests.support.prometheus_stub import Asked, Say, stub_server

GRID = (0.0, 60.0, 15.0)
SECRET = "hünter2&=+"
CLIENT = "prom ad"


class TokenServer:
    """Gives numbered tokens to who knows the secret, in the header or in the form."""

    def __init__(self, expires_in=3600, accepts=("header", "form")):
        self.expires_in = expires_in
        self.accepts = accepts
        self.given = 0

    def __call__(self, asked: Asked) -> Say:
        if self._find_pair(asked) != (CLIENT, SECRET):
            return Say(401, '{"error": "invalid_client", "error_description": "who is it?"}')
        self.given += 1
        token = {"access_token": f"token-{self.given}", "token_type": "bearer"}
        if self.expires_in is not None:
            token["expires_in"] = self.expires_in
        return Say(body=json.dumps(token))

    def _find_pair(self, asked):
        sent = asked.headers.get("Authorization", "")
        if sent and "header" in self.accepts:
            pair = base64.b64decode(sent.removeprefix("Basic ")).decode().partition(":")
            return unquote_plus(pair[0]), unquote_plus(pair[2])
        if not sent and "form" in self.accepts:
            return asked.form.get("client_id"), asked.form.get("client_secret")
        return None


class Guarded:
    """A server that answers those tokens alone that it knows."""

    def __init__(self, *tokens):
        self.tokens = set(tokens)

    def __call__(self, asked: Asked) -> Say:
        known = asked.headers.get("Authorization", "").removeprefix("Bearer ") in self.tokens
        return Say() if known else Say(401, "no")


@contextmanager
def both(tokens=None, guarded=None, **oauth2):
    """The two servers, and the settings that lead to them."""
    with (
        stub_server(tokens or TokenServer()) as sso,
        stub_server(guarded or Guarded("token-1")) as stub,
    ):
        chosen = {"client_id": CLIENT, "client_secret": SECRET, "token_url": f"{sso.url}/token"}
        yield sso, stub, PrometheusSettings(oauth2=chosen | oauth2)


def ask(stub, settings, times=1, retries=0):
    with PrometheusClient(stub.url, settings, retries=retries) as client:
        for _ in range(times):
            client.query_range("up", *GRID)


def failure(stub, settings):
    with pytest.raises(PrometheusError) as caught:
        ask(stub, settings)
    return caught.value


def test_a_token_is_fetched_once_and_sent_with_every_request():
    with both() as (sso, stub, settings):
        ask(stub, settings, times=3)
    assert len(sso.asked) == 1
    assert {asked.headers["Authorization"] for asked in stub.asked} == {"Bearer token-1"}


def test_what_is_asked_of_the_token_server():
    asked_for = {"scopes": ["read", "metrics"], "endpoint_params": {"audience": "prometheus"}}
    with both(**asked_for) as (sso, stub, settings):
        ask(stub, settings)
    (asked,) = sso.asked
    assert (asked.method, asked.path) == ("POST", "/token")
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert asked.form == {
        "grant_type": "client_credentials",
        "scope": "read metrics",
        "audience": "prometheus",
    }


@pytest.mark.parametrize("accepts", ["header", "form"])
def test_the_secret_is_sent_where_the_server_expects_it(accepts):
    tokens = TokenServer(expires_in=1e-6, accepts=(accepts,))
    with both(tokens, Guarded("token-1", "token-2")) as (sso, stub, settings):
        ask(stub, settings, times=2)
    assert len(sso.asked) == {"header": 2, "form": 3}[accepts]  # what was right is remembered


def test_a_wrong_secret_is_one_line_with_the_address_and_the_status():
    with both(client_secret="wrong-secret") as (sso, stub, settings):
        error = failure(stub, settings)
    assert str(error) == (
        f"{stub.url}: up: prometheus.oauth2: no token from {sso.url}/token: HTTP 401 "
        "(who is it?) — check client_id, client_secret, scopes and endpoint_params"
    )
    assert error.reason == "unauthorized"
    assert stub.asked == []


def test_a_poll_without_a_token_asks_for_it_once():
    with (
        both(
            client_secret="wrong",
        ) as (sso, stub, settings),
        PrometheusClient(stub.url, settings, retries=0) as client,
    ):
        queries = {"a": "up", "b": "down", "c": "left"}
        poll = Poller(client, queries, 15.0, 4, 120.0).poll(600.0)
    assert set(poll.failures) == set(queries)
    assert len(sso.asked) == 2  # with the secret in the header, then in the form
    assert stub.asked == []


def test_a_secret_in_a_file_is_read_again_when_it_changes(tmp_path):
    file = tmp_path / "secret"
    file.write_text("old\n")
    with (
        both(client_secret=None, client_secret_file=file) as (_, stub, settings),
        PrometheusClient(stub.url, settings, retries=0) as client,
    ):
        with pytest.raises(PrometheusError, match="HTTP 401"):
            client.query_range("up", *GRID)
        file.write_text(f"{SECRET}\n")
        client.query_range("up", *GRID)
        assert len(stub.asked) == 1
        file.unlink()
        with pytest.raises(PrometheusError, match=r"client_secret_file: .* cannot be read"):
            client.query_range("up", *GRID)


def test_a_token_that_is_refused_is_replaced_once():
    with both(guarded=Guarded("token-2")) as (sso, stub, settings):
        ask(stub, settings, times=2)
    assert len(sso.asked) == 2
    sent = [asked.headers["Authorization"] for asked in stub.asked]
    assert sent == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]


def test_a_server_that_refuses_every_token_does_not_cause_one_for_each_request():
    with (
        both(guarded=Guarded()) as (sso, stub, settings),
        PrometheusClient(stub.url, settings, retries=0) as client,
    ):
        for _ in range(3):
            with pytest.raises(PrometheusError, match=r"HTTP 401 \(no\)"):
                client.query_range("up", *GRID)
    assert len(sso.asked) == 2


def test_a_token_server_that_is_not_there_is_named():
    url = f"http://127.0.0.1:{free_port()}/token"
    with both(token_url=f"{url}?key=hidden") as (_, stub, settings):
        error = failure(stub, settings)
    assert isinstance(error, UnreachableError)
    assert str(error) == (
        f"{stub.url}: up: prometheus.oauth2: no token from {url}: connection failed "
        "(Connection refused) — check prometheus.oauth2.token_url and the server"
    )


def test_a_redirect_of_the_token_server_to_another_one_does_not_get_the_secret():
    with stub_server([Say()]) as other:
        moved = Say(307, headers={"Location": f"{other.url}/steal"})
        with both(lambda _: moved) as (_, stub, settings):
            assert "redirect to another server" in str(failure(stub, settings))
    assert other.asked == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "unusable response: no access_token"),
        ("<html>", "unusable response: no access_token"),
        ('{"access_token": 7}', "unusable response: no access_token"),
        ('{"access_token": "to\\nken"}', "unusable response: access_token is not printable ASCII"),
    ],
)
def test_a_response_without_a_token_is_an_error(body, words):
    with both(lambda _: Say(body=body)) as (_, stub, settings):
        error = failure(stub, settings)
    assert f"{words} — check prometheus.oauth2.token_url" in str(error)
    assert "ken" not in str(error).replace("token", "")


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [("null", "inf"), ("3600", "3600"), ('"3600"', "3600"), ("0", "inf"), ('"x"', "inf")],
)
def test_how_long_a_token_is_valid(expires_in, seconds):
    body = f'{{"access_token": "a", "token_type": "MAC", "expires_in": {expires_in}}}'
    assert read_token(body.encode()) == Token("MAC a", float(seconds))


@pytest.mark.parametrize(("seconds", "until"), [(3600.0, 3590.0), (20.0, 18.0)])
def test_a_token_is_replaced_shortly_before_its_end(seconds, until):
    fetched, clock = [], [100.0]
    tokens = Tokens(lambda _: fetched.append(1) or Token("Bearer a", seconds), lambda: clock[0])
    tokens.get("s")
    clock[0] = 100 + until - 0.1
    tokens.get("s")
    assert len(fetched) == 1
    clock[0] = 100 + until
    tokens.get("s")
    assert len(fetched) == 2


def test_threads_that_wait_for_a_token_share_it_and_its_failure():
    asked, may_answer, outcomes = [], threading.Event(), []

    def fetch(_):
        asked.append(1)
        may_answer.wait(5)
        raise PrometheusError("no token", "unauthorized")

    tokens = Tokens(fetch)

    def get():
        with pytest.raises(PrometheusError):
            tokens.get("s")
        outcomes.append(1)

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    while not asked:
        pass
    threading.Timer(0.1, may_answer.set).start()
    for thread in threads:
        thread.join(5)
    assert (len(outcomes), len(asked)) == (4, 1)


def test_samples_that_are_pushed_carry_the_token():
    with both() as (_, stub, settings):
        writer = RemoteWriter(f"{stub.url}/api/v1/write", stub.url, settings)
        writer.push({(("__name__", "up"),): [(1.0, 1.0)]})
        writer.close()
    assert stub.asked[0].headers["Authorization"] == "Bearer token-1"


def test_samples_that_are_pushed_elsewhere_carry_none():
    with both() as (sso, stub, settings), stub_server([Say(204, "")]) as other:
        writer = RemoteWriter(f"{other.url}/api/v1/write", stub.url, settings)
        writer.push({(("__name__", "up"),): [(1.0, 1.0)]})
        writer.close()
    assert "Authorization" not in other.asked[0].headers
    assert sso.asked == []


def test_the_cache_of_collect_knows_the_client_and_not_its_secret():
    def hash_of(**changed):
        chosen = {"client_id": "a", "client_secret": "s", "token_url": "http://sso/token"}
        return hash_selection(PrometheusSettings(oauth2=chosen | changed))

    assert hash_of() == hash_of(client_secret="t")
    assert len({hash_of(), hash_of(client_id="b"), hash_of(scopes=["tenant"])}) == 3
