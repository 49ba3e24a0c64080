"""Real servers that ask for certificates and passwords, with the right and the wrong ones."""

import pytest

from promad.config import Config, PrometheusSettings
from promad.errors import PrometheusError
from promad.prometheus import PrometheusClient
from tests.support.secured_prometheus import PASSWORD, SERVER_NAME, USER, SecuredPrometheus
from tests.support.victoria_metrics import victoria_metrics

GRID = (0.0, 60.0, 15.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with SecuredPrometheus(tmp_path_factory.mktemp("secured")) as running:
        yield running


def ask(server, password=PASSWORD, **tls):
    folder = server.directory
    chosen = {
        "ca_file": folder / "ca.pem",
        "cert_file": folder / "client.pem",
        "key_file": folder / "client.key",
        "server_name": SERVER_NAME,
    }
    settings = PrometheusSettings(
        basic_auth={"username": USER, "password": password}, tls_config=chosen | tls
    )
    with PrometheusClient(server.url, settings, retries=0) as client:
        return client.query_range("vector(7)", *GRID)


def test_the_right_certificates_and_the_right_password_are_answered(server):
    assert ask(server, min_version="TLS12").series[0].values[0] == 7


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"password": "wrong horse"}, "HTTP 401 (Unauthorized) — check prometheus.basic_auth, "),
        ({"server_name": None}, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ({"server_name": "other"}, "Hostname mismatch, certificate is not valid for 'other'"),
        ({"ca_file": "other.pem"}, "TLS connection failed (unable to get local issuer"),
        ({"min_version": "TLS13"}, "TLS connection failed ([SSL: TLSV1_ALERT_PROTOCOL_VERSION]"),
        ({"cert_file": None, "key_file": None}, "TLS connection failed ([SSL: "),
        ({"cert_file": "other.pem", "key_file": "other.key"}, "TLS connection failed ([SSL: "),
    ],
)
def test_whatever_is_wrong_is_one_line(server, wrong, words):
    given = {
        key: server.directory / value if value and key.endswith("_file") else value
        for key, value in wrong.items()
    }
    with pytest.raises(PrometheusError) as caught:
        ask(server, **given)
    assert words in str(caught.value)
    assert "horse" not in str(caught.value)


def test_a_replaced_client_certificate_is_shown_to_the_next_connection(server, tmp_path):
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    settings = PrometheusSettings(
        basic_auth={"username": USER, "password": PASSWORD},
        tls_config={
            "ca_file": server.directory / "ca.pem",
            "cert_file": certificate,
            "key_file": key,
            "server_name": SERVER_NAME,
        },
    )

    def put(name):
        certificate.write_bytes((server.directory / f"{name}.pem").read_bytes())
        key.write_bytes((server.directory / f"{name}.key").read_bytes())

    put("other")
    with PrometheusClient(server.url, settings, retries=0) as client:
        with pytest.raises(PrometheusError):
            client.query_range("vector(7)", *GRID)
        put("client")
        assert client.query_range("vector(7)", *GRID).series


def test_victoria_metrics_wants_the_right_password(tmp_path):
    auth = (USER, PASSWORD)
    with victoria_metrics(tmp_path, {"up": [(30.0, 1.0)]}, auth=auth) as url:

        def query(password):
            basic = {"username": USER, "password": password}
            config = Config(queries={"up": "up"}, prometheus=PrometheusSettings(basic_auth=basic))
            with PrometheusClient(url, config.prometheus, retries=0) as client:
                return client.query("vector(7)", 60.0)

        assert query(PASSWORD).series
        with pytest.raises(PrometheusError, match="HTTP 401"):
            query("wrong horse")
