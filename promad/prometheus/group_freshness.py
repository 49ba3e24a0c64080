"""How old the samples are that the values of each group rest on, in one query for all queries.

See `promad.prometheus.freshness` for why. The answer has the oldest of all sources for each group,
so it is short; which feature it is of is asked only where one is too old.
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


def build_oldest_query(queries: Mapping[str, str], labels: str) -> str | None:
    """PromQL for the unix time of the oldest sample that the values of a group rest on.

    None if no query rests on a sample that a server may repeat.

    >>> print(build_oldest_query({"up": "up", "rate": "rate(x[5m])"}, "instance"))
    max by (instance) (timestamp(up))
    """
    selectors = {selector for expr in queries.values() for selector in find_selectors(expr)}
    asked = [_ask(selector, labels) for selector in sorted(selectors)]
    if len(asked) < 2:
        return asked[0] if asked else None
    return f"min by ({labels}) ({unite_queries(asked)})"


def _ask(selector: Selector, labels: str) -> str:
    newest = f"max by ({labels}) (timestamp({selector.text}))"
    return f"{newest} + {selector.offset:g}" if selector.offset else newest
