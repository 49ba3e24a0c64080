"""`Watch`: one detector at work, tick by tick.

A tick polls, scores what is new, judges it, and swaps what is published in one assignment. Nothing
that happens in a tick ends the daemon: it is counted, logged, and makes the group blind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from promad.clock import Clock
from promad.config import Config
from promad.config.durations import format_duration, format_instant
from promad.data.frame import align_down
from promad.detection.judging import Judge, Judged
from promad.detection.persistence import Keeper
from promad.detection.recent_history import Ring
from promad.errors import PrometheusError
from promad.events.events import AnomalyEvent
from promad.events.explanation import paragraph
from promad.events.status import GroupStatus
from promad.events.verdict import State, Verdict
from promad.exposition import DetectorMetrics, Snapshot
from promad.prometheus.polling import Poll, Poller

log = structlog.get_logger()

OVERDUE_INTERVALS = 3
"""After how many query intervals without a tick's end the last verdict is withdrawn: a tick may
hang where no timeout reaches, as in looking up a name."""

Observer = Callable[[Verdict, AnomalyEvent | None], None]
"""Called with each scored sample and the event that it ended, if it did."""


@dataclass(frozen=True)
class _Standing:
    """What one tick hands to the next."""

    state: State | None = None
    failing: frozenset[str] = frozenset()


class Watch:
    """One detector at work. Only its own thread calls `tick`; anyone may read `snapshot`.

    `answered` turns True once the server has answered a query.
    """

    def __init__(
        self,
        config: Config,
        judge: Judge,
        poller: Poller,
        clock: Clock,
        metrics: DetectorMetrics,
        observer: Observer | None = None,
        keeper: Keeper | None = None,
        ring: Ring | None = None,
    ) -> None:
        live = config.real_time_anomaly_detection
        self.name = config.name
        self.answered = False
        self.ring = ring or Ring(judge.scored_features, live.history_samples)
        self._live = live
        self._features = config.features
        self._judge = judge
        self._poller = poller
        self._clock = clock
        self._metrics = metrics
        self._observer = observer
        self._keeper = keeper
        self._log = log.bind(detector=config.name)
        self._standing = _Standing()
        self._published_at = clock.now()
        waiting = Verdict(self._published_at, State.WARMING, judge.limits.now, why="not polled yet")
        self._published = self._snapshot(waiting)

    @property
    def snapshot(self) -> Snapshot:
        """What the last tick found out, or that it is too long ago to say anything now."""
        since = self._clock.now() - self._published_at
        if since <= OVERDUE_INTERVALS * self._live.query_interval_seconds:
            return self._published
        why = f"no tick has ended for {format_duration(round(since))}"
        return self._snapshot(self._judge.blind(self._clock.now(), why))

    def run(self, stop: threading.Event) -> None:
        """Tick now, and then at absolute multiples of the query interval, until `stop` is set."""
        try:
            self._run(stop)
        finally:
            self._judge.limits.keep(self._clock.now())

    def _run(self, stop: threading.Event) -> None:
        interval = self._live.query_interval_seconds
        due = align_down(self._clock.now(), interval)
        while not stop.is_set():
            self.tick()
            self._judge.limits.keep_if_due(self._clock.now())
            due = self._next_due(due + interval, interval)
            self._clock.wait_until(due, stop)

    def _next_due(self, due: float, interval: float) -> float:
        """`due`, or the next tick in time if that is past, or if the clock was set back."""
        late = self._clock.now() - due
        if late <= 0:
            return min(due, align_down(due - late, interval) + interval)
        skipped = int(late // interval) + 1
        self._metrics.skipped(skipped)
        return due + skipped * interval

    def tick(self) -> None:
        """Poll, score, judge and publish once."""
        started = time.perf_counter()
        at = self._clock.now() - self._live.latency_offset
        try:
            poll = self._poll(at)
            in_window = self._judge.complete_samples(poll.frame)
            self._publish(self._verdict(poll, in_window), in_window, poll.failures)
        except Exception:  # noqa: BLE001 - the daemon outlives whatever a tick meets
            self._log.exception("the tick failed")
            self._metrics.tick_failed()
            self._publish(self._judge.blind(at, "the tick failed, see the log"))
        self._metrics.ticked(time.perf_counter() - started)

    def _poll(self, at: float) -> Poll:
        poll = self._poller.poll(at)
        self._metrics.polled(self._features, poll.failures)
        self.answered = self.answered or len(poll.failures) < len(self._features)
        newest = [poll.frame.start if at is None else at for at in poll.newest.values()]
        self._metrics.sample_is(self._clock.now() - min(newest))
        self._log_failures(poll.failures)
        return poll

    def _log_failures(self, failures: Mapping[str, PrometheusError]) -> None:
        """A line when a query begins to fail and one when it is answered again."""
        for alias in failures.keys() - self._standing.failing:
            failure = failures[alias]
            self._log.warning(
                "query failed", query=alias, reason=failure.reason, error=str(failure)
            )
        for alias in self._standing.failing - failures.keys():
            self._log.info("query answered again", query=alias)
        self._standing = replace(self._standing, failing=frozenset(failures))

    def _verdict(self, poll: Poll, in_window: int) -> Verdict:
        """The judgement of the newest sample, or why there is none."""
        if self._too_many(poll.failures):
            return self._judge.blind(poll.frame.end, _failed(poll.failures), tuple(poll.failures))
        judged = list(self._judge.follow(poll.frame))
        self._tell_adaptation()
        for each in judged:
            self._tell(each)
        if judged and self._keeper is not None:
            self._keeper.keep(self._judge, judged, self._clock.now())
        return self._judge.newest(poll.frame, in_window)

    def _too_many(self, failures: Mapping[str, PrometheusError]) -> bool:
        """Whether the queries that were answered are fewer than a score needs.

        A short gap is filled, so without this the last answers would pass for new ones.
        """
        scored = self._judge.scored_features
        answered = sum(name not in failures for name in scored)
        return answered == 0 or answered < self._judge.required_share * len(scored) - 1e-9

    def _tell_adaptation(self) -> None:
        """Say so if the threshold was just raised, because the alert budget was far exceeded."""
        limits = self._judge.limits
        if limits.raises:
            self._metrics.threshold_adapted(limits.raises)
            self._log.warning("threshold adapted", why=limits.why)

    def _tell(self, judged: Judged) -> None:
        """Keep a sample, and say so if an event began or ended with it."""
        self.ring.add(judged.verdict)
        if judged.begun and judged.event is not None:
            self._log.warning("anomaly began", **_described(judged.event))
        if judged.ended is not None:
            self._log.warning("anomaly ended", **_described(judged.ended))
        if self._observer is not None:
            self._observer(judged.verdict, judged.ended)

    def _publish(
        self,
        verdict: Verdict,
        in_window: int = 0,
        failures: Mapping[str, PrometheusError] | None = None,
    ) -> None:
        if verdict.state is not self._standing.state:
            self._log.info("state changed", state=str(verdict.state), why=verdict.why or None)
        self._standing = replace(self._standing, state=verdict.state)
        if verdict.score is None:
            self.ring.add(verdict)
        self._published = self._snapshot(verdict, in_window, failures)
        self._published_at = self._clock.now()

    def _snapshot(
        self,
        verdict: Verdict,
        in_window: int = 0,
        failures: Mapping[str, PrometheusError] | None = None,
    ) -> Snapshot:
        memory = self._judge.memory
        status = GroupStatus(
            verdict=verdict,
            events_begun=memory.tracker.begun,
            event=memory.tracker.current,
            last_scored_at=memory.scored_until,
            samples_in_window=in_window,
        )
        failed = tuple((alias, str(failure)) for alias, failure in (failures or {}).items())
        return Snapshot(self.name, self._live.metrics_prefix, (status,), failed)


def _failed(failures: Mapping[str, PrometheusError]) -> str:
    alias, failure = next(iter(failures.items()))
    others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"query {alias}{others} failed: {failure.reason}"


def _described(event: AnomalyEvent) -> dict[str, object]:
    """An event in one log line."""
    until = event.peak_at if event.end is None else event.end
    return {
        "id": event.id,
        "start": format_instant(event.start),
        "end": None if event.end is None else format_instant(event.end),
        "lasted": format_duration(until - event.start),
        "peak_score": round(event.peak_ratio, 2),
        "top_features": ", ".join(view.name for view in event.top_features),
        "explanation": paragraph(event.peak, event.start),
    }
