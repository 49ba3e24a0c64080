"""Remote write goes to any server, and takes the credentials to the right one alone."""

from contextlib import closing

import pytest

from promad.config import Config
from promad.errors import PrometheusError
from promad.prometheus.remote_write import RemoteWriter
from tests.support.prometheus_server import free_port
from tests.support.prometheus_stub import Say, stub_server

SAMPLES = {(("__name__", "a"),): [(1.0, 1.0)]}


def settings_with_credentials():
    settings = {"timeout": "7s", "authorization": {"credentials": "hunter2"}}
    return Config.model_validate({"queries": {"a": "up"}, "prometheus": settings}).prometheus


@pytest.mark.parametrize("same", [True, False])
def test_only_the_server_of_the_configuration_gets_the_credentials(same):
    with stub_server([Say(204, "")]) as stub:
        server = stub.url if same else "http://prometheus.example:9090"
        writer = RemoteWriter(f"{stub.url}/api/v1/write", server, settings_with_credentials())
        with closing(writer):
            writer.push(SAMPLES)
    assert ("Authorization" in stub.asked[0].headers) == same


def test_a_server_that_cannot_be_reached_is_named():
    url = f"http://127.0.0.1:{free_port()}/write"
    with (
        closing(RemoteWriter(url, "http://x", settings_with_credentials())) as writer,
        pytest.raises(PrometheusError, match=rf"^{url}: connection failed"),
    ):
        writer.push(SAMPLES)
