"""A slow, obvious twin of `promad.detection.step`: one group, everything anew at each sample.

It keeps the whole history in lists and computes each score from the definitions, and tracks events
with scalars.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from promad.data.calendar import calendar_columns
from promad.data.preparation import REACH
from promad.events.events import AnomalyEvent
from promad.events.verdict import FeatureView, LargestDeviation, State, Verdict
from promad.scoring.detector import Detector
from promad.scoring.held_errors import find_calm
from tests.support import naive_scoring


@dataclass(frozen=True)
class Tracker:
    """Events of one group: `follow` returns the next tracker and the event that ended."""

    group: str
    enter_after: int
    leave_after: int
    leave_below: float | None = None
    current: AnomalyEvent | None = None
    begun: int = 0
    rising: AnomalyEvent | None = None
    above: int = 0
    below: int = 0
    last_above: float = 0.0
    height: float = 0.0

    def follow(
        self, verdict: Verdict, recent: float | None = None
    ) -> tuple[Tracker, AnomalyEvent | None]:
        """Args: recent: the recent score, if that decides when an event ends."""
        ratio = verdict.score_ratio
        if ratio is None:
            return self, None
        height = ratio if recent is None else recent / verdict.threshold
        is_above = ratio > 1
        is_lasting = is_above if recent is None else recent > self.leave_below * verdict.threshold
        if self.current is None:
            if is_above:
                return self._one_above(verdict, height), None
            return replace(self, rising=None, above=0), None
        if is_lasting:
            seen = replace(self, below=0, last_above=verdict.at)
            if is_above and height > self.height:
                seen = replace(seen, current=replace(self.current, peak=verdict), height=height)
            return seen, None
        if self.below + 1 < self.leave_after:
            return replace(self, below=self.below + 1), None
        ended = replace(self.current, end=self.last_above)
        return replace(self, current=None, below=0), ended

    def _one_above(self, verdict: Verdict, height: float) -> Tracker:
        rising, highest = self.rising, self.height
        if rising is None:
            rising = AnomalyEvent(self.group, verdict.at, verdict.at, None, verdict)
            highest = height
        if height > highest:
            rising, highest = replace(rising, peak=verdict), height
        rising = replace(rising, flagged_at=verdict.at)
        seen = replace(self, below=0, last_above=verdict.at, height=highest)
        if self.above + 1 < self.enter_after:
            return replace(seen, rising=rising, above=self.above + 1)
        return replace(seen, rising=None, above=0, current=rising, begun=self.begun + 1)


@dataclass
class NaiveDetection:
    """One group's detector at work. `limits.follow(score)` is a twin of the threshold's."""

    detector: Detector
    limits: object
    tracker: Tracker
    rows: list = field(default_factory=list)
    times: list = field(default_factory=list)
    deviating: dict = field(default_factory=dict)
    restarts: list = field(default_factory=list)
    held: dict = field(default_factory=dict)
    kept: dict = field(default_factory=dict)

    def step(self, at: float, row: np.ndarray) -> tuple[Verdict, AnomalyEvent | None]:
        """The verdict of one more sample, and the event that ended with it."""
        self.rows.append(row)
        self.times.append(at)
        score, recent, errors, window_errors, expected, in_window, alone = self._score()
        if math.isnan(score):
            limit, self.limits = self.limits.follow(math.nan)
            return self._unscored(at, limit, in_window), None
        by_recent = self.tracker.leave_below is not None
        recent = recent if by_recent else None
        is_held = by_recent and self.tracker.current is not None
        limit, self.limits = self.limits.follow(score, recent, is_held)
        self._hold(score, alone)
        views = self._views(at, errors, window_errors, expected)
        in_event = self.tracker.current is not None or score > limit
        near = in_event or score > 0.3 * limit
        self._keep_largest(at, views if near else (), alone, in_event)
        if not near:
            self.kept = {}
        views = tuple(
            replace(view, largest=self._largest(view.name))
            if near and (view.elevation > 1 or in_event)
            else view
            for view in views
        )
        known = {view.name for view in views}
        gone = tuple(name for name in self.detector.scored_features if name not in known)
        judged = Verdict(
            at,
            State.ANOMALOUS,
            limit,
            score,
            float(np.nanmean(window_errors)),
            self.detector.scoring.method == "mse",
            views,
            gone,
            f"scored without {', '.join(gone)}" if gone else "",
        )
        self.tracker, ended = self.tracker.follow(judged, recent)
        if ended is not None:
            ended = replace(ended, peak=replace(ended.peak, features=tuple(
                replace(view, largest=self._largest(view.name)) for view in ended.peak.features
            )))  # fmt: skip
            self.kept = {}
        if by_recent and ended is not None:
            self.restarts.append(len(self.rows))
        state = State.OK if self.tracker.current is None else State.ANOMALOUS
        return replace(judged, state=state), ended

    def _hold(self, score, alone):
        """Let what is held of each feature fade, unless its errors are larger now."""
        fading = 0.95 if score < find_calm(None, self.detector.threshold.value) else 0.99
        for column, name in enumerate(self.detector.scored_features):
            error = 0.0 if math.isnan(alone[column]) else alone[column]
            self.held[name] = max(self.held.get(name, 0.0) * fading, error)

    def _keep_largest(self, at, views, alone, in_event):
        """Keep of each feature the sample that deviates most."""
        fading = 1.0 if in_event else 0.9
        self.kept = {name: (fading * far, kept) for name, (far, kept) in self.kept.items()}
        for view in views:
            column = self.detector.scored_features.index(view.name)
            distance = view.observed - view.expected
            far, _ = self.kept.get(view.name, (0.0, None))
            needed = 1.5 * abs(far) if in_event and far * distance < 0 else abs(far)
            if abs(distance) > needed and alone[column] > 0:
                elevation = alone[column] / self.detector.scoring.baseline[column]
                kept = LargestDeviation(at, view.observed, view.expected, elevation)
                self.kept[view.name] = (distance, kept)

    def _largest(self, name):
        _, kept = self.kept.get(name, (0.0, None))
        return kept if kept is not None and kept.elevation > 1 else None

    def _unscored(self, at, limit, in_window):
        if in_window == 0 or not self._is_measured():
            names = self.detector.preparation.features
            gone = tuple(
                name for name, value in zip(names, self.rows[-1], strict=True) if math.isnan(value)
            )
            why = f"no sample of {', '.join(gone[:5])}{' and others' if len(gone) > 5 else ''}"
            return Verdict(at, State.BLIND, limit, missing=gone, why=why)
        if in_window < self.detector.length:
            why = f"{in_window} of {self.detector.length} samples of a window"
            return Verdict(at, State.WARMING, limit, why=why)
        return Verdict(at, State.BLIND, limit, why="too few features are known for a score")

    def _is_measured(self):
        """Whether enough scored features have a value of their own in the newest sample."""
        known = [value for value in self.rows[-1][: self.detector.preparation.scored]
                 if not math.isnan(value)]  # fmt: skip
        return self._are_enough(len(known))

    def _are_enough(self, known):
        share = known / self.detector.preparation.scored
        return known > 0 and share >= self.detector.scoring.required_share - 1e-9

    def _views(self, at, errors, window_errors, expected):
        baseline = self.detector.scoring.baseline
        names = self.detector.scored_features
        held = [math.nan if math.isnan(error) else self.held[name]
                for name, error in zip(names, errors, strict=True)]  # fmt: skip
        excess = [max(error - usual, 0.0) for error, usual in zip(held, baseline, strict=True)
                  if not math.isnan(error)]  # fmt: skip
        whole = [error for error in held if not math.isnan(error)]
        parts = iter(excess if sum(excess) > 0 else whole)
        total = sum(excess) if sum(excess) > 0 else sum(whole)
        views, deviating = [], {}
        for column, name in enumerate(self.detector.scored_features):
            if math.isnan(errors[column]):
                continue
            part, elevation = next(parts), errors[column] / baseline[column]
            if elevation > 1:
                deviating[name] = self.deviating.get(name, at)
            views.append(
                FeatureView(
                    name,
                    window_errors[column],
                    part / total if total else 0.0,
                    float(self.rows[-1][column]),
                    expected[column],
                    elevation,
                    deviating.get(name),
                )
            )
        self.deviating = deviating
        return tuple(views)

    def _score(self):
        """Score, recent score, errors by feature, window errors, expected, samples in a row.

        At last the errors of the sample alone, by feature.
        """
        detector, preparation, scoring = (
            self.detector,
            self.detector.preparation,
            (self.detector.scoring),
        )
        values = np.array(self.rows)
        filled = naive_scoring.fill_as_it_comes(
            values, preparation.fill_strategy, preparation.max_fill_steps, preparation.substitutes
        )
        missing = np.isnan(filled)
        scored = preparation.scored
        share = 1 - missing[:, :scored].mean(axis=1)
        usable = (share > 0) & (share >= scoring.required_share - 1e-9)
        scaled = (filled - preparation.scaler.center) / preparation.scaler.scale
        scaled = np.where(missing, 0.0, np.clip(scaled, -REACH, REACH))
        calendar = calendar_columns(
            np.array(self.times), preparation.time_features, preparation.time_zone
        )
        rows = np.hstack([scaled, calendar]).astype(np.float32)
        in_window, length = 0, detector.length
        while in_window < min(length, len(rows)) and usable[len(rows) - 1 - in_window]:
            in_window += 1
        members = len(scoring.normaliser) // scored
        none = np.full(scored, math.nan)
        if in_window < length or not self._is_measured():
            return math.nan, math.nan, none, none, none, in_window, none
        at, errors, last = [], [], None
        for end in range(length, len(rows) + 1):
            measured = (~np.isnan(values[end - 1, :scored])).sum()
            if usable[end - length : end].all() and self._are_enough(measured):
                outcome = detector.model.apply(rows[np.newaxis, end - length : end])
                lacking = missing[end - length : end, :scored].any(axis=0)
                own = outcome.window_errors if scoring.method == "mse" else outcome.errors
                errors.append(np.where(np.tile(lacking, members), math.nan, own[0]))
                at.append(end)
                last = np.where(lacking, math.nan, outcome.window_errors[0]), outcome.expected[0]
        known = (~lacking & ~np.isnan(values[-1, :scored])).sum()
        normalised = np.array(errors) / scoring.normaliser
        smoothed = naive_scoring.recursive_average(
            normalised, at, scoring.span, self.restarts, scoring.recent_samples
        )
        short = naive_scoring.recent_average(normalised, at, scoring.recent_samples or 1)
        score, recent = (
            naive_scoring.score(
                list(each),
                scoring.members,
                scoring.top_k,
                scoring.required_share,
                scoring.compression,
            )
            for each in (smoothed, short)
        )
        if not self._are_enough(known):
            score = recent = math.nan
        by_feature = _by_feature(smoothed, scoring)
        expected = last[1] * preparation.scaler.scale[:scored] + preparation.scaler.center[:scored]
        low, high = preparation.limits[:, :scored]
        expected = np.minimum(np.maximum(expected, low), high)
        alone = _by_feature(smoothed, scoring, normalised[-1])
        return score, recent, by_feature, last[0], expected, in_window, alone


def _by_feature(smoothed, scoring, errors=None):
    errors = smoothed if errors is None else errors
    if scoring.members == 1:
        return errors
    total = np.zeros(len(smoothed) // scoring.members)
    blocks = zip(np.split(smoothed, scoring.members), np.split(errors, scoring.members),
                 strict=True)  # fmt: skip
    for block, added in blocks:
        own = naive_scoring.member_score(
            list(block), scoring.top_k, scoring.required_share, scoring.compression
        )
        weight = math.log1p(own) / own if own > 0 else 1.0
        total = total + added * weight / scoring.members
    return total
