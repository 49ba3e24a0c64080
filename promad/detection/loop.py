"""`DetectionLoop`: one detector at work, tick by tick.

A tick polls, judges what is new, and swaps what is published in one assignment. Nothing that
happens in a tick ends the daemon: it is counted, logged, and makes the groups blind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.clock import Clock
from promad.config.durations import format_duration, format_instant
from promad.data.frame import MetricFrame
from promad.data.valid_range import find_outside, format_ranges
from promad.detection.judgements import Judgements
from promad.detection.live import LiveDetector
from promad.detection.marker_queries import MarkerQueries, name_marker
from promad.detection.muting import MuteLog, MuteQueries
from promad.detection.persistence import Persistence
from promad.detection.recent_history import RecentHistory
from promad.detection.server_log import ServerLog
from promad.detection.state import State as DetectorState
from promad.detection.threshold_file import ThresholdFile
from promad.detection.tick_loop import TickLoop, WaitForSamples, wait_for_nothing
from promad.detection.tick_queries import poll_beside
from promad.errors import PrometheusError
from promad.events.events import AnomalyEvent
from promad.events.explanation import event_paragraph
from promad.events.status import GroupStatus
from promad.events.verdict import State, Verdict
from promad.exposition import DetectorMetrics, Snapshot
from promad.prometheus.latency import FindOffset
from promad.prometheus.polling import Poll

log = structlog.get_logger()


class AnyPoller(Protocol):
    """What a loop gets its samples from."""

    def poll(self, at: float) -> Poll:
        """The newest samples up to the last multiple of the step that is not after `at`."""
        ...


Observer = Callable[[Verdict, AnomalyEvent | None], None]
"""Called with each judged sample of each group and the event that it ended, if it did."""


@dataclass(frozen=True)
class LoopOptions:
    """What a loop is told by the configuration.

    Attributes:
        name: of the detector.
        metrics_prefix: what the names of its groups' metrics begin with.
        interval: seconds between ticks.
        find_offset: how many seconds behind the clock the newest sample asked for is.
        required_share: of the scored queries that must be answered for a score.
        server: the URL of the server that is polled.
        wait: waits for the samples of a tick, where they are received.
    """

    name: str
    metrics_prefix: str
    interval: float
    find_offset: FindOffset
    required_share: float
    server: str = ""
    wait: WaitForSamples = wait_for_nothing


@dataclass(frozen=True)
class LoopOutputs:
    """Where a loop reports to.

    Attributes:
        histories: the newest verdicts of each group, by its name.
        persistence, thresholds: what is saved for the next start; None saves nothing.
        observe: sees every judged sample.
        mutes: asks what `mute` names by a query; None asks nothing.
        markers: asks what `markers` name; None asks nothing.
    """

    metrics: DetectorMetrics
    histories: Mapping[str, RecentHistory]
    persistence: Persistence | None = None
    thresholds: ThresholdFile | None = None
    observe: Observer | None = None
    mutes: MuteQueries | None = None
    markers: MarkerQueries | None = None


class DetectionLoop(TickLoop):
    """One detector of one group at work. Anyone may read `snapshot`."""

    def __init__(
        self,
        options: LoopOptions,
        live: LiveDetector,
        poller: AnyPoller,
        clock: Clock,
        outputs: LoopOutputs,
    ) -> None:
        own_log = log.bind(detector=options.name)
        super().__init__(options.interval, clock, outputs.metrics, own_log, options.wait)
        self._options = options
        self._live = live
        self._poller = poller
        self._outputs = outputs
        self._server_log = ServerLog(self._log, options.server)
        self._mute_log = MuteLog(self._log)
        self._newest: Judgements | None = None
        self._states: tuple[State, ...] = ()
        self._outside: frozenset[str] = frozenset()
        self._offset = 0.0
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

    def _save(self) -> None:
        state, now = self._live.state, self._clock.now()
        if self._outputs.thresholds is not None:
            self._outputs.thresholds.save(state, now)
        if self._outputs.persistence is not None:
            self._outputs.persistence.save(state, (), now)

    def _work(self, now: float) -> None:
        self._offset, live = self._options.find_offset(now), self._live
        poll = poll_beside(
            self._poller.poll,
            now - self._offset,
            live.detector.preparation.step,
            live.state.mutes,
            self._outputs.mutes,
            self._outputs.markers,
        )
        with self._at_work:
            if not self._retired:
                self._take(poll)

    def _publish_failure(self, now: float) -> None:
        at = now - self._offset
        self._publish(self._withhold(at, State.BLIND, "the tick failed, see the log"))

    def _take(self, poll: Poll) -> None:
        """Judge and publish what a poll brought."""
        self._report(poll)
        if self._lacks_answers(poll.failures):
            why, missing = describe_failures(poll.failures), tuple(poll.failures)
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
        self._server_log.report_failures(poll.failures, len(features), self._clock.now())
        self._server_log.report_clock(poll.clock_offset, self._offset)
        self._report_outside(poll.frame)

    def _report_outside(self, frame: MetricFrame) -> None:
        """Log which queries begin to yield values outside of their valid range."""
        newest = frame.values[:, -1]
        ranges = self._live.detector.preparation.valid_ranges
        outside = find_outside(newest, ranges)
        columns = np.flatnonzero(outside.any(axis=0)).tolist()
        for column in columns:
            if frame.features[column] not in self._outside:
                self._log.warning(
                    "value outside valid_range",
                    query=frame.features[column],
                    valid_range=format_ranges([ranges[column]]),
                    value=float(newest[outside[:, column], column][0]),
                )
        self._outside = frozenset(frame.features[column] for column in columns)

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
        for group in (~judgements.fresh).nonzero()[0].tolist():
            self._history(group).correct(judgements.verdict(group))
        for group in judgements.fresh.nonzero()[0].tolist():
            verdict, ended = judgements.verdict(group), judgements.ended.get(group)
            self._history(group).add(verdict)
            if judgements.began[group]:
                event = self._live.state.events.event(group)
                marker = name_marker(self._outputs.markers, event)
                self._log.warning("anomaly began", **describe_event(event), **marker)
            if ended is not None:
                self._log.warning("anomaly ended", **describe_event(ended))
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
        self._mute_log.report(self._live.state.mutes.find(verdicts[0].at))
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
    until, muted = float(state.scored_until[group]), state.mutes.find(verdict.at)
    return GroupStatus(
        verdict=verdict,
        group=state.labels[group],
        events_begun=int(state.events.begun[group]),
        event=state.events.open_event(group),
        last_scored_at=None if isnan(until) else until,
        samples_in_window=int(state.scoring.usable_for[group, 0]),
        muted=bool(muted.flags[group]) if muted.is_configured else None,
        muted_by=muted.find_title(group),
    )


def describe_failures(failures: Mapping[str, PrometheusError]) -> str:
    """Why there is no score, in a few words."""
    alias, failure = next(iter(failures.items()))
    others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"query {alias}{others} failed: {failure.reason}"


def describe_event(event: AnomalyEvent) -> dict[str, object]:
    """An event in one log line."""
    until = event.peak_at if event.end is None else event.end
    return {
        "id": event.id,
        "start": format_instant(event.start),
        "end": None if event.end is None else format_instant(event.end),
        "lasted": format_duration(until - event.start),
        "peak_score": round(event.peak_ratio, 2),
        "muted": event.muted,
        "top_features": ", ".join(view.name for view in event.top_features),
        "explanation": event_paragraph(event),
    }
