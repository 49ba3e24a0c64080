"""`Daemon`: detectors at work, each in a thread of its own, and how others take their place."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
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
from promad.detection.detector_building import (
    BuiltDetector,
    DetectorBuilder,
    OneGroup,
    locate_state,
)
from promad.detection.directory_lock import DaemonStatus, DirectoryLock, lock_directory
from promad.detection.loop import Observer
from promad.detection.recent_history import RecentHistory
from promad.detection.reloading import carry_out
from promad.detection.running_detector import RunningDetector
from promad.exposition import (
    AnySnapshot,
    DaemonMetrics,
    ReceiverMetrics,
    SnapshotCollector,
    create_registry,
)
from promad.exposition.groups import split_snapshots
from promad.files import remove_abandoned
from promad.prometheus.polling import Poller

if TYPE_CHECKING:  # loaded where samples are received
    from promad.detection.receiving import Receiver
    from promad.prometheus.received.polling import ReceivedPoller

log = structlog.get_logger()

_STOP_SECONDS = 2.0


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
        self._share = share
        self._running: Sequence[BuiltDetector] = ()
        self._stop = threading.Event()
        self._filling: list[threading.Thread] = []
        self._locks: dict[Path, DirectoryLock] = {}
        self._configured_port = configs[0].real_time_anomaly_detection.exporter_port
        self.registry = create_registry()
        self.registry.register(SnapshotCollector(self._list_single_groups))
        self._metrics = DaemonMetrics(self.registry)
        self.receiver = _make_receiver(ReceiverMetrics(self.registry), clock) if receives else None
        self._builder = DetectorBuilder(clock, self._metrics, observer, self.receiver)
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
            histories = self._collect_histories()
            built = [
                self._builder.build(each, shards[each.config.name], stop, histories, building)
                for each in opened
            ]
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
            empty = [each for each in _list_histories(one).values() if each.is_empty()]
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

    def _collect_histories(self) -> dict[str, RecentHistory]:
        """Those of the single groups at work, by name; of two with one name, the first."""
        found: dict[str, RecentHistory] = {}
        for one in self._running:
            found = {**_list_histories(one), **found}
        return found

    def _resume(self, one: BuiltDetector) -> None:
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


def _list_histories(one: BuiltDetector) -> Mapping[str, RecentHistory]:
    return one.only.outputs.histories if one.only else {}


def _make_receiver(metrics: ReceiverMetrics, clock: Clock) -> Receiver:
    from promad.detection.receiving import Receiver

    return Receiver(metrics, clock)


def _continue_state(one: BuiltDetector, before: Sequence[BuiltDetector]) -> None:
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


def _continue_group(new: Opened, now: OneGroup, old: Opened, before: OneGroup) -> None:
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
