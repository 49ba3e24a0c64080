"""Filling a history at start: what the daemon would have published while it was not running."""

from __future__ import annotations

import threading

import structlog

from promad.bundle import Opened
from promad.clock import Clock
from promad.detection.freed_memory import return_freed_memory
from promad.detection.live import begin_live
from promad.detection.recent_history import RecentHistory
from promad.detection.replay import fetch_samples, replay
from promad.errors import PromadError
from promad.prometheus.latency import ask_latency_offset

log = structlog.get_logger()


def fill_history(
    opened: Opened, history: RecentHistory, clock: Clock, stop: threading.Event
) -> None:
    """Replay the newest samples that Prometheus has into a history, until `stop` is set.

    The threshold is the bundle's own: how far a daemon had raised it then is not known. A server
    that does not answer leaves the history as it is, and a line in the log.
    """
    config, now = opened.config, clock.now()
    live = config.real_time_anomaly_detection
    end = now - ask_latency_offset(
        config.prometheus_url, config.prometheus, live.latency_offset, now
    )
    start = end - live.history_samples * opened.detector.preparation.step
    try:
        frame = fetch_samples(opened, start, end)
        for sample in replay(begin_live(opened), frame):
            if stop.is_set():
                return
            history.add_earlier(sample.status.verdict)
    except PromadError as error:
        if not stop.is_set():
            log.warning("history not filled", detector=opened.config.name, error=error.summary)
    except Exception:  # the daemon works without a history, and a thread that ends says nothing
        log.exception("history not filled", detector=opened.config.name)
    finally:
        return_freed_memory()
