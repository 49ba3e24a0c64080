"""When a request is worth repeating, and how long to wait before."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from promad.errors import PrometheusError

LONGEST_WAIT_SECONDS = 30.0
_FIRST_SLEEP_SECONDS = 0.25
_RETRIED_STATUSES = frozenset({408, 429, *range(500, 600)} - {501})
"""Not 501: what is not implemented now is not implemented in a second either."""
_STATUSES_WITH_A_WISH = frozenset({429, 503})


@dataclass(frozen=True)
class RetryPolicy:
    """Asks again after a lost connection and the statuses above; sleeps at most 30 s at a time.

    A request that the server let time out is not repeated: it would only take as long again.
    If the server asks to wait for more than `longest_wait` seconds, the request is not repeated.
    Once `closing` is set no one sleeps any more and nothing is repeated.
    """

    retries: int
    longest_wait: float
    closing: threading.Event

    def plan_after_error(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait after the `attempt`-th, from 1 on; None if no other is to follow."""
        if isinstance(error, TimeoutError) or attempt > self.retries:
            return None
        return _double(attempt)

    def plan_after_status(self, status: int, retry_after: str | None, attempt: int) -> float | None:
        """The same for a response, with its header `Retry-After`."""
        if status not in _RETRIED_STATUSES or attempt > self.retries:
            return None
        asked = _parse_wish(retry_after) if status in _STATUSES_WITH_A_WISH else None
        if asked is not None and asked > self.longest_wait:
            return None
        return asked or _double(attempt)

    def wait(self, seconds: float) -> None:
        """Raise PrometheusError if the client is closed meanwhile."""
        if self.closing.wait(seconds):
            raise build_closed_error()


def _double(attempt: int) -> float:
    """Twice as long as before, with jitter."""
    doubled = _FIRST_SLEEP_SECONDS * 2.0**attempt
    return min(doubled * random.uniform(0.5, 1.0), LONGEST_WAIT_SECONDS)  # noqa: S311 (no secret)


def _parse_wish(retry_after: str | None) -> float | None:
    """The seconds that a server asks to wait for, at most 30; None if it does not."""
    try:
        asked = None if retry_after is None else Retry().parse_retry_after(retry_after)
    except InvalidHeader:
        return None
    return None if asked is None else min(asked, LONGEST_WAIT_SECONDS)


def build_closed_error() -> PrometheusError:
    """The client was closed while a request was under way."""
    return PrometheusError("cancelled because the client was closed — try again", "closed")
