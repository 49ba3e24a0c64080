"""A fleet trained and replayed as promad does both, without the HTTP between: for benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.data.artifacts import write_groups
from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.detection.judgements import Judgements
from promad.detection.live import LiveDetector
from promad.detection.state import begin_state
from promad.events.event_book import EventBook, JudgedColumns
from promad.events.events import AnomalyEvent
from promad.events.hysteresis import Hysteresis
from promad.events.incident_book import IncidentBook, IncidentRules, survey_groups
from promad.events.incidents import Incident
from promad.scoring.detector import Detector
from promad.stages.preprocess import preprocess
from promad.thresholds import Threshold
from promad.thresholds.controller import FleetBudget, put_to_work
from promad.training.fitting import FittingOptions
from promad.training.fleet_fitting import fit_fleet
from promad.training.fleet_material import draw_material
from promad.training.processed_file import locate_processed, read_fleet
from promad.training.processing import ProcessingOptions
from promad.training.threshold_choice import make_threshold_settings

Values = NDArray[np.float64]


@dataclass(frozen=True)
class TrainedFleet:
    """A detector, and the scores it was given its threshold by, of all groups one after another."""

    config: Config
    detector: Detector
    scores: Values


def make_config(folder: Path, features: Sequence[str], by: Sequence[str], **keys: Any) -> Config:
    """Promad's defaults with the linear model; `keys` are sections of the configuration."""
    return Config.model_validate(
        {
            "prometheus_url": "http://localhost:9090",
            "queries": {name: name for name in features},
            "group_by": list(by),
            "artifacts_dir": folder,
            "training_settings": {"model": "linear", "gate": False},
            **keys,
        }
    )


def train_fleet(config: Config, groups: Iterable[Sequence[MetricFrame]]) -> TrainedFleet:
    """What `collect`, `preprocess` and `train` make of the groups' frames."""
    write_collected(config, groups)
    preprocess(config)
    settings, live = config.training_settings, config.real_time_anomaly_detection
    source = read_fleet(locate_processed(config), ProcessingOptions.of(config))
    material = draw_material(
        source, settings.sequence_length, settings.max_training_windows, settings.seed
    )
    threshold = make_threshold_settings(live, config.data_settings.step)
    options = FittingOptions(settings, live.threshold, threshold, force=True)
    fitted = fit_fleet(material, options, live.alert_budget.per, lambda *epoch: None)
    return TrainedFleet(config, fitted.detector, fitted.scores)


def write_collected(config: Config, groups: Iterable[Sequence[MetricFrame]]) -> None:
    """Write the file that `collect` writes."""
    data = config.data_settings
    path = config.artifacts_dir / data.output_filename
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"server": config.prometheus_url, "queries": json.dumps(config.promql)}
    write_groups(path, data.step, sorted(config.group_by), groups, lambda: metadata)


def begin(
    trained: TrainedFleet, groups: Sequence[Labels], threshold: Threshold | None = None
) -> LiveDetector:
    """The detector before its first sample, as `begin_live` makes it of a bundle."""
    config, detector = trained.config, trained.detector
    live = config.real_time_anomaly_detection
    limits = put_to_work(
        threshold or detector.threshold,
        make_threshold_settings(live, config.data_settings.step),
        adapt=live.adapt_threshold,
        groups=len(groups),
        fleet=FleetBudget(live.alert_budget.per, live.alert_budget.max_group_share),
    )
    hysteresis = Hysteresis.begin(len(groups), live.enter_after_samples, live.leave_after_samples)
    state = begin_state(detector, limits, config.name, groups, hysteresis)
    return LiveDetector(detector, detector.calibrate(groups), state)


@dataclass
class Record:
    """What a replay brought.

    Attributes:
        incidents: by id, as they were last seen.
        events: every event that ended, or was still open at the end.
        scores: per group, a piece of scores for each frame: its first time and float64 (samples,).
        raised: how often limits were raised.
    """

    incidents: dict[str, Incident] = field(default_factory=dict)
    events: dict[str, AnomalyEvent] = field(default_factory=dict)
    scores: dict[Labels, list[tuple[float, Values]]] = field(default_factory=dict)
    raised: int = 0


