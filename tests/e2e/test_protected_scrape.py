"""A real Prometheus scrapes promad over TLS, with a client certificate and a password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import requests

from tests.support.certificates import make_certificates
from tests.support.daemon_process import DaemonProcess, run_daemon, train_small, wait_until
from tests.support.prometheus_server import PrometheusServer

PASSWORD = "a long password"
JOBS = {
    "right": ("client", PASSWORD),
    "wrong_password": ("client", "another password"),
    "no_password": ("client", None),
    "wrong_certificate": ("stranger", PASSWORD),
    "no_certificate": (None, PASSWORD),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    directory = make_certificates(tmp_path_factory.mktemp("protected"))
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    (directory / "web.yml").write_text(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
        "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
        f"basic_auth_users:\n  prometheus: {hashed}\n"
    )
    client = {
        "auth": ("prometheus", PASSWORD),
        "verify": str(directory / "ca.pem"),
        "cert": (str(directory / "client.pem"), str(directory / "client.key")),
    }
    path = f"--web.config.file={directory / 'web.yml'}"
    with run_daemon(train_small(directory), path, scheme="https", session=client) as running:
        yield running


def write_job(name: str, port: int, directory: Path) -> str:
    certificate, password = JOBS[name]
    lines = [
        f"- job_name: {name}",
        "  scheme: https",
        f"  static_configs: [{{targets: ['127.0.0.1:{port}']}}]",
        f"  tls_config: {{ca_file: {directory}/ca.pem" + (
            f", cert_file: {directory}/{certificate}.pem, key_file: {directory}/{certificate}.key}}"
            if certificate else "}"
        ),
    ]  # fmt: skip
    if password:
        lines.append(f"  basic_auth: {{username: prometheus, password: {password}}}")
    return "\n".join(lines)


def test_only_the_right_certificate_and_password_scrape(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    directory = daemon.config.parent
    jobs = "\n".join(write_job(name, daemon.port, directory) for name in JOBS)
    with PrometheusServer(tmp_path, jobs) as prometheus:
        wait_until(lambda: len(prometheus.query("up")) == len(JOBS))
        wait_until(lambda: prometheus.query("promad_build_info"))
        up = {each["metric"]["job"]: each["value"][1] for each in prometheus.query("up")}
        assert up == {name: str(int(name == "right")) for name in JOBS}
        targets = requests.get(f"{prometheus.url}/api/v1/targets", timeout=5).json()["data"]
        errors = {each["labels"]["job"]: each["lastError"] for each in targets["activeTargets"]}
        assert errors["wrong_password"] == "server returned HTTP status 401 Unauthorized"
        assert errors["no_password"] == "server returned HTTP status 401 Unauthorized"
        wait_until(lambda: 'reason="wrong_password"} 0.0' not in daemon.get().text)
    assert daemon.read_metric("promad_web_config_last_reload_successful") == 1
    assert "detect: serving on https://127.0.0.1:" in daemon.log()


def test_a_new_password_is_used_without_a_restart(
    daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = daemon.config.parent / "web.yml"
    before = path.read_text()
    assert daemon.get().status_code == 200
    path.write_text(before.replace("prometheus:", "grafana:"))
    wait_until(lambda: daemon.get().status_code == 401)
    monkeypatch.setattr(daemon.session, "auth", ("grafana", PASSWORD))
    assert daemon.get().status_code == 200
    path.write_text("basic_auth_users: {grafana: secret}\n")
    wait_until(lambda: daemon.read_metric("promad_web_config_last_reload_successful") == 0)
    assert f"{path}:1: basic_auth_users.grafana: not a bcrypt hash" in daemon.log()
    path.write_text(before)
    wait_until(lambda: daemon.get().status_code == 401)
    assert daemon.process.poll() is None


def test_a_bad_file_at_the_start_is_one_line_and_exit_code_2(daemon: DaemonProcess) -> None:
    from tests.support.running_world import promad

    path = daemon.config.parent / "bad.yml"
    path.write_text("basic_auth_users:\n  bob: secret\n")
    done = promad(daemon.config, "detect", f"--web.config.file={path}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{path}:2: basic_auth_users.bob: not a bcrypt hash (hidden) — ")
    assert done.stderr.count("\n") == 1
