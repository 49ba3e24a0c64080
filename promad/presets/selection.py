"""Which queries of a preset do not hold on a server, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from promad.config import format_duration
from promad.data.groups import Labels
from promad.prometheus.groups.checking import GroupCheck, name_groups
from promad.prometheus.groups.past import Past
from promad.prometheus.one_series import flatten_text
from promad.prometheus.sample_gaps import ACCEPTED_SHARE

_FEWEST_GROUPS = 0.5
"""The share of the groups that must have a query."""

_TELLING_SECONDS = 86400.0
"""A shorter history does not show whether a value is constant."""


def find_unfit(
    queries: Mapping[str, str],
    by: Sequence[str],
    checks: Sequence[GroupCheck],
    past: Mapping[str, Past],
    seconds: float,
) -> dict[str, str]:
    """By alias why a query is to be left out: in a few words, as a sentence continues.

    Args:
        queries: alias → PromQL.
        by: the labels of a group.
        checks: of each query over the last hour.
        past: of each query over the whole history.
        seconds: the length of the history.
    """
    usable = [check for check in checks if check.problem is None]
    main = _find_main_groups(usable)
    most = max((each.share for each in past.values()), default=0.0)
    unfit = {}
    for check in checks:
        why = (
            _cut_query(check, queries[check.alias])
            or _find_absent_label(check, by)
            or _find_lack(check, main)
            or _find_past_problem(past.get(check.alias), most, seconds)
        )
        if why:
            unfit[check.alias] = why
    return unfit


def _cut_query(check: GroupCheck, expr: str) -> str | None:
    """The problem without the query that has it."""
    if check.problem is None:
        return None
    shown = check.failure.fault if check.failure is not None else check.problem
    return shown.removeprefix(f"query {check.alias}: ").removeprefix(f"{flatten_text(expr)}: ")


def _find_absent_label(check: GroupCheck, by: Sequence[str]) -> str | None:
    """Which label of a group no series has."""
    having = {name for group in check.groups for name, _ in group}
    absent = [name for name in by if name not in having]
    return f"its series have no label {' and no '.join(absent)}" if absent else None


def _find_main_groups(checks: Sequence[GroupCheck]) -> frozenset[Labels]:
    """The groups that have half of the queries; all groups if none has."""
    counts = Counter(group for check in checks for group in check.groups)
    main = frozenset(group for group, count in counts.items() if 2 * count >= len(checks))
    return main or frozenset(counts)


def _find_lack(check: GroupCheck, main: frozenset[Labels]) -> str | None:
    """Why a query does not belong to the groups of the others."""
    having = len(check.groups & main)
    if having >= _FEWEST_GROUPS * len(main):
        return None
    if not having:
        return f"its groups are others ({name_groups(sorted(check.groups))})"
    return f"only {having} of {len(main)} groups {'has' if having == 1 else 'have'} it"


def _find_past_problem(past: Past | None, most: float, seconds: float) -> str | None:
    """What is wrong with a query over the whole history."""
    if past is None:
        return None
    if past.share < (1 - ACCEPTED_SHARE) * most:
        return f"{1 - past.share:.0%} of its values in the history are missing"
    if past.constant is not None and seconds >= _TELLING_SECONDS:
        return f"constant ({past.constant:g}) in the last {format_duration(_round(seconds))}"
    return None


def _round(seconds: float) -> float:
    """To the hour."""
    return round(seconds / 3600) * 3600.0
