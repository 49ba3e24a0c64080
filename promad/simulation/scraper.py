"""What a simulated Prometheus has in its storage: the samples of a target, by selector."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.simulation.noise import Floats
from promad.simulation.selection import Selection, parse_selections
from promad.simulation.targets import Ints, Target

SCRAPE_INTERVAL = 15.0  # seconds

_KEPT_SELECTIONS = 256
_KEPT_SCRAPES = 8
_MOST_KEPT_VALUES = 1_000_000
"""In the answer about all features that is computed at once and kept; more are computed anew."""


@dataclass(frozen=True)
class Choice:
    """The series of one feature that a selector chooses.

    Attributes:
        feature: its column.
        rows: the hosts, in order; None for all.
        metrics: the labels of each host of the target as JSON, in the order of the target's rows;
            templates, so that a `%` is doubled.
    """

    feature: int
    rows: Ints | None
    metrics: NDArray[np.object_]


class Scraper:
    """A target that is scraped at absolute multiples of `interval` seconds, forever.

    Queries are parsed once, and queries at the same times share what is computed for them.
    """

    def __init__(self, target: Target, interval: float = SCRAPE_INTERVAL) -> None:
        self.target, self.interval = target, interval
        self._lock = threading.Lock()
        self._selections: OrderedDict[str, tuple[bool, list[Choice]]] = OrderedDict()
        self._alive: OrderedDict[bytes, Ints] = OrderedDict()
        self._scrapes: OrderedDict[bytes, tuple[Ints, Floats]] = OrderedDict()

    def find_scrapes(self, times: Floats) -> Floats:
        """When the sample was scraped that is the newest at each time."""
        return np.asarray(np.floor(times / self.interval) * self.interval)

    def select(self, promql: str) -> tuple[bool, list[Choice]]:
        """Whether the times are asked for, not the values; and of which series.

        Raises:
            BadDataError: if it is not PromQL, or more than the simulation answers.
        """
        with self._lock:
            return _keep(
                self._selections, promql, lambda: self._find_choices(promql), _KEPT_SELECTIONS
            )

    def read(self, choice: Choice, scraped: Floats) -> tuple[NDArray[np.object_], Floats]:
        """Labels (series,) as templates of JSON, and values (series, samples) at times of scrapes.

        NaN where a host was not scraped; a series may have no other value.
        """
        rows = self._find_alive(scraped)
        if rows.size * scraped.size * len(self.target.features) <= _MOST_KEPT_VALUES:
            rows, everything = self._scrape_all(rows, scraped)
            values = everything[:, :, choice.feature]
            if choice.rows is not None:
                chosen = np.isin(rows, choice.rows)
                rows, values = rows[chosen], values[chosen]
        else:
            rows = rows if choice.rows is None else np.intersect1d(rows, choice.rows)
            values = self.target.values(scraped, rows, [choice.feature])[:, :, 0]
        return choice.metrics[rows], values

    def _find_alive(self, scraped: Floats) -> Ints:
        key = scraped[[0, -1]].tobytes()
        with self._lock:
            return _keep(self._alive, key, lambda: self.target.find_alive(scraped), _KEPT_SCRAPES)

    def _scrape_all(self, rows: Ints, scraped: Floats) -> tuple[Ints, Floats]:
        """The rows, and the values of all features; computed once for those who ask together."""
        columns = range(len(self.target.features))
        with self._lock:
            return _keep(
                self._scrapes,
                scraped.tobytes(),
                lambda: (rows, self.target.values(scraped, rows, columns)),
                _KEPT_SCRAPES,
            )

    def _find_choices(self, promql: str) -> tuple[bool, list[Choice]]:
        selections = parse_selections(promql)
        choices = []
        for selection in selections:
            for feature, name in enumerate(self.target.features):
                if selection.may_match(name):
                    rows = self._match(selection, name)
                    if rows is None or rows.size:
                        metrics = self._dump_metrics(selection, name)
                        choices.append(Choice(feature, rows, metrics))
        return selections[0].wants_times, choices

    def _match(self, selection: Selection, name: str) -> Ints | None:
        """The rows whose series of that name is meant; None for all."""
        meant = [selection.matches({"__name__": name, **each}) for each in self.target.labels]
        return None if all(meant) else np.flatnonzero(meant)

    def _dump_metrics(self, selection: Selection, name: str) -> NDArray[np.object_]:
        named = {} if selection.wants_times else {"__name__": name}
        dumped = [dump_json(selection.reduce({**named, **each})) for each in self.target.labels]
        return np.array([each.replace("%", "%%") for each in dumped], object)


def dump_json(value: Mapping[str, str]) -> str:
    """JSON as Prometheus writes it: without spaces."""
    return json.dumps(value, separators=(",", ":"))


def _keep[Key, Value](
    kept: OrderedDict[Key, Value], key: Key, compute: Callable[[], Value], most: int
) -> Value:
    """The value of a key: what was kept, or what is computed now and kept as the newest."""
    value = kept.pop(key) if key in kept else compute()
    kept[key] = value
    if len(kept) > most:
        kept.popitem(last=False)
    return value
