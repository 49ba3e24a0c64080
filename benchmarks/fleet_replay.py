"""A fleet trained and replayed as promad does both, without the HTTP between: for benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from promad.bundle import Bundle, Opened
from promad.config import Config
from promad.data.artifacts import write_groups
from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.detection import fleet_replay
from promad.detection.fleet_replay import FleetReplay, Piece
from promad.events.event_book import EventBook, JudgedColumns
from promad.events.events import AnomalyEvent
from promad.events.hysteresis import Hysteresis
from promad.events.incident_book import IncidentBook, IncidentRules, survey_groups
from promad.events.incidents import Incident
from promad.scoring.detector import Detector
from promad.stages.preprocess import preprocess
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
    """Judge frames that follow each other, whose groups may differ, as `promad backtest` does."""
    record = Record()
    fleet, before = FleetReplay(_open(trained)), None
    for frame in frames:
        piece = _precede(frame, before, trained.detector.samples_needed)
        before = piece.frame
        scores = {labels: np.full(frame.samples, np.nan) for labels in piece.frame.groups}
        for sample in fleet.judge(piece):
            place = round((sample.judgements.at - frame.start) / frame.step)
            for labels, score in zip(
                sample.live.state.labels, sample.judgements.score.tolist(), strict=True
            ):
                scores[labels][place] = score
            record.events.update({event.id: event for event in sample.ended})
            _keep(record, sample.changes.incidents)
        for labels, known in scores.items():
            record.scores.setdefault(labels, []).append((frame.start, known))
    _finish(fleet, record)
    return record


def _precede(frame: MetricFrame, before: MetricFrame | None, lead: int) -> Piece:
    """A frame after the newest samples of the one before it, which are missing if there is none.

    Groups that only the one before has are kept while it has samples of them.
    """
    row_of = {labels: row for row, labels in enumerate(frame.groups)}
    known = (
        {} if before is None else dict(zip(before.groups, before.values[:, -lead:], strict=True))
    )
    for labels, newest in known.items():
        if not np.isnan(newest).all():
            row_of.setdefault(labels, len(row_of))
    values = np.full((len(row_of), lead + frame.samples, len(frame.features)), np.nan)
    values[: len(frame.groups), lead:] = frame.values
    for labels, row in row_of.items():
        if labels in known:
            values[row, :lead] = known[labels]
    start, groups = frame.start - lead * frame.step, tuple(row_of)
    return Piece(MetricFrame(start, frame.step, frame.features, groups, values), lead)


def make_rules(trained: TrainedFleet) -> IncidentRules:
    """The rules that the configuration gives for incidents."""
    return fleet_replay.make_rules(_open(trained))


def _open(trained: TrainedFleet) -> Opened:
    return Opened(trained.config, cast(Bundle, None), trained.detector)


def _finish(fleet: FleetReplay, record: Record) -> None:
    _keep(record, fleet.incidents.open_incidents)
    state = fleet.live.state
    events, limits = state.events, state.limits
    for row in range(state.groups):
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
