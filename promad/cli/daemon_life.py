"""What processes that serve have in common: signals, reloads, threads."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from promad.config import Config

if TYPE_CHECKING:
    from promad.detection.reloading import ReloadQueue
    from promad.detection.running_detector import RunningDetector

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""What the libraries below numpy call their number of threads."""


def limit_threads() -> None:
    """Let numpy compute on one thread, unless the environment says how many.

    Its libraries read this once, when they are loaded. On the small arrays of a tick, more threads
    only wait for each other, and each of them uses a whole CPU for it.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


def follow_signals(reloads: ReloadQueue) -> None:
    """Let SIGHUP ask for a reload, and SIGTERM and SIGINT end the daemon."""
    signal.signal(signal.SIGHUP, lambda *_: reloads.ask())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reloads.end())


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
