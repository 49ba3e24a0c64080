"""AWS Signature Version 4, by botocore: for Amazon Managed Service for Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from urllib3.util import Url

from promad.config import PrometheusSettings, Sigv4
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.authentication import Authentication, read_secret
from promad.prometheus.one_series import flatten_text

SECTION = "prometheus.sigv4"
_SERVICE = "aps"
_SIGNED = ("Host", "Content-Type")
_ADDED = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")


class Sigv4Authentication(Authentication):
    """Signs every request. Temporary credentials are replaced shortly before they expire."""

    def __init__(self, settings: PrometheusSettings) -> None:
        super().__init__(settings)
        if settings.sigv4 is None:
            raise ValueError("sigv4 is not set")
        self._sigv4 = settings.sigv4
        self._lock = threading.Lock()
        self._secret = ""
        self._found: tuple[str, Any] | None = None

    def sign(
        self, method: str, url: Url, headers: Mapping[str, str], body: bytes | None
    ) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError, ClientError

        signed = {name: headers[name] for name in _SIGNED if name in headers}
        request = AWSRequest(method, url.url, signed, body or b"")
        try:
            region, credentials = self._find_credentials()
            SigV4Auth(credentials.get_frozen_credentials(), _SERVICE, region).add_auth(request)
        except (BotoCoreError, ClientError) as error:
            raise UnreachableError(
                f"{SECTION}: no AWS credentials ({flatten_text(str(error))}) — check profile, "
                "role_arn and the environment of AWS",
                "unauthorized",
            ) from None
        return {name: request.headers[name] for name in _ADDED if name in request.headers}

    def _find_credentials(self) -> tuple[str, Any]:
        """The region, and credentials that botocore replaces in time; new ones for a new secret."""
        secret = read_secret(
            self._sigv4.secret_key, self._sigv4.secret_key_file, f"{SECTION}.secret_key"
        )
        with self._lock:
            if self._found is None or secret != self._secret:
                self._found, self._secret = load_credentials(self._sigv4, secret), secret
            return self._found


def require_botocore() -> None:
    """Raise PrometheusError if botocore is not installed."""
    if find_spec("botocore") is None:
        raise PrometheusError(
            f"{SECTION} needs botocore (not installed) — pip install 'promad-exporter[sigv4]'",
            "unauthorized",
        )


def load_credentials(settings: Sigv4, secret: str) -> tuple[str, Any]:
    """The region and botocore's credentials: those of the configuration, or that AWS tools find.

    Raises:
        UnreachableError: if there is no region, or there are no credentials: no query can be asked.
        botocore.exceptions.BotoCoreError: if a profile does not exist, or a file is damaged.
    """
    from botocore.session import Session

    session = Session(profile=settings.profile)
    region = settings.region or session.get_config_variable("region")
    if not region:
        raise UnreachableError(f"{SECTION}: no AWS region — set region", "unauthorized")
    session.set_config_variable("region", region)
    if settings.access_key is not None:
        session.set_credentials(settings.access_key, secret)
    credentials = session.get_credentials()
    if credentials is None:
        raise UnreachableError(
            f"{SECTION}: no AWS credentials found — set access_key and secret_key_file, or "
            "profile, or provide them in the environment",
            "unauthorized",
        )
    if settings.role_arn is not None:
        credentials = _assume_role(session, credentials, settings.role_arn, settings.external_id)
    return region, credentials


def _assume_role(session: Any, credentials: Any, role: str, external_id: str | None) -> Any:
    """Credentials of a role, obtained from AWS STS when they are first needed."""
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    further = {"ExternalId": external_id} if external_id else None
    fetcher = AssumeRoleCredentialFetcher(
        session.create_client, credentials, role, extra_args=further
    )
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
