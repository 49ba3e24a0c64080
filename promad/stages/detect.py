"""`detect`: poll, score the newest samples, judge, publish — on an absolute schedule, for ever.

One `Watch` per detector does the work, each in a thread of its own, and the HTTP server answers
beside them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

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
from promad.files import written_whole
from promad.prometheus.client import PrometheusClient
from promad.prometheus.polling import Poller
from promad.serving import WebServer, listen
from promad.stages.thresholding import at_work
from promad.stages.watch import CATCH_UP_SAMPLES, Observer, StoredLimits, Watch
from promad.thresholds import Standing, Threshold
from promad.web.app import build_app

log = structlog.get_logger()

STANDING_FILE = "threshold_standing.json"
"""Beside the bundles: where the threshold at work stood when it was last written down."""

_STOP_SECONDS = 2.0
_POLL_RETRIES = 1


@contextmanager
def detection(
    configs: Sequence[Config],
    clock: Clock,
    host: str = "",
    port: int | None = None,
    observer: Observer | None = None,
) -> Iterator[int]:
    """Detect in the background until the block ends; yields the port of the HTTP server.

    The server answers before the bundles are loaded. At the end ticks under way have two seconds
    to finish, and so have requests.

    Args:
        host: the interface to listen on; empty means every one.
        port: in place of the first configuration's `exporter_port`; 0 is any free one.
        observer: sees every scored sample.

    Raises:
        PromadError: if the port is taken, or a bundle is missing, damaged or does not fit.
    """
    wanted = configs[0].real_time_anomaly_detection.exporter_port if port is None else port
    registry, several = _registry(), len(configs) > 1
    watches: list[Watch] = []

    def snapshots() -> list[Snapshot]:
        return [watch.snapshot for watch in watches]

    def is_ready() -> bool:
        return len(watches) == len(configs) and all(watch.answered for watch in watches)

    registry.register(SnapshotCollector(snapshots, several))
    metrics = DaemonMetrics(registry, several)
    with ExitStack() as stack:
        server = WebServer(build_app(registry, snapshots, is_ready), listen(host, wanted))
        server.start()
        stack.callback(server.stop)
        loaded = [_watch(config, clock, metrics, observer) for config in configs]
        watches.extend(watch for watch, _ in loaded)
        stack.enter_context(_ticking(loaded))
        yield server.port


@contextmanager
def _ticking(watches: Sequence[tuple[Watch, PrometheusClient]]) -> Iterator[None]:
    """Run each watch in a thread of its own until the block ends."""
    stop = threading.Event()

    def run(watch: Watch, client: PrometheusClient) -> None:
        with closing(client):
            watch.run(stop)

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in watches]
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
    own.loaded(bundle.manifest.model, bundle.id, bundle.trained_at)
    own.expects(detector.threshold.expected_false_alarms_per_week, detector.threshold.interval)
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
    limits = _stored_limits(config, bundle.id, detector.threshold)
    return Watch(config, detector, poller, clock, own, observer, limits), client


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
