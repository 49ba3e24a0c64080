"""`Receiver`: takes remote-write requests, and has the samples for the detectors at work."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import structlog

from promad.clock import Clock
from promad.detection.tick_loop import WaitForSamples
from promad.errors import PrometheusError
from promad.exposition import ReceiverMetrics
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller
from promad.prometheus.latency import SHORTEST_SECONDS
from promad.prometheus.received.compression import decompress
from promad.prometheus.received.decoded import INVALID, Decoded
from promad.prometheus.received.directory import SeriesDirectory
from promad.prometheus.received.polling import make_received_poller, make_store
from promad.prometheus.received.store import FUTURE_SECONDS, OUT_OF_ORDER_SECONDS, SampleStore
from promad.prometheus.received.write_request import decode_write_request
from promad.prometheus.received.write_request_v2 import decode_write_request_v2

log = structlog.get_logger()

_FORGET_EVERY_SECONDS = 60.0
_WAIT_SHARE = 0.9
"""Of the time between two ticks, for which a tick may wait for its samples."""
_MOST_SHOWN = 3

Decode = Callable[[bytes, SeriesDirectory], Decoded]
DECODERS: Mapping[str, Decode] = {
    "prometheus.WriteRequest": decode_write_request,
    "io.prometheus.write.v2.Request": decode_write_request_v2,
}
"""What reads a request, by the name of its message."""


class NotReadyError(Exception):
    """No detector is at work yet; the sender is to try again."""


@dataclass(frozen=True)
class Written:
    """What became of a request.

    Attributes:
        samples: how many were used, or are of series of which no detector makes use.
        problems: what was refused and why, in one line; empty if nothing was. Series of which no
            detector makes use are no problem.
    """

    samples: int
    problems: str


@dataclass(frozen=True)
class Timing:
    """When a tick reads samples, if they are received.

    Attributes:
        offset: seconds behind the clock.
        patience: seconds for which it waits for them.
    """

    offset: float
    patience: float

    @staticmethod
    def of(latency_offset: float | Literal["auto"], interval: float) -> Timing:
        """As late at most as a poll would read them, and as early as they are there.

        >>> Timing.of("auto", 30.0), Timing.of("auto", 5.0)
        (Timing(offset=0.0, patience=10.0), Timing(offset=5.5, patience=4.5))
        """
        whole = SHORTEST_SECONDS if latency_offset == "auto" else latency_offset
        patience = min(whole, _WAIT_SHARE * interval)
        return Timing(whole - patience, patience)


class Receiver:
    """Takes requests for all detectors at work. Any thread may call any method."""

    def __init__(self, metrics: ReceiverMetrics, clock: Clock) -> None:
        self.metrics = metrics
        self._clock = clock
        self._stores: dict[str, SampleStore] = {}
        self._directory = SeriesDirectory({})
        self._at_work = threading.Lock()
        self._forget_at = -np.inf

    def use(self, stores: Mapping[str, SampleStore]) -> None:
        """Take samples for these detectors from now on, by name, and for no other."""
        with self._at_work:
            self._stores = dict(stores)
            self._directory = SeriesDirectory(self._stores)
            self.metrics.forget()
        for detector in stores:
            self.metrics.begin(detector)

    def take(self, compressed: bytes, message: str) -> Written:
        """Place the samples of a request, whose message is one of `DECODERS`.

        Raises:
            NotReadyError: if no detector is at work yet.
            MalformedError: if it cannot be read.
            OversizedError: if it is too large.
        """
        now = self._clock.now()
        with self._at_work:
            if not self._stores:
                raise NotReadyError("no detector is at work yet")
            self._forget_ended(now)
            decoded = DECODERS[message](decompress(compressed), self._directory)
            return self._place(decoded, now)

    def _place(self, decoded: Decoded, now: float) -> Written:
        unused, taken = Counter(decoded.ignored), 0
        names = {id(store): name for name, store in self._stores.items()}
        for store, positions, series in self._directory.route(decoded.codes):
            placed = store.place(series, decoded.times[positions], decoded.values[positions], now)
            taken += placed.taken
            unused["too_old"] += placed.too_old
            unused["in_future"] += placed.in_future
            self.metrics.count_samples(names[id(store)], placed.taken, store.newest)
        unknown = int(np.count_nonzero(decoded.codes < 0))
        unused["unknown_series"] += unknown
        self.metrics.count_unused(unused)
        return Written(taken + unknown, _describe(unused, decoded.problems))

    def _forget_ended(self, now: float) -> None:
        if abs(now - self._forget_at) >= _FORGET_EVERY_SECONDS:
            self._forget_at = now
            self._directory.make_room()

    def open_stream(self, detector: str, options: PollOptions, stop: threading.Event) -> Stream:
        """What a detector takes its samples from; `use` lets them come in."""
        return Stream(detector, options, make_store(options), stop, self.metrics)


@dataclass(frozen=True)
class Stream:
    """The received samples of one detector."""

    detector: str
    options: PollOptions
    store: SampleStore
    stop: threading.Event
    metrics: ReceiverMetrics

    def make_poller(self, client: PrometheusClient) -> GroupPoller:
        """What the loop polls; it asks `client` for samples that were not received."""
        return make_received_poller(
            client, self.detector, self.options, self.store, self._report_catch_up
        )

    def make_wait(self, timing: Timing) -> WaitForSamples:
        """What waits, at a unix time, until the samples of its grid time are there."""

        def wait(now: float) -> None:
            slot = int(np.floor((now - timing.offset) / self.options.step + 1e-9))
            self.store.wait(slot, timing.patience, self.stop)

        return wait

    def _report_catch_up(self, failures: Mapping[str, PrometheusError]) -> None:
        self.metrics.count_catch_up(self.detector, not failures)
        if failures:
            alias, error = next(iter(failures.items()))
            log.warning(
                "catch-up by query failed; trying again in a minute",
                detector=self.detector,
                queries=len(failures),
                first=alias,
                error=error.fault,
            )


def _describe(unused: Mapping[str, int], problems: Sequence[str]) -> str:
    """What was refused, in one line; empty if nothing was."""
    reasons = {
        INVALID: "with invalid labels",
        "too_old": f"older than {OUT_OF_ORDER_SECONDS:g} s",
        "in_future": f"more than {FUTURE_SECONDS:g} s ahead of the clock of promad",
    }
    parts = [
        f"{unused[reason]} {'sample' if unused[reason] == 1 else 'samples'} {why}"
        for reason, why in reasons.items()
        if unused.get(reason)
    ]
    shown = [*dict.fromkeys(problems)][:_MOST_SHOWN]
    if not (parts or shown):
        return ""
    said = f" ({'; '.join(shown)})" if shown else ""
    return f"refused {', '.join(parts) or f'{len(problems)} series'}{said}; the rest was taken"
