"""Scoring of large requests in a process of its own, so that they delay neither ticks nor scrapes.

Parsing and scoring thousands of rows holds the interpreter for tenths of a second at a time. The
process starts with the first large request, and ends after a while without one, which returns its
memory. A request that takes too long ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import structlog
from starlette.exceptions import HTTPException

from promad.detection.running_detector import RunningDetector
from promad.web.lookup import find_group
from promad.web.scoring import SECONDS, find_target, score_request

log = structlog.get_logger()

LARGE_BYTES = 32 * 1024
"""Smaller bodies are scored in a few milliseconds."""

KILL_SECONDS = SECONDS + 15.0
"""A request also has to start the process and load the bundle."""

IDLE_SECONDS = 120.0

Scorer = Callable[[bytes | bytearray, Sequence[RunningDetector]], str]
"""Answers a request to score in JSON; raises HTTPException."""


@dataclass(frozen=True)
class TargetLocation:
    """What the process needs to load the detector of a group."""

    group: str
    bundle: Path
    threshold_value: float | None


@dataclass(frozen=True)
class Refusal:
    """The process refuses the request."""

    status: int
    detail: str
    headers: dict[str, str] | None


@dataclass(frozen=True)
class Failure:
    """The process could not answer because of an unexpected error."""

    kind: str
    message: str


@dataclass(frozen=True)
class Lookup:
    """The process asks for the location of a group."""

    group: str | None


Message = str | Refusal | Failure | Lookup
"""What the process sends: an answer in JSON, or one of the others."""


def score_here(body: bytes | bytearray, running: Sequence[RunningDetector]) -> str:
    """Score in this process."""
    return score_request(body, lambda name: find_target(running, name)).model_dump_json()


class ScoringProcess:
    """Scores large requests in another process, one at a time, and small ones in this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._idle: threading.Timer | None = None

    def score(self, body: bytes | bytearray, running: Sequence[RunningDetector]) -> str:
        """The answer in JSON; see `Scorer`."""
        if len(body) < LARGE_BYTES:
            return score_here(body, running)
        with self._lock:
            try:
                return self._score_there(body, lambda name: _locate(running, name))
            finally:
                self._stop_when_idle()

    def stop(self) -> None:
        """End the process, whether or not it is at work."""
        if self._idle is not None:
            self._idle.cancel()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def _score_there(
        self, body: bytes | bytearray, locate: Callable[[str | None], TargetLocation]
    ) -> str:
        began = time.monotonic()
        watchdog: threading.Timer | None = None
        try:
            if self._worker is None or not self._worker.is_running():
                self.stop()
                self._worker = _start_worker()
            watchdog = _start_timer(KILL_SECONDS, self._worker.process.kill)
            reply = self._worker.exchange(body, locate)
        except (OSError, EOFError) as error:
            self.stop()
            raise _describe_end(time.monotonic() - began, error) from None
        finally:
            if watchdog is not None:
                watchdog.cancel()
        if isinstance(reply, Refusal):
            raise HTTPException(reply.status, reply.detail, reply.headers)
        if isinstance(reply, Failure):
            log.error("scoring failed", error=reply.kind, detail=reply.message)
            raise HTTPException(500, f"internal error ({reply.kind}) — see the log of promad")
        return reply

    def _stop_when_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = _start_timer(IDLE_SECONDS, self._stop_unless_busy)

    def _stop_unless_busy(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                self.stop()
            finally:
                self._lock.release()


@dataclass(frozen=True)
class _Worker:
    """The process, and the connection to it."""

    process: subprocess.Popen[bytes]
    connection: Connection

    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()

    def exchange(
        self, body: bytes | bytearray, locate: Callable[[str | None], TargetLocation]
    ) -> str | Refusal | Failure:
        """Send a request and answer what the process asks; yields its last message."""
        self.connection.send_bytes(body)
        while isinstance(message := self._receive(), Lookup):
            try:
                self.connection.send(locate(message.group))
            except HTTPException:
                self.connection.send(None)
                raise
        return message

    def _receive(self) -> Message:
        message: Message = self.connection.recv()
        return message


def _start_worker() -> _Worker:
    """Start the process with the modules and libraries of this one, on one CPU core."""
    here, there = Pipe()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    code = f"from promad.web.scoring_worker import serve; serve({there.fileno()})"
    with there:
        process = subprocess.Popen(  # noqa: S603 — fixed arguments
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
            env=environment,
            start_new_session=True,  # an interrupt at the terminal is for the daemon
        )
    return _Worker(process, here)


def _start_timer(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    return timer


def _locate(running: Sequence[RunningDetector], name: str | None) -> TargetLocation:
    group = find_group(running, name)
    given = group.served.config.real_time_anomaly_detection.anomaly_threshold_mse
    value = None if given == "auto" else given
    return TargetLocation(group.name, group.served.bundle.directory.absolute(), value)


def _describe_end(seconds: float, error: Exception) -> HTTPException:
    """The refusal of the request during which the process ended."""
    if seconds >= KILL_SECONDS:
        detail = f"scoring took longer than {KILL_SECONDS:g} s — send fewer rows per request"
    else:
        detail = "the scoring process ended unexpectedly — retry later, or send fewer rows"
    log.error("scoring process ended", seconds=round(seconds, 3), error=str(error) or None)
    return HTTPException(503, detail, {"Retry-After": "30"})
