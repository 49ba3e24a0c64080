"""Which group of a detector a name means."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from promad.bundle import Opened
from promad.data.groups import Labels, list_matchers, name_group
from promad.detection.group_replay import make_poll_options
from promad.errors import DataError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.polling import GroupPoller

_MOST_NAMED = 5
_SAMPLES = 10


def find_labels(opened: Opened, name: str | None, at: float) -> Labels:
    """The labels of a group by its name: `web{instance="a"}`, `instance="a"` or `a`.

    Groups that were not trained on are looked up in Prometheus.

    Args:
        name: None means the only group.
        at: unix seconds near which the group has samples.

    Raises:
        DataError: if no group has the name, or several have.
        PrometheusError: if a query fails.
    """
    detector, table = opened.config.name, opened.detector.table
    trained = () if table is None else table.groups
    found = match_name(detector, trained, name) if name is not None else []
    known: tuple[Labels, ...] = trained
    if not found:
        known = tuple(dict.fromkeys((*trained, *_list_groups(opened, at))))
        found = list(known) if name is None else match_name(detector, known, name)
    if len(found) == 1:
        return found[0]
    shown = _list_names(detector, found or known)
    if name is None:
        if not found:
            raise DataError(f"{detector}: no query returns a series — choose another time")
        raise DataError(f"{detector} has {len(found)} groups — name one with --group: {shown}")
    if not found:
        raise DataError(f"unknown group {name} — use one of {shown or 'none'}")
    raise DataError(f"{len(found)} groups match {name} — use one of {shown}")


def match_name(detector: str, groups: Iterable[Labels], name: str) -> list[Labels]:
    """The groups with a name, in full, as its labels, or as one of its label values.

    >>> groups = [(("instance", "a"), ("job", "node")), (("instance", "b"), ("job", "node"))]
    >>> match_name("web", groups, "a") == match_name("web", groups, 'instance="a", job="node"')
    True
    >>> len(match_name("web", groups, "node"))
    2
    """
    listed = list(groups)
    exact = [
        labels for labels in listed if name in {name_group(detector, labels), list_matchers(labels)}
    ]
    return exact or [labels for labels in listed if name in dict(labels).values()]


def _list_groups(opened: Opened, at: float) -> tuple[Labels, ...]:
    """The groups that have samples shortly before a time."""
    config = opened.config
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        poll = GroupPoller(client, make_poll_options(config, _SAMPLES)).poll(at)
    for failure in poll.failures.values():
        raise failure
    return poll.frame.groups


def _list_names(detector: str, groups: Iterable[Labels]) -> str:
    names = [name_group(detector, labels) for labels in groups]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"
