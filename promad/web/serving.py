"""The application behind a port: opened, protected, and closed again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from promad.clock import Clock
from promad.detection.reloading import Reload
from promad.exposition import WebMetrics
from promad.http_server import CLOSE_REASONS, Security, WatchedSecurity, WebServer, listen
from promad.web.protection import REFUSAL_REASONS, protect
from promad.web.scoring_process import Scorer, ScoringProcess


@dataclass(frozen=True)
class WebOptions:
    """How the port is served.

    Attributes:
        config_file: Prometheus's web configuration file; None without passwords and TLS.
        open_probes: `/-/healthy` and `/-/ready` need no password.
        route_prefix: the path below which everything is served, such as `/promad`, or nothing.
        bound: a socket that is listened on already.
        ask_reload: what `/-/reload` calls; None if that is off.
        receives: whether samples come by remote write, and are not polled.
    """

    config_file: Path | None = None
    open_probes: bool = False
    route_prefix: str = ""
    bound: socket.socket | None = None
    ask_reload: Callable[[], Reload] | None = None
    receives: bool = False


UNPROTECTED = WebOptions()


@dataclass(frozen=True)
class OpenPort:
    """A port that is served.

    Attributes:
        secure: whether it has TLS.
    """

    number: int
    secure: bool


@contextmanager
def open_port(
    build: Callable[[Scorer], FastAPI],
    registry: CollectorRegistry,
    clock: Clock,
    address: tuple[str, int],
    web: WebOptions,
) -> Iterator[OpenPort]:
    """Serve until the block ends; requests then have two seconds to finish.

    Args:
        build: the application, given what answers requests to score.
        registry: gets the metrics about connections.
        address: the interface to listen on, empty for every one, and the port, 0 for any free one.

    Raises:
        ConfigError: if the web configuration file has mistakes.
        PromadError: if the port is taken.
    """
    metrics = WebMetrics(registry, CLOSE_REASONS, REFUSAL_REASONS)
    with ExitStack() as stack:
        find_security = _follow_security(web.config_file, metrics, clock, stack)
        scoring = ScoringProcess()
        stack.callback(scoring.stop)
        app = build(scoring.score)
        server = WebServer(
            protect(app, find_security, metrics.count_refused, web.route_prefix, web.open_probes),
            web.bound or listen(*address),
            metrics.count_closed,
            lambda: find_security().tls,
        )
        server.start()
        stack.callback(server.stop)
        yield OpenPort(server.port, find_security().tls is not None)


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
