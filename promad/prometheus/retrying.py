"""When a request is worth repeating, and how long to wait before."""

from __future__ import annotations

import random
import threading
from types import TracebackType
from typing import Any, Self

from urllib3 import BaseHTTPResponse, Retry
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ReadTimeoutError

from promad.errors import PrometheusError

LONGEST_WAIT_SECONDS = 30.0
_FIRST_SLEEP_SECONDS = 0.25
_RETRIED_STATUSES = frozenset({408, 429, *range(500, 600)} - {501})
"""Not 501: what is not implemented now is not implemented in a second either."""


class BoundedRetry(Retry):
    """Asks again after a lost connection and the statuses above; sleeps at most 30 s at a time.

    A request that the server let time out is not repeated: it would only take as long again.
    If the server asks to wait for more than `longest_wait` seconds, the request is not repeated.
    Once `closing` is set no one sleeps any more and nothing is repeated.
    """

    RETRY_AFTER_STATUS_CODES = frozenset({429, 503})
    closing: threading.Event
    longest_wait: float

    def new(self, **changes: Any) -> Self:
        """The next state of the same policy."""
        other = super().new(**changes)
        other.closing, other.longest_wait = self.closing, self.longest_wait
        return other

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """The policy with one attempt less; raises when none is left."""
        if isinstance(error, ReadTimeoutError):
            raise error
        if response is not None and (self.get_retry_after(response) or 0) > self.longest_wait:
            last = self.new(total=0)
            return super(BoundedRetry, last).increment(method, url, response, error, _pool)
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait as long as the server asks for, else twice as long as before, with jitter."""
        asked = self.get_retry_after(response) if response is not None else None
        doubled = _FIRST_SLEEP_SECONDS * 2 ** len(self.history)
        wait = asked or doubled * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, no secret)
        if self.closing.wait(min(wait, LONGEST_WAIT_SECONDS)):
            raise build_closed_error()


def build_retry_policy(retries: int, longest_wait: float, closing: threading.Event) -> BoundedRetry:
    """Repeats up to `retries` times, until `closing` is set."""
    retry = BoundedRetry(
        total=retries,
        other=0,
        allowed_methods=None,  # any: a query changes nothing, so POST may be repeated
        status_forcelist=_RETRIED_STATUSES,
        raise_on_status=False,
        retry_after_max=int(LONGEST_WAIT_SECONDS),
    )
    retry.closing, retry.longest_wait = closing, longest_wait
    return retry


def build_closed_error() -> PrometheusError:
    """The client was closed while a request was under way."""
    return PrometheusError("cancelled because the client was closed — try again", "closed")
