"""`TickLoop`: the schedule of a detector at work. What happens in a tick never ends the daemon."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from promad.clock import Clock
from promad.data.frame import align_down
from promad.exposition import AnySnapshot, DetectorMetrics

OVERDUE_INTERVALS = 3
"""After how many query intervals without a tick's end the last verdict is withdrawn: a tick may
hang where no timeout reaches, as in looking up a name."""

WaitForSamples = Callable[[float], None]
"""Called with the unix time of a tick before it begins."""


def wait_for_nothing(now: float) -> None:
    """A poll asks for what is there."""


class TickLoop(ABC):
    """Ticks at absolute multiples of an interval. Only its own thread calls `tick`.

    `answered` turns True once the server has answered a query. Once `retire` has returned, a tick
    that is still under way neither publishes nor saves anything.
    """

    def __init__(
        self,
        interval: float,
        clock: Clock,
        metrics: DetectorMetrics,
        log: Any,
        wait: WaitForSamples = wait_for_nothing,
    ) -> None:
        self.answered = False
        self._interval = interval
        self._wait = wait
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._at_work = threading.Lock()
        self._retired = False
        self._published_at = clock.elapsed()

    @abstractmethod
    def _work(self, now: float) -> None:
        """Poll, judge and publish once; `now` in unix seconds."""

    @abstractmethod
    def _publish_failure(self, now: float) -> None:
        """Publish that the tick failed."""

    @abstractmethod
    def _save(self) -> None:
        """Save what is remembered for the next start."""

    @property
    @abstractmethod
    def snapshot(self) -> AnySnapshot:
        """What the last tick found out, or that it is too long ago to say anything now."""

    def continue_from(self, other: TickLoop) -> None:  # noqa: B027 - some have nothing to continue
        """Continue what another loop of the same detector has left, after it was retired."""

    def overdue(self) -> float | None:
        """Seconds since the end of the last tick, if that is too long ago; None if it is not."""
        since = self._clock.elapsed() - self._published_at
        return since if since > OVERDUE_INTERVALS * self._interval else None

    def run(self, stop: threading.Event) -> None:
        """Tick now, and then at absolute multiples of the query interval, until `stop` is set."""
        due = align_down(self._clock.now(), self._interval)
        while not stop.is_set():
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - a failure to report a failure ends nothing either
                self._log.exception("tick failed")
            due = self._next_due(due + self._interval)
            self._clock.wait_until(due, stop)

    def retire(self) -> None:
        """Save what is remembered for the next start; nothing is published or saved after that."""
        with self._at_work:
            if not self._retired:
                self._save()
            self._retired = True

    def _next_due(self, due: float) -> float:
        """`due`, or the next tick in time if that is past, or if the clock was set back."""
        now, interval = self._clock.now(), self._interval
        late = now - due
        if late <= 0:
            return min(due, align_down(now, interval) + interval)
        skipped = int(late // interval) + 1
        self._metrics.count_skipped(skipped)
        return due + skipped * interval

    def tick(self) -> None:
        """Poll, judge and publish once."""
        now = self._clock.now()
        self._wait(now)
        started = time.perf_counter()
        try:
            self._work(now)
        except Exception:  # noqa: BLE001 - the daemon outlives whatever a tick meets
            self._fail(now)
        if not self._retired:
            self._metrics.observe_tick(time.perf_counter() - started)

    def _fail(self, now: float) -> None:
        with self._at_work:
            if self._retired:
                return
            self._log.exception("tick failed")
            self._metrics.count_tick_failure()
            self._publish_failure(now)
