"""Reloads that were asked for, and who carries them out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import structlog

from promad.config import Config
from promad.errors import PromadError

log = structlog.get_logger()

Reload = Future[str]
"""A reload that was asked for; its result is the error, or empty."""


class ReloadQueue:
    """Reloads that were asked for; one thread carries them out, one after the other.

    Signal handlers and any thread may ask.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[Reload | None] = SimpleQueue()
        self._ended = False

    def ask(self) -> Reload:
        """A reload, which is carried out after those before it."""
        reload = Reload()
        self._asked.put(reload)
        return reload

    def end(self) -> None:
        """Let `take` return None, also before reloads that still wait: the daemon is to stop."""
        self._ended = True
        self._asked.put(None)

    def take(self) -> Reload | None:
        """The next reload, once one was asked for that nobody has cancelled; None at the end."""
        while (reload := self._asked.get()) is not None:
            if self._ended:
                return None
            if reload.set_running_or_notify_cancel():
                return reload
        return None


def carry_out(
    read: Callable[[], Sequence[Config]],
    names: Collection[str],
    start: Callable[[Sequence[Config]], None],
) -> tuple[Sequence[Config], str]:
    """Start what `read` returns; what became of it is logged.

    Args:
        names: of the detectors that were started before; a reload cannot change them.

    Returns:
        The configurations, and the error; one of the two is empty.
    """
    try:
        configs = read()
        if {config.name for config in configs} != set(names):
            raise PromadError("reload cannot add or remove detectors; restart promad")
        start(configs)
    except PromadError as error:
        log.error("reload failed", error=str(error))
        return (), str(error)
    except Exception as error:  # what is at work continues, whatever a new configuration meets
        log.exception("reload failed")
        return (), f"{type(error).__name__} — see the log"
    log.info("reloaded")
    return configs, ""
