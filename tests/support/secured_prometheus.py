"""A real Prometheus with a web configuration: TLS, client certificates and a password."""

from __future__ import annotations

import http.client
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path

from tests.support.prometheus_server import PrometheusServer, require_binary

SERVER_NAME = "prometheus.internal"
"""The only name in the server's certificate."""
USER = "promad"
PASSWORD = "right horse"
_HASH = "$2b$04$abcdefghijklmnopqrstuuLK4yYxcGJwQr33yKnQTmKjI1WQSUD2K"
"""Of the password by bcrypt, at its least cost."""
_WEB_CONFIG = f"""\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
  max_version: TLS12
basic_auth_users:
  {USER}: {_HASH}
"""


class SecuredPrometheus(PrometheusServer):
    """Takes TLS 1.2 at most, and clients that have a certificate of `ca.pem` and the password."""

    def __init__(self, directory: Path) -> None:
        issue_certificates(directory)
        config = directory / "web.yml"
        config.write_text(_WEB_CONFIG)
        super().__init__(directory, flags=[f"--web.config.file={config}"])
        self.url = f"https://127.0.0.1:{self.port}"

    def _ready(self) -> bool:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.directory / "client.pem", self.directory / "client.key")
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context)
        pair = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        try:
            connection.request("GET", "/-/ready", headers={"Authorization": f"Basic {pair}"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def issue_certificates(directory: Path) -> None:
    """An authority (`ca`), certificates of it (`server`, `client`), and another client (`other`).

    Each is a file `.pem` with a `.key`.
    """
    openssl = f"{require_binary('openssl')} req -x509 -nodes -days 2 -newkey ec"
    openssl += " -pkeyopt ec_paramgen_curve:P-256"
    signed = "-CA ca.pem -CAkey ca.key"
    for name, options in (
        ("ca", "-addext keyUsage=keyCertSign"),
        ("server", f"{signed} -addext subjectAltName=DNS:{SERVER_NAME}"),
        ("client", f"{signed} -addext extendedKeyUsage=clientAuth"),
        ("other", "-addext extendedKeyUsage=clientAuth"),
    ):
        command = f"{openssl} -subj /CN={name} -keyout {name}.key -out {name}.pem {options}"
        subprocess.run(command.split(), cwd=directory, capture_output=True, check=True)
