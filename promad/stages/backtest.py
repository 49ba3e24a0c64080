"""`backtest`: the events of a past period, compared with known incidents and alerts.

Of a detector of many groups also the incidents that their events make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.bundle import Opened, open_detector
from promad.clock import WEEK_SECONDS
from promad.config import Config
from promad.config.known_incidents import Incident
from promad.data.frame import MetricFrame
from promad.data.groups import THE_ONLY_GROUP, Labels, sort_labels
from promad.data.preparation import Preparation
from promad.data.valid_range import count_outside
from promad.data.windows import sample_numbers
from promad.detection.fleet_replay import FleetReplay, FleetSample, fetch_pieces
from promad.detection.fleet_tally import FleetTally, GroupTally
from promad.detection.group_names import find_labels
from promad.detection.group_replay import fetch_group_samples
from promad.detection.live import begin_live
from promad.detection.replay import fetch_samples, replay
from promad.errors import DataError
from promad.evaluation.episodes import EpisodeFigures, Episodes, episode_figures
from promad.evaluation.extents import Extents, find_extents
from promad.events.events import AnomalyEvent
from promad.events.incidents import Incident as FoundIncident
from promad.events.status import GroupStatus
from promad.events.verdict import STATES, State
from promad.parallel.engine import Backend
from promad.prometheus import PrometheusClient, Series
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.groups.fetching import Workers, open_workers
from promad.prometheus.one_series import format_labels
from promad.prometheus.parsing import MOST_SERIES

_OF_ALERTS = {"__name__", "alertstate"}


ALERTS_FIRING = 'ALERTS{alertstate="firing", alertname!~"Promad.*"}'
"""Firing alerts, without promad's own."""

Visitor = Callable[[GroupStatus], None]
"""Called with each sample, as the daemon would have published it."""

FleetVisitor = Callable[[FleetSample], None]
"""Called with each sample of all groups; what it gets is valid until the next one."""


@dataclass(frozen=True)
class Alert:
    """One time that an alert fired, in unix seconds; `labels` is the text of its `series`."""

    labels: str
    start: float
    end: float
    series: Labels = ()


@dataclass(frozen=True)
class Backtest:
    """The result of a backtest.

    Attributes:
        group: the name of the group.
        budget: false alarms a week that the threshold was chosen for.
        times: unix seconds of each sample, float64 (samples,).
        states: positions in `State`, uint8 (samples,).
        events: those that began, oldest first; the last may be open.
        alerts: alerts of Prometheus that fired meanwhile, oldest first.
        incidents: known incidents to compare with.
        outside: by feature, how many samples were outside of its valid range.
        figures: events against incidents, with no point adjustment; None without incidents.
        extents: how events cover the incidents that they found; None without incidents.
    """

    group: str
    step: float
    budget: float
    times: NDArray[np.float64]
    states: NDArray[np.uint8]
    events: tuple[AnomalyEvent, ...]
    alerts: tuple[Alert, ...]
    incidents: tuple[Incident, ...]
    figures: EpisodeFigures | None
    outside: Mapping[str, int] = field(default_factory=dict)
    extents: Extents | None = None

    def share(self, state: State) -> float:
        """The share of samples in a state."""
        return float((self.states == STATES.index(state)).mean())

    @property
    def events_per_week(self) -> float:
        """Events a week of scored samples; NaN if none was scored."""
        scored = _count_scored(self.states)
        return len(self.events) * WEEK_SECONDS / (scored * self.step) if scored else float("nan")

    def lead(self, alert: Alert) -> float | None:
        """Seconds by which promad was earlier than an alert, less than 0 if it was later.

        None if no event was open while it fired.
        """
        event = self.event_during(alert.start, alert.end)
        return None if event is None else alert.start - event.flagged_at

    def event_during(self, start: float, end: float) -> AnomalyEvent | None:
        """The first event that was open at any of `start` to `end`, in unix seconds."""
        return _find_open(self.events, start, end)


