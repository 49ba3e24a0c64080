"""Reloads that were asked for, and who carries them out."""

from __future__ import annotations

from concurrent.futures import Future
from queue import SimpleQueue

Reload = Future[str]
"""A reload that was asked for; its result is the error, or empty."""


class ReloadQueue:
    """Reloads that were asked for; one thread carries them out, one after the other.

    Signal handlers and any thread may ask.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[Reload | None] = SimpleQueue()

    def ask(self) -> Reload:
        """A reload, which is carried out after those before it."""
        reload = Reload()
        self._asked.put(reload)
        return reload

    def end(self) -> None:
        """Let `take` return None: the daemon is to stop."""
        self._asked.put(None)

    def take(self) -> Reload | None:
        """The next reload, once one was asked for that nobody has cancelled; None at the end."""
        while (reload := self._asked.get()) is not None:
            if reload.set_running_or_notify_cancel():
                return reload
        return None
