"""`reload`: ask the daemon that runs on a configuration's directory to load what is there now."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from promad.data.shards import list_state_directories
from promad.detection.directory_lock import DaemonStatus, holds_directory, read_status
from promad.errors import PromadError

PATIENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.05


def reload(
    directories: Iterable[Path],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[int]:
    """Let the daemons of these `artifacts_dir` reload; the id of each one's process as it is done.

    Raises:
        PromadError: if none runs in one, it cannot be asked, or the reload failed.
    """
    processes = {
        process: state
        for directory in directories
        for process, state in _find_processes(directory).items()
    }
    for process, directory in processes.items():
        _reload_one(process, directory, now, sleep)
        yield process


def _reload_one(
    process: int, directory: Path, now: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    asked_at = now()
    try:
        os.kill(process, signal.SIGHUP)
    except PermissionError:
        raise _refuse_user(process) from None
    except ProcessLookupError:
        raise _not_running(directory) from None
    while now() - asked_at < PATIENCE_SECONDS:
        sleep(_LOOK_SECONDS)
        status = read_status(directory)
        if status is not None and status.loaded_at >= asked_at:
            _check(status)
            return
        if not _is_held(directory, process):
            raise PromadError(f"process {process} ended during the reload — see its log")
    raise PromadError(
        f"process {process} has not reloaded within {PATIENCE_SECONDS:g} s — see its log"
    )


def _check(status: DaemonStatus) -> None:
    if status.error:
        raise PromadError(
            f"reload failed in process {status.process}, which continues as before: {status.error}"
        )


def _find_processes(directory: Path) -> dict[int, Path]:
    """The processes on an artifacts_dir, of each of its shards, and what each of them holds."""
    states = list_state_directories(directory)
    found = {process: state for state in states if (process := _find_process(state)) is not None}
    if not found:
        raise _not_running(directory)
    return found


def _find_process(directory: Path) -> int | None:
    """The process that holds the directory; never one that only has the same id."""
    status = read_status(directory)
    if status is None or not _is_held(directory, status.process):
        return None
    return status.process


def _is_held(directory: Path, process: int) -> bool:
    try:
        return holds_directory(process, directory)
    except PermissionError:
        raise _refuse_user(process) from None


def _not_running(directory: Path) -> PromadError:
    return PromadError(
        f"{directory}: no promad detect runs on this directory, or in another container — start "
        "it, or run promad reload there"
    )


def _refuse_user(process: int) -> PromadError:
    return PromadError(f"process {process} is of another user — run promad reload as that user")
