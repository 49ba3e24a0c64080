"""`promad detect`: the daemon and its signals."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.daemon_life import Watched, follow_signals, limit_threads, reload_until_stopped
from promad.cli.options import ConfigOption, ListenOption, load_configs
from promad.cli.output import print_lines, print_warnings
from promad.cli.web_options import (
    AutoReloadOption,
    ExternalUrlOption,
    LifecycleOption,
    OpenProbesOption,
    PeersOption,
    Port,
    RemoteWriteOption,
    RoutePrefixOption,
    SystemdSocketOption,
    WebConfigOption,
    parse_external_url,
    parse_peers,
    parse_reload_interval,
    parse_route_prefix,
)
from promad.config import Config
from promad.config.original import find_implied_preset

if TYPE_CHECKING:
    from promad.data.shards import Share

_PORT = Port()

SHARD_VARIABLE = "PROMAD_SHARD"

ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="NUMBER/COUNT",
        help="Watch only this shard of the groups: 0/5 to 4/5, or auto/5 in a StatefulSet.",
        envvar=SHARD_VARIABLE,
    ),
]


def detect(
    context: typer.Context,
    config: ConfigOption = None,
    listen_address: ListenOption = None,
    web_config: WebConfigOption = None,
    open_probes: OpenProbesOption = False,
    external_url: ExternalUrlOption = None,
    peers: PeersOption = None,
    route_prefix: RoutePrefixOption = None,
    enable_lifecycle: LifecycleOption = False,
    enable_remote_write: RemoteWriteOption = False,
    systemd_socket: SystemdSocketOption = False,
    auto_reload: AutoReloadOption = None,
    shard: ShardOption = None,
) -> None:
    """Poll Prometheus, score new samples, and expose the results as metrics.

    Repeat -c FILE to run several detectors in one daemon. SIGHUP and promad reload reload the
    configuration files and the current bundles. SIGTERM and Ctrl-C stop the daemon.

    With --shard, several daemons share the groups out. Each shard has one daemon; auto is the
    number at the end of the host name, so that the pod promad-2 has shard 2.
    """
    share = parse_share(shard)
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
    urls = parse_peers(peers)
    overrides = [] if url is None else [f"web.external_url={url}"]
    overrides += [] if urls is None else [f"web.peers={json.dumps(urls)}"]
    run_detect(
        lambda: load_configs(context, config, overrides),
        port,
        config or context.obj,
        parse_reload_interval(auto_reload),
        share,
    )


def run_detect(
    read: Callable[[], Sequence[Config]],
    port: Port = _PORT,
    paths: Sequence[Path] = (),
    auto_reload_seconds: float | None = None,
    share: Share | None = None,
) -> None:
    """Run the daemon until a signal stops it; a reload calls `read` again.

    Args:
        paths: the files that `read` reads, to warn about what they imply; empty if that is done.
        auto_reload_seconds: how often to look whether they have changed; None for never.
        share: which groups are watched, of several daemons; None for all.
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
    with stage(configs, RealClock(), port.host, port.number, web=options, share=share) as daemon:
        with suppress(OSError):  # nobody may read standard output any more
            print_lines([f"detect: serving on {port.format_url(daemon.port, daemon.secure)}"])
        reload_until_stopped(daemon, reloads, read, Watched(paths, digest), auto_reload_seconds)
    if not daemon.has_ended():
        _exit_at_once()


def read_share() -> Share | None:
    """The share that the environment names; None without it."""
    return parse_share(os.environ.get(SHARD_VARIABLE) or None)


def parse_share(text: str | None) -> Share | None:
    """The share that --shard names; None without it."""
    if text is None:
        return None
    from promad.data.shards import parse_share as parse

    try:
        return parse(text, socket.gethostname())
    except ValueError as error:
        raise typer.BadParameter(f"--shard {text}: {error}") from None


def _exit_at_once() -> None:
    """End the process though a thread is at work: Python's own end would abort with it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)
