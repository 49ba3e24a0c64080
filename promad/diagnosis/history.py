"""Checks of the collected history: features that add nothing, and samples that are missing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from promad.config import format_duration
from promad.config.durations import format_instant
from promad.data.losses import LARGE_SHARE
from promad.diagnosis.findings import Fact, Finding, Yield
from promad.diagnosis.statistics import History
from promad.prometheus.one_series import format_labels

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

ALIKE = 0.995
"""The correlation from which two features are nearly collinear: they share 99 % of variance."""
MOVE_ALIKE = 0.9
"""The correlation that their changes from sample to sample must have too: two features with a trend
are alike without any connection."""

_FEWEST_SAMPLES = 100
"""Samples that two features must have in common to be compared."""
_SHORTEST_SECONDS = 86400.0
"""History from which a feature that never changes is worth a finding."""
_ROUNDING = 1e-9
_OUTER = (1, 99)
"""Percentiles beyond which values do not count: one burst of two features makes them no pair."""


def find_constant_features(history: History) -> Yield:
    """Features that never changed in any group."""
    if history.seconds < _SHORTEST_SECONDS:
        span = format_duration(round(history.seconds))
        yield Fact("history", f"{span} collected, less than a day: too short for constant features")
        return
    constant = _find_constant(history)
    for column in np.flatnonzero(constant).tolist():
        values = np.unique(history.low[:, column][~np.isnan(history.low[:, column])])
        at = f" at {values[0]:g}" if len(values) == 1 else ""
        yield Finding(
            "warning",
            _name(history, column),
            f"constant{at} for {_format_span(history)}{_in_groups(history)}: any change raises "
            "the score",
            "remove the query, unless a change is an incident",
        )


def find_duplicate_features(history: History) -> Yield:
    """Features with the same values as another one."""
    for column, other, _, same in _find_pairs(history):
        if same:
            yield Finding(
                "warning",
                _name(history, column),
                f"has the same values as {history.features[other]}{_in_groups(history)}, so they "
                "count twice",
                "remove one of the two queries",
            )


def find_collinear_features(history: History) -> Yield:
    """Features that nearly follow from another one."""
    for column, other, correlation, same in _find_pairs(history):
        if not same:
            yield Finding(
                "warning",
                _name(history, column),
                f"nearly collinear with {history.features[other]} (correlation "
                f"{correlation:.3f}{' or more' if len(history.groups) > 1 else ''}"
                f"{_in_groups(history)}), so their deviations count twice",
                "remove one of the two queries, or halve their weight",
            )


def find_missing_features(history: History) -> Yield:
    """Features that are missing for a tenth of the samples or more."""
    rows = int(history.rows.sum())
    shares = 1.0 - history.known.sum(axis=0) / rows
    for column in np.flatnonzero(shares >= LARGE_SHARE).tolist():
        yield Finding(
            "warning",
            _name(history, column),
            f"missing in {_format_share(shares[column])} of the samples of "
            f"{_format_span(history)}{_describe_absence(history, column)}",
            _choose_remedy_for_absence(history, column),
        )


def _choose_remedy_for_absence(history: History, column: int) -> str:
    if not history.groups[0]:
        return "append `or vector(0)` to the expression if no sample means 0, or remove the query"
    if (history.known[:, column] == 0).any():
        return "monitor groups without it by a configuration of their own, or remove the query"
    return "check why its targets are without it, or remove the query"


def find_gaps(history: History) -> Yield:
    """Gaps of whole groups that cost a tenth of the windows or more."""
    gaps = history.gaps
    possible = float(gaps.possible.sum())
    share = float(gaps.lost.sum()) / possible if possible else 0.0
    if share < LARGE_SHARE:
        return
    worst = int(np.argmax(gaps.lost))
    named = f", most of all in {format_labels(history.groups[worst])}" if history.groups[0] else ""
    filled, count = history.max_fill_steps, int(gaps.count.sum())
    noun, verb = ("gap", "costs") if count == 1 else ("gaps", "cost")
    yield Finding(
        "warning",
        str(history.path),
        f"{count} {noun} longer than max_fill_steps ({filled} × {format_duration(history.step)}) "
        f"{verb} {_format_share(share)} of the windows, the longest is "
        f"{format_duration(float(gaps.longest.max()))}{named}",
        "find out why the targets were not scraped, or raise preprocessing_settings.max_fill_steps",
    )


def _name(history: History, column: int) -> str:
    return f"queries.{history.features[column]}"


def _format_span(history: History) -> str:
    """The length of the history, to the hour."""
    return format_duration(round(history.seconds / 3600) * 3600 or round(history.seconds))


def _in_groups(history: History) -> str:
    """In how many groups that is so."""
    looked_at, groups = len(history.groups), history.all_groups
    if not history.groups[0]:
        return ""
    if looked_at < groups:
        return f" in all of {looked_at} groups looked at"
    return " in all groups" if groups > 1 else " in the only group"


def _format_share(share: float) -> str:
    """A share from a tenth on, never rounded up to all.

    >>> _format_share(0.256), _format_share(0.999), _format_share(1.0)
    ('26%', '99%', '100%')
    """
    return f"{min(round(share * 100), 99 if share < 1 else 100)}%"


def _describe_absence(history: History, column: int) -> str:
    """Which groups lack a feature at all, or since when it is there."""
    without = history.known[:, column] == 0
    if len(history.groups) > 1 and without.any():
        first = format_labels(history.groups[int(np.argmax(without))])
        count, verb = int(without.sum()), "has" if without.sum() == 1 else "have"
        return f"; {count} of {len(history.groups)} groups never {verb} it, such as {first}"
    begins = history.begins[:, column]
    if len(history.groups) > 1 or np.isnan(begins).any():
        return ""
    before = round((begins[0] - history.first_row[0]) / history.step)
    missing = history.rows[0] - history.known[0, column]
    return f"; its first value is of {format_instant(begins[0])}" if 2 * before > missing else ""


def _find_constant(history: History) -> Flags:
    """Which features never changed where they have a value: bool (features,)."""
    has = history.known > 1
    size = np.fmax(np.abs(history.low), np.abs(history.high))
    still = ~has | (history.high - history.low <= _ROUNDING * size)
    return np.asarray(still.all(axis=0) & has.any(axis=0), np.bool_)


def _find_pairs(history: History) -> Iterator[tuple[int, int, float, bool]]:
    """Features that follow from an earlier one: both, the correlation, and if they are the same.

    They do so in every group in which both vary, and these are at least half of the groups.
    """
    low, high = correlate(history.sample)
    low_moves, high_moves = correlate(np.diff(history.sample, axis=1))
    with np.errstate(invalid="ignore"):
        alike = (low >= ALIKE) & (low_moves >= MOVE_ALIKE)
        alike |= (high <= -ALIKE) & (high_moves <= -MOVE_ALIKE)
    reported: set[int] = set()
    for column in range(1, len(history.features)):
        earlier = [each for each in range(column) if alike[column, each]]
        first = next((each for each in earlier if each not in reported), None)
        if first is not None:
            reported.add(column)
            weakest = low[column, first] if low[column, first] > 0 else high[column, first]
            yield column, first, float(weakest), _are_same(history.sample, column, first)


def correlate(sample: Values) -> tuple[Values, Values]:
    """The lowest and the highest correlation of each pair in any group, (features, features).

    Values beyond the outer percentiles count as these. NaN for pairs that vary and have enough
    samples in common in less than half of the groups.

    Args:
        sample: float64 (groups, samples, features), NaN where missing.
    """
    known = ~np.isnan(sample)
    held = _hold_within_bulk(sample)
    weights = known.astype(np.float64)
    counts = weights.swapaxes(1, 2) @ weights
    totals = weights.sum(axis=1, keepdims=True)
    centred = np.where(known, held, 0.0)
    centred -= weights * (centred.sum(axis=1, keepdims=True) / np.maximum(totals, 1.0))
    unit = np.abs(centred).max(axis=1, keepdims=True)
    size = np.where(known, np.abs(held), 0.0).max(axis=1, keepdims=True)
    varies = unit > _ROUNDING * size
    centred /= np.where(varies, unit, 1.0)
    products = centred.swapaxes(1, 2) @ centred
    squares = (centred**2).swapaxes(1, 2) @ weights
    both = varies & varies.swapaxes(1, 2) & (counts >= _FEWEST_SAMPLES)
    both &= (squares > 0) & (squares.swapaxes(1, 2) > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = products / np.sqrt(squares * squares.swapaxes(1, 2))
    enough = both.sum(axis=0) >= len(sample) / 2
    lowest = np.where(both, found, np.inf).min(axis=0)
    highest = np.where(both, found, -np.inf).max(axis=0)
    return np.where(enough, lowest, np.nan), np.where(enough, highest, np.nan)


def _hold_within_bulk(sample: Values) -> Values:
    """The values of each feature and group, those beyond the outer percentiles at these."""
    filled = np.where(np.isnan(sample).all(axis=1, keepdims=True), 0.0, sample)
    low, high = np.nanpercentile(filled, _OUTER, axis=1, keepdims=True)
    return np.clip(sample, low, high)


def _are_same(sample: Values, column: int, other: int) -> bool:
    """Whether two features have the same values, up to rounding."""
    one, two = sample[:, :, column], sample[:, :, other]
    return bool(np.nanmax(np.abs(one - two)) <= _ROUNDING * np.nanmax(np.abs(one)))
