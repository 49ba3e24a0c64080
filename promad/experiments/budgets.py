"""Recall against false alarms at several alert budgets, and what the best single limit reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from promad.evaluation.agreement import Flags, Reals
from promad.evaluation.episodes import EpisodeFigures, episode_figures
from promad.evaluation.figures import Figures, Judged
from promad.events.event_levels import event_levels

MOST_LIMITS = 24
"""Limits that are tried to find the best one."""

_WEEK_SECONDS = 7 * 86400.0

JudgeAt = Callable[[Sequence[float]], Sequence[Judged]]
"""Scores held to each of some fixed limits, in the same order."""


def name_figures(budget: float) -> tuple[str, str, str, str]:
    """Names of recall and rate of false episodes at a budget: of the threshold, of the best limit.

    >>> name_figures(1.0)[:2]
    ('budget_1_event_recall', 'budget_1_false_episodes_per_week')
    """
    return (
        f"budget_{budget:g}_event_recall",
        f"budget_{budget:g}_false_episodes_per_week",
        f"best_limit_{budget:g}_event_recall",
        f"best_limit_{budget:g}_false_episodes_per_week",
    )


def compare_budgets(
    by_budget: Sequence[tuple[float, Judged]], labels: Flags, judge_at: JudgeAt
) -> Figures:
    """Recall and false episodes a week at each budget, and of the best single limit within it.

    The best limit is chosen with the labels: no threshold that stays where it is finds more
    segments at so few false episodes.

    Args:
        by_budget: the test part, with the threshold that training chose for each budget.
    """
    if not by_budget:
        return {}
    figures = dict(count_at_budgets(by_budget, labels))
    weeks = _count_weeks(by_budget[0][1])
    most = max(budget for budget, _ in by_budget) * weeks
    limits = propose_limits(by_budget[0][1], labels, most)
    tried = [_count(judged, labels) for judged in judge_at(limits)]
    for budget, _ in by_budget:
        best = _choose_best(tried, budget)
        values = (best.event_recall, best.false_episodes_per_week) if best else (0.0, 0.0)
        figures |= dict(zip(name_figures(budget)[2:], values, strict=True))
    return figures


def count_at_budgets(by_budget: Iterable[tuple[float, Judged]], labels: Flags) -> Figures:
    """Recall and false episodes a week at each budget.

    Args:
        by_budget: the test part, with the threshold that training chose for each budget.
    """
    figures: dict[str, float] = {}
    for budget, judged in by_budget:
        found = _count(judged, labels)
        values = (found.event_recall, found.false_episodes_per_week)
        figures |= dict(zip(name_figures(budget)[:2], values, strict=True))
    return figures


def _count_weeks(judged: Judged) -> float:
    return float((~np.isnan(judged.scores)).sum()) * judged.step / _WEEK_SECONDS


def _count(judged: Judged, labels: Flags) -> EpisodeFigures:
    scored = int((~np.isnan(judged.scores)).sum())
    return episode_figures(judged.episodes, labels, scored, judged.step)


def _choose_best(tried: Sequence[EpisodeFigures], budget: float) -> EpisodeFigures | None:
    within = [each for each in tried if each.false_episodes_per_week <= budget]
    return max(within, key=lambda each: (each.found, -each.false_episodes_per_week), default=None)


def propose_limits(judged: Judged, labels: Flags, most: float) -> list[float]:
    """Limits above which 0 to about `most` events begin in the samples without a label.

    Args:
        judged: its scores are used, not its limits.
    """
    scores = judged.scores[~np.isnan(judged.scores) & ~labels]
    if len(scores) < judged.enter_after + judged.leave_after:
        return [float("inf")]
    levels = event_levels(scores, judged.enter_after, judged.leave_after).lowest_thresholds()
    if not len(levels):
        return [float(scores.max())]
    last = min(int(3 * most) + 1, len(levels) - 1)
    counts = np.unique(np.round(np.geomspace(1, last + 1, MOST_LIMITS)).astype(np.int64)) - 1
    return _keep_positive(levels[counts])


def _keep_positive(limits: NDArray[np.float64]) -> list[float]:
    return [max(limit, float(np.finfo(np.float32).tiny)) for limit in limits.tolist()]


def hold_to(judged: Judged, limits: Sequence[float]) -> list[Judged]:
    """The same scores held to each limit: of scores that do not depend on it."""
    shape: Reals = np.ones(len(judged.scores))
    return [replace(judged, limits=shape * limit) for limit in limits]
