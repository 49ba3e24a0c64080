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
from typing import Self


class Limit:
    """Shuts a connection down after `seconds`, which ends whatever is read from it.

    `is_over` tells whether it was shut down: then what was read last may be cut short.
    """

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
        self._thread: threading.Thread | None = None

    def add(self, limit: Limit) -> None:
        with self._changed:
            heapq.heappush(self._pending, limit)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._pending[0] is limit:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._pending or self._pending[0].at > time.monotonic():
                    left = self._pending[0].at - time.monotonic() if self._pending else None
                    self._changed.wait(left)
                due = heapq.heappop(self._pending)
            due.end()


_watchdog = _Watchdog()
