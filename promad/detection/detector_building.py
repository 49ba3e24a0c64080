"""From an opened bundle to a detector that is ready to begin, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from promad.bundle import Opened
from promad.clock import Clock
from promad.config import Config
from promad.data.shards import Shard
from promad.detection.live import LiveDetector, begin_live
from promad.detection.loop import DetectionLoop, LoopOptions, LoopOutputs, Observer
from promad.detection.marker_queries import make_marker_queries
from promad.detection.muting import make_mute_queries
from promad.detection.persistence import Persistence
from promad.detection.recent_history import RecentHistory
from promad.detection.running_detector import History, RunningDetector
from promad.detection.threshold_file import ThresholdFile
from promad.detection.tick_loop import TickLoop
from promad.events.event_log import FILE_NAME as EVENTS_FILE
from promad.events.event_log import EventLog, open_event_log
from promad.exposition import DaemonMetrics, DetectorMetrics
from promad.prometheus.client import PrometheusClient
from promad.prometheus.latency import make_find_offset
from promad.prometheus.polling import Poller

if TYPE_CHECKING:  # loaded where samples are received
    from promad.detection.receiving import Receiver, Stream
    from promad.prometheus.received.polling import ReceivedPoller

log = structlog.get_logger()

CATCH_UP_SAMPLES = 100
"""How many samples beyond a window are kept, and so can be scored late after an outage."""

_POLL_RETRIES = 1
_POLL_WAIT_SECONDS = 2.0
"""The longest wait within a poll that a busy server may ask for; the next poll asks again."""


@dataclass(frozen=True)
class OneGroup:
    """What a detector of one group has beside its loop."""

    live: LiveDetector
    outputs: LoopOutputs
    poller: Poller | ReceivedPoller


@dataclass(frozen=True)
class BuiltDetector:
    """A detector with what it holds open, and its thread, which has not begun."""

    opened: Opened
    loop: TickLoop
    client: PrometheusClient
    events: EventLog
    metrics: DetectorMetrics
    served: RunningDetector
    thread: threading.Thread
    only: OneGroup | None = None
    stream: Stream | None = None


@dataclass(frozen=True)
class DetectorBuilder:
    """Builds detectors of one daemon.

    Attributes:
        metrics: those of the daemon.
        observer: sees every scored sample.
        receiver: takes samples by remote write; None if detectors poll.
    """

    clock: Clock
    metrics: DaemonMetrics
    observer: Observer | None = None
    receiver: Receiver | None = None

    def build(
        self,
        opened: Opened,
        shard: Shard | None,
        stop: threading.Event,
        histories: Mapping[str, RecentHistory],
        building: ExitStack,
    ) -> BuiltDetector:
        """A detector that is ready to begin.

        Args:
            stop: ends its thread.
            histories: those before a reload, by the names of their groups.
            building: closes what the detector holds open, if building fails.

        Raises:
            PromadError: if it cannot be built; `building` closes what is open then.
        """
        config = opened.config
        events = _open_events(locate_state(config, shard))
        building.callback(events.close)
        client = _make_client(config)
        building.callback(client.close)
        metrics = self.metrics.of(config.name)
        stream = self._open_stream(opened, shard, stop)
        options = _make_loop_options(opened, client, stream)
        loop: TickLoop
        served: Mapping[str, History]
        only: OneGroup | None = None
        if config.group_by:
            from promad.detection.fleet_building import build_fleet_loop  # heavy, not for one group

            loop, served = build_fleet_loop(
                opened, shard, client, events, metrics, self.clock, options, stream
            )
        else:
            only = self._build_only(opened, client, events, metrics, stream, histories)
            loop = DetectionLoop(options, only.live, only.poller, self.clock, only.outputs)
            served = only.outputs.histories
        running = RunningDetector(
            config, opened.bundle, opened.detector, events, served, lambda: loop.snapshot
        )
        thread = threading.Thread(target=loop.run, args=[stop], daemon=True)
        return BuiltDetector(opened, loop, client, events, metrics, running, thread, only, stream)

    def _open_stream(
        self, opened: Opened, shard: Shard | None, stop: threading.Event
    ) -> Stream | None:
        """What a detector receives; None if it polls."""
        if self.receiver is None:
            return None
        from promad.detection.group_replay import make_poll_options

        samples = _count_samples(opened)
        options = make_poll_options(opened.config, samples, shard=shard)
        return self.receiver.open_stream(opened.config.name, options, stop)

    def _build_only(
        self,
        opened: Opened,
        client: PrometheusClient,
        events: EventLog,
        metrics: DetectorMetrics,
        stream: Stream | None,
        histories: Mapping[str, RecentHistory],
    ) -> OneGroup:
        config, live = opened.config, begin_live(opened)
        retention = config.real_time_anomaly_detection.events_retention
        catch_up = CATCH_UP_SAMPLES * opened.detector.preparation.step
        outputs = LoopOutputs(
            metrics,
            {name: _continue_history(histories.get(name), opened) for name in live.state.names},
            Persistence(events, opened.bundle.id, retention, catch_up, metrics),
            ThresholdFile(config.artifacts_dir, opened.bundle.id),
            self.observer,
            make_mute_queries(config, client, metrics),
            make_marker_queries(config, client, events, metrics),
        )
        return OneGroup(live, outputs, _build_poller(opened, client, stream))


def locate_state(config: Config, shard: Shard | None) -> Path:
    """The directory in which a detector saves its state and its events."""
    return config.artifacts_dir if shard is None else shard.locate(config.artifacts_dir)


def _continue_history(before: RecentHistory | None, opened: Opened) -> RecentHistory:
    """The history of a group, with what was in it before a reload."""
    features = opened.detector.scored_features
    capacity = opened.config.real_time_anomaly_detection.history_samples
    if before is None:
        return RecentHistory(features, capacity)
    return before.resized(features, capacity)


def _count_samples(opened: Opened) -> int:
    """How many of the newest samples of each group are kept."""
    if opened.config.group_by:
        from promad.detection.fleet_building import count_samples  # heavy, not for one group

        return count_samples(opened)
    return opened.detector.samples_needed + CATCH_UP_SAMPLES


def _make_loop_options(
    opened: Opened, client: PrometheusClient, stream: Stream | None
) -> LoopOptions:
    config = opened.config
    settings = config.real_time_anomaly_detection
    options = LoopOptions(
        config.name,
        settings.metrics_prefix,
        settings.query_interval_seconds,
        make_find_offset(client, settings.latency_offset, config.name),
        opened.detector.scoring.required_share,
        config.prometheus_url,
    )
    if stream is None:
        return options
    from promad.detection.receiving import Timing

    timing = Timing.of(settings.latency_offset, settings.query_interval_seconds)
    return replace(options, find_offset=lambda _: timing.offset, wait=stream.make_wait(timing))


def _build_poller(
    opened: Opened, client: PrometheusClient, stream: Stream | None
) -> Poller | ReceivedPoller:
    if stream is not None:
        from promad.prometheus.received.polling import ReceivedPoller

        return ReceivedPoller(stream.make_poller(client), stream.options.samples)
    config = opened.config
    return Poller(
        client,
        config.promql,
        opened.detector.preparation.step,
        _count_samples(opened),
        config.real_time_anomaly_detection.stale_after,
        allow_partial=config.data_settings.allow_partial,
    )


def _open_events(directory: Path) -> EventLog:
    """The detector's event log; a damaged one is moved aside."""
    events, aside = open_event_log(directory / EVENTS_FILE)
    if aside is not None:
        log.error("event log damaged; starting a new one", moved_to=str(aside))
    return events


def _make_client(config: Config) -> PrometheusClient:
    """A client that gives up in time for the next tick."""
    interval = config.real_time_anomaly_detection.query_interval_seconds
    timeout = min(config.prometheus.timeout, max(1.0, interval))
    settings = config.prometheus.model_copy(update={"timeout": timeout})
    return PrometheusClient(
        config.prometheus_url,
        settings,
        retries=_POLL_RETRIES,
        longest_wait=_POLL_WAIT_SECONDS,
        body_timeouts=1,
    )
