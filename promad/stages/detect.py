"""`detect`: poll, score the newest samples, judge, publish — on an absolute schedule, for ever.

A `Daemon` runs one `Watch` per detector, each in a thread of its own, and the HTTP server beside
them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing

import structlog
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from promad.bundle import BundleStore, check_fits, load_detector
from promad.clock import Clock
from promad.config import Config
from promad.exporter import DaemonMetrics, Snapshot, SnapshotCollector
from promad.prometheus.client import PrometheusClient
from promad.prometheus.polling import Poller
from promad.serving import WebServer, listen
from promad.stages.watch import CATCH_UP_SAMPLES, Observer, Watch
from promad.web.app import build_app

log = structlog.get_logger()

_STOP_SECONDS = 2.0
_POLL_RETRIES = 1


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
        """Bind the port, answer on it, and load the bundles.

        Args:
            port: in place of the first configuration's `exporter_port`; 0 is any free one.

        Raises:
            PromadError: if the port is taken, or a bundle is missing, damaged or does not fit.
        """
        wanted = configs[0].real_time_anomaly_detection.exporter_port if port is None else port
        several = len(configs) > 1
        registry = _registry()
        registry.register(SnapshotCollector(self.snapshots, several))
        self._watches: tuple[tuple[Watch, PrometheusClient], ...] = ()
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._server = WebServer(
            build_app(registry, self.snapshots, self.is_ready), listen(host, wanted)
        )
        self._server.start()
        try:
            metrics = DaemonMetrics(registry, several)
            self._watches = tuple(_watch(config, clock, metrics, observer) for config in configs)
        except BaseException:
            self._server.stop()
            raise

    @property
    def port(self) -> int:
        """The port of the HTTP server."""
        return self._server.port

    def snapshots(self) -> list[Snapshot]:
        """Where every detector stands."""
        return [watch.snapshot for watch, _ in self._watches]

    def is_ready(self) -> bool:
        """Whether every bundle is loaded and every Prometheus server has answered once."""
        return bool(self._watches) and all(watch.answered for watch, _ in self._watches)

    def start(self) -> None:
        """Begin to tick."""
        for watch, client in self._watches:
            thread = threading.Thread(
                target=self._run, args=(watch, client), name=watch.name, daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let ticks under way finish, for two seconds at most, and close the server likewise."""
        self._stop.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._server.stop()

    def _run(self, watch: Watch, client: PrometheusClient) -> None:
        with closing(client):
            watch.run(self._stop)


def _registry() -> CollectorRegistry:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def _watch(
    config: Config, clock: Clock, metrics: DaemonMetrics, observer: Observer | None
) -> tuple[Watch, PrometheusClient]:
    """A watch on the current bundle, and the connection that it polls over."""
    bundle = BundleStore.of(config).open_current()
    check_fits(bundle, config)
    live = config.real_time_anomaly_detection
    given = None if live.anomaly_threshold_mse == "auto" else live.anomaly_threshold_mse
    detector = load_detector(bundle, given)
    own = metrics.of(config.name)
    own.loaded(
        bundle.manifest.model,
        bundle.id,
        bundle.trained_at,
        detector.threshold.expected_false_alarms_per_week,
    )
    log.info("bundle loaded", detector=config.name, bundle=bundle.id, model=bundle.manifest.model)
    client = _client(config)
    poller = Poller(
        client,
        config.promql,
        detector.preparation.step,
        detector.samples_needed + CATCH_UP_SAMPLES,
        live.stale_after,
        allow_partial=config.data_settings.allow_partial,
    )
    return Watch(config, detector, poller, clock, own, observer), client


def _client(config: Config) -> PrometheusClient:
    """A client that gives up in time for the next tick."""
    interval = config.real_time_anomaly_detection.query_interval_seconds
    timeout = min(config.prometheus.timeout, max(1.0, interval))
    settings = config.prometheus.model_copy(update={"timeout": timeout})
    return PrometheusClient(config.prometheus_url, settings, retries=_POLL_RETRIES)
