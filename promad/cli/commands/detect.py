"""`promad detect`: the daemon and its signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import typer

from promad.cli.options import ConfigOption, ListenOption, load_configs, parse_listen_address
from promad.cli.output import print_lines, print_warnings
from promad.cli.web_options import (
    AutoReloadOption,
    ExternalUrlOption,
    LifecycleOption,
    OpenProbesOption,
    Port,
    RoutePrefixOption,
    SystemdSocketOption,
    WebConfigOption,
    parse_external_url,
    parse_reload_interval,
    parse_route_prefix,
)
from promad.config import Config
from promad.config.original import find_implied_preset

if TYPE_CHECKING:
    from promad.detection.reloading import ReloadQueue
    from promad.detection.running_detector import RunningDetector

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""What the libraries below numpy call their number of threads."""

_PORT = Port()


def detect(
    context: typer.Context,
    config: ConfigOption = None,
    listen_address: ListenOption = None,
    web_config: WebConfigOption = None,
    open_probes: OpenProbesOption = False,
    external_url: ExternalUrlOption = None,
    route_prefix: RoutePrefixOption = None,
    enable_lifecycle: LifecycleOption = False,
    systemd_socket: SystemdSocketOption = False,
    auto_reload: AutoReloadOption = None,
) -> None:
    """Poll Prometheus, score new samples, and expose the results as metrics.

    Repeat -c FILE to run several detectors in one daemon. SIGHUP and promad reload reload the
    configuration files and the current bundles. SIGTERM and Ctrl-C stop the daemon.
    """
    if systemd_socket and listen_address is not None:
        raise typer.BadParameter("--web.systemd-socket excludes --web.listen-address; use one")
    url = parse_external_url(external_url)
    port = Port(
        *parse_listen_address(listen_address),
        web_config,
        open_probes,
        parse_route_prefix(route_prefix, url),
        enable_lifecycle,
        systemd_socket,
    )
    overrides = () if url is None else (f"web.external_url={url}",)
    run_detect(
        lambda: load_configs(context, config, overrides),
        port,
        config or context.obj,
        parse_reload_interval(auto_reload),
    )


def run_detect(
    read: Callable[[], Sequence[Config]],
    port: Port = _PORT,
    paths: Sequence[Path] = (),
    auto_reload_seconds: float | None = None,
) -> None:
    """Run the daemon until a signal stops it; a reload calls `read` again.

    Args:
        paths: the files that `read` reads, to warn about what they imply; empty if that is done.
        auto_reload_seconds: how often to look whether they have changed; None for never.
    """
    from promad.detection.reloading import ReloadQueue

    reloads = ReloadQueue()
    follow_signals(reloads)
    limit_threads()

    from promad.clock import RealClock
    from promad.detection.content_watch import digest_files
    from promad.detection.freed_memory import use_one_arena
    from promad.stages.detect import detect as stage

    use_one_arena()
    digest = digest_files(paths)
    configs = read()
    with suppress(OSError):  # nobody may read standard error
        for path, config in zip(paths, configs, strict=False):
            print_warnings(find_implied_preset(path, config))
    options = port.make_options(reloads.ask)
    with stage(configs, RealClock(), port.host, port.number, web=options) as daemon:
        with suppress(OSError):  # nobody may read standard output any more
            print_lines([f"detect: serving on {port.format_url(daemon.port, daemon.secure)}"])
        reload_until_stopped(daemon, reloads, read, Watched(paths, digest), auto_reload_seconds)
    if not daemon.has_ended():
        _exit_at_once()


class Reloadable(Protocol):
    """What works with configurations and bundles."""

    def served(self) -> Sequence[RunningDetector]: ...

    def reload(self, read: Callable[[], Sequence[Config]]) -> str: ...


class Watched(NamedTuple):
    """The configuration files, and the digest of their content before they were read."""

    paths: Sequence[Path]
    digest: str


def reload_until_stopped(
    daemon: Reloadable,
    reloads: ReloadQueue,
    read: Callable[[], Sequence[Config]],
    files: Watched,
    auto_reload_seconds: float | None,
) -> None:
    """Carry out the reloads that signals, the port and changed content ask for.

    Args:
        auto_reload_seconds: how often to look whether the content has changed; None for never.
    """
    from promad.detection.content_watch import ContentWatch, digest_files

    watch = ContentWatch(files.paths, daemon.served, reloads.ask, files.digest)
    stop = threading.Event()
    if auto_reload_seconds is not None:
        arguments = [auto_reload_seconds, stop]
        threading.Thread(target=watch.run, args=arguments, name="auto-reload", daemon=True).start()
    while (reload := reloads.take()) is not None:
        digest = digest_files(files.paths)
        if not (error := daemon.reload(read)):
            watch.use(digest)
        reload.set_result(error)
    stop.set()


def limit_threads() -> None:
    """Let numpy compute on one thread, unless the environment says how many.

    Its libraries read this once, when they are loaded. On the small arrays of a tick, more threads
    only wait for each other, and each of them uses a whole CPU for it.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


def _exit_at_once() -> None:
    """End the process though a thread is at work: Python's own end would abort with it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


def follow_signals(reloads: ReloadQueue) -> None:
    """Let SIGHUP ask for a reload, and SIGTERM and SIGINT end the daemon."""
    signal.signal(signal.SIGHUP, lambda *_: reloads.ask())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reloads.end())
