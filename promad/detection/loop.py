"""`DetectionLoop`: one detector at work, tick by tick.

A tick polls, judges what is new, and swaps what is published in one assignment. Nothing that
happens in a tick ends the daemon: it is counted, logged, and makes the groups blind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.clock import Clock
from promad.config.durations import format_duration, format_instant
from promad.data.frame import align_down
from promad.detection.judgements import Judgements
from promad.detection.live import LiveDetector
from promad.detection.persistence import Persistence
from promad.detection.recent_history import RecentHistory
from promad.detection.state import State as DetectorState
from promad.detection.threshold_file import ThresholdFile
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
"""Called with each judged sample of each group and the event that it ended, if it did."""


@dataclass(frozen=True)
class LoopOptions:
    """What a loop is told by the configuration.

    Attributes:
        name: of the detector.
        metrics_prefix: what the names of its groups' metrics begin with.
        interval: seconds between ticks.
        latency_offset: how many seconds behind the clock the newest sample asked for is.
        required_share: of the scored queries that must be answered for a score.
    """

    name: str
    metrics_prefix: str
    interval: float
    latency_offset: float
    required_share: float


@dataclass(frozen=True)
class LoopOutputs:
    """Where a loop reports to.

    Attributes:
        histories: the newest verdicts of each group, by its name.
        persistence, thresholds: what is saved for the next start; None saves nothing.
        observe: sees every judged sample.
    """

    metrics: DetectorMetrics
    histories: Mapping[str, RecentHistory]
    persistence: Persistence | None = None
    thresholds: ThresholdFile | None = None
    observe: Observer | None = None


class DetectionLoop:
    """One detector at work. Only its own thread calls `tick`; anyone may read `snapshot`.

    `answered` turns True once the server has answered a query. Once `retire` has returned, a tick
    that is still under way neither publishes nor saves anything.
    """

    def __init__(
        self,
        options: LoopOptions,
        live: LiveDetector,
        poller: Poller,
        clock: Clock,
        outputs: LoopOutputs,
    ) -> None:
        self.answered = False
        self._options = options
        self._live = live
        self._poller = poller
        self._clock = clock
        self._outputs = outputs
        self._log = log.bind(detector=options.name)
        self._at_work = threading.Lock()
        self._retired = False
        self._newest: Judgements | None = None
        self._states: tuple[State, ...] = ()
        self._failing: frozenset[str] = frozenset()
        self._published_at = clock.elapsed()
        waiting = self._withhold(clock.now(), State.WARMING, "not polled yet")
        self._published = self._snapshot(waiting)

    @property
    def snapshot(self) -> Snapshot:
        """What the last tick found out, or that it is too long ago to say anything now."""
        since = self.overdue()
        if since is None:
            return self._published
        why = f"no tick has ended for {format_duration(round(since))}"
        blind = Verdict(self._clock.now(), State.BLIND, 0.0, why=why)
        return replace(
            self._published,
            groups=tuple(
                replace(status, verdict=replace(blind, threshold=status.verdict.threshold))
                for status in self._published.groups
            ),
        )

    def overdue(self) -> float | None:
        """Seconds since the end of the last tick, if that is too long ago; None if it is not."""
        since = self._clock.elapsed() - self._published_at
        return since if since > OVERDUE_INTERVALS * self._options.interval else None

    def run(self, stop: threading.Event) -> None:
        """Tick now, and then at absolute multiples of the query interval, until `stop` is set."""
        interval = self._options.interval
        due = align_down(self._clock.now(), interval)
        while not stop.is_set():
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - a failure to report a failure ends nothing either
                self._log.exception("tick failed")
            due = self._next_due(due + interval, interval)
            self._clock.wait_until(due, stop)

    def retire(self) -> None:
        """Save what is remembered for the next start; nothing is published or saved after that."""
        with self._at_work:
            if not self._retired:
                self._save_rest()
            self._retired = True

    def _save_rest(self) -> None:
        state, now = self._live.state, self._clock.now()
        if self._outputs.thresholds is not None:
            self._outputs.thresholds.save(state, now)
        if self._outputs.persistence is not None:
            self._outputs.persistence.save(state, (), now)

    def _next_due(self, due: float, interval: float) -> float:
        """`due`, or the next tick in time if that is past, or if the clock was set back."""
        now = self._clock.now()
        late = now - due
        if late <= 0:
            return min(due, align_down(now, interval) + interval)
        skipped = int(late // interval) + 1
        self._outputs.metrics.count_skipped(skipped)
        return due + skipped * interval

    def tick(self) -> None:
        """Poll, judge and publish once."""
        started = time.perf_counter()
        at = self._clock.now() - self._options.latency_offset
        try:
            poll = self._poller.poll(at)
            with self._at_work:
                if not self._retired:
                    self._take(poll)
        except Exception:  # noqa: BLE001 - the daemon outlives whatever a tick meets
            self._fail(at)
        if not self._retired:
            self._outputs.metrics.observe_tick(time.perf_counter() - started)

    def _fail(self, at: float) -> None:
        with self._at_work:
            if self._retired:
                return
            self._log.exception("tick failed")
            self._outputs.metrics.count_tick_failure()
            self._publish(self._withhold(at, State.BLIND, "the tick failed, see the log"))

    def _take(self, poll: Poll) -> None:
        """Judge and publish what a poll brought."""
        self._report(poll)
        if self._lacks_answers(poll.failures):
            why, missing = _describe_failures(poll.failures), tuple(poll.failures)
            verdicts = self._withhold(poll.frame.end, State.BLIND, why, missing)
        else:
            verdicts = self._judge(poll)
        self._publish(verdicts, poll.failures)

    def _report(self, poll: Poll) -> None:
        metrics, features = self._outputs.metrics, poll.frame.features
        metrics.count_poll(features, poll.failures)
        self.answered = self.answered or len(poll.failures) < len(features)
        newest = [poll.frame.start if at is None else at for at in poll.newest.values()]
        metrics.show_sample_age(self._clock.now() - min(newest))
        for alias in poll.failures.keys() - self._failing:
            failure = poll.failures[alias]
            self._log.warning(
                "query failed", query=alias, reason=failure.reason, error=str(failure)
            )
        for alias in self._failing - poll.failures.keys():
            self._log.info("query answered again", query=alias)
        self._failing = frozenset(poll.failures)

    def _lacks_answers(self, failures: Mapping[str, PrometheusError]) -> bool:
        """Whether the queries that were answered are fewer than a score needs.

        A short gap is filled, so without this the last answers would pass for new ones.
        """
        scored = self._live.detector.scored_features
        answered = sum(name not in failures for name in scored)
        return answered == 0 or answered < self._options.required_share * len(scored) - 1e-9

    def _judge(self, poll: Poll) -> list[Verdict]:
        """Judge what is new; the verdict of each group's newest sample."""
        state, now = self._live.state, self._clock.now()
        raised = state.limits.adaptations
        judged = []
        for judgements in self._live.catch_up(poll.frame, poll.corrected_from):
            judged.append(judgements)
            self._tell(judgements)
        self._report_adaptations(raised)
        if self._outputs.persistence is not None and any(each.fresh.any() for each in judged):
            self._outputs.persistence.save(state, judged, now)
        if self._outputs.thresholds is not None:
            self._outputs.thresholds.save_if_due(state, now)
        self._newest = judged[-1] if judged else self._newest
        assert self._newest is not None  # noqa: S101 - the first poll always has a new sample
        return [self._newest.verdict(group) for group in range(state.groups)]

    def _tell(self, judgements: Judgements) -> None:
        """Keep the verdicts of judged samples, and log which events began and ended with them."""
        for group in judgements.fresh.nonzero()[0].tolist():
            verdict, ended = judgements.verdict(group), judgements.ended.get(group)
            self._history(group).add(verdict)
            if judgements.began[group]:
                event = self._live.state.events.event(group)
                self._log.warning("anomaly began", **_describe_event(event))
            if ended is not None:
                self._log.warning("anomaly ended", **_describe_event(ended))
            if self._outputs.observe is not None:
                self._outputs.observe(verdict, ended)

    def _history(self, group: int) -> RecentHistory:
        return self._outputs.histories[self._live.state.names[group]]

    def _report_adaptations(self, before: NDArray[np.int64]) -> None:
        """Log which groups' thresholds were just raised to keep the alert budget."""
        limits = self._live.state.limits
        for group, times in enumerate((limits.adaptations - before).tolist()):
            if times:
                self._outputs.metrics.count_adaptations(times)
                self._log.warning("threshold adapted", why=limits.explain(group))

    def _withhold(
        self, at: float, state: State, why: str, missing: tuple[str, ...] = ()
    ) -> list[Verdict]:
        """A verdict without a score for every group; `at` in unix seconds."""
        limits = self._live.state.limits.limits()
        return [Verdict(at, state, float(limit), missing=missing, why=why) for limit in limits]

    def _publish(
        self, verdicts: Sequence[Verdict], failures: Mapping[str, PrometheusError] | None = None
    ) -> None:
        states = tuple(verdict.state for verdict in verdicts)
        for group, verdict in enumerate(verdicts):
            if not self._states or verdict.state is not self._states[group]:
                state, why = str(verdict.state), verdict.why or None
                self._log.info("state changed", state=state, why=why)
            if verdict.score is None:
                self._history(group).add(verdict)
        self._states = states
        self._published = self._snapshot(verdicts, failures)
        self._published_at = self._clock.elapsed()

    def _snapshot(
        self, verdicts: Sequence[Verdict], failures: Mapping[str, PrometheusError] | None = None
    ) -> Snapshot:
        failed = tuple((alias, str(failure)) for alias, failure in (failures or {}).items())
        statuses = tuple(
            make_status(self._live.state, group, verdict) for group, verdict in enumerate(verdicts)
        )
        return Snapshot(self._options.name, self._options.metrics_prefix, statuses, failed)


def make_status(state: DetectorState, group: int, verdict: Verdict) -> GroupStatus:
    """The status of a group whose newest verdict this is."""
    until = float(state.scored_until[group])
    return GroupStatus(
        verdict=verdict,
        group=state.labels[group],
        events_begun=int(state.events.begun[group]),
        event=state.events.open_event(group),
        last_scored_at=None if isnan(until) else until,
        samples_in_window=int(state.scoring.usable_for[group, 0]),
    )


def _describe_failures(failures: Mapping[str, PrometheusError]) -> str:
    alias, failure = next(iter(failures.items()))
    others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"query {alias}{others} failed: {failure.reason}"


def _describe_event(event: AnomalyEvent) -> dict[str, object]:
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
