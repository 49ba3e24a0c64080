"""`EventBook`: the events of many groups, sample by sample, in arrays over groups.

`promad.events.hysteresis` says when an event begins and ends; the book remembers since when, and
which sample was its peak. An `AnomalyEvent` is built only where one group is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.data.rows import Move, move_rows
from promad.events.events import AnomalyEvent, event_from_json
from promad.events.hysteresis import Hysteresis
from promad.events.largest_deviations import LargestDeviations
from promad.events.mutes import Muted
from promad.events.verdict import (
    FEATURE_COLUMNS,
    State,
    Verdict,
    describe_missing,
    find_unknown,
    view_features,
)

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


class JudgedColumns(NamedTuple):
    """One sample of each group, as it is judged; all but `features` (groups,).

    Attributes:
        scored: whether it counts, bool.
        score, limit, mse: see `Verdict`; NaN where there is no score.
        features: as `FEATURE_COLUMNS`, float64 (groups, features, 6); NaN for unknown features.
    """

    scored: Flags
    score: Values
    limit: Values
    mse: Values
    features: Values


class BookChanges(NamedTuple):
    """What one sample did to events.

    Attributes:
        began: whose event began, bool (groups,).
        ended: by group the event that ended.
        unmuted: whose open event began while the group was muted, which it is not any more, bool
            (groups,).
    """

    began: Flags
    ended: Mapping[int, AnomalyEvent]
    unmuted: Flags


@dataclass
class EventBook:
    """The events of many groups; `enter` and `resume` alone change it. Arrays are (groups,).

    Attributes:
        groups, features: names.
        plain: whether scores are the mean squared error itself.
        hysteresis: which events are open.
        begun: events that have begun.
        last_above: unix seconds of the newest sample above the threshold, or of an open event the
            newest that kept it open; NaN before the first.
        start, flagged_at: unix seconds of the first sample above the threshold of the event that is
            open or about to begin, and of the one that made it an event.
        peak_at: unix seconds of the peak: of the samples above the threshold since `start` that
            keep the event open, the one with the largest recent score over threshold; where there
            is no recent score, the largest score.
        height: of the peak what is largest; NaN if it was saved by an earlier version.
        peak: that sample; `scored` is not used.
        labels: of the groups.
        deviations: where each feature deviated most.
        muted: of the event that is open the title of what muted its group when it began; empty if
            nothing did.
        silent: whether the group has been muted ever since, bool.
        unmuted_at: unix seconds of the first sample at which it was not; NaN before, and if the
            event began while it was not muted.
    """

    groups: tuple[str, ...]
    features: tuple[str, ...]
    plain: bool
    hysteresis: Hysteresis
    begun: NDArray[np.int64]
    last_above: Values
    start: Values
    flagged_at: Values
    peak_at: Values
    height: Values
    peak: JudgedColumns
    labels: tuple[Labels, ...]
    deviations: LargestDeviations
    muted: list[str]
    silent: Flags
    unmuted_at: Values

    @staticmethod
    def begin(
        groups: Sequence[str],
        features: Sequence[str],
        hysteresis: Hysteresis,
        plain: bool,
        labels: Sequence[Labels] | None = None,
    ) -> EventBook:
        """The book before the first sample; groups have no labels by default."""
        count = len(groups)
        last_above, start, flagged_at, peak_at, height, unmuted_at = np.full((6, count), np.nan)
        score, limit, mse = np.full((3, count), np.nan)
        numbers = np.full((count, len(features), len(FEATURE_COLUMNS)), np.nan)
        peak = JudgedColumns(np.ones(count, np.bool_), score, limit, mse, numbers)
        begun = np.zeros(count, np.int64)
        return EventBook(
            tuple(groups),
            tuple(features),
            plain,
            hysteresis,
            begun,
            last_above,
            start,
            flagged_at,
            peak_at,
            height,
            peak,
            tuple(labels or [()] * count),
            LargestDeviations.begin(count, len(features)),
            [""] * count,
            np.zeros(count, np.bool_),
            unmuted_at,
        )

    def adopt(self, other: EventBook, move: Move) -> None:
        """Continue the groups that are moved here from another book of the same features."""
        self.hysteresis.adopt(other.hysteresis, move)
        self.deviations.adopt(other.deviations, move)
        move_rows(
            move,
            (other.begun, self.begun),
            (other.last_above, self.last_above),
            (other.start, self.start),
            (other.flagged_at, self.flagged_at),
            (other.peak_at, self.peak_at),
            (other.height, self.height),
            (other.muted, self.muted),
            (other.silent, self.silent),
            (other.unmuted_at, self.unmuted_at),
            *zip(other.peak, self.peak, strict=True),
        )

    def take(self, rows: NDArray[np.int64]) -> EventBook:
        """A copy of some groups' events, which does not change any more."""
        count, counters = len(rows), self.hysteresis
        kept = EventBook.begin(
            [self.groups[row] for row in rows.tolist()],
            self.features,
            Hysteresis.begin(
                count,
                counters.enter_after,
                counters.leave_after,
                counters.leave_below,
                counters.hold_seconds,
                counters.typical,
            ),
            self.plain,
            [self.labels[row] for row in rows.tolist()],
        )
        kept.adopt(self, Move(rows, np.arange(count)))
        return kept

    def enter(
        self,
        at: float,
        judged: JudgedColumns,
        recent: Values | None = None,
        muted: Muted | None = None,
    ) -> BookChanges:
        """Enter one sample of each group.

        Args:
            at: unix seconds.
            recent: the recent scores, float64 (groups,); None where there are none.
            muted: which groups are muted; None if none is.
        """
        above = judged.scored & (judged.score > judged.limit)
        lasting = self.hysteresis.find_lasting(judged.score, recent, judged.limit)
        kept = np.where(self.hysteresis.open, judged.scored & lasting, above)
        if kept.any():
            tallest = judged.score if recent is None else recent
            self._follow_peaks(at, kept, above, judged, tallest / judged.limit)
        began, over = self.hysteresis.advance(above, judged.scored, lasting)
        self.begun += began
        ended = {
            group: self.event(group, float(self.last_above[group]))
            for group in over.nonzero()[0].tolist()
        }
        return BookChanges(began, ended, self._follow_mutes(at, began, over, judged.scored, muted))

    def _follow_mutes(
        self, at: float, began: Flags, over: Flags, scored: Flags, muted: Muted | None
    ) -> Flags:
        """Remember which events begin while their group is muted, and until when it is.

        Returns:
            Those that have just ceased to be muted, bool (groups,).
        """
        flags = np.zeros_like(began) if muted is None else muted.flags
        for row in np.flatnonzero(began | over).tolist():
            self.muted[row] = "" if muted is None or over[row] else muted.find_title(row)
        self.unmuted_at[began | over] = np.nan
        self.silent = (self.silent & ~over) | (began & flags)
        unmuted = self.silent & scored & ~flags
        self.unmuted_at[unmuted] = at
        self.silent &= ~unmuted
        return unmuted

    def _follow_peaks(
        self, at: float, kept: Flags, above: Flags, judged: JudgedColumns, height: Values
    ) -> None:
        """Remember what events that are open or about to begin need of samples that keep them so.

        A sample above the threshold that no longer keeps an event open is no peak: what is still
        high is the memory of an incident that is over.
        """
        quiet = ~self.hysteresis.open
        first = above & quiet & (self.hysteresis.above == 0)
        self.start[first] = at
        ratio = self.peak.score / self.peak.limit
        before = np.where(np.isnan(self.height), ratio, self.height)
        highest = above & kept & (first | (height > before))
        self.peak_at[highest], self.height[highest] = at, height[highest]
        for held, now in zip(self.peak, judged, strict=True):
            held[highest] = now[highest]
        self.flagged_at[above & quiet] = at
        self.last_above[kept] = at

    def open_event(self, group: int) -> AnomalyEvent | None:
        """The event of a group that is open, if one is."""
        return self.event(group) if self.hysteresis.open[group] else None

    def event(self, group: int, end: float | None = None) -> AnomalyEvent:
        """The event of a group that is open or about to begin, or that just ended at `end`."""
        peak = self.peak
        largest = self.deviations.view_group(group)
        views = view_features(self.features, peak.features[group], largest)
        missing = find_unknown(self.features, views)
        verdict = Verdict(
            at=float(self.peak_at[group]),
            state=State.ANOMALOUS,
            threshold=float(peak.limit[group]),
            score=float(peak.score[group]),
            mse=None if np.isnan(peak.mse[group]) else float(peak.mse[group]),
            plain=self.plain,
            features=views,
            missing=missing,
            why=describe_missing(missing),
        )
        start, flagged_at = float(self.start[group]), float(self.flagged_at[group])
        name, labels, muted = self.groups[group], self.labels[group], self.muted[group] or None
        unmuted_at = float(self.unmuted_at[group])
        until = None if muted is None or np.isnan(unmuted_at) else unmuted_at
        return AnomalyEvent(name, start, flagged_at, end, verdict, labels, muted, until)

    def to_json(self, group: int) -> dict[str, Any]:
        """Plain values of one group, from which `resume` continues as if nothing was between."""
        counters, current = self.hysteresis, self.open_event(group)
        rising = self.event(group) if current is None and counters.above[group] else None
        return {
            "current": None if current is None else asdict(current),
            "rising": None if rising is None else asdict(rising),
            "above": int(counters.above[group]),
            "below": int(counters.below[group]),
            "height": None if np.isnan(self.height[group]) else float(self.height[group]),
            "last_above": float(np.nan_to_num(self.last_above[group])),
            "deviations": self.deviations.to_json(group, self.features),
        }

    def resume(self, group: int, content: Mapping[str, Any]) -> None:
        """Continue a group from what `to_json` described; events are counted from 0 again.

        Raises:
            KeyError, TypeError, ValueError: if `content` is no such description; nothing has
                changed then.
        """
        current, rising = _read_event(content["current"]), _read_event(content["rising"])
        above, below = int(content["above"]), int(content["below"])
        last_above, height = float(content["last_above"]), content.get("height")
        height = np.nan if height is None else float(height)
        last_above = float(content["last_above"])
        deviations = self.deviations.read(self.features, content.get("deviations", {}))
        if (event := current or rising) is not None:
            self._put(group, event)
        self.deviations.put(group, deviations)
        self.hysteresis.put(group, current is not None, above, below)
        self.last_above[group], self.height[group] = last_above, height

    def _put(self, group: int, event: AnomalyEvent) -> None:
        """Let a group continue with an event."""
        verdict, peak = event.peak, self.peak
        self.start[group], self.flagged_at[group] = event.start, event.flagged_at
        self.muted[group] = event.muted or ""
        self.silent[group] = event.alerts_from is None
        self.unmuted_at[group] = np.nan if event.unmuted_at is None else event.unmuted_at
        self.peak_at[group], peak.limit[group] = verdict.at, verdict.threshold
        peak.score[group] = np.nan if verdict.score is None else verdict.score
        peak.mse[group] = np.nan if verdict.mse is None else verdict.mse
        peak.features[group] = np.nan
        for view in verdict.features:
            since = np.nan if view.since is None else view.since
            peak.features[group, self.features.index(view.name)] = [
                *(view.error, view.contribution, view.observed, view.expected),
                *(view.elevation, since),
            ]


def _read_event(content: Mapping[str, Any] | None) -> AnomalyEvent | None:
    return None if content is None else event_from_json(content)
