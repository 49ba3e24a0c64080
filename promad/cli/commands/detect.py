"""`promad detect`: the daemon and its signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import typer

from promad.cli.options import ConfigOption, ListenOption, load_configs, parse_listen_address
from promad.cli.output import format_url, print_lines, print_warnings
from promad.cli.web_options import OpenProbesOption, Port, WebConfigOption
from promad.config import Config
from promad.config.original import find_implied_preset

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""What the libraries below numpy call their number of threads."""

_PORT = Port()


def detect(
    context: typer.Context,
    config: ConfigOption = None,
    listen_address: ListenOption = None,
    web_config: WebConfigOption = None,
    open_probes: OpenProbesOption = False,
) -> None:
    """Poll Prometheus, score new samples, and expose the results as metrics.

    Repeat -c FILE to run several detectors in one daemon. SIGHUP reloads the configuration files
    and the current bundles. SIGTERM and Ctrl-C stop the daemon.
    """
    host, port = parse_listen_address(listen_address)
    served = Port(host, port, web_config, open_probes)
    run_detect(lambda: load_configs(context, config), served, config or context.obj)


def run_detect(
    read: Callable[[], Sequence[Config]], port: Port = _PORT, paths: Sequence[Path] = ()
) -> None:
    """Run the daemon until a signal stops it; SIGHUP calls `read` again.

    Args:
        paths: the files that `read` reads, to warn about what they imply; empty if that is done.
    """
    signals = _queue_signals()
    limit_threads()

    from promad.clock import RealClock
    from promad.detection.freed_memory import use_one_arena
    from promad.stages.detect import detect as stage

    use_one_arena()
    configs = read()
    with suppress(OSError):  # nobody may read standard error
        for path, config in zip(paths, configs, strict=False):
            print_warnings(find_implied_preset(path, config))
    options = port.make_options()
    with stage(configs, RealClock(), port.host, port.number, web=options) as daemon:
        with suppress(OSError):  # nobody may read standard output any more
            url = format_url(port.host, daemon.port, secure=daemon.secure)
            print_lines([f"detect: serving on {url}"])
        while signals.get() == signal.SIGHUP:
            daemon.reload(read)
    if not daemon.has_ended():
        _exit_at_once()


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


def _queue_signals() -> SimpleQueue[int]:
    """Where SIGHUP, SIGTERM and SIGINT arrive."""
    arrived: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _: arrived.put(caught))
    return arrived
