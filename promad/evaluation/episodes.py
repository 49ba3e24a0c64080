"""What an operator would have seen: episodes of alarms against labelled segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.clock import WEEK_SECONDS
from promad.evaluation.agreement import Agreement, Flags, Reals, alarms, segments
from promad.events.hysteresis import Hysteresis, find_events

MARGIN_SECONDS = 1800.0
"""An episode this close to a label is no false one: labels begin and end where a person saw it."""


@dataclass(frozen=True)
class Episodes:
    """Alarms as events, all int64 (episodes,), in rows of the scores.

    Attributes:
        starts: the first sample above the limit.
        raised: the sample that made it an event, `enter_after` samples above the limit in a row.
        ends: the row after the last sample that kept it open.
        over: the sample with which it was over, `leave_after` samples later; the row after the
            last one if it is still open.
        peaks: the sample above its limit with the highest recent score over it, or score.
    """

    starts: NDArray[np.int64]
    raised: NDArray[np.int64]
    ends: NDArray[np.int64]
    over: NDArray[np.int64]
    peaks: NDArray[np.int64]


@dataclass(frozen=True)
class EpisodeFigures:
    """How episodes met labelled segments.

    Attributes:
        segments, found: labelled segments, and how many were alarmed for while they lasted.
        episodes, false_episodes: alarms, and how many had no label within the margin.
        false_episodes_per_week: per week of scored samples; NaN if none was scored.
        median_delay_seconds, p90_delay_seconds: from a found segment's first sample to the alarm;
            NaN if none was found.
    """

    segments: int
    found: int
    episodes: int
    false_episodes: int
    false_episodes_per_week: float
    median_delay_seconds: float
    p90_delay_seconds: float

    @property
    def event_recall(self) -> float:
        """The share of segments found; NaN if there are none."""
        return self.found / self.segments if self.segments else float("nan")

    @property
    def alarm_precision(self) -> float:
        """The share of episodes that are not false; NaN if there are none."""
        if self.episodes == 0:
            return float("nan")
        return 1 - self.false_episodes / self.episodes

    @property
    def event_f1(self) -> float:
        """The harmonic mean of alarm precision and event recall."""
        return Agreement(self.alarm_precision, self.event_recall).f1


def episodes(
    scores: Reals,
    limits: Reals,
    enter_after: int = 1,
    leave_after: int = 1,
    leave_below: float | None = None,
    recent: Reals | None = None,
    typical: float = 0.0,
) -> Episodes:
    """The events that scores held to limits begin, by the rule of `promad.events.hysteresis`.

    Samples without a score neither begin nor end an episode. One that is still open at the end
    counts, up to the last sample that kept it open.

    Args:
        leave_below: what the recent score must exceed to keep one open, see `Hysteresis`.
        recent: the recent scores, float64 (samples,); None where the scores decide.
        typical: the typical score of normal data.
    """
    rows, above = np.flatnonzero(~np.isnan(scores)), alarms(scores, limits)
    counters = Hysteresis.begin(len(scores), enter_after, leave_after, leave_below, typical=typical)
    lasting = counters.find_lasting(scores, recent, limits)
    found = find_events(above[rows], enter_after, leave_after, lasting[rows])
    starts, raised, ends = np.asarray(found, np.int64).reshape(-1, 3).T
    over = np.append(rows, len(scores))[np.minimum(ends - 1 + leave_after, len(rows))]
    height = np.where(above, (scores if recent is None else recent) / limits, -np.inf)
    bounds = zip(rows[starts], rows[raised] + 1, rows[ends - 1] + 1, strict=True)
    return Episodes(
        starts=rows[starts],
        raised=rows[raised],
        ends=rows[ends - 1] + 1,
        over=over,
        peaks=np.array([_find_peak(height, lasting, *each) for each in bounds], np.int64),
    )


def _find_peak(height: Reals, lasting: Flags, start: int, opened: int, end: int) -> int:
    """The first of the highest; of those before the event was open, all above the limit count."""
    own = height[start:end].copy()
    own[opened - start :][~lasting[opened:end]] = -np.inf
    return start + int(np.argmax(own))


def episode_figures(
    found: Episodes,
    labels: Flags,
    scored: int,
    step: float,
    margin_seconds: float = MARGIN_SECONDS,
) -> EpisodeFigures:
    """Compare episodes with the labelled segments.

    A segment is found if an episode that has been raised lasts into it; the delay is 0 if it was
    raised before. An episode is false if no sample of it lies within the margin of a label.

    Args:
        scored: how many samples have a score, for the rate of false episodes.
        step: seconds between samples.
    """
    starts, ends = segments(labels)
    delays = _delays(found, starts, ends) * step
    reach = int(margin_seconds / step + 1e-9)
    before = np.concatenate([[0], np.cumsum(labels)])
    first = np.maximum(found.starts - reach, 0)
    last = np.minimum(found.ends + reach, len(labels))
    false = int((before[last] == before[first]).sum())
    median, p90 = np.quantile(delays, [0.5, 0.9]) if len(delays) else (np.nan, np.nan)
    return EpisodeFigures(
        segments=len(starts),
        found=len(delays),
        episodes=len(found.starts),
        false_episodes=false,
        false_episodes_per_week=false * WEEK_SECONDS / (scored * step) if scored else float("nan"),
        median_delay_seconds=float(median),
        p90_delay_seconds=float(p90),
    )


def _delays(
    found: Episodes, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64]:
    """From the start of each segment that was found to its alarm: samples, int64 (found,).

    Episodes follow each other, so the first one that lasts into or past a segment decides.
    """
    if len(found.starts) == 0:
        return np.empty(0, np.int64)
    first = np.searchsorted(found.ends, starts, side="right")
    candidate = found.raised[np.minimum(first, len(found.raised) - 1)]
    at = np.where(first < len(found.raised), np.maximum(candidate, starts), ends)
    return np.asarray((at - starts)[at < ends], np.int64)
