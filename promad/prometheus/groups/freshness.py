"""Which groups have values that rest on old samples, in one query for all queries.

See `promad.prometheus.freshness` for why. The answer is empty while all samples are fresh; which
feature is concerned is asked only if it is not. `timestamp()`, which gives the age itself, reads
the chunk of each series from its start at every step. A server takes ten times as long for that as
for the values, so only `check-config` asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from promad.prometheus.freshness import Selector, find_selectors, unite_queries


def list_labels(by: Sequence[str], source_labels: Iterable[str]) -> str:
    """The labels that a series needs for its group to be found, as in `by (…)`.

    >>> list_labels(["pod"], ["pod", "namespace"])
    'pod, namespace'
    """
    return ", ".join(dict.fromkeys([*by, *source_labels]))


def build_stale_query(queries: Mapping[str, str], labels: str, stale_after: float) -> str | None:
    """PromQL for the groups of which a value rests on no sample of the last `stale_after` seconds.

    None if no query rests on a sample that a server may repeat.

    >>> print(build_stale_query({"up": "up", "rate": "rate(x[5m])"}, "instance", 60.0))
    count by (instance) (up unless on (instance) last_over_time(up[60001ms]))
    """
    selectors = {selector for expr in queries.values() for selector in find_selectors(expr)}
    if not selectors:
        return None
    asked = (_ask(selector, labels, stale_after) for selector in sorted(selectors))
    return f"count by ({labels}) ({' or '.join(asked)})"


def _ask(selector: Selector, labels: str, stale_after: float) -> str:
    """A sample exactly as old as allowed is fresh, also where ranges do not include their start."""
    text, offset = selector.text, ""
    if selector.offset:
        text, separator, offset = selector.text.rpartition(" offset ")
        offset = separator + offset
    recent = f"last_over_time({text}[{round(1000 * stale_after) + 1}ms]{offset})"
    return f"{selector.text} unless on ({labels}) {recent}"


def build_oldest_query(expr: str, labels: str) -> str | None:
    """PromQL for the unix time of the oldest sample that the value of a group rests on.

    None if the expression rests on no sample that a server may repeat.

    >>> print(build_oldest_query("up", "instance"), build_oldest_query("rate(x[5m])", "instance"))
    max by (instance) (timestamp(up)) None
    """
    asked = [_ask_newest(selector, labels) for selector in sorted(set(find_selectors(expr)))]
    if len(asked) < 2:
        return asked[0] if asked else None
    return f"min by ({labels}) ({unite_queries(asked)})"


def _ask_newest(selector: Selector, labels: str) -> str:
    newest = f"max by ({labels}) (timestamp({selector.text}))"
    return f"{newest} + {selector.offset:g}" if selector.offset else newest
