"""What a check yields: findings to act on, and facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]

_REMEDY = " — "
_UNKNOWN_REMEDY = "see docs/troubleshooting.md"


@dataclass(frozen=True)
class Finding:
    """Something to act on.

    Attributes:
        severity: `error` if a stage fails or its results are wrong, `warning` if they are worse
            than they could be.
        subject: the key, query or file.
        found: what is wrong, with the value found.
        remedy: what to do.
    """

    severity: Severity
    subject: str
    found: str
    remedy: str


@dataclass(frozen=True)
class Fact:
    """Something to know that needs no action."""

    subject: str
    text: str


Yield = Iterator[Finding | Fact]
"""What a check yields."""


@dataclass(frozen=True)
class Outcome:
    """What one check has found.

    Attributes:
        check: its name in the table.
        area: what it is about.
        not_checked: why it could not be done, and what to do for it; empty if it was.
    """

    check: str
    area: str
    findings: tuple[Finding, ...] = ()
    facts: tuple[Fact, ...] = ()
    not_checked: str = ""


def read_message(severity: Severity, message: str, subject: str = "") -> Finding:
    """A finding from a line of the form `subject: what is wrong — what to do`.

    Args:
        subject: in place of the one in the line, which may be without it then.

    >>> read_message("error", "load: no series — fix the metric name")
    Finding(severity='error', subject='load', found='no series', remedy='fix the metric name')
    """
    text, dash, remedy = message.rpartition(_REMEDY)
    if not dash:
        text, remedy = message, _UNKNOWN_REMEDY
    if subject:
        return Finding(severity, subject, text.removeprefix(f"{subject}: "), remedy)
    named, _, found = text.partition(": ")
    return Finding(severity, named, found, remedy)
