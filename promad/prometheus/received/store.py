"""`SampleStore`: the newest received samples of a detector, on the grid of its samples."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Grouping, Labels, sort_labels

Numbers = NDArray[np.int64]
Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

OUT_OF_ORDER_SECONDS = 300.0
"""How late a sample may come; what is older is queried after an outage."""
FUTURE_SECONDS = 60.0
"""How far a sample may be ahead of the clock."""
LOOKBACK_SECONDS = 300.0
"""For how long Prometheus repeats the last sample of a series."""

_FEWEST_SERIES = 64
_NEVER = np.iinfo(np.int64).min // 2
_WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class StoreOptions:
    """What a store holds.

    Attributes:
        features: the aliases of the queries.
        grouping: which group each series belongs to.
        step: seconds from one grid time to the next.
        stale_after: the age in seconds above which a sample is too old, if it is above the step.
        most_series: series that are held at most.
    """

    features: tuple[str, ...]
    grouping: Grouping
    step: float
    stale_after: float
    most_series: int


class Placed(NamedTuple):
    """What became of samples: how many were placed, came too late, or lie in the future."""

    taken: int
    too_old: int
    in_future: int


class Slots(NamedTuple):
    """What is known at consecutive grid times.

    Attributes:
        values: float64 (times, series); NaN where the newest sample is one, or ends the series.
        known: bool (times, series): whether there is a sample that is not too old.
        features: the number of the feature of each series, int64 (series,).
        groups: the group of each series, and of later ones.
        changes: how often series were forgotten, which gives others their places.
    """

    values: Values
    known: Flags
    features: Numbers
    groups: Sequence[Labels]
    changes: int


class SampleStore:
    """The newest sample of each series up to each grid time, of the last minutes.

    A grid time t has number t / step. A sample belongs to the first one that is not before it; of
    several, the newest counts. So a value is what an instant query at t would return. Any thread
    may call any method.
    """

    def __init__(self, options: StoreOptions) -> None:
        step_ms = 1000.0 * options.step
        self.options = options
        self._groups: list[Labels] = []
        self._feature_of: list[int] = []
        self._changes = 0
        self._features = {alias: number for number, alias in enumerate(options.features)}
        self._step_ms = step_ms
        age = max(options.step, min(options.stale_after, LOOKBACK_SECONDS))
        self._age_ms = 1000.0 * age  # a rule is evaluated up to one step before a grid time
        self._lookback = floor(self._age_ms / step_ms) + 1
        self._late = ceil(OUT_OF_ORDER_SECONDS / options.step)
        slots = self._late + self._lookback + ceil(FUTURE_SECONDS / options.step) + 2
        self._times = np.full((slots, _FEWEST_SERIES), _NEVER, np.int64)
        self._values = np.full((slots, _FEWEST_SERIES), np.nan)
        self._counts: dict[int, int] = {}
        self._number_of: dict[tuple[str, Labels], int] = {}
        self._touched: int | None = None
        self._newest = _NEVER
        self._arrived = threading.Condition(threading.RLock())

    def add(self, alias: str, labels: Mapping[str, str]) -> int | None:
        """The number of a series of a query, by its other labels; None if it is not wanted."""
        feature = self._features.get(alias)
        series = sort_labels(labels)
        with self._arrived:
            number = self._number_of.get((alias, series))
            if number is not None:
                return number
            if feature is None or len(self._groups) >= self.options.most_series:
                return None
            group = self.options.grouping.find_new_group(series)
            if group is None:
                return None
            number = self._number_of[alias, series] = len(self._groups)
            self._groups.append(group)
            self._feature_of.append(feature)
            self._grow(number + 1)
        return number

    def _grow(self, series: int) -> None:
        width = self._times.shape[1]
        if series > width:
            self._times = _resize(self._times, 2 * width, _NEVER)
            self._values = _resize(self._values, 2 * width, np.nan)

    def place(self, series: Numbers, times: Numbers, values: Values, now: float) -> Placed:
        """Place samples; one that is there already changes nothing. An infinity is no value.

        Args:
            series: the number of the series of each sample, (samples,).
            times: unix milliseconds, (samples,).
            values: (samples,).
            now: unix seconds.
        """
        slots = np.ceil(times / self._step_ms - 1e-9).astype(np.int64)
        values = np.where(np.isinf(values), np.nan, values)
        latest = 1000 * (now + FUTURE_SECONDS)
        with self._arrived:
            old = slots < floor(1000 * now / self._step_ms) - self._late
            future = times > latest
            good = np.flatnonzero(~(old | future))
            if good.size:
                self._forget_after(latest)
                order = good[::-1]  # of two samples at one time, the first is written last
                order = order[np.argsort(times[order], kind="stable")]
                self._write(series[order], slots[order], times[order], values[order])
                self._newest = max(self._newest, int(times[order[-1]]))
                self._arrived.notify_all()
        return Placed(good.size, int(np.count_nonzero(old)), int(np.count_nonzero(future)))

    def _forget_after(self, latest: float) -> None:
        """Forget samples that lie in the future now that the clock was set back.

        Requests that are read at once have times a little apart.
        """
        if self._newest > latest + 1000 * FUTURE_SECONDS:
            self._times[self._times > latest] = _NEVER
            self._newest = int(self._times.max())
            self._counts.clear()

    def _write(self, series: Numbers, slots: Numbers, times: Numbers, values: Values) -> None:
        """Write samples in order of time: the last one of a cell counts."""
        rows = slots % len(self._times)
        before = self._times[rows, series]
        newer = times > before
        if not newer.all():
            series, slots, times = series[newer], slots[newer], times[newer]
            values, rows, before = values[newer], rows[newer], before[newer]
        if not len(series):
            return
        self._times[rows, series] = times
        self._values[rows, series] = values
        first = int(slots.min())
        self._touched = first if self._touched is None else min(first, self._touched)
        fresh = before <= (slots - 1) * self._step_ms
        self._count(slots[fresh], series[fresh])

    def _count(self, slots: Numbers, series: Numbers) -> None:
        """Count the series that now have a sample at a grid time."""
        cells = np.unique(slots * self._times.shape[1] + series) // self._times.shape[1]
        found, counts = np.unique(cells, return_counts=True)
        for slot, count in zip(found.tolist(), counts.tolist(), strict=True):
            self._counts[slot] = self._counts.get(slot, 0) + count
        while len(self._counts) > len(self._times):
            del self._counts[min(self._counts)]

    def wait(self, slot: int, seconds: float, stop: threading.Event) -> None:
        """Wait until as many series have a sample at a grid time as at the one before."""
        deadline = time.monotonic() + seconds
        with self._arrived:
            while self._counts.get(slot, 0) < self._counts.get(slot - 1, 0) and not stop.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._arrived.wait(min(left, _WAIT_SECONDS))

    @property
    def kept(self) -> int:
        """How many grid times up to the newest one are held of each series."""
        return self._late

    @property
    def newest(self) -> float | None:
        """Unix seconds of the newest sample; None before the first."""
        return None if self._newest == _NEVER else self._newest / 1000

    def take_touched(self) -> int | None:
        """The first grid time with a sample that came since the last call; None if none came."""
        with self._arrived:
            touched, self._touched = self._touched, None
        return touched

    def read(self, first: int, last: int) -> Slots:
        """What is known at the grid times from `first` to `last`, both included."""
        with self._arrived:
            series = len(self._groups)
            values = np.full((last - first + 1, series), np.nan)
            known = np.zeros(values.shape, np.bool_)
            for place in range(len(values)):
                self._look_back(first + place, values[place], known[place])
            features = np.array(self._feature_of, np.int64)
            return Slots(values, known, features, self._groups, self._changes)

    def _look_back(self, slot: int, values: Values, known: Flags) -> None:
        """Fill in the newest sample of each series that is not after a grid time."""
        oldest = slot * self._step_ms - self._age_ms
        for earlier in range(slot, slot - self._lookback - 1, -1):
            row = earlier % len(self._times)
            times = self._times[row, : len(values)]
            begin, end = (earlier - 1) * self._step_ms, earlier * self._step_ms
            found = ~known & (times > begin) & (times <= end) & (times >= oldest)
            np.copyto(values, self._values[row, : len(values)], where=found)
            known |= found
            if known.all():
                return

    def forget_ended(self) -> bool:
        """Forget series without a sample in all that is held; whether it did.

        Few are left until there is no room for others.
        """
        with self._arrived:
            series = len(self._groups)
            newest = self._times[:, :series].max(axis=0, initial=_NEVER)
            limit = max(_NEVER, self._newest - self._step_ms * len(self._times))
            kept = np.flatnonzero(newest > limit)
            few = 0 if series >= self.options.most_series else max(_FEWEST_SERIES, series // 4)
            if series - len(kept) <= few:
                return False
            self._keep(kept.tolist())
        return True

    def _keep(self, kept: Sequence[int]) -> None:
        numbers = {old: new for new, old in enumerate(kept)}
        self._groups = [self._groups[each] for each in kept]
        self._feature_of = [self._feature_of[each] for each in kept]
        self._number_of = {
            series: numbers[old] for series, old in self._number_of.items() if old in numbers
        }
        width = self._times.shape[1]
        while width // 2 >= max(_FEWEST_SERIES, 2 * len(kept)):
            width //= 2
        self._times = _resize(self._times[:, list(kept)], width, _NEVER)
        self._values = _resize(self._values[:, list(kept)], width, np.nan)
        self._changes += 1


def _resize[Number: (np.int64, np.float64)](
    held: NDArray[Number], width: int, missing: float
) -> NDArray[Number]:
    """A copy with more series, of which there is nothing: (slots, width)."""
    wider = np.full((len(held), width), missing, held.dtype)
    wider[:, : held.shape[1]] = held
    return wider
