"""Errors that a user can act on.

`str(error)` is the one line that the command line shows: what failed, on which value, what to do.
"""

from collections.abc import Sequence


def escape_control_characters(text: str) -> str:
    r"""The text as printable characters only: no escape sequence or line break stays as it is.

    >>> escape_control_characters("ok\x1b[31m\nlevel=info")
    'ok\\x1b[31m\\nlevel=info'
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


class PromadError(Exception):
    """The root of every error that promad raises on purpose; ends a command with exit code 1."""

    exit_code = 1

    @property
    def summary(self) -> str:
        """The message that a command shows."""
        return str(self)


class ConfigError(PromadError):
    """The configuration cannot be used; `problems` holds one line for each mistake."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class DataError(PromadError):
    """The data at hand is too little, too broken or not what the stage needs."""


class BundleError(PromadError):
    """A bundle is missing, damaged, or does not fit the configuration."""


FAILURE_REASONS = (
    "unreachable",
    "timeout",
    "too_many_requests",
    "server_error",
    "bad_data",
    "bad_request",
    "execution",
    "unauthorized",
    "not_found",
    "redirect",
    "bad_answer",
    "partial",
    "several_series",
    "not_received",
)
"""Every way in which a poll's query can fail."""

_REASONS_OF_SERVERS = frozenset(
    {"unreachable", "unauthorized", "redirect", "too_many_requests", "not_received"}
)
"""Reasons for which one query fails as any other would."""


class PrometheusError(PromadError):
    """A query failed; `reason` is a short word for counters and labels.

    The message may quote a server, so it is one line of printable text. `fault` is the message
    without the query: it is the same for all queries that fail alike.
    """

    def __init__(self, message: str, reason: str, fault: str = "") -> None:
        super().__init__(escape_control_characters(message))
        self.reason = reason
        self.fault = escape_control_characters(fault or message)

    @property
    def summary(self) -> str:
        """The message; without the query if any other would have failed too."""
        return self.fault if self.reason in _REASONS_OF_SERVERS else str(self)


class UnreachableError(PrometheusError):
    """The server did not answer in time, so asking it the next query now is pointless."""

    def __init__(self, message: str, reason: str = "unreachable", fault: str = "") -> None:
        super().__init__(message, reason, fault)


class BusyError(PrometheusError):
    """The server asked for fewer requests, so the next query now would only add to its load."""
