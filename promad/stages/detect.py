"""`detect`: poll, score the newest samples, judge, publish — on an absolute schedule, for ever.

The daemon works in threads of its own (`promad.detection`); the HTTP server answers beside it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from promad.clock import Clock
from promad.config import Config
from promad.detection.daemon import Daemon
from promad.detection.loop import Observer
from promad.detection.reloading import Reload
from promad.exposition import WebMetrics
from promad.http_server import CLOSE_REASONS, Security, WatchedSecurity, WebServer, listen
from promad.web.app import build_app
from promad.web.protection import REFUSAL_REASONS, protect
from promad.web.scoring_process import ScoringProcess


@dataclass(frozen=True)
class WebOptions:
    """How the port is served.

    Attributes:
        config_file: Prometheus's web configuration file; None without passwords and TLS.
        open_probes: `/-/healthy` and `/-/ready` need no password.
        route_prefix: the path below which everything is served, such as `/promad`, or nothing.
        bound: a socket that is listened on already.
        ask_reload: what `/-/reload` calls; None if that is off.
    """

    config_file: Path | None = None
    open_probes: bool = False
    route_prefix: str = ""
    bound: socket.socket | None = None
    ask_reload: Callable[[], Reload] | None = None


_UNPROTECTED = WebOptions()


@contextmanager
def detect(
    configs: Sequence[Config],
    clock: Clock,
    host: str = "",
    port: int | None = None,
    observer: Observer | None = None,
    web: WebOptions = _UNPROTECTED,
) -> Iterator[Daemon]:
    """Detect in the background until the block ends; yields the daemon, whose `port` is served.

    The server answers before the bundles are loaded. At the end ticks under way have two seconds
    to finish, and so have requests.

    Args:
        host: the interface to listen on; empty means every one.
        port: in place of the first configuration's `exporter_port`; 0 is any free one.
        observer: sees every scored sample.

    Raises:
        ConfigError: if the web configuration file has mistakes.
        PromadError: if the port is taken, or a bundle is missing, damaged or does not fit.
    """
    wanted = configs[0].real_time_anomaly_detection.exporter_port if port is None else port
    daemon = Daemon(configs, clock, observer)
    metrics = WebMetrics(daemon.registry, CLOSE_REASONS, REFUSAL_REASONS)
    with ExitStack() as stack:
        find_security = _follow_security(web.config_file, metrics, clock, stack)
        scoring = ScoringProcess()
        stack.callback(scoring.stop)
        app = build_app(
            daemon.registry,
            daemon.served,
            daemon.is_ready,
            clock.now,
            daemon.find_trouble,
            scoring.score,
            web.ask_reload,
        )
        server = WebServer(
            protect(app, find_security, metrics.count_refused, web.route_prefix, web.open_probes),
            web.bound or listen(host, wanted),
            metrics.count_closed,
            lambda: find_security().tls,
        )
        daemon.port, daemon.secure = server.port, find_security().tls is not None
        server.start()
        stack.callback(server.stop)
        stack.callback(daemon.stop)
        daemon.start(configs)
        yield daemon


def _follow_security(
    path: Path | None, metrics: WebMetrics, clock: Clock, stack: ExitStack
) -> Callable[[], Security]:
    """What returns the security in use; changes of the file are followed until the stack ends."""
    if path is None:
        unprotected = Security()
        return lambda: unprotected

    def show(succeeded: bool) -> None:
        if succeeded:
            metrics.show_web_config(clock.now())
        else:
            metrics.show_failed_web_config()

    watched = WatchedSecurity(path, show)
    show(True)
    stop = threading.Event()
    stack.callback(stop.set)
    threading.Thread(target=watched.run, args=[stop], name="web config", daemon=True).start()
    return lambda: watched.current
