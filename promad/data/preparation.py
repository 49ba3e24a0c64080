"""Preparation: from measured values to the windows that a model sees.

Training and serving share it: `preprocess` fits it, the bundle carries it, `detect` applies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config.deviation_rule import DeviationRule
from promad.data.calendar import calendar_columns
from promad.data.deviations import LeastDeviations, find_least, find_weights, read_rules
from promad.data.filling import Filled, FillState, fill, fill_as_it_comes
from promad.data.frame import MetricFrame
from promad.data.gaps import find_runs
from promad.data.possible_range import NO_RANGE, read_possible
from promad.data.scaling import Scaler
from promad.data.valid_range import Range, drop_outside, find_outside, hold_inside, read_ranges
from promad.data.windows import SampleWindows, build_windows

Values = NDArray[np.float64]

REACH = 10.0
"""How far from its centre, in scaled units, a value can count. One further off counts as just
there, so that one feature that hardly moved in training can neither hide all others nor raise the
threshold out of their reach."""


@dataclass(frozen=True)
class Preparation:
    """Everything that turns a frame into windows.

    Attributes:
        features: the columns that are measured, in this order.
        scored: how many of them, from the first, are reproduced and scored; the rest are conditions
            that only tell the model what else was going on.
        step: seconds between samples.
        fill_strategy: the `nan_fill_strategy` word.
        max_fill_steps: the longest gap that is filled, in samples.
        substitutes: what `mean` and `median` fill with, float64 (features,), natural units.
        scaler: fitted on the training part.
        time_features: calendar columns beside the features.
        time_zone: the zone of their clock.
        valid_ranges: the limits of each feature's valid values; empty if there are none.
        possible: the lowest and the highest value that each feature is expected to have, float64
            (2, features), natural units; None in bundles made before it was kept.
        rules: which deviations of each scored feature count; empty if all do.
    """

    features: tuple[str, ...]
    scored: int
    step: float
    fill_strategy: str
    max_fill_steps: int
    substitutes: NDArray[np.float64]
    scaler: Scaler
    time_features: tuple[str, ...]
    time_zone: str
    valid_ranges: tuple[Range, ...] = ()
    possible: Values | None = None
    rules: tuple[DeviationRule, ...] = ()

    @property
    def context(self) -> int:
        """Samples before a window that can decide how its gaps are filled."""
        return self.max_fill_steps

    @property
    def limits(self) -> Values:
        """As `possible`; infinite where nothing is known."""
        unlimited = np.broadcast_to(NO_RANGE, (2, len(self.features)))
        return unlimited if self.possible is None else self.possible

    def drop_outside(self, values: Values) -> Values:
        """Measured values, (..., features), with those outside of their valid range missing.

        Where these are anomalous instead, they are at its limit.
        """
        held = self._is_anomalous_outside
        if not held.any():
            return drop_outside(values, self.valid_ranges)
        inside = drop_outside(values, self.valid_ranges)
        np.copyto(inside, hold_inside(values, self.valid_ranges), where=held)
        return inside

    def find_anomalous(self, values: Values) -> NDArray[np.bool_]:
        """Which scored features are anomalous by their valid range: (..., features) to the same."""
        scored = values[..., : self.scored]
        held = self._is_anomalous_outside
        if not held.any():
            return np.zeros(scored.shape, np.bool_)
        return find_outside(scored, self.valid_ranges[: self.scored]) & held[: self.scored]

    @cached_property
    def _is_anomalous_outside(self) -> NDArray[np.bool_]:
        """Which features are anomalous outside of their valid range: bool (features,)."""
        conditions = len(self.features) - len(self.rules)
        held = [rule.outside == "anomalous" for rule in self.rules]
        return np.array(held + [False] * conditions, np.bool_)

    @cached_property
    def least(self) -> LeastDeviations | None:
        """From which deviation on each scored feature counts; None if all count."""
        return find_least(self.rules)

    def find_ignored(self, scaled: Values, expected: Values) -> NDArray[np.bool_]:
        """Which deviations do not count, of scaled values: (..., scored) to the same shape."""
        if self.least is None:
            return np.zeros(scaled.shape, np.bool_)
        center, scale = self.scaler.center[: self.scored], self.scaler.scale[: self.scored]
        low, high = self.limits[:, : self.scored]
        return self.least.find_ignored(
            scaled * scale + center, np.clip(expected * scale + center, low, high)
        )

    @property
    def weights(self) -> Values | None:
        """How much each scored feature counts, float64 (scored,); None if all count alike."""
        return find_weights(self.rules)

    def fill(self, frame: MetricFrame, group: int = 0) -> Filled:
        """One group's values with short gaps filled, in natural units."""
        values = frame.values[group]
        return fill(values, self.fill_strategy, self.max_fill_steps, self.substitutes)

    def scale(self, frame: MetricFrame, group: int = 0) -> MetricFrame:
        """One group filled, scaled and held within `REACH`; rows no window may hold are NaN."""
        filled = self.fill(frame, group)
        scaled = np.clip(self.scaler.transform(filled.values), -REACH, REACH)
        scaled[~filled.usable] = np.nan
        return MetricFrame(
            frame.start, frame.step, frame.features, (frame.groups[group],), scaled[np.newaxis]
        )

    def scale_as_it_comes(
        self, values: Values, center: Values, scale: Values, substitutes: Values, state: FillState
    ) -> tuple[Values, NDArray[np.bool_]]:
        """Samples filled as they come and scaled, and which values are still missing.

        Both (groups, samples, features). A missing value is at its centre, which is neutral to the
        other features; its own error means nothing.

        Args:
            values: float64 (groups, samples, features) in natural units, NaN where missing.
            center, scale, substitutes: float64 (groups, features), each group's own.
            state: that after the sample before the first; it is moved to the last.
        """
        filled = fill_as_it_comes(
            values, self.fill_strategy, self.max_fill_steps, substitutes, state
        )
        missing = np.isnan(filled)
        with np.errstate(over="ignore"):  # what is too large is clipped
            scaled = filled - center[:, np.newaxis]
            scaled /= scale[:, np.newaxis]
        np.clip(scaled, -REACH, REACH, out=scaled)
        np.copyto(scaled, 0.0, where=missing)
        return scaled, missing

    def find_usable(self, missing: NDArray[np.bool_], required_share: float) -> NDArray[np.bool_]:
        """Which samples have enough scored features: (..., features) to (...,)."""
        if not missing.any():  # nearly always
            return np.ones(missing.shape[:-1], np.bool_)
        known = 1.0 - np.count_nonzero(missing[..., : self.scored], axis=-1) / self.scored
        return np.asarray((known > 0) & (known >= required_share - 1e-9), np.bool_)

    def calendar(self, times: Values) -> NDArray[np.float32]:
        """The calendar columns at times in unix seconds: float32 (samples, columns)."""
        return calendar_columns(times, self.time_features, self.time_zone)

    def windows(self, scaled: Sequence[MetricFrame], length: int) -> SampleWindows:
        """Every window of frames that `scale` made, with the calendar columns on the right."""
        conditions = [self.calendar(frame.times) for frame in scaled]
        return build_windows(scaled, 0, length, conditions)

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same preparation to the last bit."""
        return {
            "features": list(self.features),
            "scored": self.scored,
            "step_seconds": self.step,
            "fill_strategy": self.fill_strategy,
            "max_fill_steps": self.max_fill_steps,
            "substitutes": self.substitutes.tolist(),
            "scaler": self.scaler.to_json(),
            "time_features": list(self.time_features),
            "time_zone": self.time_zone,
            **({"valid_ranges": self.valid_ranges} if self.valid_ranges else {}),
            **({"possible": self.possible.tolist()} if self.possible is not None else {}),
            **({"rules": [rule._asdict() for rule in self.rules]} if self.rules else {}),
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> Preparation:
        """The preparation that `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: if `content` is not such a description.
        """
        found = Preparation(
            features=tuple(content["features"]),
            scored=int(content["scored"]),
            step=float(content["step_seconds"]),
            fill_strategy=str(content["fill_strategy"]),
            max_fill_steps=int(content["max_fill_steps"]),
            substitutes=np.asarray(content["substitutes"], np.float64),
            scaler=Scaler.from_json(content["scaler"]),
            time_features=tuple(content["time_features"]),
            time_zone=str(content["time_zone"]),
            valid_ranges=read_ranges(content.get("valid_ranges", ()), len(content["features"])),
            possible=read_possible(content.get("possible"), len(content["features"])),
            rules=read_rules(content.get("rules", ()), int(content["scored"])),
        )
        of_features = (len(found.features),)
        if not (
            found.substitutes.shape == found.scaler.center.shape == of_features
            and np.isfinite(found.substitutes).all()
            and 0 < found.scored <= len(found.features)
            and 0 < found.step < np.inf
            and found.max_fill_steps >= 0
        ):
            raise ValueError("preparation is out of range, or not of its features")
        return found


def usable_parts(frame: MetricFrame) -> list[MetricFrame]:
    """The stretches of a frame in which nothing is missing in its only group."""
    complete = ~np.isnan(frame.values[0]).any(axis=1)
    return [frame.slice(first, last) for first, last in find_runs(complete)]
