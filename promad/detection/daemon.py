"""`Daemon`: detectors at work, each in a thread of its own, and how others take their place."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog

from promad.bundle import Opened, open_detector
from promad.clock import Clock
from promad.config import Config
from promad.config.durations import format_duration
from promad.data.shards import Shard, Share
from promad.detection.backfill import fill_history
from promad.detection.directory_lock import DaemonStatus, DirectoryLock, lock_directory
from promad.detection.live import LiveDetector, begin_live
from promad.detection.loop import DetectionLoop, LoopOptions, LoopOutputs, Observer
from promad.detection.marker_queries import make_marker_queries
from promad.detection.muting import make_mute_queries
from promad.detection.persistence import Persistence
from promad.detection.recent_history import RecentHistory
from promad.detection.reloading import carry_out
from promad.detection.running_detector import History, RunningDetector
from promad.detection.threshold_file import ThresholdFile
from promad.detection.tick_loop import TickLoop
from promad.events.event_log import FILE_NAME as EVENTS_FILE
from promad.events.event_log import EventLog, open_event_log
from promad.exposition import (
    AnySnapshot,
    DaemonMetrics,
    DetectorMetrics,
    ReceiverMetrics,
    SnapshotCollector,
    create_registry,
)
from promad.exposition.groups import split_snapshots
from promad.files import remove_abandoned
from promad.prometheus.client import PrometheusClient
from promad.prometheus.latency import make_find_offset
from promad.prometheus.polling import Poller

if TYPE_CHECKING:  # loaded where samples are received
    from promad.detection.receiving import Receiver, Stream
    from promad.prometheus.received.polling import ReceivedPoller

log = structlog.get_logger()

CATCH_UP_SAMPLES = 100
"""How many samples beyond a window are kept, and so can be scored late after an outage."""

_STOP_SECONDS = 2.0
_POLL_RETRIES = 1
_POLL_WAIT_SECONDS = 2.0
"""The longest wait within a poll that a busy server may ask for; the next poll asks again."""


@dataclass(frozen=True)
class _OneGroup:
    """What a detector of one group has beside its loop."""

    live: LiveDetector
    outputs: LoopOutputs
    poller: Poller | ReceivedPoller


@dataclass(frozen=True)
class _Running:
    """One detector at work, in a thread of its own."""

    opened: Opened
    loop: TickLoop
    client: PrometheusClient
    events: EventLog
    metrics: DetectorMetrics
    served: RunningDetector
    thread: threading.Thread
    only: _OneGroup | None = None
    stream: Stream | None = None


class Daemon:
    """Detectors at work: started, reloaded and stopped together."""

    def __init__(
        self,
        configs: Sequence[Config],
        clock: Clock,
        observer: Observer | None = None,
        receives: bool = False,
        share: Share | None = None,
    ) -> None:
        """Detectors by these configurations, before `start`.

        Args:
            observer: sees every scored sample.
            receives: whether samples are received by remote write, and not polled.
            share: which groups are watched, of several daemons; None for all.
        """
        self._names = {config.name for config in configs}
        self._clock = clock
        self._observer = observer
        self._share = share
        self._running: Sequence[_Running] = ()
        self._stop = threading.Event()
        self._filling: list[threading.Thread] = []
        self._locks: dict[Path, DirectoryLock] = {}
        self._configured_port = configs[0].real_time_anomaly_detection.exporter_port
        self.registry = create_registry()
        self.registry.register(SnapshotCollector(self._list_single_groups))
        self._metrics = DaemonMetrics(self.registry)
        self.receiver = _make_receiver(ReceiverMetrics(self.registry), clock) if receives else None
        if share is not None:
            self._metrics.show_shard(share.number, share.count)
        self.port = 0
        self.secure = False

    def served(self) -> list[RunningDetector]:
        """The detectors at work, for those who look at them."""
        return [one.served for one in self._running]

    def is_ready(self) -> bool:
        """Whether every detector has had an answer from its server."""
        return bool(self._running) and all(one.loop.answered for one in self._running)

    def has_ended(self) -> bool:
        """Whether no thread of the daemon runs any more; a tick may hang for longer than `stop`."""
        threads = [one.thread for one in self._running] + self._filling
        return not any(thread.is_alive() for thread in threads)

    def find_trouble(self) -> str:
        """Which detector has not detected for too long, and for how long; empty if none."""
        for one in self._running:
            name, since = one.opened.config.name, one.loop.overdue()
            if not one.thread.is_alive():
                return f"detector {name} has stopped"
            if since is not None:
                return f"detector {name} has completed no tick for {format_duration(round(since))}"
        return ""

    def count_bytes_read(self) -> int:
        """How many bytes the answers of the servers had."""
        return sum(one.client.bytes_read for one in self._running)

    def _list_single_groups(self) -> Sequence[AnySnapshot]:
        """What the registry exposes; `/metrics` adds the detectors of many groups."""
        return split_snapshots([one.loop.snapshot for one in self._running]).others

    def start(self, configs: Sequence[Config], began: float | None = None) -> None:
        """Let these detectors begin, in place of those at work.

        All of them are built before anything stops.

        Args:
            began: when their configuration began to be read, by `time.monotonic`; None for now.

        Raises:
            PromadError: if one cannot begin; those at work continue then.
        """
        began = time.monotonic() if began is None else began
        stop = threading.Event()
        with ExitStack() as building:
            shards = {config.name: Shard.of(config, self._share) for config in configs}
            self._lock_directories(self._list_directories(configs), building)
            opened = [open_detector(config) for config in configs]
            built = [self._build(each, shards[each.config.name], stop, building) for each in opened]
            building.pop_all()
        before = self._running
        self._retire()
        self._metrics.forget()
        for one in built:
            _continue_state(one, before)
            self._resume(one)
        self._running, self._stop = built, stop
        if self.receiver is not None:
            self.receiver.use(
                {each.stream.detector: each.stream.store for each in built if each.stream}
            )
        self._unlock_directories(self._list_directories(configs))
        for one in built:
            histories = one.only.outputs.histories.values() if one.only else ()
            empty = [each for each in histories if each.is_empty()]
            one.thread.start()
            self._fill_histories(one.opened, empty, stop)
        self._metrics.show_reload(self._clock.now())
        self._write_status(began)

    def reload(self, read: Callable[[], Sequence[Config]]) -> str:
        """Put what `read` returns to work; if that fails, log it and continue as before.

        Returns:
            The error; empty if there is none.
        """
        began = time.monotonic()
        configs, error = carry_out(read, self._names, lambda found: self.start(found, began))
        if error:
            return self._show_failed_reload(began, error)
        self._warn_of_port(configs)
        return ""

    def _show_failed_reload(self, began: float, error: str) -> str:
        self._metrics.show_failed_reload()
        self._write_status(began, error)
        return error

    def _write_status(self, began: float, error: str = "") -> None:
        """Let `promad reload` read how this ended."""
        for lock in self._locks.values():
            lock.write(DaemonStatus(os.getpid(), began, error))

    def _warn_of_port(self, configs: Sequence[Config]) -> None:
        """Say that a port in the configuration is not the one listened on."""
        wanted = configs[0].real_time_anomaly_detection.exporter_port
        if wanted != self._configured_port:
            log.warning(
                "exporter_port changed; restart promad to listen on it",
                configured=wanted,
                listening=self.port,
            )

    def stop(self) -> None:
        """Begin no other tick; what is under way has two seconds to finish."""
        self._retire()
        self._unlock_directories(set())

    def _retire(self) -> None:
        """End what is at work. A tick that outlives this publishes and saves nothing."""
        self._stop.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in [*(one.thread for one in self._running), *self._filling]:
            thread.join(max(0.0, deadline - time.monotonic()))
        for one in self._running:
            one.loop.retire()
            one.client.close()
            one.events.close()

    def _list_directories(self, configs: Sequence[Config]) -> set[Path]:
        """Where these detectors save what they remember."""
        return {locate_state(config, Shard.of(config, self._share)) for config in configs}

    def _lock_directories(self, directories: Collection[Path], building: ExitStack) -> None:
        """Hold the directories of detectors; those taken now are freed if building fails."""
        for directory in set(directories) - self._locks.keys():
            self._locks[directory] = lock_directory(directory)
            remove_abandoned(directory)
            building.callback(self._unlock, directory)

    def _unlock_directories(self, but: Collection[Path]) -> None:
        for directory in self._locks.keys() - set(but):
            self._unlock(directory)

    def _unlock(self, directory: Path) -> None:
        self._locks.pop(directory).release()

    def _build(
        self, opened: Opened, shard: Shard | None, stop: threading.Event, building: ExitStack
    ) -> _Running:
        """A detector that is ready to begin; what it holds open is closed if building fails."""
        config, detector = opened.config, opened.detector
        events = _open_events(locate_state(config, shard))
        building.callback(events.close)
        client = _make_client(config)
        building.callback(client.close)
        metrics = self._metrics.of(config.name)
        loop: TickLoop
        histories: Mapping[str, History]
        only: _OneGroup | None = None
        stream = self._open_stream(opened, shard, stop)
        options = _make_loop_options(opened, client, stream)
        if config.group_by:
            from promad.detection.fleet_building import build_fleet_loop  # heavy, not for one group

            loop, histories = build_fleet_loop(
                opened, shard, client, events, metrics, self._clock, options, stream
            )
        else:
            only = self._build_only(opened, client, events, metrics, stream)
            loop = DetectionLoop(options, only.live, only.poller, self._clock, only.outputs)
            histories = only.outputs.histories
        served = RunningDetector(
            config, opened.bundle, detector, events, histories, lambda: loop.snapshot
        )
        thread = threading.Thread(target=loop.run, args=[stop], daemon=True)
        return _Running(opened, loop, client, events, metrics, served, thread, only, stream)

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
    ) -> _OneGroup:
        config, live = opened.config, begin_live(opened)
        retention = config.real_time_anomaly_detection.events_retention
        catch_up = CATCH_UP_SAMPLES * opened.detector.preparation.step
        outputs = LoopOutputs(
            metrics,
            {name: self._continue_history(name, opened) for name in live.state.names},
            Persistence(events, opened.bundle.id, retention, catch_up, metrics),
            ThresholdFile(config.artifacts_dir, opened.bundle.id),
            self._observer,
            make_mute_queries(config, client, metrics),
            make_marker_queries(config, client, events, metrics),
        )
        return _OneGroup(live, outputs, _build_poller(opened, client, stream))

    def _resume(self, one: _Running) -> None:
        """Let a detector continue from what was saved, and say what it is."""
        bundle, threshold = one.opened.bundle, one.opened.detector.threshold
        metrics = one.metrics
        if one.only is not None:
            state, outputs = one.only.live.state, one.only.outputs
            if outputs.thresholds is not None:
                outputs.thresholds.resume(state)
            if outputs.persistence is not None:
                outputs.persistence.resume(state, self._clock.now())
        metrics.show_bundle(bundle.manifest.model, bundle.id, bundle.trained_at)
        metrics.show_expected(threshold.expected_false_alarms_per_week, threshold.interval)
        name, model = one.opened.config.name, bundle.manifest.model
        log.info("bundle loaded", detector=name, bundle=bundle.id, model=model)

    def _fill_histories(
        self, opened: Opened, histories: Sequence[RecentHistory], stop: threading.Event
    ) -> None:
        """Fill them in the background, so that a page shows what was before the start."""
        self._filling = [thread for thread in self._filling if thread.is_alive()]
        for history in histories:
            arguments = (opened, history, self._clock, stop)
            thread = threading.Thread(target=fill_history, args=arguments, daemon=True)
            self._filling.append(thread)
            thread.start()

    def _continue_history(self, group: str, opened: Opened) -> RecentHistory:
        """The history of a group, with what was in it before a reload."""
        features = opened.detector.scored_features
        capacity = opened.config.real_time_anomaly_detection.history_samples
        for one in self._running:
            if one.only is not None and group in one.only.outputs.histories:
                return one.only.outputs.histories[group].resized(features, capacity)
        return RecentHistory(features, capacity)


def _make_receiver(metrics: ReceiverMetrics, clock: Clock) -> Receiver:
    from promad.detection.receiving import Receiver

    return Receiver(metrics, clock)


def _continue_state(one: _Running, before: Sequence[_Running]) -> None:
    """Let a detector continue over a reload what another one with the same name has left."""
    for other in before:
        if one.opened.config.name != other.opened.config.name:
            continue
        one.loop.continue_from(other.loop)
        if one.only is not None and other.only is not None:
            _adopt_samples(one.only.poller, other.only.poller)
            _continue_group(one.opened, one.only, other.opened, other.only)


def _adopt_samples(now: Poller | ReceivedPoller, before: Poller | ReceivedPoller) -> None:
    """What was received is queried once more; what was polled need not be."""
    if isinstance(now, Poller) and isinstance(before, Poller):
        now.adopt(before)


def _count_samples(opened: Opened) -> int:
    """How many of the newest samples of each group are kept."""
    if opened.config.group_by:
        from promad.detection.fleet_building import count_samples  # heavy, not for one group

        return count_samples(opened)
    return opened.detector.samples_needed + CATCH_UP_SAMPLES


def _continue_group(new: Opened, now: _OneGroup, old: Opened, before: _OneGroup) -> None:
    """Let the only group continue: by the same bundle all that is remembered of it, by another one
    with the same features and step its events, which are in no unit of a bundle.
    """
    state, left = now.live.state, before.live.state
    if new.bundle.id == old.bundle.id:
        state.events.begun[0] = left.events.begun[0]
        if not np.isnan(left.scored_until[0]):
            state.resume(0, left.to_json(0))
    elif now.live.may_continue(before.live):
        state.continue_events(left)


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


def locate_state(config: Config, shard: Shard | None) -> Path:
    """The directory in which a detector saves its state and its events."""
    return config.artifacts_dir if shard is None else shard.locate(config.artifacts_dir)


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
