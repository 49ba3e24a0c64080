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
from promad.detection.fleet_columns import build_columns
from promad.detection.fleet_history import FleetHistory
from promad.detection.fleet_persistence import FleetPersistence
from promad.detection.judgements import ANOMALOUS, BLIND, WARMING, Judgements
from promad.detection.live import LiveDetector
from promad.detection.loop import LoopOptions, describe_event
from promad.detection.server_log import ServerLog
from promad.detection.state import State
from promad.detection.step import rewarm
from promad.detection.tick_loop import TickLoop
from promad.errors import PrometheusError
from promad.events.events import AnomalyEvent
from promad.events.explanation import incident_paragraph
from promad.events.incident_book import IncidentBook, IncidentChanges, Watched, survey_groups
from promad.events.incidents import Incident
from promad.events.status import GroupStatus
from promad.events.verdict import STATES, Verdict
from promad.exposition import DetectorMetrics
from promad.exposition.fleet import FleetSnapshot, IncidentColumns
from promad.exposition.render import FleetRenderer
from promad.prometheus.groups.polling import GroupPoll, GroupPoller

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

log = structlog.get_logger()

_MOST_NAMES = 5
_MOST_LINES = 20
"""Log lines about single events at one sample."""
_MOST_PEAKS = 50
"""Events whose higher peaks are written at one sample; the others wait for the next."""


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
        self._pooled = np.zeros(0, np.bool_)
        self._rising: dict[str, None] = {}
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
        return _withhold_snapshot(self._snapshot, self._clock.now(), why)

    def continue_from(self, other: TickLoop) -> None:
        """Continue what another loop of the same detector has left, after it was retired.

        Events continue where the features are the same, whatever the bundle.
        """
        if not isinstance(other, FleetLoop):
            return
        self._outputs.history.continue_from(other._outputs.history)
        self._begun = other._begun
        if other._live.detector.scored_features == self._live.detector.scored_features:
            self._before = other._live.state
            self._outputs.incidents.resume(other._outputs.incidents.to_json())

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
            self._resume(live.state, now)
        live = live.calibrate()
        if new and live.state.seen_until is not None:
            rows = np.array([row for row, labels in enumerate(groups) if labels in new], np.int64)
            rewarm(live.detector, live.calibration, live.state, poll.frame, rows)
        self._live = live
        move = plan_move(old.labels, groups)
        self._outputs.history.regroup(live.state.names, groups)
        self._watched = survey_groups(groups, self._outputs.incidents.rules)
        self._pooled = live.detector.find_pooled(groups)
        raised = np.zeros(len(groups), np.int64)
        raised[move.target] = self._raised[move.source]
        self._raised = np.maximum(raised, live.state.limits.adaptations)
        if gone or new:
            self._log.info("groups changed", groups=len(groups), new=len(new), gone=len(gone))

    def _resume(self, state: State, now: float) -> None:
        """Let the groups of the first poll continue where the loop or the daemon before stopped."""
        state.seen_until, self._first_poll = None, False
        outputs, before, self._before = self._outputs, self._before, None
        if not outputs.persistence.resume(state, self._begin, outputs.incidents, now) and before:
            state.continue_events(before)
        shared = getattr(state.limits, "shared", None)
        if shared is not None:
            self._raised_together = int(shared.adaptations[0])

    def _close_events(self, gone: Sequence[Labels], now: float) -> None:
        """End the events of groups that vanished, at their newest anomalous samples."""
        state = self._live.state
        row_of = {labels: row for row, labels in enumerate(state.labels)} if gone else {}
        for labels in gone:
            if not state.events.hysteresis.open[row_of[labels]]:
                continue
            name = name_group(self._options.name, labels)
            self._rising.pop(name, None)
            changes = self._outputs.incidents.drop(now, name)
            self._outputs.persistence.close_group(name, changes)
            self._tell_incidents(changes)

    def _judge(self, poll: GroupPoll, now: float) -> _Published:
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
        anomalous = np.flatnonzero(judgements.state == ANOMALOUS).tolist()
        for row in history.choose_detailed(anomalous, judgements.score / judgements.limit):
            history.add_details(state.names[row], judgements.verdict(row))
        began = [state.events.event(row) for row in np.flatnonzero(judgements.began).tolist()]
        ended = list(judgements.ended.values())
        open_rows = state.events.hysteresis.open & ~judgements.began
        grew = self._choose_peaks(judgements.at, open_rows, ended)
        above = judgements.fresh & (judgements.score > judgements.limit)
        lasting = np.flatnonzero(open_rows & above).tolist()
        changes = self._outputs.incidents.update(judgements.at, began, grew, ended, self._watched)
        if not (began or grew or ended or lasting):
            return
        self._log_events("anomaly began", began)
        self._log_events("anomaly ended", ended)
        self._tell_incidents(changes)
        self._outputs.persistence.save_events(
            state, [*began, *grew], ended, changes.incidents, lasting
        )

    def _choose_peaks(
        self, at: float, open_rows: NDArray[np.bool_], ended: Sequence[AnomalyEvent]
    ) -> list[AnomalyEvent]:
        """Open events with a higher peak that is not written yet, those that wait longest first."""
        events = self._live.state.events
        for row in np.flatnonzero(open_rows & (events.peak_at == at)).tolist():
            self._rising.setdefault(events.groups[row])
        for event in ended:  # with which the peak is written
            self._rising.pop(event.group, None)
        if not self._rising:
            return []
        names = list(self._rising)[:_MOST_PEAKS]
        row_of = {events.groups[row]: row for row in np.flatnonzero(open_rows).tolist()}
        for name in names:
            del self._rising[name]
        return [events.event(row_of[name]) for name in names if name in row_of]

    def _log_events(self, message: str, events: Sequence[AnomalyEvent]) -> None:
        """A line for each event, those with the largest score if there are many."""
        shown = sorted(events, key=lambda event: -event.peak_ratio)[:_MOST_LINES]
        for event in shown:
            self._log.warning(message, group=event.group, **describe_event(event))
        if len(shown) < len(events):
            self._log.warning(message, more_groups=len(events) - len(shown))

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
            build_columns(
                self._live,
                published.states,
                published.limits,
                published.judgements,
                self._pooled,
            ),
            incidents,
            failed,
            outputs.max_feature_series,
            self._make_build_status(published),
            self._renderer,
        )

    def _make_build_status(self, published: _Published) -> Callable[[int], GroupStatus]:
        """What makes the status of one group as it is now, also once later ticks have passed."""
        state = self._live.state
        open_rows = np.flatnonzero(state.events.hysteresis.open)
        events = state.events.take(open_rows)
        place_of = {row: place for place, row in enumerate(open_rows.tolist())}
        begun, until = state.events.begun.copy(), state.scored_until.copy()
        usable = state.scoring.usable_for[:, 0].copy()

        def build(row: int) -> GroupStatus:
            return GroupStatus(
                verdict=_build_verdict(published, row),
                group=published.labels[row],
                events_begun=int(begun[row]),
                event=events.event(place_of[row]) if row in place_of else None,
                last_scored_at=None if isnan(until[row]) else float(until[row]),
                samples_in_window=int(usable[row]),
            )

        return build


def _withhold_snapshot(snapshot: FleetSnapshot, at: float, why: str) -> FleetSnapshot:
    """The same groups and events, all blind; only what is published already is read."""
    columns, build = snapshot.columns, snapshot.build_status
    unknown = np.full(len(columns.labels), np.nan)

    def build_blind(row: int) -> GroupStatus:
        status = build(row)
        verdict = Verdict(at, STATES[BLIND], status.verdict.threshold, why=why)
        return replace(status, verdict=verdict)

    blind = replace(
        columns,
        state=np.full(len(columns.labels), BLIND, np.uint8),
        score=unknown,
        mse=unknown,
        known_share=unknown,
        anomalous_since=unknown,
        features=np.full_like(columns.features, np.nan),
    )
    return replace(snapshot, columns=blind, build_status=build_blind)


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
