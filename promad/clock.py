"""Clocks: what time it is, and waiting for it. Always an argument, so that time can be faster."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

DAY_SECONDS = 86400.0
WEEK_SECONDS = 7 * DAY_SECONDS


class Clock(Protocol):
    """Unix time in seconds, and how to wait for it."""

    def now(self) -> float: ...

    def elapsed(self) -> float:
        """Seconds since some moment; never set back, so that ages and deadlines are true."""
        ...

    def wait_until(self, at: float, stop: threading.Event) -> None:
        """Return at `at`, or as soon as `stop` is set."""
        ...


class RealClock:
    """The machine's time."""

    def now(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        return time.monotonic()

    def wait_until(self, at: float, stop: threading.Event) -> None:
        stop.wait(max(0.0, at - time.time()))


@dataclass(frozen=True)
class FastClock:
    """Time that starts at `origin` (unix seconds) now and runs `speed` times as fast."""

    origin: float
    speed: float
    started: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        return self.origin + self.elapsed()

    def elapsed(self) -> float:
        return (time.monotonic() - self.started) * self.speed

    def wait_until(self, at: float, stop: threading.Event) -> None:
        stop.wait(max(0.0, at - self.now()) / self.speed)
