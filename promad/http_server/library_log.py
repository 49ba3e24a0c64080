"""Log lines of uvicorn and asyncio, through our logger, at a limited rate."""

from __future__ import annotations

import logging
from asyncio import CancelledError

import structlog

from promad.http_server.rate_limit import RateLimit

LINES_PER_MINUTE = 5
_MOST_MESSAGES = 100

log = structlog.get_logger()


class LimitedHandler(logging.Handler):
    """Passes records to our logger: five a minute of each message, then their number."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._limits: dict[str, RateLimit] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record. Its first line is the message."""
        if record.exc_info and isinstance(record.exc_info[1], CancelledError):
            return  # a request that the end of the server cut off
        try:  # an error here would reach the server's loop
            message, _, detail = record.getMessage().strip().partition("\n")
            limit = self._find_limit(f"{record.name} {message[:100]}")
            if limit.admit():
                log.log(
                    record.levelno,
                    message,
                    logger=record.name,
                    detail=detail or None,
                    suppressed=limit.take_suppressed() or None,
                    exc_info=record.exc_info,
                )
        except (OSError, TypeError, ValueError):
            return

    def _find_limit(self, message: str) -> RateLimit:
        """The limit of this message; messages beyond the first hundred share one."""
        key = message if message in self._limits or len(self._limits) < _MOST_MESSAGES else ""
        return self._limits.setdefault(key, RateLimit(LINES_PER_MINUTE, 60.0))


def forward_library_logs() -> None:
    """Let warnings and errors of uvicorn and asyncio go through our logger."""
    for name in ("uvicorn", "asyncio"):
        library = logging.getLogger(name)
        if not any(isinstance(handler, LimitedHandler) for handler in library.handlers):
            library.addHandler(LimitedHandler())
