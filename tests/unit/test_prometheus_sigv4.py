"""Requests are signed as AWS checks them, and nothing that is secret is shown."""

import os

import pytest

from promad.config import PrometheusSettings
from promad.errors import PrometheusError
from promad.prometheus import PrometheusClient, sigv4
from promad.prometheus.remote_write import RemoteWriter
from tests.support.naive_sigv4 import find_fault, sign
from tests.support.prometheus_stub import Asked, Say, stub_server

GRID = (0.0, 60.0, 15.0)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
OWN = {"AKIDEXAMPLE": SECRET}
REGION = "eu-central-1"
SIGV4 = {"region": REGION, "access_key": "AKIDEXAMPLE", "secret_key": SECRET}


@pytest.fixture(autouse=True)
def aws(monkeypatch, tmp_path):
    """botocore, which finds no credentials of its own."""
    if os.environ.get("PROMAD_REQUIRE_REAL") != "1":
        pytest.importorskip("botocore", reason="botocore is not installed")
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


class Checking:
    """A server that answers a signed request, and 403 with the fault of any other."""

    def __init__(self, secrets=None):
        self.secrets = OWN if secrets is None else secrets
        self.faults = []

    def __call__(self, asked: Asked) -> Say:
        fault = find_fault(
            asked.method, asked.target, asked.headers, asked.body, self.secrets, REGION, "aps"
        )
        self.faults.append(fault)
        return Say(403, f'{{"message": "{fault}"}}') if fault else Say()


def ask(url, expr="up", settings=None, **aws):
    chosen = PrometheusSettings(sigv4=SIGV4 | aws, **(settings or {}))
    with PrometheusClient(url, chosen, retries=0) as client:
        return client.query_range(expr, *GRID)


def test_the_check_of_the_tests_gives_the_signature_of_the_aws_documentation():
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": "iam.amazonaws.com",
        "x-amz-date": "20150830T123600Z",
    }
    scope = ["20150830", "us-east-1", "iam", "aws4_request"]
    target = "/?Action=ListUsers&Version=2010-05-08"
    signature = sign("GET", target, headers, sorted(headers), b"", scope, SECRET)
    assert signature == "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("path", ["", "/workspaces/ws-1", "/a b/ü%2F+"])
def test_a_request_is_signed_as_the_server_checks_it(method, path):
    settings = {"http_method": method, "params": {"dedup": True, "a b": ["x y", "1+1", "ü~*/"]}}
    with stub_server(Checking()) as stub:
        ask(stub.url + path, 'sum by (a) (rate(x{b=~"c+d|e f"}[5m])) + 1', settings)
    assert stub.asked[0].method == method
    assert stub.asked[0].form["query"] == 'sum by (a) (rate(x{b=~"c+d|e f"}[5m])) + 1'


def test_a_wrong_secret_is_refused_and_not_shown():
    wrong = "1234secret1234"
    with stub_server(Checking()) as stub, pytest.raises(PrometheusError) as caught:
        ask(stub.url, secret_key=wrong)
    assert caught.value.reason == "unauthorized"
    assert "HTTP 403 (wrong signature) — check prometheus.basic_auth" in str(caught.value)
    assert wrong not in str(caught.value)


def test_a_rotated_secret_signs_the_next_request(tmp_path):
    file = tmp_path / "secret"
    file.write_text("old\n")
    check = Checking()
    chosen = {"region": REGION, "access_key": "AKIDEXAMPLE", "secret_key_file": file}
    settings = PrometheusSettings(sigv4=chosen)
    with stub_server(check) as stub, PrometheusClient(stub.url, settings, retries=0) as client:
        with pytest.raises(PrometheusError):
            client.query_range("up", *GRID)
        file.write_text(f"{SECRET}\n")
        client.query_range("up", *GRID)
    assert check.faults == ["wrong signature", ""]