def replay(trained: TrainedFleet, frames: Iterable[MetricFrame]) -> Record:
    """Judge frames that follow each other, whose groups may differ, as `FleetLoop` would.

    A group that is not in the next frame has vanished, and its open event ends.
    """
    record, live = Record(), begin(trained, ())
    book = IncidentBook(make_rules(trained))
    for frame in frames:
        live = _regroup(trained, live, frame, book, record)
        watched = survey_groups(frame.groups, book.rules)
        scores = np.full((len(frame.groups), frame.samples), np.nan)
        for sample, judgements in enumerate(live_run(live, frame)):
            scores[:, sample] = judgements.score
            _record(live, judgements, book, watched, record)
        for row, labels in enumerate(frame.groups):
            record.scores.setdefault(labels, []).append((frame.start, scores[row]))
    _finish(live, book, record)
    return record


def live_run(live: LiveDetector, frame: MetricFrame) -> Iterator[Judgements]:
    """The judgement of every sample; the first frame has no samples that lead up to it."""
    from promad.detection.step import run

    yield from run(live.detector, live.calibration, live.state, frame)


def make_rules(trained: TrainedFleet) -> IncidentRules:
    """The rules that the configuration gives for incidents."""
    config, preparation = trained.config, trained.detector.preparation
    return IncidentRules.of(config.incidents, config.name, preparation.scored, preparation.step)


def _regroup(
    trained: TrainedFleet,
    live: LiveDetector,
    frame: MetricFrame,
    book: IncidentBook,
    record: Record,
) -> LiveDetector:
    """Continue with the groups of a frame."""
    old = live.state
    if frame.groups == old.labels:
        return live
    gone = set(old.labels) - set(frame.groups)
    for row, labels in enumerate(old.labels):
        if labels in gone:
            _keep(record, book.drop(frame.start, old.names[row]).incidents)
            if (event := old.events.open_event(row)) is not None:
                record.events[event.id] = event
    new = begin(trained, frame.groups)
    new.state.adopt(old)
    return new


def _record(
    live: LiveDetector, judged: Judgements, book: IncidentBook, watched: Any, record: Record
) -> None:
    """As `FleetLoop._record`."""
    events = live.state.events
    began = [events.event(row) for row in np.flatnonzero(judged.began).tolist()]
    grows = events.hysteresis.open & ~judged.began & (events.peak_at == judged.at)
    grew = [events.event(row) for row in np.flatnonzero(grows).tolist()]
    ended = list(judged.ended.values())
    if began or grew or ended:
        record.events.update({event.id: event for event in ended})
        _keep(record, book.update(judged.at, began, grew, ended, watched).incidents)
    else:
        book.update(judged.at)


def _finish(live: LiveDetector, book: IncidentBook, record: Record) -> None:
    _keep(record, book.open_incidents)
    events, limits = live.state.events, live.state.limits
    for row in range(live.state.groups):
        if (event := events.open_event(row)) is not None:
            record.events[event.id] = event
    shared = getattr(limits, "shared", None)
    record.raised = int(limits.adaptations.sum()) + (
        0 if shared is None else int(shared.adaptations[0])
    )


def _keep(record: Record, incidents: Iterable[Incident]) -> None:
    record.incidents.update({incident.id: incident for incident in incidents})


def judge_scores(
    frame: MetricFrame, limits: Values, shares: Values, rules: IncidentRules, hysteresis: Hysteresis
) -> Record:
    """The events and incidents of scores that are held to limits which do not move.

    Args:
        frame: scores as its only feature.
        limits: of each group, (groups,).
        shares: of each feature in the score, (groups, samples, features).
    """
    names = tuple(f"feature {number}" for number in range(shares.shape[2]))
    book = EventBook.begin(
        [str(dict(labels)) for labels in frame.groups], names, hysteresis, True, frame.groups
    )
    incidents, record = IncidentBook(rules), Record()
    watched = survey_groups(frame.groups, rules)
    unknown = np.full(limits.shape, np.nan)
    scores = frame.values[:, :, 0]
    for sample, at in enumerate(frame.times.tolist()):
        score = scores[:, sample]
        features = np.repeat(shares[:, sample, :, np.newaxis], 6, axis=2)
        judged = JudgedColumns(~np.isnan(score), score, limits, unknown, features)
        began, ended = book.enter(at, judged)
        new = [book.event(row) for row in np.flatnonzero(began).tolist()]
        if new or ended:
            record.events.update({event.id: event for event in ended.values()})
            changes = incidents.update(at, new, (), list(ended.values()), watched)
            _keep(record, changes.incidents)
        else:
            incidents.update(at)
    _keep(record, incidents.open_incidents)
    for row in np.flatnonzero(hysteresis.open).tolist():
        event = book.event(row)
        record.events[event.id] = event
    return record
