"""The time that `mute` leaves out of training: what is muted is not normal.

Periods and windows by the clock are computed; what a query muted is in the collected file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config.durations import parse_instant
from promad.config.mute_settings import Mute
from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.errors import DataError
from promad.events.events import read_labels
from promad.events.mute_windows import Window, list_windows
from promad.events.mutes import MarkedSeries, MuteMarks, choose_groups
from promad.files import DAMAGED
from promad.training.exclusion import Excluded, flag_inside, list_excluded


class MutedTime:
    """The samples of groups that were muted.

    Args:
        marks: when the series of each query muted.

    Raises:
        DataError: if a query has no marks.
    """

    def __init__(self, entries: Sequence[Mute], marks: MuteMarks) -> None:
        for entry in entries:
            if entry.query is not None and entry.query not in marks:
                raise DataError(
                    f"collected without the query {entry.query} of mute — run promad collect again"
                )
        self._entries, self._marks = entries, marks
        self._windows: dict[tuple[int, float, float], Sequence[Window]] = {}

    def find(self, labels: Labels, frames: Sequence[MetricFrame]) -> tuple[Excluded, ...]:
        """The muted samples of the frames of one group, entry by entry."""
        return tuple(
            excluded
            for place, entry in enumerate(self._entries)
            if choose_groups(entry, [labels])[0]
            for frame in frames
            for excluded in list_excluded(
                frame, self._flag(place, labels, frame), f"mute {entry.title}"
            )
        )

    def _flag(self, place: int, labels: Labels, frame: MetricFrame) -> NDArray[np.bool_]:
        """Which samples of a frame an entry mutes: bool (samples,)."""
        query = self._entries[place].query
        if query is not None:
            own = (each for each in self._marks[query] if set(each.labels) <= set(labels))
            return flag_inside(frame, (marked for each in own for marked in each.ranges))
        muted = np.zeros(frame.samples, np.bool_)
        for start, end in self._list_windows(place, frame):
            muted |= (frame.times >= start) & (frame.times < end)
        return muted

    def _list_windows(self, place: int, frame: MetricFrame) -> Sequence[Window]:
        key = place, frame.start, frame.end
        if key not in self._windows:
            self._windows[key] = list_windows(self._entries[place], frame.start, frame.end)
        return self._windows[key]


def write_marks(marks: MuteMarks) -> str:
    """The marks as JSON."""
    return json.dumps(
        {
            query: [{"labels": dict(each.labels), "ranges": each.ranges} for each in series]
            for query, series in marks.items()
        }
    )


def read_marks(metadata: Mapping[str, str]) -> MuteMarks:
    """The marks in the metadata of a collected file; none if it has none.

    Raises:
        DataError: if they are damaged.
    """
    try:
        return {
            query: [
                MarkedSeries(
                    read_labels(each["labels"]),
                    [(float(first), float(last)) for first, last in each["ranges"]],
                )
                for each in series
            ]
            for query, series in json.loads(metadata.get("mute_marks", "{}")).items()
        }
    except DAMAGED as error:
        raise DataError(f"damaged marks of mute ({error!r}) — run promad collect again") from error


def describe_mute(entries: Sequence[Mute], metadata: Mapping[str, str]) -> str:
    """What the entries mute of the collected periods, as JSON: to compare with what was left out.

    An entry that mutes nothing of them makes no difference.
    """
    return json.dumps(list(_describe_entries(entries, metadata)))


def _describe_entries(
    entries: Sequence[Mute], metadata: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    periods = [
        (parse_instant(each["start"]), parse_instant(each["end"]))
        for each in json.loads(metadata.get("periods", "[]"))
    ]
    for entry in entries:
        groups = dict(sorted(entry.groups.items()))
        windows = [window for period in periods for window in list_windows(entry, *period)]
        if entry.query is not None:
            yield {"groups": groups, "query": entry.query}
        elif windows:
            yield {"groups": groups, "windows": windows}
