"""Sessions that authenticate as the configuration asks."""

from __future__ import annotations

import time

from urllib3 import PoolManager

from promad.config import ClientSettings, PrometheusSettings
from promad.prometheus.authentication import SECTION, Authentication
from promad.prometheus.oauth2 import Oauth2Authentication
from promad.prometheus.retrying import RetryPolicy
from promad.prometheus.sigv4 import Sigv4Authentication, require_botocore
from promad.prometheus.transport import Session


def open_session(
    settings: ClientSettings,
    retry: RetryPolicy,
    pools: PoolManager | None = None,
    section: str = SECTION,
) -> Session:
    """A session that authenticates, retries and compresses as asked; nothing is sent yet.

    Args:
        section: where the settings are in the configuration.

    Raises:
        PrometheusError: if the library for `sigv4` is not installed.
    """
    session = Session(
        settings,
        retry,
        _choose_authentication(settings, retry, section),
        pools,
        section=section,
        follow_redirects=settings.follow_redirects,
    )
    session.headers["Accept-Encoding"] = settings.compression
    return session


def _choose_authentication(
    settings: ClientSettings, retry: RetryPolicy, section: str
) -> Authentication:
    if settings.oauth2:
        return Oauth2Authentication(settings, retry, time.monotonic, section)
    if isinstance(settings, PrometheusSettings) and settings.sigv4:
        require_botocore()
        return Sigv4Authentication(settings)
    return Authentication(settings, section)
