"""Replaying a fleet: history of all groups judged as the daemon would have judged it.

The samples come through the daemon's own `GroupPoller`, one piece of time after the other, so that
memory is bounded. Groups are admitted and forgotten sample by sample, and what is judged makes the
same events and incidents, with the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.bundle import Opened
from promad.config.durations import format_instant
from promad.data.frame import MetricFrame, align_down, align_up, points_between
from promad.data.groups import Labels
from promad.detection.fleet_columns import build_columns, find_event_changes
from promad.detection.group_replay import make_poll_options
from promad.detection.judgements import Judgements
from promad.detection.live import LiveDetector, begin_live
from promad.detection.loop import make_status
from promad.detection.step import rewarm, run, warm
from promad.errors import DataError
from promad.events.events import AnomalyEvent
from promad.events.incident_book import (
    IncidentBook,
    IncidentChanges,
    IncidentRules,
    Watched,
    survey_groups,
)
from promad.events.incidents import Incident
from promad.events.status import GroupStatus
from promad.exposition.fleet import FleetSnapshot, IncidentColumns
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.fetching import Workers
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller
from promad.prometheus.groups.remote_polling import poll_on_workers
from promad.scoring.peers import is_hourly

Flags = NDArray[np.bool_]

_PIECE_BYTES = 48 * 2**20
_LONGEST_PIECE = 5000
_SHORTEST_PIECE = 20


class Piece(NamedTuple):
    """Samples of all groups, of which those before sample `first` were in an earlier piece."""

    frame: MetricFrame
    first: int


def fetch_pieces(
    opened: Opened, start: float, end: float, workers: Workers | None = None
) -> Iterator[Piece]:
    """The samples that judging every sample from `start` to `end` (unix seconds) takes, in order.

    A piece is a view that the next one changes.

    Args:
        workers: what fetches in place of this process.

    Raises:
        PrometheusError: if a query fails.
        DataError: if no sample lies between the two.
    """
    config, step = opened.config, opened.detector.preparation.step
    first, last = align_up(start, step), align_down(end, step)
    if last < first:
        raise DataError(
            f"no sample lies between {format_instant(start)} and {format_instant(end)} at a step "
            f"of {step:g} s — give a longer period"
        )
    lead, total = opened.detector.samples_needed, points_between(first, last, step)
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        groups = max(_count_groups(client, opened, at) for at in (first, last))
        width = 8 * len(config.promql) * max(groups, 1)
        most = min(max(_PIECE_BYTES // width - lead, _SHORTEST_PIECE), _LONGEST_PIECE)
        samples = min(most, total)
        options = make_poll_options(config, lead + samples)
        longest = options.forget_after + (lead + samples) * step
        options = replace(options, forget_after=longest, max_groups=2 * options.max_groups)
        counts = [min(samples, total - done) for done in range(0, total, samples)]
        ends = [first + (done - 1) * step for done in accumulate(counts)]
        frames = (
            _poll(client, options, ends)
            if workers is None
            else poll_on_workers(workers, options, ends)
        )
        for new, frame in zip(counts, frames, strict=True):
            yield Piece(frame, lead + samples - new)


def _poll(
    client: PrometheusClient, options: PollOptions, ends: Iterable[float]
) -> Iterator[MetricFrame]:
    """The newest samples at each time; a poll asks only for what is new since the one before."""
    poller = GroupPoller(client, options)
    for at in ends:
        poll = poller.poll(at)
        for failure in poll.failures.values():
            raise failure
        yield poll.frame


def _count_groups(client: PrometheusClient, opened: Opened, at: float) -> int:
    poll = GroupPoller(client, make_poll_options(opened.config, 2)).poll(at)
    for failure in poll.failures.values():
        raise failure
    return len(poll.frame.groups)


class Stretch(NamedTuple):
    """Samples `first` to `last` - 1 of a piece, in which the groups in `rows` are watched."""

    first: int
    last: int
    rows: list[int]


@dataclass
class Roster:
    """Which groups are watched, by the rules of `GroupPoller`, at each sample of a replay.

    Attributes:
        forget_after: seconds without a sample after which a group is forgotten.
        max_groups: groups that are watched at most.
    """

    forget_after: float
    max_groups: int
    _members: list[Labels] = field(default_factory=list)
    _seen_at: dict[Labels, float] = field(default_factory=dict)

    def plan(self, piece: Piece) -> Iterator[Stretch]:
        """The stretches of the new samples of a piece, in order."""
        frame, first = piece
        seen = ~np.isnan(frame.values).all(axis=2)
        fresh, sighted = self._find_fresh(frame, seen), self._find_sighted(frame, seen)
        changes = np.flatnonzero(
            ((fresh[:, 1:] != fresh[:, :-1]) | (sighted[:, 1:] != sighted[:, :-1])).any(axis=0)
        )
        row_of = {labels: row for row, labels in enumerate(frame.groups)}
        begin, rows = first, self._choose(frame, row_of, fresh[:, first], sighted[:, first])
        for at in (changes + 1)[changes + 1 > first].tolist():
            chosen = self._choose(frame, row_of, fresh[:, at], sighted[:, at])
            if chosen != rows:
                yield Stretch(begin, at, rows)
                begin, rows = at, chosen
        yield Stretch(begin, frame.samples, rows)

    def _find_fresh(self, frame: MetricFrame, seen: Flags) -> Flags:
        """Whether each group has a sample that is not too old at each time: (groups, samples)."""
        times = frame.times
        before = np.array([self._seen_at.get(labels, -np.inf) for labels in frame.groups])
        newest = np.maximum.accumulate(np.where(seen, times, -np.inf), axis=1)
        newest = np.maximum(newest, np.minimum(before, frame.start)[:, np.newaxis])
        self._seen_at = dict(zip(frame.groups, newest[:, -1].tolist(), strict=True))
        return np.asarray(times - newest <= self.forget_after + 1e-6, np.bool_)

    def _find_sighted(self, frame: MetricFrame, seen: Flags) -> Flags:
        """Whether each group has two samples that are not too old at each time."""
        kept = max(2, int(self.forget_after // frame.step) + 1)
        counts = seen.cumsum(axis=1)
        earlier = np.zeros_like(counts)
        earlier[:, kept:] = counts[:, :-kept]
        return np.asarray(counts - earlier >= 2, np.bool_)

    def _choose(
        self, frame: MetricFrame, row_of: dict[Labels, int], fresh: Flags, sighted: Flags
    ) -> list[int]:
        """The rows of the groups that stay and of those that are admitted."""
        members = [row_of[labels] for labels in self._members if labels in row_of]
        rows = [row for row in members if fresh[row]]
        known = set(rows)
        new = [row for row in np.flatnonzero(fresh & sighted).tolist() if row not in known]
        rows += new[: max(0, self.max_groups - len(rows))]
        self._members = [frame.groups[row] for row in rows]
        return rows


@dataclass(frozen=True)
class FleetSample:
    """One sample of all groups, as the daemon would have published it; valid until the next one.

    Attributes:
        live: the detector and what it remembers of the groups.
        judgements: of each group.
        ended: the events that ended, also those of groups that vanished.
        open: the incidents that are open.
        changes: what happened to incidents.
        begun: by scope how many incidents have begun.
        scope: the label names in `incidents.scope`.
    """

    live: LiveDetector
    judgements: Judgements
    ended: tuple[AnomalyEvent, ...]
    open: tuple[Incident, ...]
    changes: IncidentChanges
    begun: dict[Labels, int]
    scope: tuple[str, ...] = ()

    def build_status(self, row: int) -> GroupStatus:
        """One group."""
        judged = self.judgements
        status = make_status(self.live.state, row, judged.verdict(row))
        return replace(status, samples_in_window=int(judged.in_window[row]))

    def build_snapshot(self, detector: str, prefix: str, max_feature_series: int) -> FleetSnapshot:
        """All groups and incidents, as they are exposed."""
        judged = self.judgements
        return FleetSnapshot(
            detector,
            prefix,
            build_columns(self.live, judged.state, judged.limit, judged),
            IncidentColumns(self.open, dict(self.begun), scope=self.scope),
            (),
            max_feature_series,
            self.build_status,
        )


def make_rules(opened: Opened) -> IncidentRules:
    """What makes events of a detector one incident."""
    config, preparation = opened.config, opened.detector.preparation
    return IncidentRules.of(config.incidents, config.name, preparation.scored, preparation.step)


class FleetReplay:
    """A detector of many groups that works through history; `judge` alone changes it.

    Attributes:
        live: the detector with what it remembers of the groups.
        incidents: which events are one incident.
    """

    def __init__(self, opened: Opened) -> None:
        live = opened.config.real_time_anomaly_detection
        self._opened = opened
        self._roster = Roster(live.forget_after, opened.config.max_groups)
        self._watched: dict[Labels, Watched] = {}
        self._begun: dict[Labels, int] = {}
        self.live = begin_live(opened, ())
        self.incidents = IncidentBook(make_rules(opened))

    def judge(self, piece: Piece) -> Iterator[FleetSample]:
        """Every new sample of a piece."""
        for stretch in self._roster.plan(piece):
            needed = self.live.detector.samples_needed
            lead = max(0, stretch.first - needed)
            part = _take_rows(piece.frame.slice(lead, stretch.last), stretch.rows)
            first = stretch.first - lead
            ended, changes = self._regroup(part.slice(0, first))
            for begin, end in pairwise([*self._list_meetings(part, first), part.samples]):
                self._meet(part.slice(max(0, begin + 1 - needed), begin + 1))
                live = self.live
                new = part.slice(begin, end)
                for judgements in run(live.detector, live.calibration, live.state, new):
                    yield self._enter(judgements, ended, changes)
                    ended, changes = (), ()

    def _list_meetings(self, frame: MetricFrame, first: int) -> list[int]:
        """From sample `first` on, those at which groups that came after training may be met."""
        detector = self.live.detector
        new = frame.values[detector.find_pooled(frame.groups)]
        if not len(new):
            return [first]
        seen = (~np.isnan(new)).any(axis=2).cumsum(axis=1)
        counts = np.pad(seen, ((0, 0), (detector.samples_needed, 0)))
        until = counts[:, detector.samples_needed - detector.length + 1 :][:, : frame.samples]
        whole = until > counts[:, : frame.samples]
        begins = np.pad((whole[:, 1:] & ~whole[:, :-1]).any(axis=0), (1, 0))
        begins |= is_hourly(frame.times, frame.step)
        return [first, *(first + 1 + np.flatnonzero(begins[first + 1 :])).tolist()]

    def _regroup(
        self, lead: MetricFrame
    ) -> tuple[tuple[AnomalyEvent, ...], tuple[IncidentChanges, ...]]:
        """Continue with the groups of a frame that leads up to the next sample."""
        old, groups = self.live.state, lead.groups
        if old.seen_until is not None and groups == old.labels:
            return (), ()
        gone = sorted(set(old.labels) - set(groups))
        row_of = {labels: row for row, labels in enumerate(old.labels)}
        ended = tuple(
            old.events.event(row, float(old.events.last_above[row]))
            for row in map(row_of.__getitem__, gone)
            if old.events.hysteresis.open[row]
        )
        now = lead.end + lead.step
        changes = tuple(self.incidents.drop(now, event.group) for event in ended)
        live = begin_live(self._opened, groups)
        live.state.adopt(old)
        live = live.calibrate()
        if old.seen_until is None:
            samples = live.detector.samples_needed - 1
            first = max(0, lead.samples - samples)
            warm(live.detector, live.calibration, live.state, lead.slice(first, lead.samples))
        else:
            rows = [row for row, labels in enumerate(groups) if labels not in row_of]
            if rows:
                new = np.array(rows, np.int64)
                rewarm(live.detector, live.calibration, live.state, lead, new)
        self.live = live
        self._watched = survey_groups(groups, self.incidents.rules)
        return ended, changes

    def _meet(self, frame: MetricFrame) -> None:
        """Calibrate groups that came after training, whose first window ends with this frame."""
        self.live, rows = self.live.meet(frame)
        if rows.size:
            live = self.live
            rewarm(live.detector, live.calibration, live.state, frame, rows)

    def _enter(
        self,
        judgements: Judgements,
        vanished: Sequence[AnomalyEvent],
        before: Sequence[IncidentChanges],
    ) -> FleetSample:
        """Enter what one sample did to events into the incidents."""
        state = self.live.state
        began, grew, ended, _ = find_event_changes(state, judgements)
        changes = self.incidents.update(judgements.at, began, grew, ended, self._watched)
        for incident in changes.began:
            self._begun[incident.scope] = self._begun.get(incident.scope, 0) + 1
        return FleetSample(
            self.live,
            judgements,
            (*vanished, *ended),
            self.incidents.open_incidents,
            IncidentChanges(
                *(
                    tuple(each for part in (*before, changes) for each in part[kind])
                    for kind in range(3)
                )
            ),
            self._begun,
            self.incidents.rules.scope,
        )


def _take_rows(frame: MetricFrame, rows: list[int]) -> MetricFrame:
    if rows == list(range(len(frame.groups))):
        return frame
    groups = tuple(frame.groups[row] for row in rows)
    return MetricFrame(frame.start, frame.step, frame.features, groups, frame.values[rows])
