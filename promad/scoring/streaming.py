"""Scoring samples as they come, for many groups at once.

`score_samples` fills, scales, applies the model to each window that is whole and smooths its
errors. What it must remember between two calls is a `ScoringState`; how the samples are cut into
calls changes nothing but rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from promad.data.filling import FillState
from promad.data.frame import MetricFrame
from promad.data.gaps import count_since
from promad.data.moving_average import Averages, average
from promad.data.newest_rows import NewestRows
from promad.data.rows import Move, move_rows
from promad.data.windows import Inputs
from promad.scoring.calibration import Calibration
from promad.scoring.detector import Detector, select_errors
from promad.scoring.scores import Scores
from promad.scoring.smoothing import Smoothed

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]

SAMPLES_AT_ONCE = 1000
"""Longer frames are scored in pieces of this many samples, which bounds the memory it takes."""


@dataclass
class ScoringState:
    """What scoring remembers of each group; `score_samples` alone changes it.

    Attributes:
        fill: the newest known values.
        rows: the last `length` - 1 prepared samples.
        usable_for: usable samples in a row, int64 (groups, 1).
        known_for: samples since each scored feature was missing, int64 (groups, features).
        averages: of the normalised errors, (groups, members * features).
        recent: the newest errors of which, with the next, the short average is the mean, by which
            events end: (groups, recent_samples - 1, members * features).
        smoothed: what the newest call averaged; None before the first.
        before: the `length` - 1 prepared samples before the newest onset of each group, float32
            (groups, length - 1, width).
        has_before: whether these are known, bool (groups,).
    """

    fill: FillState
    rows: NewestRows
    usable_for: Counts
    known_for: Counts
    averages: Averages
    recent: Values
    before: Inputs
    has_before: Flags
    smoothed: Smoothed | None = None

    @staticmethod
    def begin(detector: Detector, groups: int) -> ScoringState:
        """The state before the first sample."""
        preparation, scoring = detector.preparation, detector.scoring
        width = len(preparation.features) + preparation.calendar(np.zeros(1)).shape[1]
        before = 0 if scoring.recent_samples is None else detector.length - 1
        newest = 0 if scoring.recent_samples is None else scoring.recent_samples - 1
        return ScoringState(
            fill=FillState.begin(groups, len(preparation.features)),
            rows=NewestRows.begin(groups, detector.length - 1, width),
            usable_for=np.zeros((groups, 1), np.int64),
            known_for=np.full((groups, preparation.scored), detector.length),
            averages=Averages.begin(groups, len(scoring.normaliser)),
            recent=np.full((groups, newest, len(scoring.normaliser)), np.nan),
            before=np.zeros((groups, before, width), np.float32),
            has_before=np.zeros(groups, np.bool_),
        )

    def adopt(self, other: ScoringState, move: Move) -> None:
        """Continue the groups that are moved here from another state of the same detector."""
        self.fill.adopt(other.fill, move)
        self.averages.adopt(other.averages, move)
        self.smoothed = None
        self.rows.adopt(other.rows, move)
        move_rows(
            move,
            (other.usable_for, self.usable_for),
            (other.known_for, self.known_for),
            (other.recent, self.recent),
            (other.before, self.before),
            (other.has_before, self.has_before),
        )

    def remember_before(self, rows: Counts, sample: int) -> None:
        """Keep what was before a sample of some groups, by its number in the newest call."""
        if self.smoothed is None:
            return
        span = slice(sample, sample + self.before.shape[1])
        self.before[rows], self.has_before[rows] = self.smoothed.rows[rows, span], True


@dataclass(frozen=True)
class Blocks:
    """Prepared samples of all groups behind one another, as `Windows` cuts them.

    Attributes:
        rows: float32 (groups, length - 1 + samples, width).
        groups, samples: where each whole window ends, int64 (windows,).
        times: unix seconds of each window's last sample, float64 (windows,).
    """

    rows: Inputs
    groups: Counts
    samples: Counts
    times: Values
    length: int

    @property
    def width(self) -> int:
        return int(self.rows.shape[2])

    def __len__(self) -> int:
        return len(self.groups)

    def take(self, indices: Counts) -> Inputs:
        groups, samples, _ = self.rows.shape
        if samples == self.length and len(self) == groups and len(indices):
            first, last = int(indices[0]), int(indices[-1]) + 1
            if np.array_equal(indices, np.arange(first, last)):
                return self.rows[first:last]  # the only windows of these groups
        rows = self.samples[indices][:, np.newaxis] + np.arange(self.length)
        return np.asarray(self.rows[self.groups[indices][:, np.newaxis], rows])

    def place(self, of_windows: Values) -> Values:
        """Rows of all windows at their groups and samples, NaN elsewhere.

        (windows, columns) to float64 (groups, samples, columns), which may be the same memory.
        """
        groups, rows, _ = self.rows.shape
        samples, columns = rows - self.length + 1, of_windows.shape[1]
        if len(self) == groups * samples:
            return np.asarray(of_windows, np.float64).reshape(groups, samples, columns)
        placed = np.full((groups, samples, columns), np.nan)
        placed[self.groups, self.samples] = of_windows
        return placed


def score_samples(
    detector: Detector, calibration: Calibration, state: ScoringState, frame: MetricFrame
) -> Scores:
    """Score samples that follow on those which the state has seen.

    A feature that is missing beyond what is filled is left out of the scores of all windows that
    reach into its gap. There is a score as long as `scoring.required_share` of the features are
    known: measured in the sample itself, not filled, and missing nowhere in its window. Windows
    that end with a sample of which too little was measured are no part of the moving average.

    Args:
        frame: measured values in natural units, NaN where missing; its groups are the rows of
            calibration and state.
        state: is moved to the frame's last sample.
    """
    preparation, scoring = detector.preparation, detector.scoring
    values = preparation.drop_outside(frame.values)
    scaled, missing = preparation.scale_as_it_comes(
        values, calibration.center, calibration.scale, calibration.substitutes, state.fill
    )
    usable = preparation.find_usable(missing, scoring.required_share)
    in_window = _count_usable(usable, state, detector.length)
    lacking = _find_lacking(missing[:, :, : preparation.scored], state, detector.length)
    not_measured = np.isnan(values)
    measured = preparation.find_usable(not_measured, scoring.required_share)
    known = preparation.find_usable(
        lacking | not_measured[:, :, : preparation.scored], scoring.required_share
    )
    ends = (in_window == detector.length) & measured
    windows = _cut_windows(scaled, frame.times, ends, detector, state)
    outcome = detector.apply(windows, frame.groups, windows.groups)

    def place(rows: Values) -> Values:
        """Rows of windows at their groups and samples, NaN elsewhere and where a feature lacks."""
        placed = windows.place(rows)
        if not lacking.any():
            return placed
        repeated = np.tile(lacking, rows.shape[1] // lacking.shape[2])
        return np.where(repeated, np.nan, placed)

    expected = calibration.to_natural(windows.place(outcome.expected))
    errors = scoring.normalise(
        place(select_errors(outcome, scoring.method)), calibration.normaliser[:, np.newaxis]
    )
    if preparation.least is not None:
        known_values = np.where(not_measured, calibration.restore(scaled), values)
        ignored = preparation.least.find_ignored(known_values[:, :, : preparation.scored], expected)
        errors[np.tile(ignored, scoring.members) & ~np.isnan(errors)] = 0.0
    smoothed, recent = _smooth(errors, windows, detector, state)
    unit = calibration.unit[:, np.newaxis]
    unknown = np.full(known.shape, np.nan)
    outside = preparation.find_anomalous(frame.values)
    observed = values[:, :, : preparation.scored]
    return Scores(
        times=frame.times,
        score=np.where(known, scoring.score(smoothed) / unit, np.nan),
        recent=unknown if recent is None else np.where(known, scoring.score(recent) / unit, np.nan),
        errors=_raise_errors(scoring.by_feature(smoothed), outside, calibration.baseline),
        sample_errors=_raise_errors(
            scoring.by_feature(smoothed, errors), outside, calibration.baseline
        ),
        window_errors=place(outcome.window_errors),
        observed=np.where(outside, frame.values[:, :, : preparation.scored], observed)
        if outside.any()
        else observed,
        expected=expected,
        outside=outside,
        missing=not_measured,
        measured=measured,
        in_window=in_window,
    )


_OUTSIDE_ELEVATION = 100.0
"""The error over its baseline of a feature that is anomalous by its valid range, at least."""


def _raise_errors(errors: Values, outside: Flags, baseline: Values) -> Values:
    """The errors, large where a feature is anomalous by its valid range alone."""
    if not outside.any():
        return errors
    large = _OUTSIDE_ELEVATION * baseline[:, np.newaxis]
    return np.where(outside & ~np.isnan(errors), np.fmax(errors, large), errors)


def _smooth(
    errors: Values, windows: Blocks, detector: Detector, state: ScoringState
) -> tuple[Values, Values | None]:
    """The long and the short average of errors; the latter None if the scoring has none."""
    scoring, by_time = detector.scoring, errors.swapaxes(0, 1)
    before = state.averages.take(np.arange(len(errors)))
    smoothed = average(by_time, scoring.span, state.averages).swapaxes(0, 1)
    if scoring.recent_samples is None:
        return smoothed, None
    kept = state.smoothed = Smoothed(
        errors=errors,
        short=errors.copy(),
        rows=windows.rows,
        length=windows.length,
        span=scoring.span,
        averages=before,
        since=np.zeros(len(errors), np.int64),
        recent=state.recent,
    )
    every = slice(None)
    state.recent = kept.find_newest(every)
    return smoothed, kept.average_short(every)


def average_recent(
    detector: Detector,
    calibration: Calibration,
    state: ScoringState,
    scores: Scores,
    rows: Counts,
    sample: int,
) -> None:
    """Average `Smoothed.short` of some groups again; changes recent scores from a sample on."""
    kept, later = state.smoothed, slice(sample, None)
    if kept is None:
        return
    state.recent[rows] = kept.find_newest(rows)
    new = detector.scoring.score(kept.average_short(rows)[:, later])
    _put_known(scores.recent, rows, later, new / calibration.unit[rows, np.newaxis])


def average_again(
    detector: Detector,
    calibration: Calibration,
    state: ScoringState,
    scores: Scores,
    rows: Counts,
    sample: int,
) -> None:
    """Average `Smoothed.errors` of some groups again; changes scores from a sample on."""
    scoring, kept, later = detector.scoring, state.smoothed, slice(sample, None)
    if kept is None:
        return
    smoothed, after = kept.average_long(rows)
    state.averages.put(rows, after)
    new = scoring.score(smoothed[:, later])
    _put_known(scores.score, rows, later, new / calibration.unit[rows, np.newaxis])
    outside, baseline = scores.outside[rows, later], calibration.baseline[rows]
    added = scoring.by_feature(smoothed[:, later])
    alone = scoring.by_feature(smoothed[:, later], kept.errors[rows, later])
    scores.errors[rows, later] = _raise_errors(added, outside, baseline)
    scores.sample_errors[rows, later] = _raise_errors(alone, outside, baseline)


def _put_known(scores: Values, rows: Counts, later: slice, new: Values) -> None:
    scores[rows, later] = np.where(np.isnan(scores[rows, later]), np.nan, new)


def restart_averages(
    detector: Detector,
    calibration: Calibration,
    state: ScoringState,
    scores: Scores,
    rows: Counts,
    sample: int,
) -> None:
    """Let the long averages of some groups restart from the short ones, after a sample.

    So what is over is not remembered: else the long average would be above the limit again at
    once. Changes the scores of later samples.

    Args:
        scores: those that the newest call of `score_samples` gave.
        rows: of the groups, int64 (rows,).
        sample: the number of a sample of the scores.
    """
    if state.smoothed is not None:
        state.smoothed.restart(rows, sample)
        average_again(detector, calibration, state, scores, rows, sample + 1)


def score_frame(detector: Detector, frame: MetricFrame) -> Scores:
    """Score every sample of a frame from its first one on."""
    state = ScoringState.begin(detector, len(frame.groups))
    calibration = detector.calibrate(frame.groups)
    return join_scores(
        [score_samples(detector, calibration, state, part) for part in frame.split(SAMPLES_AT_ONCE)]
    )


def join_scores(parts: list[Scores]) -> Scores:
    """Scores of samples that follow each other as one."""
    joined = {
        field.name: np.concatenate(
            [getattr(part, field.name) for part in parts], axis=int(field.name != "times")
        )
        for field in fields(Scores)
    }
    return Scores(**joined)


def _count_usable(usable: Flags, state: ScoringState, length: int) -> Counts:
    """Usable samples in a row up to each, at most a window's length: (groups, samples)."""
    counts = count_since(~usable[:, :, np.newaxis], state.usable_for)
    state.usable_for = np.minimum(counts[:, -1], length)
    return np.minimum(counts[:, :, 0], length)


def _find_lacking(missing: Flags, state: ScoringState, length: int) -> Flags:
    """Which features are missing anywhere in the window up to each sample: same shape."""
    if not missing.any() and (state.known_for == length).all():
        return np.zeros_like(missing)
    known_for = count_since(missing, state.known_for)
    state.known_for = np.minimum(known_for[:, -1], length)
    return np.asarray(known_for < length, np.bool_)


def _cut_windows(
    scaled: Values, times: Values, ends: Flags, detector: Detector, state: ScoringState
) -> Blocks:
    """The windows that end where `ends` is set; the state keeps what later ones begin with."""
    rows = state.rows.append(scaled, detector.preparation.calendar(times))
    group, sample = np.nonzero(ends)
    return Blocks(rows, group, sample, times[sample], detector.length)
