"""Which proxy a server is asked through."""

import pytest
from urllib3.util import parse_url

from promad.config import PrometheusSettings
from promad.errors import PrometheusError
from promad.prometheus import PrometheusClient
from promad.prometheus.proxies import choose_proxy
from tests.support.prometheus_stub import Say, stub_server

PROXY = "http://proxy.example:3128"


def choose(url, environment=None, **settings):
    return choose_proxy(PrometheusSettings(**settings), parse_url(url), environment or {})


@pytest.mark.parametrize(
    ("url", "exceptions", "is_direct"),
    [
        ("http://prometheus.example", "prometheus.example", True),
        ("http://a.prometheus.example", "prometheus.example", True),
        ("http://aprometheus.example", "prometheus.example", False),
        ("http://prometheus.example", ".prometheus.example", False),
        ("http://a.prometheus.example", "other, .prometheus.example", True),
        ("http://a.prometheus.example", "*.prometheus.example", True),
        ("http://Prometheus.Example.", "prometheus.example", True),
        ("http://prometheus.example", "*", True),
        ("http://prometheus.example:9090", "prometheus.example:9090", True),
        ("http://prometheus.example:9091", "prometheus.example:9090", False),
        ("https://prometheus.example", "prometheus.example:443", True),
        ("http://10.1.2.3:9090", "10.0.0.0/8", True),
        ("http://11.1.2.3:9090", "10.0.0.0/8", False),
        ("http://10.1.2.3", "10.1.2.3", True),
        ("http://[2001:db8::1]:9090", "2001:db8::1", True),
        ("http://[2001:db8::1]:9090", "[2001:db8::1]:9090", True),
        ("http://[2001:db8::1]:9091", "[2001:db8::1]:9090", False),
        ("http://[2001:db8::1]", "2001:db8::/32", True),
        ("http://prometheus.example", "10.0.0.0/8, not/a/network, ,", False),
        ("http://localhost:9090", "other", True),
        ("http://127.0.0.2:9090", "other", True),
    ],
)
def test_the_proxy_is_not_used_for_the_hosts_of_no_proxy(url, exceptions, is_direct):
    found = choose(url, proxy_url=PROXY, no_proxy=exceptions)
    assert found == (None if is_direct else PROXY)
    environment = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "NO_PROXY": exceptions}
    assert choose(url, environment, proxy_from_environment=True) == found


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://a.example", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://a.example", {"http_proxy": PROXY}, PROXY),
        ("http://a.example", {"HTTP_PROXY": PROXY, "http_proxy": "http://other"}, PROXY),
        ("http://a.example", {"http_proxy": "proxy.example:3128"}, PROXY),
        ("http://a.example", {"HTTPS_PROXY": PROXY}, None),
        ("https://a.example", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://a.example", {"https_proxy": PROXY, "no_proxy": "example"}, None),
        ("https://a.example", {}, None),
    ],
)
def test_the_variable_is_that_of_the_scheme(url, environment, proxy):
    assert choose(url, environment, proxy_from_environment=True) == proxy
    assert choose(url, environment) is None


def test_the_proxy_of_the_environment_is_used_if_asked_for(monkeypatch):
    with stub_server([Say()]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        settings = PrometheusSettings(proxy_from_environment=True)
        with PrometheusClient("http://promad.invalid", settings, retries=0) as client:
            client.query_range("up", 0.0, 60.0, 15.0)
    assert proxy.asked[0].path == "http://promad.invalid/api/v1/query_range"


def test_redirects_are_not_followed_if_the_configuration_says_so():
    settings = PrometheusSettings(follow_redirects=False)
    moved = Say(307, headers={"Location": "/prom/api/v1/query_range"})
    with (
        stub_server([moved]) as stub,
        PrometheusClient(stub.url, settings, retries=0) as client,
        pytest.raises(PrometheusError) as caught,
    ):
        client.query_range("up", 0.0, 60.0, 15.0)
    assert caught.value.reason == "redirect"
    assert str(caught.value) == (
        f"{stub.url}: up: redirect to /prom/api/v1/query_range not followed — fix prometheus_url, "
        "or set prometheus.follow_redirects to true"
    )
