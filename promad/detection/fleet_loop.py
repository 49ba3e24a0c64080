"""`FleetLoop`: a detector of many groups at work, tick by tick.

What happens to all groups is array work; Python looks at those alone whose event began, grew or
ended, and at those that came or went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.clock import Clock
from promad.config.durations import format_duration
from promad.data.groups import Labels, name_group
from promad.data.rows import plan_move
from promad.detection.fleet_adaptations import Adaptations
from promad.detection.fleet_columns import build_columns, name_muted
from promad.detection.fleet_history import FleetHistory
from promad.detection.fleet_log import RisingPeaks, describe_incident, log_events
from promad.detection.fleet_persistence import FleetPersistence
from promad.detection.fleet_published import Published, make_build_status, withhold_snapshot
from promad.detection.judgements import ANOMALOUS, BLIND, WARMING, Judgements
from promad.detection.live import LiveDetector
from promad.detection.loop import LoopOptions, describe_failures
from promad.detection.marker_queries import MarkerQueries
from promad.detection.muting import MuteLog, MuteQueries
from promad.detection.server_log import ServerLog
from promad.detection.state import State
from promad.detection.step import rewarm
from promad.detection.tick_loop import TickLoop
from promad.detection.tick_queries import poll_beside
from promad.errors import PrometheusError
from promad.events.incident_book import IncidentBook, IncidentChanges, Watched, survey_groups
from promad.events.verdict import STATES
from promad.exposition import DetectorMetrics
from promad.exposition.fleet import FleetSnapshot, IncidentColumns
from promad.exposition.render import FleetRenderer
from promad.prometheus.groups.polling import GroupPoll, GroupPoller

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
        mutes: asks what `mute` names by a query; None asks nothing.
        markers: asks what `markers` name; None asks nothing.
    """

    metrics: DetectorMetrics
    history: FleetHistory
    persistence: FleetPersistence
    incidents: IncidentBook
    max_feature_series: int
    mutes: MuteQueries | None = None
    markers: MarkerQueries | None = None


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
        own_log = log.bind(detector=options.name)
        super().__init__(options.interval, clock, outputs.metrics, own_log, options.wait)
        self._options = options
        self._begin = begin
        self._live = begin(())
        self._poller = poller
        self._outputs = outputs
        self._server_log = ServerLog(self._log, options.server)
        self._mute_log = MuteLog(self._log)
        self._watched: Mapping[Labels, Watched] = {}
        self._begun: Counter[Labels] = Counter()
        self._refused = 0
        self._adaptations = Adaptations()
        self._pooled = np.zeros(0, np.bool_)
        self._rising = RisingPeaks()
        self._before: State | None = None
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
        return withhold_snapshot(self._snapshot, self._clock.now(), why)

    def continue_from(self, other: TickLoop) -> None:
        """Continue what another loop of the same detector has left, after it was retired.

        Events continue where the features and the step are the same, whatever the bundle.
        """
        if not isinstance(other, FleetLoop):
            return
        self._outputs.history.continue_from(other._outputs.history)
        self._begun = other._begun
        if self._live.may_continue(other._live):
            self._before = other._live.state
            self._outputs.incidents.resume(other._outputs.incidents.to_json())

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
            self._resume(live.state, now)
        live = live.calibrate()
        if new and live.state.seen_until is not None:
            rows = np.array([row for row, labels in enumerate(groups) if labels in new], np.int64)
            rewarm(live.detector, live.calibration, live.state, poll.frame, rows)
        self._live = live
        self._outputs.history.regroup(live.state.names, groups)
        self._watched = survey_groups(groups, self._outputs.incidents.rules)
        self._pooled = live.detector.find_pooled(groups)
        self._adaptations.regroup(live.state, plan_move(old.labels, groups))
        if gone or new:
            self._log.info("groups changed", groups=len(groups), new=len(new), gone=len(gone))

    def _resume(self, state: State, now: float) -> None:
        """Let the groups of the first poll continue where the loop or the daemon before stopped."""
        state.seen_until, self._first_poll = None, False
        outputs, before, self._before = self._outputs, self._before, None
        if not outputs.persistence.resume(state, self._begin, outputs.incidents, now) and before:
            state.continue_events(before)
        self._adaptations.resume(state)

    def _close_events(self, gone: Sequence[Labels], now: float) -> None:
        """End the events of groups that vanished, at their newest anomalous samples."""
        state = self._live.state
        row_of = {labels: row for row, labels in enumerate(state.labels)} if gone else {}
        for labels in gone:
            if not state.events.hysteresis.open[row_of[labels]]:
                continue
            name = name_group(self._options.name, labels)
            self._rising.forget(name)
            changes = self._outputs.incidents.drop(now, name)
            self._outputs.persistence.close_group(name, changes)
            self._tell_incidents(changes)

    def _judge(self, poll: GroupPoll, now: float) -> Published:
        """Judge what is new."""
        self._live, met = self._live.meet(poll.frame)
        live, newest = self._live, None
        seen_until = -np.inf if live.state.seen_until is None else live.state.seen_until
        corrected = np.flatnonzero(poll.corrected_from < seen_until + poll.frame.step / 2)
        changed = np.union1d(corrected, met)
        if changed.size:
            rewarm(live.detector, live.calibration, live.state, poll.frame, changed)
        for judgements in live.catch_up(poll.frame):
            self._record(judgements)
            newest = judgements
        if newest is None:
            return replace(self._published, failures=poll.failures)
        self._adaptations.report(live.state, self._metrics, self._log)
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
        return Published(
            newest.at,
            live.state.labels,
            newest,
            newest.state,
            newest.limit,
            why,
            poll.failures,
            live.state.mutes.find(newest.at),
        )

    def _record(self, judgements: Judgements) -> None:
        """Keep, save and log what one sample of every group brought."""
        state, history = self._live.state, self._outputs.history
        history.add(judgements.at, judgements.state, judgements.score, judgements.limit)
        anomalous = np.flatnonzero(judgements.state == ANOMALOUS).tolist()
        for row in history.choose_detailed(anomalous, judgements.score / judgements.limit):
            history.add_details(state.names[row], judgements.verdict(row))
        began = [state.events.event(row) for row in np.flatnonzero(judgements.began).tolist()]
        ended = list(judgements.ended.values())
        open_rows = state.events.hysteresis.open & ~judgements.began
        grew = self._rising.choose(state.events, judgements.at, open_rows, ended)
        known = {event.group for event in grew}
        unmuted = (state.events.event(row) for row in np.flatnonzero(judgements.unmuted).tolist())
        grew += [event for event in unmuted if event.group not in known]
        above = judgements.fresh & (judgements.score > judgements.limit)
        lasting = np.flatnonzero(open_rows & above).tolist()
        changes = self._outputs.incidents.update(judgements.at, began, grew, ended, self._watched)
        if not (began or grew or ended or lasting):
            return
        log_events(self._log, "anomaly began", began, self._outputs.markers)
        log_events(self._log, "anomaly ended", ended)
        self._tell_incidents(changes)
        self._outputs.persistence.save_events(
            state, [*began, *grew], ended, changes.incidents, lasting
        )

    def _tell_incidents(self, changes: IncidentChanges) -> None:
        for incident in changes.began:
            self._begun[incident.scope] += 1
            self._log.warning("incident began", **describe_incident(incident))
        for incident in changes.ended:
            self._log.warning("incident ended", **describe_incident(incident))

    def _withhold(
        self, at: float, state: int, why: str, failures: Mapping[str, PrometheusError]
    ) -> Published:
        """No score for any group; `at` in unix seconds, `state` a position in `STATES`."""
        own = self._live.state
        return Published(
            at,
            own.labels,
            None,
            np.full(own.groups, state, np.uint8),
            own.limits.limits(),
            dict.fromkeys(range(own.groups), why),
            failures,
            own.mutes.find(at),
        )

    def _publish(self, published: Published) -> None:
        before, after = self._count_states(self._published), self._count_states(published)
        if before != after:
            self._log.info("state changed", **after)
        if published.judgements is None:
            unknown = np.full(len(published.labels), np.nan)
            self._outputs.history.add(published.at, published.states, unknown, published.limits)
        self._mute_log.report(published.muted)
        snapshot = self._build_snapshot(published)
        if self._snapshot.rendered.is_compressed:
            snapshot.rendered.compress()
        self._published, self._snapshot = published, snapshot
        self._published_at = self._clock.elapsed()

    def _count_states(self, published: Published) -> dict[str, int]:
        """How many groups are in each state that there is."""
        counts = np.bincount(published.states, minlength=len(STATES)).tolist()
        return {str(state): count for state, count in zip(STATES, counts, strict=True) if count}

    def _build_snapshot(self, published: Published) -> FleetSnapshot:
        options, outputs = self._options, self._outputs
        failed = tuple((alias, str(error)) for alias, error in published.failures.items())
        incidents = IncidentColumns(
            outputs.incidents.open_incidents,
            dict(self._begun),
            self._refused,
            outputs.incidents.rules.scope,
            name_muted(published.muted, self._live.state.names),
        )
        return FleetSnapshot(
            options.name,
            options.metrics_prefix,
            build_columns(
                self._live,
                published.states,
                published.limits,
                published.judgements,
                self._pooled,
                published.muted,
            ),
            incidents,
            failed,
            outputs.max_feature_series,
            make_build_status(self._live.state, published),
            self._renderer,
        )
