"""`detect`: poll, score the newest samples, judge, publish — on an absolute schedule, for ever.

The daemon works in threads of its own (`promad.detection`); the HTTP server answers beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from promad.clock import Clock
from promad.config import Config, WebSettings
from promad.data.shards import Share
from promad.detection.daemon import Daemon
from promad.detection.loop import Observer
from promad.exposition import PeerMetrics
from promad.shards import OtherShards, Timing
from promad.web.app import build_app
from promad.web.serving import UNPROTECTED, WebOptions, open_port

log = structlog.get_logger()


@contextmanager
def detect(
    configs: Sequence[Config],
    clock: Clock,
    host: str = "",
    port: int | None = None,
    observer: Observer | None = None,
    web: WebOptions = UNPROTECTED,
    share: Share | None = None,
) -> Iterator[Daemon]:
    """Detect in the background until the block ends; yields the daemon, whose `port` is served.

    The server answers before the bundles are loaded. At the end ticks under way have two seconds
    to finish, and so have requests.

    Args:
        host: the interface to listen on; empty means every one.
        port: in place of the first configuration's `exporter_port`; 0 is any free one.
        observer: sees every scored sample.
        share: which groups are watched, of several daemons; None for all.

    Raises:
        ConfigError: if the web configuration file has mistakes.
        PromadError: if the port is taken, or a bundle is missing, damaged or does not fit.
    """
    wanted = configs[0].real_time_anomaly_detection.exporter_port if port is None else port
    daemon = Daemon(configs, clock, observer, web.receives, share)
    if share is None and configs[0].web.peers:
        log.warning("web.peers has no effect without --shard", detector=configs[0].name)

    with open_port(
        lambda score: build_app(
            daemon.registry,
            daemon.served,
            daemon.is_ready,
            clock.now,
            daemon.find_trouble,
            score,
            web.ask_reload,
            receiver=daemon.receiver,
            shards=_make_other_shards(daemon, clock, share),
        ),
        daemon.registry,
        clock,
        (host, wanted),
        web,
    ) as opened:
        daemon.port, daemon.secure = opened.number, opened.secure
        try:
            daemon.start(configs)
            yield daemon
        finally:
            daemon.stop()


def _make_other_shards(daemon: Daemon, clock: Clock, share: Share | None) -> OtherShards | None:
    """The other shards, as the first configuration in use names them; None without `--shard`."""
    if share is None:
        return None

    def find_settings() -> WebSettings | None:
        running = daemon.served()
        return running[0].config.web if running else None

    timing = Timing(clock.now, clock.elapsed)
    return OtherShards(share, find_settings, PeerMetrics(daemon.registry), timing)
