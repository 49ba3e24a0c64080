"""`ContentWatch`: a reload when the content of what a daemon was started from has changed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from promad.bundle import BundleStore
from promad.detection.reloading import Reload
from promad.detection.running_detector import Detectors
from promad.files import read_plain

log = structlog.get_logger()

SETTLE_SECONDS = 1.0
RETRY_SECONDS = 60.0
_LARGEST_FILE_BYTES = 2_000_000
"""More than a configuration may have."""


class ContentWatch:
    """Asks for a reload when the content of configuration files or a current bundle has changed.

    Files are read by their names, so a link that leads elsewhere is a change, too.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        served: Detectors,
        ask: Callable[[], Reload],
        in_use: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch `paths`; `in_use` is their digest from before they were read."""
        self._paths, self._served, self._ask, self._now = paths, served, ask, now
        self._in_use = in_use
        self._failed: tuple[str, float] = ("", 0.0)

    def use(self, digest: str) -> None:
        """The files of this digest were loaded."""
        self._in_use = digest

    def run(self, interval_seconds: float, stop: threading.Event) -> None:
        """Look in this interval until `stop` is set."""
        while not stop.wait(interval_seconds):
            before = self._describe_change()
            if before and not stop.wait(SETTLE_SECONDS) and before == self._describe_change():
                self.reload(before)

    def look(self) -> None:
        """Ask for a reload if there is a change, and wait for it."""
        if change := self._describe_change():
            self.reload(change)

    def reload(self, change: str) -> None:
        """Ask for a reload; the same change is tried again after a minute."""
        failed, at = self._failed
        if change == failed and self._now() - at < RETRY_SECONDS:
            return
        log.info("content changed; reloading")
        self._failed = (change, self._now()) if self._ask().result() else ("", 0.0)

    def _describe_change(self) -> str:
        """What differs from what is in use; empty if nothing does."""
        files = digest_files(self._paths)
        bundles = [
            f"{one.config.name} {current}"
            for one in self._served()
            if (current := BundleStore.of(one.config).current_id()) != one.bundle.id
        ]
        return "" if files == self._in_use and not bundles else " ".join([files, *bundles])


def digest_files(paths: Sequence[Path]) -> str:
    """A digest of the files as they are now."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_digest_file(path))
    return digest.hexdigest()


def _digest_file(path: Path) -> bytes:
    """Only of a regular file: what is read from a pipe here would be missing to the reader."""
    try:
        content = read_plain(path, _LARGEST_FILE_BYTES, follow_links=True)
    except OSError:
        return b"missing"
    return hashlib.sha256(content).digest()
