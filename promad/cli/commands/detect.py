"""`promad detect`: the daemon and its signals."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import typer

from promad.cli.daemon_life import Watched, follow_signals, limit_threads, reload_until_stopped
from promad.cli.options import ConfigOption, ListenOption, load_configs
from promad.cli.output import print_lines, print_warnings
from promad.cli.web_options import (
    AutoReloadOption,
    ExternalUrlOption,
    LifecycleOption,
    OpenProbesOption,
    Port,
    RemoteWriteOption,
    RoutePrefixOption,
    SystemdSocketOption,
    WebConfigOption,
    parse_external_url,
    parse_reload_interval,
    parse_route_prefix,
)
from promad.config import Config
from promad.config.original import find_implied_preset

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
    enable_remote_write: RemoteWriteOption = False,
    systemd_socket: SystemdSocketOption = False,
    auto_reload: AutoReloadOption = None,
) -> None:
    """Poll Prometheus, score new samples, and expose the results as metrics.

    Repeat -c FILE to run several detectors in one daemon. SIGHUP and promad reload reload the
    configuration files and the current bundles. SIGTERM and Ctrl-C stop the daemon.
    """
    url = parse_external_url(external_url)
    port = Port.parse(
        listen_address,
        parse_route_prefix(route_prefix, url),
        web_config=web_config,
        open_probes=open_probes,
        enable_lifecycle=enable_lifecycle,
        systemd_socket=systemd_socket,
        receives=enable_remote_write,
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


def _exit_at_once() -> None:
    """End the process though a thread is at work: Python's own end would abort with it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)
