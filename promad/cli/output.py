"""Printing, and the words that several commands share."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal might obey, such as escape sequences in values of labels."""


def print_lines(lines: Iterable[str]) -> None:
    r"""Print each line at once, also into a pipe; control characters as in JSON, `\u001b`."""
    for line in lines:
        print(_escape(line), flush=True)


def print_warnings(lines: Iterable[str]) -> None:
    """Print each line on standard error."""
    for line in lines:
        print(_escape(line), file=sys.stderr, flush=True)


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def format_count(number: int, singular: str, plural: str = "") -> str:
    """A number with its noun.

    >>> format_count(1, "event"), format_count(0, "event"), format_count(2, "query", "queries")
    ('1 event', '0 events', '2 queries')
    """
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def format_ratio(value: float) -> str:
    """A ratio to two digits below 10, else to whole numbers.

    >>> format_ratio(2.46), format_ratio(12.3), format_ratio(1090.4)
    ('2.5', '12', '1,090')
    """
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def format_shares(features: Iterable[tuple[str, float]]) -> str:
    """Names with their shares.

    >>> format_shares([("cpu", 0.75), ("load", 0.2)])
    'cpu 75%, load 20%'
    """
    return ", ".join(f"{name} {share:.0%}" for name, share in features)


def group_names(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each distinct text with the names that have it, in order of first appearance.

    >>> list(group_names({"cpu": "1 missing", "load": "2 missing", "disk": "1 missing"}))
    [('1 missing', 'cpu, disk'), ('2 missing', 'load')]
    """
    for text in dict.fromkeys(texts.values()):
        yield text, ", ".join(name for name, own in texts.items() if own == text)


def format_outside(outside: Mapping[str, int]) -> Iterator[str]:
    """How many samples of each feature were outside of its valid range.

    >>> list(format_outside({"b": 4, "c": 1, "d": 0}))
    ['  valid_range: 4 samples outside in b', '  valid_range: 1 sample outside in c']
    """
    for name, count in outside.items():
        if count:
            yield f"  valid_range: {format_count(count, 'sample')} outside in {name}"


def join_first(texts: Sequence[str], most: int) -> str:
    """The first texts, and how many more there are.

    >>> join_first(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{', '.join(texts[:most])}{more}"


def format_url(host: str, port: int, prefix: str = "", *, secure: bool = False) -> str:
    """The daemon's address for a browser; an empty host is this machine.

    >>> format_url("", 8001), format_url("::1", 8001, "/promad", secure=True)
    ('http://localhost:8001/', 'https://[::1]:8001/promad/')
    """
    shown = f"[{host}]" if ":" in host else host or "localhost"
    return f"http{'s' if secure else ''}://{shown}:{port}{prefix}/"
