"""`backtest`: the events of a past period, compared with known incidents and alerts.

Of a detector of many groups also the incidents that their events make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from promad.bundle import Opened, open_detector
from promad.config import Config
from promad.config.known_incidents import Incident
from promad.data.frame import MetricFrame, align_down, align_up
from promad.data.groups import THE_ONLY_GROUP, Grouping
from promad.data.preparation import Preparation
from promad.data.valid_range import count_outside
from promad.detection.backtest_results import Backtest, Compared, FleetBacktest, count_scored
from promad.detection.fleet_replay import FleetReplay, FleetSample, fetch_pieces
from promad.detection.fleet_tally import FleetTally
from promad.detection.group_names import find_labels
from promad.detection.group_replay import fetch_group_samples
from promad.detection.live import begin_live
from promad.detection.replay import fetch_samples, replay
from promad.errors import DataError
from promad.events.events import AnomalyEvent
from promad.events.mutes import MuteMarks
from promad.events.status import GroupStatus
from promad.events.verdict import STATES
from promad.parallel.engine import Backend
from promad.prometheus import PrometheusClient
from promad.prometheus.firing_alerts import Alert, fetch_alerts
from promad.prometheus.grid import Span
from promad.prometheus.groups.fetching import Workers, open_workers
from promad.prometheus.mute_queries import fetch_mute_marks

Visitor = Callable[[GroupStatus], None]
"""Called with each sample, as the daemon would have published it."""

FleetVisitor = Callable[[FleetSample], None]
"""Called with each sample of all groups; what it gets is valid until the next one."""


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
    opened, live_settings = open_detector(config), config.real_time_anomaly_detection
    labels = find_labels(opened, group, end) if config.group_by else THE_ONLY_GROUP
    frame = (
        fetch_group_samples(opened, labels, start, end)
        if config.group_by
        else fetch_samples(opened, start, end)
    )
    if np.isnan(frame.values).all():
        raise _build_no_samples_error()
    live = begin_live(opened, [labels])
    live.state.mutes.mark(_fetch_mutes(config, start, end))
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
    compared = Compared.of(
        events, incidents, at, count_scored(known), step, live_settings.leave_after_samples
    )
    return Backtest(
        group=live.state.names[0],
        step=step,
        budget=live_settings.alert_budget.false_alarms_per_week,
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
    preparation, live_settings = opened.detector.preparation, config.real_time_anomaly_detection
    with open_workers(backend, config.prometheus_url, config.prometheus) as workers:
        tally, outside = _replay_fleet(opened, start, end, visitors, workers)
    times, found = np.array(tally.times), tally.list_incidents()
    compared = Compared.of(
        found,
        incidents,
        times,
        tally.scored,
        preparation.step,
        live_settings.leave_after_samples,
    )
    return FleetBacktest(
        detector=config.name,
        step=preparation.step,
        budget=live_settings.alert_budget.false_alarms_per_week,
        per=live_settings.alert_budget.per,
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
    replaying.live.state.mutes.mark(_fetch_mutes(opened.config, start, end))
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


def _fetch_mutes(config: Config, start: float, end: float) -> MuteMarks:
    """When the queries of `mute` muted, at the samples of a period."""
    queries = [entry.query for entry in config.mute if entry.query is not None]
    if not queries:
        return {}
    step = config.data_settings.step
    span = Span(align_up(start, step), align_down(end, step))
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        return fetch_mute_marks(
            client,
            queries,
            [span],
            step,
            Grouping.of(config),
            allow_partial=config.data_settings.allow_partial,
        ).marks


def _fetch_alerts(config: Config, span: Span, step: float) -> tuple[Alert, ...]:
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        return fetch_alerts(client, span, step)
