"""Which failures of queries are one fault of the server."""

from __future__ import annotations

from collections.abc import Mapping

from promad.errors import BusyError, PrometheusError, UnreachableError


def find_server_fault(
    failures: Mapping[str, PrometheusError], queries: int
) -> tuple[PrometheusError | None, frozenset[str]]:
    """A failure by the fault of the server, and the aliases of the queries that it hits.

    The server is at fault if it is unreachable or busy, or if all of several queries fail alike.

    Args:
        queries: how many there are, with those that succeeded.
    """
    kinds = (UnreachableError, BusyError)
    hit = [alias for alias, error in failures.items() if isinstance(error, kinds)]
    if not hit and len(failures) == queries > 1 and len(group_by_fault(failures)) == 1:
        hit = list(failures)
    return (failures[hit[0]] if hit else None), frozenset(hit)


def group_by_fault(failures: Mapping[str, PrometheusError]) -> list[list[str]]:
    """The aliases of queries that failed alike, together; in order of first appearance.

    >>> gone, bad = UnreachableError("gone"), PrometheusError("bad", "bad_data")
    >>> group_by_fault({"a": gone, "b": bad, "c": gone})
    [['a', 'c'], ['b']]
    """
    groups: dict[str, list[str]] = {}
    for alias, error in failures.items():
        groups.setdefault(error.fault, []).append(alias)
    return list(groups.values())
