"""One request to the API of another daemon: bounded in time and size."""

from __future__ import annotations

import threading
from typing import Protocol

from promad.config import PeerSettings
from promad.errors import PromadError, PrometheusError, escape_control_characters
from promad.prometheus.retrying import RetryPolicy
from promad.prometheus.sessions import open_session
from promad.prometheus.transport import Reply, TimedOutError, exchange

SECTION = "web.peers_http_config"
LARGEST_BODY_BYTES = 16 * 2**20
_RETRIES = 1
"""A daemon that is restarted closes the connections that were kept."""
_LONGEST_WAIT_SECONDS = 0.5


class SilentError(PromadError):
    """A daemon did not respond, or not as promad does: one line without its URL.

    `timed_out` tells whether it took too long.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(escape_control_characters(message))
        self.timed_out = timed_out


class Client(Protocol):
    """What sends requests to one daemon."""

    def get(self, target: str) -> Reply:
        """The reply to a GET of a path and its query, relative to the URL of the daemon.

        Raises:
            SilentError: if there is none.
        """
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


class HttpClient:
    """Connections to one daemon; threads may share it."""

    def __init__(self, url: str, settings: PeerSettings) -> None:
        self._url = url
        self._timeout = settings.timeout
        self._closing = threading.Event()
        retry = RetryPolicy(_RETRIES, _LONGEST_WAIT_SECONDS, self._closing)
        self._session = open_session(settings, retry, section=SECTION)

    def get(self, target: str) -> Reply:
        """The reply; see `Client`. Redirects stay on the server."""
        try:
            return exchange(
                self._session,
                "GET",
                f"{self._url}/{target}",
                None,
                self._timeout,
                self._timeout,
                self._closing,
                LARGEST_BODY_BYTES,
            )
        except PrometheusError as error:
            what = str(error).partition(" — ")[0]  # what to do is about the Prometheus server
            raise SilentError(what, timed_out=isinstance(error, TimedOutError)) from None

    def close(self) -> None:
        """Close every connection; requests under way fail."""
        self._closing.set()
        self._session.close()


def open_client(url: str, settings: PeerSettings) -> Client:
    """A client of the daemon at a base URL; nothing is sent yet."""
    return HttpClient(url, settings)
