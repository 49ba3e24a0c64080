"""`detect`: poll, score the newest samples, judge, publish — on an absolute schedule, for ever.

A `Watch` is one detector at work; a `Daemon` runs several, each in a thread of its own, and the
HTTP server beside them. What a tick finds out becomes a `Snapshot`, swapped in one assignment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from promad.bundle import Bundle, BundleStore, check_fits, load_detector
from promad.clock import Clock
from promad.config import Config
from promad.config.durations import format_duration, format_instant
from promad.errors import PrometheusError
from promad.events import AnomalyEvent, EventTracker
from promad.exporter import DaemonMetrics, GroupStatus, Snapshot, SnapshotCollector
from promad.frame import MetricFrame, align_down
from promad.prometheus.client import PrometheusClient
from promad.prometheus.polling import Poll, Poller
from promad.verdict import FeatureView, State, Verdict
from promad.web.app import build_app
from promad.web.server import WebServer, listen

log = structlog.get_logger()

_CATCH_UP_SAMPLES = 100
_STOP_SECONDS = 4.0
_POLL_RETRIES = 1

Observer = Callable[[Verdict, AnomalyEvent | None], None]
"""Called with each scored sample and the event that it ended, if it did."""


@dataclass(frozen=True)
class _Standing:
    """What one tick hands to the next."""

    tracker: EventTracker
    scored_until: float | None = None
    state: State = State.WARMING
    failing: frozenset[str] = frozenset()


class Watch:
    """One detector at work. Only its own thread calls `tick`; anyone may read `snapshot`."""

    def __init__(
        self,
        config: Config,
        bundle: Bundle,
        client: PrometheusClient,
        clock: Clock,
        metrics: DaemonMetrics,
        observer: Observer | None = None,
    ) -> None:
        live = config.real_time_anomaly_detection
        given = None if live.anomaly_threshold_mse == "auto" else live.anomaly_threshold_mse
        self.config = config
        self.answered = False
        self._detector = load_detector(bundle, given)
        self._client = client
        self._poller = Poller(
            client,
            config.promql,
            self._detector.preparation.step,
            self._detector.samples_needed + _CATCH_UP_SAMPLES,
            live.stale_after,
            allow_partial=config.data_settings.allow_partial,
        )
        self._clock = clock
        self._metrics = metrics
        self._observer = observer
        self._log = log.bind(detector=config.name)
        self._standing = _Standing(EventTracker(live.enter_after_samples, live.leave_after_samples))
        waiting = Verdict(clock.now(), State.WARMING, self._threshold, why="not polled yet")
        self.snapshot = self._snapshot_of(waiting, None)
        self._describe_model(bundle)

    @property
    def _threshold(self) -> float:
        return self._detector.threshold.value

    def _describe_model(self, bundle: Bundle) -> None:
        own, metrics = self._metrics.labels(self.config.name), self._metrics
        info = {**own, "model": bundle.manifest.model, "bundle": bundle.id}
        metrics.model_info.labels(**info).set(1)
        _of(metrics.model_trained, own).set(bundle.trained_at)
        rate = self._detector.threshold.expected_false_alarms_per_week
        if rate is not None:
            _of(metrics.false_alarms, own).set(rate)
        for counter in (metrics.polls, metrics.ticks_skipped, metrics.tick_failures):
            _of(counter, own)
        for alias in self.config.features:
            metrics.query_failures.labels(**own, query=alias)

    def run(self, stop: threading.Event) -> None:
        """Tick at absolute multiples of the query interval until `stop` is set."""
        interval = self.config.real_time_anomaly_detection.query_interval_seconds
        due = self._clock.now()
        while not stop.is_set():
            self.tick()
            due = align_down(due, interval) + interval
            late = self._clock.now() - due
            if late > 0:
                skipped = int(late // interval) + 1
                _of(self._metrics.ticks_skipped, self._own).inc(skipped)
                due += skipped * interval
            self._clock.wait_until(due, stop)
        self._client.close()

    @property
    def _own(self) -> dict[str, str]:
        return self._metrics.labels(self.config.name)

    def tick(self) -> None:
        """Poll, score and publish once. Nothing that happens here ends the daemon."""
        started = time.perf_counter()
        at = self._clock.now() - self.config.real_time_anomaly_detection.latency_offset
        try:
            self._judge(self._poll(at))
        except Exception:  # noqa: BLE001 - the daemon outlives whatever a tick meets
            self._log.exception("the tick failed")
            _of(self._metrics.tick_failures, self._own).inc()
            self._publish_blind(at, "the tick failed, see the log")
        _of(self._metrics.tick_duration, self._own).observe(time.perf_counter() - started)

    def _poll(self, at: float) -> Poll:
        own, metrics = self._own, self._metrics
        poll = self._poller.poll(at)
        _of(metrics.polls, own).inc()
        for alias in self.config.features:
            metrics.query_up.labels(**own, query=alias).set(alias not in poll.failures)
        for alias in poll.failures:
            metrics.query_failures.labels(**own, query=alias).inc()
        for failure in list(poll.failures.values())[:1]:
            metrics.poll_failures.labels(**own, reason=failure.reason).inc()
        if len(poll.failures) < len(self.config.features):
            self.answered = True
        oldest = min((when or -np.inf) for when in poll.newest.values())
        if np.isfinite(oldest):
            _of(metrics.sample_age, own).set(self._clock.now() - oldest)
        self._log_failures(poll.failures)
        return poll

    def _log_failures(self, failures: Mapping[str, PrometheusError]) -> None:
        before = self._standing.failing
        for alias, failure in failures.items():
            if alias not in before:
                self._log.warning(
                    "query failed", query=alias, reason=failure.reason, error=str(failure)
                )
        for alias in sorted(before - set(failures)):
            self._log.info("query answered again", query=alias)
        self._standing = replace(self._standing, failing=frozenset(failures))

    def _judge(self, poll: Poll) -> None:
        """Score what is new and publish where that leaves the group."""
        frame = poll.frame
        if poll.failures:
            self._publish_blind(frame.end, _failed(poll.failures), poll)
            return
        newest = self._follow(frame)
        usable = self._detector.preparation.fill(frame).usable
        in_window = min(_trailing(usable), self._detector.length)
        if in_window == 0:
            self._publish_blind(frame.end, _missing(frame), poll)
        elif in_window < self._detector.length:
            why = f"{in_window} of {self._detector.length} samples of a window"
            self._publish(Verdict(frame.end, State.WARMING, self._threshold, why=why), in_window)
        elif newest is not None:
            self._publish(newest, in_window)

    def _follow(self, frame: MetricFrame) -> Verdict | None:
        """Score the samples that are new, keep the events' book, and return the newest verdict."""
        standing = self._standing
        since = frame.end - frame.step if standing.scored_until is None else standing.scored_until
        newest: Verdict | None = None
        for verdict in self._detector.judge(self._detector.score(frame, since)):
            tracker, ended = self._standing.tracker.follow(verdict)
            began = tracker.begun > self._standing.tracker.begun
            state = State.OK if tracker.current is None else State.ANOMALOUS
            newest = replace(verdict, state=state)
            self._standing = replace(self._standing, tracker=tracker, scored_until=verdict.at)
            self._log_events(tracker.current if began else None, ended)
            if self._observer is not None:
                self._observer(newest, ended)
        if newest is None and standing.scored_until == frame.end:
            group = self.snapshot.groups[0]
            return group.verdict if group.verdict.score_mse is not None else None
        return newest

    def _log_events(self, began: AnomalyEvent | None, ended: AnomalyEvent | None) -> None:
        if began is not None:
            self._log.warning("anomaly began", **_described(began))
        if ended is not None:
            self._log.warning("anomaly ended", **_described(ended))

    def _publish_blind(self, at: float, why: str, poll: Poll | None = None) -> None:
        failures = poll.failures if poll else {}
        verdict = Verdict(at, State.BLIND, self._threshold, why=why)
        in_window = 0
        if poll is not None:
            usable = self._detector.preparation.fill(poll.frame).usable
            in_window = min(_trailing(usable), self._detector.length)
        self._publish(verdict, in_window, failures)

    def _publish(
        self,
        verdict: Verdict,
        in_window: int,
        failures: Mapping[str, PrometheusError] | None = None,
    ) -> None:
        if verdict.state is not self._standing.state:
            self._log.info("state changed", state=str(verdict.state), why=verdict.why or None)
        self._standing = replace(self._standing, state=verdict.state)
        self.snapshot = self._snapshot_of(verdict, in_window, failures or {})

    def _snapshot_of(
        self,
        verdict: Verdict,
        in_window: int | None,
        failures: Mapping[str, PrometheusError] | None = None,
    ) -> Snapshot:
        tracker = self._standing.tracker
        status = GroupStatus(
            verdict=verdict,
            events_begun=tracker.begun,
            event=tracker.current,
            last_scored_at=self._standing.scored_until,
            samples_in_window=in_window or 0,
        )
        failed = tuple((alias, str(failure)) for alias, failure in (failures or {}).items())
        prefix = self.config.real_time_anomaly_detection.metrics_prefix
        return Snapshot(self.config.name, prefix, (status,), failed)


