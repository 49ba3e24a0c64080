"""A clock that moves only when told to, for a loop in a thread of its own."""

from __future__ import annotations

import threading
import time

_POLL_SECONDS = 0.01


class DrivenClock:
    """Time as a test drives it. The loop's thread waits until it is released.

    `step` sets the wall clock alone; `pass_time` moves the time that has elapsed as well.
    """

    def __init__(self, start: float) -> None:
        self._now = start
        self._elapsed = 0.0
        self._changed = threading.Condition()
        self._waits_for: float | None = None
        self._released = False

    def now(self) -> float:
        return self._now

    def elapsed(self) -> float:
        return self._elapsed

    def wait_until(self, at: float, stop: threading.Event) -> None:
        with self._changed:
            self._waits_for = at
            self._changed.notify_all()
            while not self._released and not stop.is_set():
                self._changed.wait(_POLL_SECONDS)
            self._released, self._waits_for = False, None

    def pass_time(self, seconds: float) -> None:
        """Let seconds go by."""
        self._now, self._elapsed = self._now + seconds, self._elapsed + seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back."""
        self._now += seconds

    def release(self) -> None:
        """Let the loop that waits continue."""
        with self._changed:
            self._released, self._waits_for = True, None
            self._changed.notify_all()

    def await_loop(self, patience: float) -> float:
        """The moment that the loop waits for, once it does.

        Raises:
            TimeoutError: if it does not wait within `patience` seconds.
        """
        deadline = time.monotonic() + patience
        with self._changed:
            while self._waits_for is None:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"the tick has not ended within {patience:g} s")
            return self._waits_for
