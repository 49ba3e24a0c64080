"""Every figure for one set of scores, by name, so that rows of a table can be put side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from promad.evaluation.adjusted import point_adjusted_f1
from promad.evaluation.affiliation import affiliation
from promad.evaluation.agreement import Agreement, Flags, Reals, alarms, share_blind
from promad.evaluation.episodes import Episodes, episode_figures, episodes
from promad.evaluation.explanations import Causes, explained_samples, explained_segments
from promad.evaluation.extents import find_extents
from promad.evaluation.labelled import LabelledData
from promad.evaluation.nab import PROFILES, NabSeries, at_threshold, nab_series
from promad.evaluation.ranges import range_based
from promad.evaluation.ranking import VUS_NARROW_WINDOW, VUS_WINDOW, auc_pr, best_f1, vus
from promad.evaluation.sequences import SequenceCounts, count_sequences

Figures = Mapping[str, float]

FOR_COMPARISON_WITH_PAPERS = "papers_only_"
"""How the names of figures begin that say nothing by themselves."""


@dataclass(frozen=True)
class Judged:
    """Scores of a labelled test part, and the limits that they are held to.

    Attributes:
        scores, limits: float64 (samples,), NaN where unknown.
        contributions: by what features are ranked, float64 (samples, features), NaN where unknown.
        step: seconds between samples.
        enter_after, leave_after: the hysteresis that makes episodes of alarms.
        leave_below: what the recent score must exceed to keep one open, see `Hysteresis`.
        recent: the recent scores, float64 (samples,); None where the scores end episodes.
        errors: what each feature adds to the score, if that is something else: same shape.
        typical: the typical score of normal data.
        plain: the scores as they are if they do not restart where events end, which depends on the
            limits: they are ranked; None if they never restart.
    """

    scores: Reals
    limits: Reals
    contributions: Reals
    step: float
    enter_after: int = 1
    leave_after: int = 1
    leave_below: float | None = None
    recent: Reals | None = None
    typical: float = 0.0
    plain: Reals | None = None

    @property
    def episodes(self) -> Episodes:
        """The events that the scores begin."""
        return episodes(
            self.scores,
            self.limits,
            self.enter_after,
            self.leave_after,
            self.leave_below,
            self.recent,
            self.typical,
        )

    errors: Reals | None = None

    def slice(self, first: int, last: int) -> Judged:
        """Samples `first` to `last` - 1."""
        kept = slice(first, last)
        return replace(
            self,
            scores=self.scores[kept],
            limits=self.limits[kept],
            contributions=self.contributions[kept],
            recent=None if self.recent is None else self.recent[kept],
            errors=None if self.errors is None else self.errors[kept],
            plain=None if self.plain is None else self.plain[kept],
        )


def figures_of(judged: Judged, data: LabelledData, seed: int) -> Figures:
    """Every figure that the data allows, those of `all_figures` first."""
    figures = all_figures(judged, data.labels, data.causes, seed)
    if data.counting == "sequences":
        return {**figures, **sequences_of(judged, data)}
    if (series := nab_of(judged, data)) is not None:
        of_nab = {f"nab_{name}": at_threshold([series], each) for name, each in PROFILES.items()}
        return {**figures, **of_nab}
    return figures


def sequences_of(judged: Judged, data: LabelledData) -> Figures:
    """Counts of the known sequences that episodes found and missed, and of false episodes."""
    found = judged.episodes
    bounds = np.array([(each.start, each.end) for each in data.known_anomalies], np.int64)
    known_starts, known_ends = bounds.reshape(-1, 2).T
    counts = count_sequences(found.starts, found.ends, known_starts, known_ends)
    return {f"sequences_{name}": float(count) for name, count in asdict(counts).items()}


def summed_sequences(rows: Iterable[Figures]) -> SequenceCounts:
    """The counts of several rows that `sequences_of` made, added up."""
    counts = (
        SequenceCounts(*(row[f"sequences_{name}"] for name in ("found", "missed", "false")))
        for row in rows
    )
    return sum(counts, SequenceCounts(0, 0, 0))


def nab_of(judged: Judged, data: LabelledData) -> NabSeries | None:
    """The series as NAB scores it, if its publishers count windows."""
    if data.counting != "windows":
        return None
    windows = [(each.start, each.end) for each in data.known_anomalies if each.kind == "window"]
    starts, ends = np.array(windows, np.int64).reshape(-1, 2).T
    return nab_series(judged.scores, judged.limits, starts, ends, judged.episodes.raised)


def all_figures(judged: Judged, labels: Flags, causes: Causes | None, seed: int) -> Figures:
    """Every figure, NaN where it is not defined.

    The operating point is that of the limits: episodes have the hysteresis, affiliation and ranges
    look at every sample above its limit. `best_f1` and what is only for comparison with papers
    choose their threshold with the labels before them. `seed` is for the random scores that stand
    beside the latter.
    """
    return {
        **_ranking(judged.scores if judged.plain is None else judged.plain, labels),
        **_operating_point(judged, labels),
        **_explanations(judged.contributions, causes),
        **_for_papers(judged.scores, labels, seed),
    }


def _ranking(scores: Reals, labels: Flags) -> Figures:
    volume, narrow = (vus(scores, labels, width) for width in (VUS_WINDOW, VUS_NARROW_WINDOW))
    return {
        "vus_pr": volume.pr,
        "vus_roc": volume.roc,
        "auc_pr": auc_pr(scores, labels),
        f"vus_{VUS_NARROW_WINDOW}_pr": narrow.pr,
        f"vus_{VUS_NARROW_WINDOW}_roc": narrow.roc,
        "best_f1": best_f1(scores, labels),
        "share_blind": share_blind(scores),
    }


def _operating_point(judged: Judged, labels: Flags) -> Figures:
    found = judged.episodes
    scored = int((~np.isnan(judged.scores)).sum())
    seen = episode_figures(found, labels, scored, judged.step)
    alarming = alarms(judged.scores, judged.limits)
    return {
        "event_recall": seen.event_recall,
        "alarm_precision": seen.alarm_precision,
        "event_f1": seen.event_f1,
        "false_episodes_per_week": seen.false_episodes_per_week,
        "delay_median_seconds": seen.median_delay_seconds,
        "delay_p90_seconds": seen.p90_delay_seconds,
        **find_extents(found, labels).summarise(judged.step),
        **_agreement("affiliation", affiliation(alarming, labels)),
        **_agreement("range", range_based(alarming, labels)),
    }


def _agreement(name: str, found: Agreement) -> Figures:
    return {
        f"{name}_precision": found.precision,
        f"{name}_recall": found.recall,
        f"{name}_f1": found.f1,
    }


def _explanations(contributions: Reals, causes: Causes | None) -> Figures:
    if causes is None:
        return {}
    of_samples = asdict(explained_samples(contributions, causes))
    of_segments = asdict(explained_segments(contributions, causes))
    return {
        **{f"sample_{name}": value for name, value in of_samples.items()},
        **{f"segment_{name}": value for name, value in of_segments.items()},
    }


def _for_papers(scores: Reals, labels: Flags, seed: int) -> Figures:
    figures = {}
    for name, more_than in (("point_adjusted_f1", 0.0), ("pa_20_f1", 0.2)):
        adjusted = point_adjusted_f1(scores, labels, seed, more_than)
        figures[FOR_COMPARISON_WITH_PAPERS + name] = adjusted.value
        figures[f"{FOR_COMPARISON_WITH_PAPERS}{name}_of_random"] = adjusted.of_random
    return figures


def mean_figures(rows: Sequence[Figures]) -> Figures:
    """The mean of each figure over the rows that define it; NaN where none does."""
    return _over(rows, np.mean)


def median_figures(rows: Sequence[Figures]) -> Figures:
    """The median of each figure over the rows that define it; NaN where none does."""
    return _over(rows, np.median)


def _over(rows: Sequence[Figures], how: Callable[[Reals], Any]) -> Figures:
    names = dict.fromkeys(name for row in rows for name in row)
    summary = {}
    for name in names:
        values = np.array([row.get(name, np.nan) for row in rows])
        known = values[~np.isnan(values)]
        summary[name] = float(how(known)) if len(known) else float("nan")
    return summary
