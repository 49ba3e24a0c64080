"""Log lines on standard error, in the format of Prometheus."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import PurePath
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

from promad.errors import escape_control_characters


class LogLevel(StrEnum):
    """The least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class LogFormat(StrEnum):
    """The format of a line."""

    LOGFMT = "logfmt"
    JSON = "json"


class LossyStream:
    """A stream for log lines: one that cannot be written is lost, and ends nothing.

    The reader of a pipe may be gone, the disk may be full.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written; how much was asked for."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure_logging(level: LogLevel, format_: LogFormat) -> None:
    """Send every log line to standard error as logfmt or JSON: time, level, msg, then the rest."""
    renderer = (
        structlog.processors.LogfmtRenderer(key_order=["time", "level", "msg"])
        if format_ is LogFormat.LOGFMT
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", key="time"),
            _drop_none,
            structlog.processors.format_exc_info,
            _escape_controls,
            structlog.processors.EventRenamer("msg"),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.name]
        ),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, LossyStream(sys.stderr))),
        cache_logger_on_first_use=False,
    )


def _drop_none(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: value for key, value in event.items() if value is not None}


def _escape_controls(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Values may quote servers and clients; line breaks are left to the format."""
    return {key: _escape_value(value) for key, value in event.items()}


def _escape_value(value: object) -> object:
    if not isinstance(value, str | PurePath | BaseException):
        return value
    return "\n".join(map(escape_control_characters, str(value).split("\n")))