def test_samples_that_are_pushed_are_signed():
    check = Checking()
    with stub_server(check) as stub:
        writer = RemoteWriter(
            f"{stub.url}/api/v1/remote_write", stub.url, PrometheusSettings(sigv4=SIGV4)
        )
        writer.push({(("__name__", "up"),): [(1.0, 1.0)]})
        writer.close()
    assert check.faults == [""]


def test_a_profile_has_the_credentials_and_the_region(aws):
    (aws / "credentials").write_text(
        f"[own]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {SECRET}\n"
    )
    (aws / "config").write_text(f"[profile own]\nregion = {REGION}\n")
    settings = PrometheusSettings(sigv4={"profile": "own"})
    with stub_server(Checking()) as stub, PrometheusClient(stub.url, settings) as client:
        client.query_range("up", *GRID)


def test_temporary_credentials_of_the_environment_send_their_token(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    settings = PrometheusSettings(sigv4={"region": REGION})
    with stub_server(Checking()) as stub, PrometheusClient(stub.url, settings) as client:
        client.query_range("up", *GRID)
    assert stub.asked[0].headers["X-Amz-Security-Token"] == "session"


ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>
<SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-token</SessionToken>
<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>
</AssumeRoleResponse>"""
ROLE = "arn:aws:iam::123456789012:role/promad"


@pytest.mark.parametrize("external_id", [None, "monitoring"])
def test_a_role_is_assumed_with_its_external_id(monkeypatch, external_id):
    said = Say(body=ASSUMED, headers={"Content-Type": "text/xml"})
    with stub_server([said]) as sts, stub_server(Checking({"ASIAROLE": "role-secret"})) as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        ask(stub.url, role_arn=ROLE, external_id=external_id)
    assert sts.asked[0].form.get("ExternalId") == external_id


def test_a_role_is_assumed_once(monkeypatch):
    said = Say(body=ASSUMED, headers={"Content-Type": "text/xml"})
    with stub_server([said]) as sts, stub_server(Checking({"ASIAROLE": "role-secret"})) as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        settings = PrometheusSettings(sigv4=SIGV4 | {"role_arn": ROLE})
        with PrometheusClient(stub.url, settings, retries=0) as client:
            client.query_range("up", *GRID)
            client.query_range("up", *GRID)
    assert sts.asked[0].form["RoleArn"] == ROLE
    assert stub.asked[1].headers["X-Amz-Security-Token"] == "role-token"


def test_a_role_that_may_not_be_assumed_is_one_line(monkeypatch):
    refused = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender'
        "</Type><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>"
    )
    with stub_server([Say(403, refused)]) as sts, stub_server([]) as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        with pytest.raises(PrometheusError) as caught:
            ask(stub.url, role_arn=ROLE)
    assert "prometheus.sigv4: no AWS credentials (" in str(caught.value)
    assert "AccessDenied" in str(caught.value)
    assert "check profile, role_arn and the environment of AWS" in str(caught.value)
    assert stub.asked == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"region": REGION}, "no AWS credentials found — set access_key and secret_key_file"),
        ({"region": REGION, "profile": "gone"}, "(The config profile (gone) could not be found)"),
        ({"access_key": "AKIDEXAMPLE", "secret_key": "s"}, "no AWS region — set region"),
    ],
)
def test_what_lacks_is_named(settings, words):
    chosen = PrometheusSettings(sigv4=settings)
    with (
        stub_server([]) as stub,
        PrometheusClient(stub.url, chosen) as client,
        pytest.raises(PrometheusError) as caught,
    ):
        client.query_range("up", *GRID)
    assert words in str(caught.value)
    assert caught.value.reason == "unauthorized"


def test_without_the_extra_it_is_refused_before_any_request(monkeypatch):
    monkeypatch.setattr(sigv4, "find_spec", lambda _: None)
    with pytest.raises(PrometheusError) as caught:
        ask("http://promad.invalid")
    assert str(caught.value) == (
        "prometheus.sigv4 needs botocore (not installed) — pip install 'promad-exporter[sigv4]'"
    )