def _of[M](metric: M, labels: Mapping[str, str]) -> M:
    """The child of a metric, or the metric itself where it has no labels."""
    return metric.labels(**labels) if labels else metric  # type: ignore[attr-defined]


def _trailing(usable: np.ndarray) -> int:
    """How many True values stand at the end."""
    unusable = np.flatnonzero(~usable)
    return len(usable) if len(unusable) == 0 else len(usable) - 1 - int(unusable[-1])


def _failed(failures: Mapping[str, PrometheusError]) -> str:
    alias, failure = next(iter(failures.items()))
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return f"query {alias} failed{more}: {failure.reason}"


def _missing(frame: MetricFrame) -> str:
    gone = [
        name
        for name, value in zip(frame.features, frame.values[0, -1], strict=True)
        if np.isnan(value)
    ]
    return f"no sample of {', '.join(gone[:5])}{' and others' if len(gone) > 5 else ''}"


def _described(event: AnomalyEvent) -> dict[str, object]:
    until = event.end if event.end is not None else event.peak_at
    return {
        "id": event.id,
        "start": format_instant(event.start),
        "end": None if event.end is None else format_instant(event.end),
        "lasted": format_duration(until - event.start),
        "peak": round(event.peak_ratio, 2),
        "top_features": ", ".join(_shown(view) for view in event.top_features),
    }