@dataclass(frozen=True)
class FleetBacktest:
    """The result of a backtest of many groups.

    Attributes:
        detector: its name.
        budget: false alarms a week that the threshold was chosen for.
        per: whom the budget is for, `detector` or `group`.
        times: unix seconds of each sample, float64 (samples,).
        scored: at how many of them any group had a score.
        found: incidents that began, oldest first; they may be open.
        events: those of all groups, oldest first.
        groups: highest peak first.
        alerts: alerts of Prometheus that fired meanwhile, oldest first.
        incidents: known incidents to compare with.
        outside: by feature, how many samples were outside of its valid range.
        figures: incidents found against known ones; None without known ones.
        extents: how they cover the known ones that they found; None without known ones.
    """

    detector: str
    step: float
    budget: float
    per: str
    times: NDArray[np.float64]
    scored: int
    found: tuple[FoundIncident, ...]
    events: tuple[AnomalyEvent, ...]
    groups: tuple[GroupTally, ...]
    alerts: tuple[Alert, ...]
    incidents: tuple[Incident, ...]
    figures: EpisodeFigures | None
    outside: Mapping[str, int] = field(default_factory=dict)
    extents: Extents | None = None

    @property
    def incidents_per_week(self) -> float:
        """Incidents a week of scored time, without those known; NaN if nothing was scored."""
        if self.figures is not None:
            return self.figures.false_episodes_per_week
        weeks = self.scored * self.step / WEEK_SECONDS
        return len(self.found) / weeks if weeks else float("nan")

    def share(self, state: State) -> float:
        """The share of the samples of all groups in a state."""
        samples = sum(group.samples for group in self.groups)
        counts = sum(group.states[STATES.index(state)] for group in self.groups)
        return counts / max(samples, 1)

    def incident_during(self, start: float, end: float) -> FoundIncident | None:
        """The first incident that was open at any of `start` to `end`, in unix seconds."""
        return _find_open(self.found, start, end)

    def match_alert(self, alert: Alert) -> AnomalyEvent | FoundIncident | None:
        """What was open while an alert fired.

        An event of the group whose labels the alert has, or any incident if it has none's.
        """
        series = set(alert.series)
        for group in self.groups:
            if group.labels and series.issuperset(group.labels):
                return _find_open(group.events, alert.start, alert.end)
        return self.incident_during(alert.start, alert.end)


def _find_open[Found: (AnomalyEvent, FoundIncident)](
    found: Sequence[Found], start: float, end: float
) -> Found | None:
    """The first that was open at any of `start` to `end`."""
    for each in found:
        if each.flagged_at <= end and (each.end is None or each.end >= start):
            return each
    return None


def backtest(
    config: Config,
    start: float,
    end: float,
    incidents: Sequence[Incident] = (),
    visitors: Sequence[Visitor] = (),
    group: str | None = None,
) -> Backtest:
    """Replay `start` to `end`, in unix seconds, through the daemon's path.

    Args:
        group: the name of one group of many.

    Raises:
        PrometheusError: if a query fails.
        DataError: if there is no sample at all, or no such group.
        BundleError: if the bundle is missing, damaged or does not fit the configuration.
    """
    opened = open_detector(config)
    labels = find_labels(opened, group, end) if config.group_by else THE_ONLY_GROUP
    frame = (
        fetch_group_samples(opened, labels, start, end)
        if config.group_by
        else fetch_samples(opened, start, end)
    )
    if np.isnan(frame.values).all():
        raise _build_no_samples_error()
    live = begin_live(opened, [labels])
    events: list[AnomalyEvent] = []
    times, states = [], []
    for replayed in replay(live, frame):
        verdict = replayed.status.verdict
        times.append(verdict.at)
        states.append(STATES.index(verdict.state))
        if replayed.ended is not None:
            events.append(replayed.ended)
        for visit in visitors:
            visit(replayed.status)
    if (still_open := live.state.events.open_event(0)) is not None:
        events.append(still_open)
    at, step = np.array(times), opened.detector.preparation.step
    known = np.array(states, np.uint8)
    compared = _Compared.of(config, events, incidents, at, _count_scored(known), step)
    return Backtest(
        group=live.state.names[0],
        step=step,
        budget=config.real_time_anomaly_detection.alert_budget.false_alarms_per_week,
        times=at,
        states=known,
        events=tuple(events),
        alerts=_fetch_alerts(config, Span(at[0], at[-1]), step),
        incidents=tuple(incidents),
        figures=compared.figures,
        outside=_count_outside(opened.detector.preparation, frame),
        extents=compared.extents,
    )


def backtest_fleet(
    config: Config,
    start: float,
    end: float,
    incidents: Sequence[Incident] = (),
    visitors: Sequence[FleetVisitor] = (),
    backend: Backend | None = None,
) -> FleetBacktest:
    """Replay all groups from `start` to `end`, in unix seconds, through the daemon's path.

    Args:
        backend: what fetches, in place of this process.

    Raises:
        PromadError: as `backtest`.
    """
    opened = open_detector(config)
    preparation, budget = opened.detector.preparation, config.real_time_anomaly_detection
    with open_workers(backend, config.prometheus_url, config.prometheus) as workers:
        tally, outside = _replay_fleet(opened, start, end, visitors, workers)
    times, found = np.array(tally.times), tally.list_incidents()
    compared = _Compared.of(config, found, incidents, times, tally.scored, preparation.step)
    return FleetBacktest(
        detector=config.name,
        step=preparation.step,
        budget=budget.alert_budget.false_alarms_per_week,
        per=budget.alert_budget.per,
        times=times,
        scored=tally.scored,
        found=found,
        events=tally.list_events(),
        groups=tally.list_groups(),
        alerts=_fetch_alerts(config, Span(times[0], times[-1]), preparation.step),
        incidents=tuple(incidents),
        figures=compared.figures,
        outside=outside,
        extents=compared.extents,
    )


