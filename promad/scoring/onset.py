"""`Onsets`: what groups were like before their events began, while an event is open.

A model looks back over a window. After a while that is full of the incident, which then looks
normal; and once the incident is over, it looks anomalous for as long as the window still holds it.
So while an event is open, two things correct the recent score, by which it ends:

- `compare_with_before`: the newest sample is also compared with the window before the onset, and of
  both errors the smaller one counts. What is back to what it was is over.
  That goes on after the event for as long as the window holds any of it, and then is true of the
  score too, so that what is over begins no second event.
- `keep_shifted`: as long as the samples are still more than half as far from the level before the
  onset as its worst sample was, and in the same direction, the incident has not ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.data.rows import Move, move_rows
from promad.scoring.calibration import Calibration
from promad.scoring.detector import Detector, select_errors
from promad.scoring.scores import Scores
from promad.scoring.streaming import Blocks, ScoringState, average_again, average_recent
from promad.thresholds.threshold_state import read_numbers

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

NEWEST = 3
"""So many samples are compared with the level before the onset, and make that level."""
STILL_SHIFTED = 0.5


@dataclass
class Onsets:
    """Of each group what was before the samples that keep an event open; NaN while it is quiet.

    Attributes:
        at: unix seconds of the first of these samples, float64 (groups,).
        level: the scaled values before it, float64 (groups, features).
        shift: how far from that level the sample with the largest error was, of those before the
            event was open, float64 (groups, features).
        largest: that error, as a score, float64 (groups,).
    """

    at: Values
    level: Values
    shift: Values
    largest: Values

    def to_json(self, group: int) -> dict[str, Any] | None:
        """Plain values of one group, from which `resume` continues; None if it is quiet."""
        if np.isnan(self.at[group]):
            return None
        return {
            "at": float(self.at[group]),
            "level": self.level[group].tolist(),
            "shift": self.shift[group].tolist(),
            "largest": float(self.largest[group]),
        }

    def resume(self, group: int, content: Mapping[str, Any] | None) -> None:
        """Continue a group from what `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: if `content` is no such description; nothing has
                changed then.
        """
        if content is None:
            self.at[group] = np.nan
            return
        level, shift = (read_numbers(content[name], name) for name in ("level", "shift"))
        at, largest = float(content["at"]), float(content["largest"])
        if not len(level) == len(shift) == self.level.shape[1]:
            raise ValueError("the onset is one of other features")
        self.level[group], self.shift[group] = level, shift
        self.at[group], self.largest[group] = at, largest

    @staticmethod
    def begin(groups: int, features: int) -> Onsets:
        """All groups are quiet."""
        at, largest = np.full((2, groups), np.nan)
        level, shift = np.full((2, groups, features), np.nan)
        return Onsets(at, level, shift, largest)

    def adopt(self, other: Onsets, move: Move) -> None:
        """Continue the groups that are moved here."""
        move_rows(
            move,
            (other.at, self.at),
            (other.level, self.level),
            (other.shift, self.shift),
            (other.largest, self.largest),
        )

    def forget_shifts(self, rows: Rows) -> None:
        """Let events that begin from now on have a shift of their own."""
        self.largest[rows] = -np.inf

    def find_held(self, at: float, is_open: Flags, seconds: float) -> Rows:
        """The groups whose event is open and began at most so long ago: int64 (rows,)."""
        return np.flatnonzero(is_open & (at - self.at < seconds))

    def follow(
        self,
        detector: Detector,
        scoring: ScoringState,
        sample: int,
        at: float,
        lasting: Flags,
        was_open: Flags,
        stays: Flags,
    ) -> None:
        """Note which groups leave their normal state with a sample, and which are back in it.

        Args:
            sample: its number among those that were scored together.
            at: its unix seconds.
            lasting: whether it keeps an event open, or would; False where it does not count.
            was_open: whether an event was open before the sample.
            stays: where the onset is kept whatever the sample is like, bool (groups,).
        """
        kept = scoring.smoothed
        if kept is None:
            return
        begins = np.flatnonzero(lasting & ~was_open & np.isnan(self.at))
        if begins.size:
            scoring.remember_before(begins, sample)
            before = kept.rows[begins, : sample + detector.length - 1]
            self.level[begins] = self._find_level(before)
            self.at[begins], self.largest[begins] = at, -np.inf
        rising = np.flatnonzero(lasting & ~was_open)
        if rising.size:
            error = detector.scoring.score(kept.errors[rising, sample])
            is_larger = error > self.largest[rising]
            larger = rising[is_larger]
            newest = kept.rows[larger, sample + detector.length - 1]
            self.shift[larger] = newest[:, : self.level.shape[1]] - self.level[larger]
            self.largest[larger] = error[is_larger]
        self.at[~lasting & ~stays] = np.nan

    def _find_level(self, rows: NDArray[np.float32]) -> Values:
        """The mean of the newest scaled samples: (groups, samples, width) to (groups, features)."""
        return np.asarray(rows[:, -NEWEST:, : self.level.shape[1]].mean(axis=1), np.float64)


def compare_with_before(
    detector: Detector,
    calibration: Calibration,
    scoring: ScoringState,
    scores: Scores,
    rows: Rows,
    sample: int,
    over: Flags,
    groups: tuple[Labels, ...],
) -> None:
    """Of the newest errors of some groups and those after the window before the onset, take the
    smaller ones into the short average. Changes recent scores from the sample on.

    Args:
        rows: of the groups; those whose window before the onset is not known are left out.
        over: of which groups, bool (groups,), the event is over: the smaller errors count for the
            score too.
        sample: the number of a sample of the scores.
        groups: all of them.
    """
    kept = scoring.smoothed
    rows = rows[scoring.has_before[rows]]
    if kept is None or not rows.size:
        return
    newest = kept.rows[rows, sample + detector.length - 1]
    windows = np.concatenate([scoring.before[rows], newest[:, np.newaxis]], axis=1)
    place = np.arange(len(rows))
    times = np.full(len(rows), scores.times[sample])
    blocks = Blocks(windows, place, np.zeros_like(place), times, detector.length)
    outcome = detector.apply(blocks, groups, rows)
    errors = detector.scoring.normalise(
        select_errors(outcome, detector.scoring.method), calibration.normaliser[rows]
    )
    kept.short[rows, sample] = np.minimum(kept.short[rows, sample], errors)
    average_recent(detector, calibration, scoring, scores, rows, sample)
    done = rows[over[rows]]
    if done.size:
        kept.errors[done, sample] = kept.short[done, sample]
        average_again(detector, calibration, scoring, scores, done, sample)


def keep_shifted(
    onsets: Onsets,
    calibration: Calibration,
    scoring: ScoringState,
    scores: Scores,
    rows: Rows,
    sample: int,
    limits: Values,
) -> None:
    """Keep the recent score of groups that are still shifted at the limit, if it is below.

    Args:
        limits: of all groups.
    """
    kept = scoring.smoothed
    if kept is None or not rows.size:
        return
    features, length = onsets.level.shape[1], kept.length
    last = sample + length
    newest = kept.rows[rows, max(last - NEWEST, 0) : last, :features].mean(axis=1)
    weighted = onsets.shift[rows] / calibration.normaliser[rows, :features]
    moved = ((newest - onsets.level[rows]) * weighted).sum(axis=1)
    shifted = rows[moved > STILL_SHIFTED * (onsets.shift[rows] * weighted).sum(axis=1)]
    recent = scores.recent[shifted, sample]
    scores.recent[shifted, sample] = np.maximum(recent, limits[shifted])
