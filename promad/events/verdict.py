"""`Verdict`: the judgement of one group at one time, which exporter, API and pages publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isnan
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Direction = Literal["above", "below"]


class State(StrEnum):
    """How things stand with a group. Only OK and ANOMALOUS come with a score."""

    WARMING = "warming"
    OK = "ok"
    ANOMALOUS = "anomalous"
    BLIND = "blind"


STATES = tuple(State)
"""The order in which arrays number the states."""

FEATURE_COLUMNS = ("error", "contribution", "observed", "expected", "elevation", "since")
"""What arrays (..., features, 6) hold of a feature, named as in `FeatureView`."""

ERROR, CONTRIBUTION, OBSERVED, EXPECTED, ELEVATION, SINCE = range(len(FEATURE_COLUMNS))

LARGEST_COLUMNS = ("at", "observed", "expected", "elevation")
"""What arrays (..., features, 4) hold of a feature's largest deviation."""


class LargestDeviation(NamedTuple):
    """The sample at which a feature deviated most, in its event if there is one.

    Attributes:
        at: unix seconds.
        observed, expected: in the feature's own units.
        elevation: the error of this sample alone over the baseline.
    """

    at: float
    observed: float
    expected: float
    elevation: float

    @property
    def direction(self) -> Direction:
        """On which side of the expected value the observed one was."""
        return "above" if self.observed >= self.expected else "below"


@dataclass(frozen=True)
class FeatureView:
    """One feature within a verdict.

    Attributes:
        name: the query's alias.
        error: its mean squared error over the window, in scaled units squared.
        contribution: its share of what lies above all features' baselines, 0 to 1; the shares sum
            to 1.
        observed: the newest value, in the feature's own units; NaN if it was not measured, and
            the score has a filled value in its place.
        expected: the value the model would have had there, same units.
        elevation: its smoothed error over its baseline, which it stayed below for 95 % of training:
            above 1 it deviates.
        since: unix seconds since when it has deviated without a break; None if it does not.
        largest: the sample at which it deviated most; None if it does not deviate.
    """

    name: str
    error: float
    contribution: float
    observed: float
    expected: float
    elevation: float = 0.0
    since: float | None = None
    largest: LargestDeviation | None = None

    @property
    def direction(self) -> Direction:
        """On which side of what the model expected the value is, or was when it deviated most."""
        if self.largest is not None:
            return self.largest.direction
        return "above" if self.observed >= self.expected else "below"


@dataclass(frozen=True)
class Verdict:
    """The judgement of one group at one time.

    Attributes:
        at: unix seconds of the sample judged.
        state: how things stand.
        threshold: the limit, in the score's own unit.
        score: None unless `state` is OK or ANOMALOUS: a blind group has no number to show.
        mse: the mean squared error over the window and all features, in scaled units squared.
        plain: whether `score` is just that (`scoring: mse`).
        features: those that are known; empty without a score.
        missing: the scored features that are not known, so that the score rests on the others.
        why: what made the group blind, what it is still warming for, or what is left out.
    """

    at: float
    state: State
    threshold: float
    score: float | None = None
    mse: float | None = None
    plain: bool = False
    features: tuple[FeatureView, ...] = ()
    missing: tuple[str, ...] = ()
    why: str = ""

    @property
    def score_ratio(self) -> float | None:
        """Score over threshold: above 1 is anomalous, whatever the model; None when unknown."""
        return None if self.score is None else self.score / self.threshold

    @property
    def threshold_mse(self) -> float | None:
        """The limit of `mse`; None where something else is held to the threshold."""
        return self.threshold if self.plain else None

    @property
    def known_share(self) -> float | None:
        """The share of the scored features that were measured and are part of the score.

        A value that was filled is not measured. None without a score.
        """
        if self.score is None or not self.features:
            return None
        measured = sum(not isnan(view.observed) for view in self.features)
        return measured / (len(self.features) + len(self.missing))

    @property
    def ranked_features(self) -> tuple[FeatureView, ...]:
        """The features that contribute anything, largest contribution first."""
        contributing = (view for view in self.features if view.contribution > 0)
        return tuple(sorted(contributing, key=lambda view: -view.contribution))

    @property
    def top_features(self) -> tuple[FeatureView, ...]:
        """The three features with the largest contribution, largest first."""
        return self.ranked_features[:3]


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """The same as `dataclasses.asdict`, at a fraction of its cost."""
    return {**vars(verdict), "features": [vars(view) for view in verdict.features]}


def verdict_from_json(content: Mapping[str, Any]) -> Verdict:
    """The verdict that `dataclasses.asdict` took apart.

    Raises:
        KeyError, TypeError, ValueError: if `content` is no verdict.
    """
    return Verdict(
        **{
            **content,
            "state": State(content["state"]),
            "features": tuple(view_from_json(view) for view in content["features"]),
            "missing": tuple(content["missing"]),
        }
    )


def view_from_json(content: Mapping[str, Any]) -> FeatureView:
    """The feature whose fields JSON has by name; what was not kept before is None.

    Raises:
        KeyError, TypeError, ValueError: if `content` is no feature.
    """
    largest = content.get("largest")
    return FeatureView(
        **{**content, "largest": None if largest is None else LargestDeviation(*largest)}
    )


def view_features(
    names: Sequence[str], features: NDArray[np.float64], largest: NDArray[np.float64] | None = None
) -> tuple[FeatureView, ...]:
    """The known features of one group.

    Args:
        features: as `FEATURE_COLUMNS`, (features, 6).
        largest: as `LARGEST_COLUMNS`, (features, 4); NaN for features that do not deviate.
    """
    deviations = [None] * len(features) if largest is None else list_largest(largest)
    return tuple(
        FeatureView(
            name,
            error=error,
            contribution=contribution,
            observed=observed,
            expected=expected,
            elevation=elevation,
            since=None if isnan(since) else since,
            largest=deviation,
        )
        for name, (error, contribution, observed, expected, elevation, since), deviation in zip(
            names, features.tolist(), deviations, strict=False
        )
        if not isnan(elevation)
    )


def list_largest(largest: NDArray[np.float64]) -> list[LargestDeviation | None]:
    """The largest deviation of each feature, from (features, 4)."""
    return [None if isnan(row[0]) else LargestDeviation(*row) for row in largest.tolist()]


def find_unknown(names: Sequence[str], views: Sequence[FeatureView]) -> tuple[str, ...]:
    """The features that are not among those known."""
    known = {view.name for view in views}
    return tuple(name for name in names if name not in known)


def describe_missing(missing: Sequence[str]) -> str:
    """What a score rests on, if not on all features; empty otherwise."""
    return f"scored without {list_names(missing)}" if missing else ""


def list_names(names: Sequence[str]) -> str:
    """The first five names.

    >>> list_names(["a", "b"])
    'a, b'
    """
    return f"{', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"
