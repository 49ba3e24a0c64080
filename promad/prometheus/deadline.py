"""Limits on the whole of an answer.

The timeout of a socket holds for each wait alone: a server that sends a byte now and then never
reaches it.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def end_after(seconds: float, shut_down: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Shut a connection down after a while, which ends whatever is read from it.

    Yields:
        Whether it was: then what was read last may be cut short.
    """
    deadline = _Deadline(time.monotonic() + seconds, shut_down)
    _watchdog.add(deadline)
    try:
        yield deadline.is_over
    finally:
        deadline.cancel()


class _Deadline:
    """When a connection is shut down, unless it is cancelled before."""

    def __init__(self, at: float, shut_down: Callable[[], object]) -> None:
        self.at = at
        self._shut_down: Callable[[], object] | None = shut_down
        self._over = False

    def __lt__(self, other: _Deadline) -> bool:
        return self.at < other.at

    def is_over(self) -> bool:
        return self._over

    def cancel(self) -> None:
        self._shut_down = None

    def end(self) -> None:
        shut_down = self._shut_down
        if shut_down is not None:
            self._over = True
            with suppress(OSError, RuntimeError, ValueError):  # closed, or complete, at that moment
                shut_down()


class _Watchdog:
    """One thread for all deadlines: a thread for each would cost more than the request."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: list[_Deadline] = []
        self._thread: threading.Thread | None = None

    def add(self, deadline: _Deadline) -> None:
        with self._changed:
            heapq.heappush(self._pending, deadline)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._pending[0] is deadline:
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
