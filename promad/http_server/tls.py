"""TLS for the port: the context of the handshake, and which certificates of clients are allowed."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from promad.http_server.cipher_suites import CIPHER_SUITES, CURVES
from promad.http_server.web_config import TlsServerConfig

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFICATION = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class TlsError(Exception):
    """What cannot be loaded: `key` of the file, and why."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key = key


@dataclass(frozen=True)
class Tls:
    """How connections are encrypted; if no name is allowed, any verified client may connect."""

    context: ssl.SSLContext
    allowed_sans: frozenset[str] = frozenset()

    def allows(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client with this verified certificate may connect."""
        if not self.allowed_sans:
            return True
        return not self.allowed_sans.isdisjoint(_list_names(certificate or {}))


def build_tls(
    settings: TlsServerConfig, certificate: bytes, key: bytes, authority: bytes | None
) -> Tls:
    """TLS with these settings; certificates and the key are PEM.

    Raises:
        TlsError: if one of them cannot be loaded.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.maximum_version = _VERSIONS[settings.max_version]
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # every connection presents its certificate, to the newest settings
    context.options |= ssl.OP_NO_TICKET
    if not settings.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _choose_ciphers(context, settings)
    _load_certificate(context, certificate, key)
    context.verify_mode = _VERIFICATION[settings.client_auth_type]
    if authority is not None:
        _load_authority(context, authority)
    return Tls(context, frozenset(settings.client_allowed_sans or ()))


def _choose_ciphers(context: ssl.SSLContext, settings: TlsServerConfig) -> None:
    if settings.cipher_suites:
        names = [found for each in settings.cipher_suites if (found := CIPHER_SUITES[each])]
        if names:
            context.set_ciphers(":".join(names))
        else:
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        missing = set(names) - {each["name"] for each in context.get_ciphers()}
        if missing or context.minimum_version > context.maximum_version:
            what = f"not offered by {ssl.OPENSSL_VERSION} — remove them"
            raise TlsError("cipher_suites", f"{', '.join(sorted(missing)) or 'all'}: {what}")
    for curve in settings.curve_preferences:
        context.set_ecdh_curve(CURVES[curve])


def _load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load both from memory: a key that was in no file is never in one."""
    try:
        with _as_file(certificate) as one, _as_file(key) as other:
            context.load_cert_chain(one, other, password=_refuse_password)
    except (ssl.SSLError, OSError) as error:
        reason = _explain(error)
        what = f"certificate and key cannot be loaded ({reason}) — check that both are PEM"
        raise TlsError("cert_file", f"{what} and belong together") from None
    except _EncryptedKeyError:
        raise TlsError("key_file", "the key is encrypted — decrypt it: openssl pkey -in") from None


def _load_authority(context: ssl.SSLContext, authority: bytes) -> None:
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as Go: an intermediate one is enough
    try:
        context.load_verify_locations(cadata=authority.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        what = f"cannot be loaded ({_explain(error)}) — write certificates as PEM"
        raise TlsError("client_ca_file", what) from None


class _EncryptedKeyError(Exception):
    pass


def _refuse_password() -> str:
    raise _EncryptedKeyError


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path from which the content can be read; it is in memory only."""
    descriptor = os.memfd_create("promad")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _explain(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error).replace("_", " ").lower()


def _list_names(certificate: Mapping[str, Any]) -> Iterator[str]:
    """The subject alternative names, addresses in their usual form."""
    for kind, name in certificate.get("subjectAltName", ()):
        if kind == "IP Address":
            yield str(ipaddress.ip_address(name.strip()))
        elif kind in {"DNS", "email", "URI"}:
            yield name