def _shown(view: FeatureView) -> str:
    return (
        f"{view.name} {view.contribution:.0%} "
        f"(observed {view.observed:.4g}, expected {view.expected:.4g})"
    )


class Daemon:
    """The watches and the HTTP server: `start`, then `stop`."""

    def __init__(
        self,
        configs: Sequence[Config],
        clock: Clock,
        host: str = "",
        port: int | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Bind the port and load the bundles.

        Raises:
            PromadError: if the port is taken, or a bundle is missing, damaged or does not fit.
        """
        wanted = configs[0].real_time_anomaly_detection.exporter_port if port is None else port
        self._watches: tuple[Watch, ...] = ()
        self._stop = threading.Event()
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = _registry()
        several = len(configs) > 1
        app = build_app(self.registry, self.snapshots, self.is_ready)
        self._server = WebServer(app, listen(host, wanted))
        self._server.start()
        try:
            metrics = DaemonMetrics(self.registry, several)
            self._watches = tuple(_watch(config, clock, metrics, observer) for config in configs)
        except BaseException:
            self._server.stop()
            raise
        self.registry.register(SnapshotCollector(self.snapshots, several))
        self._threads = [
            threading.Thread(
                target=watch.run, args=(self._stop,), name=watch.config.name, daemon=True
            )
            for watch in self._watches
        ]

    @property
    def port(self) -> int:
        """The port of the HTTP server."""
        return self._server.port

    def snapshots(self) -> list[Snapshot]:
        """Where every detector stands."""
        return [watch.snapshot for watch in self._watches]

    def is_ready(self) -> bool:
        """Whether every bundle is loaded and every Prometheus server has answered once."""
        return bool(self._watches) and all(watch.answered for watch in self._watches)

    def start(self) -> None:
        """Begin to tick."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the ticks under way finish, for four seconds at most, and close the server."""
        self._stop.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._server.stop()


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def _watch(
    config: Config, clock: Clock, metrics: DaemonMetrics, observer: Observer | None
) -> Watch:
    bundle = BundleStore.of(config).open_current()
    check_fits(bundle, config)
    interval = config.real_time_anomaly_detection.query_interval_seconds
    timeout = min(config.prometheus.timeout, max(1.0, interval))
    settings = config.prometheus.model_copy(update={"timeout": timeout})
    client = PrometheusClient(config.prometheus_url, settings, retries=_POLL_RETRIES)
    log.info("bundle loaded", detector=config.name, bundle=bundle.id, model=bundle.manifest.model)
    return Watch(config, bundle, client, clock, metrics, observer)
