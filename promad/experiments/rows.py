"""Rows of the table: the figures of one model or naive score, for one entity and one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from promad.evaluation.agreement import Flags, Reals, segments
from promad.evaluation.figures import Figures, Judged, figures_of, nab_of
from promad.evaluation.labelled import LabelledData
from promad.evaluation.nab import NabSeries

_POINTS = 2000


@dataclass(frozen=True)
class Chart:
    """Scores and limits for a plot: of each stretch of samples the worst, as plain lists.

    Attributes:
        rows: which samples these are.
        scores, limits: None where the whole stretch is unknown.
        segments: first row and row after the last of each labelled one.
    """

    rows: Sequence[int]
    scores: Sequence[float | None]
    limits: Sequence[float | None]
    segments: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Row:
    """The figures of one row for one entity and one seed.

    Attributes:
        injected: of models, how their events follow injected shifts; empty of naive scores.
        nab: for NAB's windows, what the score over the whole corpus is made of.
        chart: of models; naive scores have none.
        scores: a row for each sample, if they are to be written; not among the plain values.
    """

    figures: Figures
    nab: NabSeries | None = None
    chart: Chart | None = None
    injected: Figures = field(default_factory=dict)
    scores: pa.Table | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN among them, from which `from_json` makes the same row."""
        return {
            "figures": dict(self.figures),
            "nab": None if self.nab is None else self.nab.to_json(),
            "chart": None if self.chart is None else asdict(self.chart),
            "injected": dict(self.injected),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Row:
        """The row that `to_json` has written."""
        nab, chart = content["nab"], content["chart"]
        return Row(
            content["figures"],
            None if nab is None else NabSeries.from_json(nab),
            None if chart is None else Chart(**chart),
            content.get("injected", {}),
        )


Rows = Mapping[str, Row]
"""The rows of a table by name."""


def build_row(judged: Judged, data: LabelledData, seed: int, chart: Chart | None = None) -> Row:
    """The row of scores that are compared with the labels; `seed` is for what chance decides."""
    return Row(figures_of(judged, data, seed), nab_of(judged, data), chart)


def build_chart(judged: Judged, labels: Flags) -> Chart:
    """The chart of scores; a series too long for it keeps its peaks."""
    samples = len(judged.scores)
    bounds = np.unique(np.linspace(0, samples, min(samples, _POINTS) + 1).astype(np.int64))
    excess = np.where(np.isnan(judged.scores), -np.inf, judged.scores / judged.limits)
    rows = [int(start + np.argmax(excess[start:end])) for start, end in pairwise(bounds)]
    return Chart(
        rows,
        _to_plain(judged.scores[rows]),
        _to_plain(judged.limits[rows]),
        np.column_stack(segments(labels)).tolist(),
    )


def _to_plain(values: Reals) -> list[float | None]:
    """To six digits, which are enough for a plot."""
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in values]
