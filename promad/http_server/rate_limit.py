"""Limits on how often something is done."""

from __future__ import annotations

import time
from collections.abc import Callable


class RateLimit:
    """Admits `most` calls in each period of `seconds`, and counts the others.

    >>> limit = RateLimit(1, 60.0, now=lambda: 0.0)
    >>> limit.admit(), limit.admit(), limit.take_suppressed()
    (True, False, 1)
    """

    def __init__(
        self, most: int, seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._seconds, self._now = most, seconds, now
        self._begun = now()
        self._admitted = self._suppressed = 0

    def admit(self) -> bool:
        """Whether this call is within the limit."""
        now = self._now()
        if now - self._begun >= self._seconds:
            self._begun, self._admitted = now, 0
        admitted = self._admitted < self._most
        self._admitted += admitted
        self._suppressed += not admitted
        return admitted

    def take_suppressed(self) -> int:
        """The calls that were not admitted since this was last asked."""
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class TokenBucket:
    """Admits `burst` calls at once, and then one more every `seconds`.

    >>> bucket = TokenBucket(1.0, 2, now=iter([0.0, 0.0, 0.0, 0.5, 1.0]).__next__)
    >>> bucket.admit(), bucket.admit(), bucket.admit(), bucket.admit()
    (True, True, False, True)
    """

    def __init__(
        self, seconds: float, burst: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._burst, self._now = seconds, burst, now
        self._tokens, self._at = float(burst), now()

    def admit(self) -> bool:
        """Whether this call is within the limit."""
        now = self._now()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._seconds)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """Let the last call that was admitted not count."""
        self._tokens = min(self._burst, self._tokens + 1)
