"""`detect`: poll, score the newest samples, judge, publish — on an absolute schedule, for ever.

One `Watch` per detector does the work, each in a thread of its own, and the HTTP server answers
beside them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from promad.bundle import Opened, open_detector
from promad.clock import Clock
from promad.config import Config
from promad.data.frame import THE_ONLY_GROUP, group_name
from promad.detection.judging import Judge
from promad.detection.loop import Observer, Watch
from promad.detection.persistence import Keeper
from promad.detection.recent_history import Ring
from promad.detection.running_detector import Served
from promad.errors import PromadError
from promad.events.event_log import FILE_NAME as EVENTS_FILE
from promad.events.event_log import EventLog, open_event_log
from promad.exposition import DaemonMetrics, Snapshot, SnapshotCollector
from promad.files import written_whole
from promad.prometheus.client import PrometheusClient
from promad.prometheus.polling import Poller
from promad.thresholds import Standing, Threshold
from promad.training.threshold_choice import StoredLimits, at_work

log = structlog.get_logger()

STANDING_FILE = "threshold_standing.json"
"""Beside the bundles: where the threshold at work stood when it was last written down."""

CATCH_UP_SAMPLES = 100
"""How many samples beyond a window are kept, and so can be scored late after an outage."""

_STOP_SECONDS = 2.0
_POLL_RETRIES = 1


class Daemon:
    """Detectors at work behind an HTTP server, see `detection`."""

    def __init__(
        self, configs: Sequence[Config], clock: Clock, observer: Observer | None = None
    ) -> None:
        self._names = {config.name for config in configs}
        self._clock = clock
        self._observer = observer
        self._working: Sequence[_Working] = ()
        self._ticking = ExitStack()
        self.registry = _registry()
        several = len(configs) > 1
        self.registry.register(SnapshotCollector(self._snapshots, several))
        self._metrics = DaemonMetrics(self.registry, several)
        self.port = 0

    def served(self) -> list[Served]:
        """What is at work, for whoever looks at it."""
        return [one.served for one in self._working]

    def is_ready(self) -> bool:
        """Whether every detector has had an answer from its server."""
        return bool(self._working) and all(one.watch.answered for one in self._working)

    def _snapshots(self) -> list[Snapshot]:
        return [one.watch.snapshot for one in self._working]

    def start(self, configs: Sequence[Config]) -> None:
        """Let these detectors begin, in place of those at work.

        Raises:
            PromadError: if one cannot begin; what was at work before goes on then.
        """
        opened = [open_detector(config) for config in configs]
        logs = [_event_log(config) for config in configs]
        before = self._working
        self._ticking.close()
        self._metrics.forget()
        self._working = [self._begin(*each) for each in zip(opened, logs, strict=True)]
        _close_logs(before)
        self._ticking.enter_context(_ticking(self._working))
        self._metrics.reloaded(self._clock.now())

    def reload(self, read: Callable[[], Sequence[Config]]) -> None:
        """Take what `read` returns in place of what is at work; if that fails, say so and go on."""
        try:
            configs = read()
            if {config.name for config in configs} != self._names:
                raise PromadError("detectors came or went — restart to change which there are")
            self.start(configs)
        except PromadError as error:
            self._metrics.reload_failed()
            log.error("reload failed", error=str(error))
        else:
            log.info("reloaded")

    def _ring(self, group: str, features: Sequence[str], capacity: int) -> Ring:
        """The history of a group, with what was in it before a reload."""
        for one in self._working:
            if group in one.served.rings:
                return one.served.rings[group].resized(features, capacity)
        return Ring(features, capacity)

    def stop(self) -> None:
        """Begin no other tick; those under way have two seconds to finish."""
        self._ticking.close()
        _close_logs(self._working)

    def _begin(self, opened: Opened, events: EventLog) -> _Working:
        """A detector at work, from where the last one on the same bundle stopped."""
        config, bundle, detector = opened.config, opened.bundle, opened.detector
        live = config.real_time_anomaly_detection
        own = self._metrics.of(config.name)
        own.loaded(bundle.manifest.model, bundle.id, bundle.trained_at)
        own.expects(detector.threshold.expected_false_alarms_per_week, detector.threshold.interval)
        log.info(
            "bundle loaded", detector=config.name, bundle=bundle.id, model=bundle.manifest.model
        )
        client = _client(config)
        step = detector.preparation.step
        poller = Poller(
            client,
            config.promql,
            step,
            detector.samples_needed + CATCH_UP_SAMPLES,
            live.stale_after,
            allow_partial=config.data_settings.allow_partial,
        )
        group = group_name(config.name, THE_ONLY_GROUP)
        limits = _stored_limits(config, bundle.id, detector.threshold)
        judge = Judge(detector, group, config, limits)
        keeper = Keeper(events, bundle.id, live.events_retention, CATCH_UP_SAMPLES * step, own)
        keeper.resume(judge, self._clock.now())
        ring = self._ring(group, judge.scored_features, live.history_samples)
        watch = Watch(config, judge, poller, self._clock, own, self._observer, keeper, ring)
        served = Served(config, bundle, detector, events, {group: ring}, lambda: watch.snapshot)
        return _Working(watch, client, served)


@dataclass(frozen=True)
class _Working:
    watch: Watch
    client: PrometheusClient
    served: Served


@contextmanager
def _ticking(working: Sequence[_Working]) -> Iterator[None]:
    """Run each watch in a thread of its own until the block ends."""
    stop = threading.Event()

    def run(one: _Working) -> None:
        with closing(one.client):
            one.watch.run(stop)

    threads = [threading.Thread(target=run, args=[one], daemon=True) for one in working]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _registry() -> CollectorRegistry:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def _close_logs(working: Sequence[_Working]) -> None:
    for one in working:
        one.served.events.close()


def _event_log(config: Config) -> EventLog:
    """The detector's event log; a damaged one is moved aside."""
    events, aside = open_event_log(config.artifacts_dir / EVENTS_FILE)
    if aside is not None:
        log.error("the event log was damaged; it begins afresh", moved_to=str(aside))
    return events


def _stored_limits(config: Config, bundle_id: str, threshold: Threshold) -> StoredLimits:
    """The threshold at work, where it was when a daemon on the same bundle last wrote it down."""
    path = config.artifacts_dir / STANDING_FILE

    def write(standing: Standing) -> None:
        content = {"bundle": bundle_id, "standing": standing.to_json()}
        try:
            with written_whole(path) as aside:
                aside.write_text(json.dumps(content))
        except OSError as error:
            log.warning("threshold standing not kept", file=str(path), error=str(error))

    return StoredLimits(_resumed(at_work(threshold, config), path, bundle_id), write)


def _resumed(standing: Standing, path: Path, bundle_id: str) -> Standing:
    try:
        content = json.loads(path.read_text())
        return standing.resumed(content["standing"]) if content["bundle"] == bundle_id else standing
    except FileNotFoundError:
        return standing
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("threshold standing begins afresh", file=str(path), error=str(error))
        return standing


def _client(config: Config) -> PrometheusClient:
    """A client that gives up in time for the next tick."""
    interval = config.real_time_anomaly_detection.query_interval_seconds
    timeout = min(config.prometheus.timeout, max(1.0, interval))
    settings = config.prometheus.model_copy(update={"timeout": timeout})
    return PrometheusClient(config.prometheus_url, settings, retries=_POLL_RETRIES)
