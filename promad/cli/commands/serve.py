"""`promad serve`: the REST API that scores, over bundles that are only read."""

from __future__ import annotations

from contextlib import suppress

import typer

from promad.cli.daemon_life import Watched, follow_signals, limit_threads, reload_until_stopped
from promad.cli.options import ConfigOption, ListenOption, load_configs
from promad.cli.output import print_lines
from promad.cli.web_options import (
    AutoReloadOption,
    LifecycleOption,
    OpenProbesOption,
    Port,
    RoutePrefixOption,
    SystemdSocketOption,
    WebConfigOption,
    parse_reload_interval,
    parse_route_prefix,
)


def serve(
    context: typer.Context,
    config: ConfigOption = None,
    listen_address: ListenOption = None,
    web_config: WebConfigOption = None,
    open_probes: OpenProbesOption = False,
    route_prefix: RoutePrefixOption = None,
    enable_lifecycle: LifecycleOption = False,
    systemd_socket: SystemdSocketOption = False,
    auto_reload: AutoReloadOption = None,
) -> None:
    """Score batches of samples by the REST API. Needs no Prometheus and writes no files.

    Serves /score, /models, /config, /health and /docs for the current bundle of each configuration.
    """
    port = Port.parse(
        listen_address,
        parse_route_prefix(route_prefix, None),
        web_config=web_config,
        open_probes=open_probes,
        enable_lifecycle=enable_lifecycle,
        systemd_socket=systemd_socket,
    )
    interval = parse_reload_interval(auto_reload)

    from promad.detection.reloading import ReloadQueue

    reloads = ReloadQueue()
    follow_signals(reloads)
    limit_threads()

    from promad.clock import RealClock
    from promad.detection.content_watch import digest_files
    from promad.stages.serve import serve as stage

    paths = config or context.obj
    files = Watched(paths, digest_files(paths))
    configs = load_configs(context, config)
    number = port.number
    if number is None:
        number = configs[0].real_time_anomaly_detection.exporter_port
    options = port.make_options(reloads.ask)
    with stage(configs, RealClock(), (port.host, number), options) as (service, opened):
        with suppress(OSError):  # nobody may read standard output any more
            print_lines([f"serve: serving on {port.format_url(opened.number, opened.secure)}"])
        reload_until_stopped(
            service, reloads, lambda: load_configs(context, config), files, interval
        )
