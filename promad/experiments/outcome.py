"""The outcome of an evaluation: the rows of every entity and seed, and their means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import promad
from promad.evaluation.bootstrap import bootstrap_means
from promad.evaluation.episodes import MARGIN_SECONDS
from promad.evaluation.figures import (
    Figures,
    mean_figures,
    median_figures,
    summed_sequences,
)
from promad.evaluation.nab import PROFILES, at_threshold, by_event, optimised
from promad.evaluation.ranking import VUS_NARROW_WINDOW, VUS_WINDOW
from promad.evaluation.sequences import SequenceCounts
from promad.experiments.rows import Rows

_PAPER_BETA = 0.5


@dataclass(frozen=True)
class Evaluation:
    """The rows of an evaluation.

    An entity that failed in one row is in none, so that all rows are about the same entities.

    Attributes:
        models: the names of the configured models' rows.
        row_names: those and all others, in the order of the table.
        seeds: every model was trained with each; the linear row does not depend on chance.
        found: entity, then seed, to the rows.
        failed: entity to the one line that says why it failed.
        budgets: false alarms a week at which recall was measured too.
    """

    models: tuple[str, ...]
    row_names: tuple[str, ...]
    seeds: tuple[int, ...]
    found: Mapping[str, Mapping[int, Rows]]
    failed: Mapping[str, str]
    budgets: tuple[float, ...] = ()

    def entity_figures(self, row: str) -> dict[str, Figures]:
        """For each entity the mean over the seeds."""
        return {
            entity: mean_figures([rows[row].figures for rows in by_seed.values()])
            for entity, by_seed in self.found.items()
        }

    def mean(self, row: str) -> Figures:
        """The mean over the entities that define a figure."""
        return mean_figures(list(self.entity_figures(row).values()))

    def intervals(self, row: str) -> dict[str, tuple[float, float]]:
        """90 % of what the mean over entities is when these are drawn anew (bootstrap).

        Only of figures that two or more entities define.
        """
        return bootstrap_means(list(self.entity_figures(row).values()))

    def injected(self, row: str) -> Figures:
        """The mean over entities and seeds of what injected shifts show; empty without any."""
        figures = [rows[row].injected for each in self.found.values() for rows in each.values()]
        return mean_figures([each for each in figures if each])

    def median(self, row: str) -> Figures:
        """The median over the entities that define a figure."""
        return median_figures(list(self.entity_figures(row).values()))

    def sequences(self, row: str) -> SequenceCounts | None:
        """The counts of all entities together, if their publishers count sequences.

        With several seeds it is the mean of their counts.
        """
        counted = [
            figures for figures in self.entity_figures(row).values() if "sequences_found" in figures
        ]
        return summed_sequences(counted) if counted else None

    def nab(self, row: str) -> dict[str, Figures] | None:
        """The NAB scores of all entities together, if their publishers count windows.

        `by_event`, `at_threshold` and `optimised`, by profile; each is the mean over the seeds.
        """
        by_seed = [
            [rows.nab for by_seed in self.found.values() if (rows := by_seed[seed][row]).nab]
            for seed in self.seeds
        ]
        if not all(by_seed):
            return None
        return {
            how.__name__: {
                name: float(np.mean([how(series, profile) for series in by_seed]))
                for name, profile in PROFILES.items()
            }
            for how in (by_event, at_threshold, optimised)
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values; a figure that is not defined is null.

        A mean or median is taken over the entities that define the figure.
        """
        return {
            "promad": promad.__version__,
            "models": list(self.models),
            "seeds": list(self.seeds),
            "entities": list(self.found),
            "failed": dict(self.failed),
            "vus_window_samples": VUS_WINDOW,
            "vus_narrow_window_samples": VUS_NARROW_WINDOW,
            "false_episode_margin_seconds": MARGIN_SECONDS,
            "rows": {row: self._row_to_json(row) for row in self.row_names},
            "budgets": list(self.budgets),
            "injected": {
                row: _to_plain(figures) for row in self.row_names if (figures := self.injected(row))
            },
            "sequences": self._sequences_to_json(),
            "nab": {
                row: {how: _to_plain(figures) for how, figures in scores.items()}
                for row in self.row_names
                if (scores := self.nab(row)) is not None
            },
        }

    def _row_to_json(self, row: str) -> dict[str, Any]:
        return {
            "mean": _to_plain(self.mean(row)),
            "median": _to_plain(self.median(row)),
            "interval_90": {name: list(pair) for name, pair in self.intervals(row).items()},
            "entities": {
                entity: _to_plain(figures) for entity, figures in self.entity_figures(row).items()
            },
            "seeds": {
                entity: {str(seed): _to_plain(rows[row].figures) for seed, rows in by_seed.items()}
                for entity, by_seed in self.found.items()
            },
        }

    def _sequences_to_json(self) -> dict[str, Any]:
        counts = {row: self.sequences(row) for row in self.row_names}
        return {
            row: _to_plain(sequence_figures(each))
            for row, each in counts.items()
            if each is not None
        }


def sequence_figures(counts: SequenceCounts) -> Figures:
    """The counts, and precision, recall and F0.5 of them."""
    return {
        "found": counts.found,
        "missed": counts.missed,
        "false": counts.false,
        "precision": counts.precision,
        "recall": counts.recall,
        "f0.5": counts.f_beta(_PAPER_BETA),
    }


def _to_plain(figures: Figures) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
