"""`FleetLoop`: a detector of many groups at work, tick by tick.

What happens to all groups is array work; Python looks at those alone whose event began, grew or
ended, and at those that came or went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.clock import Clock
from promad.config.durations import format_duration
from promad.data.groups import Labels, name_group
from promad.data.rows import plan_move
from promad.detection.fleet_history import FleetHistory
from promad.detection.fleet_persistence import FleetPersistence
from promad.detection.judgements import ANOMALOUS, BLIND, WARMING, Judgements
from promad.detection.live import LiveDetector
from promad.detection.loop import LoopOptions, describe_event
from promad.detection.server_log import ServerLog
from promad.detection.step import rewarm
from promad.detection.tick_loop import TickLoop
from promad.errors import PrometheusError
from promad.events.explanation import incident_paragraph
from promad.events.incident_book import IncidentBook, IncidentChanges, Watched, survey_groups
from promad.events.incidents import Incident
from promad.events.status import GroupStatus
from promad.events.verdict import OBSERVED, STATES, Verdict
from promad.exposition import DetectorMetrics
from promad.exposition.fleet import FleetSnapshot, GroupColumns, IncidentColumns
from promad.exposition.render import FleetRenderer
from promad.prometheus.group_polling import GroupPoll, GroupPoller

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

log = structlog.get_logger()

_MOST_NAMES = 5


@dataclass(frozen=True)
class FleetOutputs:
    """Where a loop reports to.

    Attributes:
        history: the newest samples of all groups.
        persistence: what is saved for the next start.
        incidents: which events are one incident.
        max_feature_series: series about single features that are exposed at most.
    """

    metrics: DetectorMetrics
    history: FleetHistory
    persistence: FleetPersistence
    incidents: IncidentBook
    max_feature_series: int


@dataclass
class _Published:
    """What is known of the groups after a tick; it is not changed once it is published."""

    at: float
    labels: tuple[Labels, ...]
    judgements: Judgements | None
    states: NDArray[np.uint8]
    limits: Values
    why: Mapping[int, str]
    failures: Mapping[str, PrometheusError]


class FleetLoop(TickLoop):
    """One detector of many groups at work. Anyone may read `snapshot`."""

    def __init__(
        self,
        options: LoopOptions,
        begin: Callable[[Sequence[Labels]], LiveDetector],
        poller: GroupPoller,
        clock: Clock,
        outputs: FleetOutputs,
    ) -> None:
        super().__init__(options.interval, clock, outputs.metrics, log.bind(detector=options.name))
        self._options = options
        self._begin = begin
        self._live = begin(())
        self._poller = poller
        self._outputs = outputs
        self._server_log = ServerLog(self._log, options.server)
        self._watched: Mapping[Labels, Watched] = {}
        self._begun: Counter[Labels] = Counter()
        self._refused = 0
        self._raised = np.zeros(0, np.int64)
        self._raised_together = 0
        self._offset = 0.0
        self._first_poll, self._caught_up = True, False
        self._renderer = FleetRenderer(
            options.name, options.metrics_prefix, outputs.max_feature_series
        )
        self._published = self._withhold(clock.now(), WARMING, "not polled yet", {})
        self._snapshot = self._build_snapshot(self._published)

    @property
    def live(self) -> LiveDetector:
        """The detector with what it remembers of the groups."""
        return self._live

    @property
    def snapshot(self) -> FleetSnapshot:
        """What the last tick found out, or that it is too long ago to say anything now."""
        since = self.overdue()
        if since is None:
            return self._snapshot
        why = f"no tick has ended for {format_duration(round(since))}"
        return self._build_snapshot(self._withhold(self._clock.now(), BLIND, why, {}))

    def _work(self, now: float) -> None:
        self._offset = self._options.find_offset(now)
        poll = self._poller.poll(now - self._offset)
        with self._at_work:
            if not self._retired:
                self._take(poll, now)

    def _save(self) -> None:
        self._outputs.persistence.save_state(
            self._live.state, self._outputs.incidents, self._clock.now(), due=True
        )

    def _publish_failure(self, now: float) -> None:
        why = "the tick failed, see the log"
        self._publish(self._withhold(now - self._offset, BLIND, why, {}))

    def _take(self, poll: GroupPoll, now: float) -> None:
        """Judge and publish what a poll brought."""
        self._report(poll, now)
        if len(poll.failures) < len(poll.frame.features):
            self._regroup(poll, now)
        if self._lacks_answers(poll.failures):
            why = describe_failures(poll.failures)
            published = self._withhold(poll.frame.end, BLIND, why, poll.failures)
        else:
            published = self._judge(poll, now)
        self._publish(published)

    def _report(self, poll: GroupPoll, now: float) -> None:
        features = poll.frame.features
        self._metrics.count_poll(features, poll.failures)
        self.answered = self.answered or len(poll.failures) < len(features)
        newest = [poll.frame.start if at is None else at for at in poll.newest.values()]
        self._metrics.show_sample_age(now - min(newest))
        self._server_log.report_failures(poll.failures, len(features), now)
        self._server_log.report_clock(poll.clock_offset, self._offset)
        if len(poll.refused) != self._refused:
            self._refused = len(poll.refused)
            names = ", ".join(
                name_group(self._options.name, labels) for labels in poll.refused[:_MOST_NAMES]
            )
            if poll.refused:
                self._log.warning("groups refused", groups=self._refused, first=names)

    def _lacks_answers(self, failures: Mapping[str, PrometheusError]) -> bool:
        """Whether the queries that were answered are fewer than a score needs."""
        scored = self._live.detector.scored_features
        answered = sum(name not in failures for name in scored)
        return answered == 0 or answered < self._options.required_share * len(scored) - 1e-9

    def _regroup(self, poll: GroupPoll, now: float) -> None:
        """Continue with the groups of a poll: close what is gone, begin what is new."""
        old, groups = self._live.state, poll.frame.groups
        if groups == old.labels and not self._first_poll:
            return
        gone = sorted(set(old.labels) - set(groups))
        new = set(groups) - set(old.labels)
        self._close_events(gone, now)
        live = self._begin(groups)
        live.state.adopt(old)
        if self._first_poll:
            live.state.seen_until = None
            self._outputs.persistence.resume(live.state, self._begin, self._outputs.incidents, now)
            self._first_poll = False
        elif new:
            rows = np.array([row for row, labels in enumerate(groups) if labels in new], np.int64)
            rewarm(live.detector, live.calibration, live.state, poll.frame, rows)
        self._live = live
        move = plan_move(old.labels, groups)
        self._outputs.history.regroup(live.state.names, groups, move)
        self._watched = survey_groups(groups, self._outputs.incidents.rules)
        raised = np.zeros(len(groups), np.int64)
        raised[move.target] = self._raised[move.source]
        self._raised = np.maximum(raised, live.state.limits.adaptations)
        if gone or new:
            self._log.info("groups changed", groups=len(groups), new=len(new), gone=len(gone))

    def _close_events(self, gone: Sequence[Labels], now: float) -> None:
        """End the events of groups that vanished, at their newest anomalous samples."""
        for labels in gone:
            name = name_group(self._options.name, labels)
            changes = self._outputs.incidents.drop(now, name)
            self._outputs.persistence.close_group(name, changes)
            self._tell_incidents(changes)

    def _judge(self, poll: GroupPoll, now: float) -> _Published:
        """Judge what is new."""
        live, newest = self._live, None
        corrected = np.flatnonzero(~np.isnan(poll.corrected_from))
        if corrected.size and live.state.seen_until is not None:
            rewarm(live.detector, live.calibration, live.state, poll.frame, corrected)
        for judgements in live.catch_up(poll.frame):
            self._record(judgements)
            newest = judgements
        if newest is None:
            return replace(self._published, failures=poll.failures)
        self._report_adaptations()
        if not self._caught_up:
            self._caught_up = True
            self._tell_incidents(
                self._outputs.persistence.close_stale(live.state, self._outputs.incidents, now)
            )
        self._outputs.persistence.save_state(live.state, self._outputs.incidents, now)
        why = {
            row: f"several series of this group for query {alias}"
            for row, alias in poll.ambiguous.items()
        }
        return _Published(
            newest.at,
            live.state.labels,
            newest,
            newest.state,
            newest.limit,
            why,
            poll.failures,
        )

    def _record(self, judgements: Judgements) -> None:
        """Keep, save and log what one sample of every group brought."""
        state, history = self._live.state, self._outputs.history
        history.add(judgements.at, judgements.state, judgements.score, judgements.limit)
        for row in np.flatnonzero(judgements.state == ANOMALOUS).tolist():
            history.add_details(state.names[row], judgements.verdict(row))
        began = [state.events.event(row) for row in np.flatnonzero(judgements.began).tolist()]
        open_rows = state.events.hysteresis.open & ~judgements.began
        peaks_now = open_rows & (state.events.peak_at == judgements.at)
        grew = [state.events.event(row) for row in np.flatnonzero(peaks_now).tolist()]
        ended = list(judgements.ended.values())
        above = judgements.fresh & (judgements.score > judgements.limit)
        goes_on = np.flatnonzero(open_rows & above & ~peaks_now).tolist()
        if not (began or grew or ended or goes_on):
            self._outputs.incidents.update(judgements.at, (), (), (), self._watched)
            return
        changes = self._outputs.incidents.update(judgements.at, began, grew, ended, self._watched)
        for event in began:
            self._log.warning("anomaly began", **describe_event(event))
        for event in ended:
            self._log.warning("anomaly ended", **describe_event(event))
        self._tell_incidents(changes)
        lasting = [state.events.event(row) for row in goes_on]
        self._outputs.persistence.save_events(
            state, [*began, *grew, *lasting], ended, changes.incidents
        )

    def _tell_incidents(self, changes: IncidentChanges) -> None:
        for incident in changes.began:
            self._begun[incident.scope] += 1
            self._log.warning("incident began", **_describe_incident(incident))
        for incident in changes.ended:
            self._log.warning("incident ended", **_describe_incident(incident))

    def _report_adaptations(self) -> None:
        """Log which thresholds were just raised to keep the alert budget."""
        limits = self._live.state.limits
        raised = limits.adaptations
        for row in np.flatnonzero(raised > self._raised).tolist():
            self._metrics.count_adaptations(int(raised[row] - self._raised[row]))
            name = self._live.state.names[row]
            self._log.warning("threshold adapted", group=name, why=limits.explain(row))
        self._raised = raised
        shared = getattr(limits, "shared", None)
        if shared is not None and (times := int(shared.adaptations[0])) > self._raised_together:
            self._metrics.count_adaptations(times - self._raised_together)
            self._raised_together = times
            self._log.warning("threshold adapted", group="all", why=shared.explain(0))

    def _withhold(
        self, at: float, state: int, why: str, failures: Mapping[str, PrometheusError]
    ) -> _Published:
        """No score for any group; `at` in unix seconds, `state` a position in `STATES`."""
        own = self._live.state
        return _Published(
            at,
            own.labels,
            None,
            np.full(own.groups, state, np.uint8),
            own.limits.limits(),
            dict.fromkeys(range(own.groups), why),
            failures,
        )

    def _publish(self, published: _Published) -> None:
        before, after = self._count_states(self._published), self._count_states(published)
        if before != after:
            self._log.info("state changed", **after)
        if published.judgements is None:
            unknown = np.full(len(published.labels), np.nan)
            self._outputs.history.add(published.at, published.states, unknown, published.limits)
        snapshot = self._build_snapshot(published)
        if self._snapshot.rendered.is_compressed:
            snapshot.rendered.compress()
        self._published, self._snapshot = published, snapshot
        self._published_at = self._clock.elapsed()

    def _count_states(self, published: _Published) -> dict[str, int]:
        """How many groups are in each state that there is."""
        counts = np.bincount(published.states, minlength=len(STATES)).tolist()
        return {str(state): count for state, count in zip(STATES, counts, strict=True) if count}

    def _build_snapshot(self, published: _Published) -> FleetSnapshot:
        options, outputs = self._options, self._outputs
        failed = tuple((alias, str(error)) for alias, error in published.failures.items())
        incidents = IncidentColumns(
            outputs.incidents.open_incidents,
            dict(self._begun),
            self._refused,
            outputs.incidents.rules.scope,
        )
        return FleetSnapshot(
            options.name,
            options.metrics_prefix,
            self._build_columns(published),
            incidents,
            failed,
            outputs.max_feature_series,
            self._make_build_status(published),
            self._renderer,
        )

    def _build_columns(self, published: _Published) -> GroupColumns:
        live, judged = self._live, published.judgements
        state, count = live.state, len(published.labels)
        unknown = np.full(count, np.nan)
        names = live.detector.scored_features
        features = np.full((count, len(names), 6), np.nan) if judged is None else judged.features
        score = unknown if judged is None else judged.score
        measured = ~np.isnan(features[:, :, OBSERVED])
        with_event = state.events.hysteresis.open & (published.states == ANOMALOUS)
        return GroupColumns(
            labels=published.labels,
            state=published.states,
            score=score,
            threshold=published.limits,
            mse=unknown if judged is None else np.where(np.isnan(score), np.nan, judged.mse),
            known_share=np.where(np.isnan(score), np.nan, measured.mean(axis=1)),
            anomalous_since=np.where(with_event, state.events.start, np.nan),
            last_scored_at=state.scored_until.copy(),
            samples_in_window=state.scoring.usable_for[:, 0].copy(),
            events_begun=state.events.begun.copy(),
            pooled=live.detector.find_pooled(published.labels),
            feature_names=names,
            features=np.where(np.isnan(score)[:, np.newaxis, np.newaxis], np.nan, features),
            plain=judged is not None and judged.plain,
        )

    def _make_build_status(self, published: _Published) -> Callable[[int], GroupStatus]:
        """What makes the status of one group as it is now, also once later ticks have passed."""
        state = self._live.state
        open_events = {
            row: state.events.event(row)
            for row in np.flatnonzero(state.events.hysteresis.open).tolist()
        }
        begun, until = state.events.begun.copy(), state.scored_until.copy()
        usable = state.scoring.usable_for[:, 0].copy()

        def build(row: int) -> GroupStatus:
            return GroupStatus(
                verdict=_build_verdict(published, row),
                group=published.labels[row],
                events_begun=int(begun[row]),
                event=open_events.get(row),
                last_scored_at=None if isnan(until[row]) else float(until[row]),
                samples_in_window=int(usable[row]),
            )

        return build


def _build_verdict(published: _Published, row: int) -> Verdict:
    if published.judgements is None:
        state = STATES[published.states[row]]
        return Verdict(
            published.at, state, float(published.limits[row]), why=published.why.get(row, "")
        )
    verdict = published.judgements.verdict(row)
    why = published.why.get(row)
    return verdict if why is None else replace(verdict, why=why)


def describe_failures(failures: Mapping[str, PrometheusError]) -> str:
    """Why there is no score, in a few words."""
    alias, failure = next(iter(failures.items()))
    others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"query {alias}{others} failed: {failure.reason}"


def _describe_incident(incident: Incident) -> dict[str, object]:
    """An incident in one log line."""
    return {
        "id": incident.id,
        "groups": incident.groups,
        "first": incident.first.group,
        "explanation": incident_paragraph(incident),
    }
