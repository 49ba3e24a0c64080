"""Limits on the whole of an answer.

The timeout of a socket holds for each wait alone: a server that sends a byte now and then never
reaches it.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Self


class Limit:
    """Shuts a connection down after `seconds`, which ends whatever is read from it.

    `is_over` tells whether it was shut down: then what was read last may be cut short.
    """

    __slots__ = ("_shut_down", "at", "is_over")

    def __init__(self, seconds: float, shut_down: Callable[[], object]) -> None:
        self.at = time.monotonic() + seconds
        self.is_over = False
        self._shut_down: Callable[[], object] | None = shut_down

    def __enter__(self) -> Self:
        _watchdog.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._shut_down = None

    def __lt__(self, other: Limit) -> bool:
        return self.at < other.at

    @property
    def is_left(self) -> bool:
        return self._shut_down is None

    def end(self) -> None:
        """Shut the connection down if it is still read from."""
        shut_down = self._shut_down
        if shut_down is not None:
            self.is_over = True
            with suppress(OSError, RuntimeError, ValueError):  # closed, or complete, at that moment
                shut_down()


class _Watchdog:
    """One thread for all deadlines: a thread for each would cost more than the request."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: list[Limit] = []
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None

    def add(self, limit: Limit) -> None:
        with self._changed:
            while self._pending and self._pending[0].is_left:  # nearly all: they must not pile up
                heapq.heappop(self._pending)
            heapq.heappush(self._pending, limit)
            if self._thread is None or not self._thread.is_alive():
                self._wakes_at = limit.at
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif limit.at < self._wakes_at:
                self._wakes_at = limit.at
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._pending or self._pending[0].at > time.monotonic():
                    self._wakes_at = self._pending[0].at if self._pending else inf
                    left = self._wakes_at - time.monotonic()
                    self._changed.wait(None if left == inf else left)
                due = heapq.heappop(self._pending)
            due.end()


_watchdog = _Watchdog()
