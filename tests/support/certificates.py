"""Certificates for tests of TLS, made by openssl: an authority, a server, and clients."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.prometheus_server import require_binary

CLIENT_NAME = "DNS:prometheus.example"


def make_authority(directory: Path, name: str = "ca") -> None:
    """`NAME.pem` and `NAME.key`: an authority of its own."""
    _run(
        directory,
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} "
        f"-keyout {name}.key -out {name}.pem",
    )


def make_certificate(directory: Path, name: str, names: str, authority: str = "ca") -> None:
    """`NAME.pem` and `NAME.key`, signed by an authority; `names` as in `DNS:a,IP:127.0.0.1`."""
    _run(
        directory,
        f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} "
        f"-addext subjectAltName={names} -keyout {name}.key -out {name}.csr",
    )
    _run(
        directory,
        f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -days 2 "
        f"-copy_extensions copy -out {name}.pem",
    )


def make_certificates(directory: Path) -> Path:
    """An authority `ca` with `server` and `client`, and `stranger`, whom another one signed."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("ca", "other"):
        make_authority(directory, name)
    make_certificate(directory, "server", "DNS:localhost,IP:127.0.0.1")
    make_certificate(directory, "client", CLIENT_NAME)
    make_certificate(directory, "stranger", CLIENT_NAME, "other")
    return directory


def _run(directory: Path, arguments: str) -> None:
    command = [require_binary("openssl"), *arguments.split()]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=30)