def _replay_fleet(
    opened: Opened,
    start: float,
    end: float,
    visitors: Sequence[FleetVisitor],
    workers: Workers | None,
) -> tuple[FleetTally, dict[str, int]]:
    """What the replay found, and by feature how many samples were outside of its valid range."""
    replaying, tally, preparation = FleetReplay(opened), FleetTally(), opened.detector.preparation
    outside: Counter[str] = Counter()
    any_value = False
    for piece in fetch_pieces(opened, start, end, workers):
        new = piece.frame.slice(piece.first, piece.frame.samples)
        any_value = any_value or not np.isnan(new.values).all()
        outside.update(_count_outside(preparation, new))
        for sample in replaying.judge(piece):
            tally.add(sample)
            for visit in visitors:
                visit(sample)
    if not any_value:
        raise _build_no_samples_error()
    tally.finish(replaying)
    return tally, dict(outside)


def _build_no_samples_error() -> DataError:
    return DataError("no samples of any query in the period — choose another period")


def _count_outside(preparation: Preparation, frame: MetricFrame) -> dict[str, int]:
    counts = count_outside(frame.values, preparation.valid_ranges).tolist()
    return dict(zip(frame.features, counts, strict=True))


def _count_scored(states: NDArray[np.uint8]) -> int:
    return int(np.isin(states, [STATES.index(State.OK), STATES.index(State.ANOMALOUS)]).sum())


class _Compared(NamedTuple):
    """Events compared with incidents, as `evaluate` compares alarms with labels."""

    figures: EpisodeFigures | None
    extents: Extents | None

    @staticmethod
    def of(
        config: Config,
        events: Sequence[AnomalyEvent] | Sequence[FoundIncident],
        incidents: Sequence[Incident],
        times: NDArray[np.float64],
        scored: int,
        step: float,
    ) -> _Compared:
        """What is compared with; nothing without incidents."""
        if not incidents:
            return _Compared(None, None)
        labels = np.zeros(len(times), np.bool_)
        for incident in incidents:
            labels |= (times >= incident.start) & (times <= incident.end)
        leave_after = config.real_time_anomaly_detection.leave_after_samples
        found = _to_episodes(events, times, step, leave_after)
        return _Compared(episode_figures(found, labels, scored, step), find_extents(found, labels))


def _to_episodes(
    events: Sequence[AnomalyEvent] | Sequence[FoundIncident],
    times: NDArray[np.float64],
    step: float,
    leave_after: int,
) -> Episodes:
    """Events in rows of the times."""

    def rows(times_of: Iterable[float]) -> NDArray[np.int64]:
        return sample_numbers(np.array([times[0], *times_of]), step)[1:]

    last = rows(times[-1] if event.end is None else event.end for event in events)
    is_open = np.array([event.end is None for event in events], np.bool_)
    peaks = (
        event.peak.peak_at if isinstance(event, FoundIncident) else event.peak_at
        for event in events
    )
    return Episodes(
        starts=rows(event.start for event in events),
        raised=rows(event.flagged_at for event in events),
        ends=last + 1,
        over=np.where(is_open, len(times), np.minimum(last + leave_after, len(times))),
        peaks=rows(peaks),
    )


def _fetch_alerts(config: Config, span: Span, step: float) -> tuple[Alert, ...]:
    """Every time that an alert fired, without promad's own."""
    found: list[Alert] = []
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        for part in requests_for([span], step, client.max_points):
            answer = client.query_range(
                ALERTS_FIRING, part.start, part.end, step, most_series=MOST_SERIES
            )
            for series in answer.series:
                found += _split_firing(series, step)
    return tuple(sorted(found, key=lambda alert: (alert.start, alert.labels)))


def _split_firing(series: Series, step: float) -> Iterator[Alert]:
    labels = {name: value for name, value in series.labels if name not in _OF_ALERTS}
    text = format_labels(sort_labels(labels))
    bounds = np.flatnonzero(np.diff(series.times) > 1.5 * step) + 1
    for times in np.split(series.times, bounds):
        yield Alert(text, float(times[0]), float(times[-1]), sort_labels(labels))
