"""Checks of the current bundle: whether it can be used, and whether it is still true."""

from __future__ import annotations

from promad.clock import DAY_SECONDS, WEEK_SECONDS
from promad.config import format_duration
from promad.diagnosis.evidence import Budget, Drift, Found
from promad.diagnosis.findings import Fact, Finding, Yield, read_message

OLDEST_SECONDS = 30 * DAY_SECONDS
"""Age from which a bundle is worth a finding."""
DRIFTED_SHARE = 0.1
"""The share of the newest values outside of the training range from which a feature drifted."""
TOO_MANY = 3.0
"""How many times the budget is far too many; from there `detect` raises its threshold."""


def find_damage(found: Found) -> Yield:
    """Why the bundle cannot be used."""
    if found.problem:
        yield read_message("error", found.problem)


def find_misfit(found: Found) -> Yield:
    """Where the bundle and the configuration differ."""
    if found.misfit:
        yield read_message("error", found.misfit)


def find_age(found: Found) -> Yield:
    """A bundle that is old."""
    if found.age_seconds is None:
        return
    seconds = found.age_seconds
    age = format_duration(seconds // 3600 * 3600 or seconds // 60 * 60 or seconds // 1)
    if found.age_seconds <= OLDEST_SECONDS:
        yield Fact(f"bundle {found.name}", f"trained {age} ago")
        return
    days = int(found.age_seconds // DAY_SECONDS)
    yield Finding(
        "warning",
        f"bundle {found.name}",
        f"trained {days} days ago, more than {OLDEST_SECONDS / DAY_SECONDS:.0f}",
        "train again on recent history: promad run",
    )


def find_drift(drift: Drift) -> Yield:
    """Features whose newest values are not those of the training."""
    period = format_duration(round(drift.seconds / 3600) * 3600)
    for feature, share in drift.shares.items():
        if share >= DRIFTED_SHARE:
            yield Finding(
                "warning",
                f"queries.{feature}",
                f"{share:.0%} of its values of the newest {period} are outside of the training "
                "range",
                "train again on recent history (promad run), unless this is an incident",
            )


def find_excess(budget: Budget) -> Yield:
    """More events than the alert budget allows, expected or found."""
    limit = budget.per_week * budget.groups
    acceptable = f"the alert budget is {_count_per_week(limit)}"
    if budget.expected is not None and _exceeds(budget, limit):
        alarms = f"{_format_rate(budget.expected)} false alarms per week"
        yield Finding(
            "warning",
            "real_time_anomaly_detection.alert_budget",
            f"the threshold of the bundle is expected to yield {alarms}"
            f"{_format_interval(budget.interval)}, {acceptable}",
            "train again on a longer period, or raise alert_budget.false_alarms_per_week",
        )
    if budget.count is None or budget.seconds < WEEK_SECONDS:
        return
    rate = budget.count * WEEK_SECONDS / budget.seconds
    days = f"the last {budget.seconds / DAY_SECONDS:.0f} days"
    if rate <= TOO_MANY * limit:
        yield Fact(budget.counted, f"{_count_per_week(rate)} in {days}; {acceptable}")
        return
    yield Finding(
        "warning",
        "real_time_anomaly_detection.alert_budget",
        f"{budget.count} {budget.counted} in {days}, {_count_per_week(rate)}; {acceptable}",
        "if most of them were false alarms, train again on recent history, or raise "
        "alert_budget.false_alarms_per_week",
    )


def _exceeds(budget: Budget, limit: float) -> bool:
    """Whether far too many false alarms are expected, or surely more than the limit."""
    surely = budget.interval is not None and budget.interval[0] > limit
    return surely or (budget.expected or 0.0) > TOO_MANY * limit


def _format_interval(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    low, high = map(_format_rate, interval)
    return f" (90% interval {low} to {high})"


def _count_per_week(rate: float) -> str:
    return f"{_format_rate(rate)} per week"


def _format_rate(rate: float) -> str:
    """A rate to two digits, to whole numbers from 10 on, and 0 below a hundredth.

    >>> _format_rate(1.0), _format_rate(2.345), _format_rate(123.4), _format_rate(4e-7)
    ('1', '2.3', '123', '0')
    """
    return f"{rate:.2g}" if 0.01 <= rate < 10 else f"{rate:.0f}"
