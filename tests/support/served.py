"""Running detectors with synthetic verdicts, events and history, for tests of the web layer.

    running = create_running_detectors(tmp_path)
    with serve_detectors(running) as url: ...

By default one detector, `promad`, has one group, which has been anomalous for ten samples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Gauge

from promad.bundle import MANIFEST_FILE, Bundle, Manifest, Range
from promad.config import Config
from promad.data.groups import THE_ONLY_GROUP, Labels, name_group
from promad.data.preparation import Preparation
from promad.data.scaling import Scaler
from promad.detection.recent_history import RecentHistory
from promad.detection.running_detector import RunningDetector
from promad.events.event_log import EventLog
from promad.events.events import AnomalyEvent
from promad.events.status import GroupStatus
from promad.events.verdict import FeatureView, State, Verdict
from promad.exposition import Snapshot
from promad.http_server import Security, WebServer, listen
from promad.models import Model, Outcome, SingleScoringMode
from promad.scoring.detector import Detector
from promad.scoring.scoring import Scoring
from promad.thresholds import Threshold
from promad.web.app import build_app
from promad.web.protection import protect

NOW = 1_750_000_020.0
STEP = 30.0
LENGTH = 8
FEATURES = ("cpu", "load", "memory", "requests")
ODD_SAMPLES = 10
"""The length of the open event of an anomalous group."""

UNPROTECTED = Security()

_WHY = {
    State.BLIND: "query cpu failed: timeout",
    State.WARMING: f"3 of {LENGTH} samples of a window",
}


@dataclass(frozen=True)
class ExpectsNothing(SingleScoringMode):
    """A model that expects every feature to be 0, so that its error is the square."""

    features: int
    length: int = LENGTH

    def apply(self, windows: NDArray[np.float32]) -> Outcome:
        squares = np.square(windows[:, :, : self.features], dtype=np.float64)
        return Outcome(squares[:, -1], np.zeros_like(squares[:, -1]), squares.mean(axis=1))


def create_running_detectors(
    directory: Path,
    *,
    names: Sequence[str] = ("promad",),
    groups: Sequence[Labels] = (THE_ONLY_GROUP,),
    states: Sequence[State] = (State.ANOMALOUS,),
    features: Sequence[str] = FEATURES,
    samples: int = 40,
    capacity: int = 720,
    detector: Detector | None = None,
    **sections: Any,
) -> list[RunningDetector]:
    """One `RunningDetector` for each name, each with these groups, whose states take turns.

    Args:
        samples: how many verdicts of each group are kept.
        detector: what scores; by default one that expects every feature to be 0.
        sections: of the configuration, beside what is needed.
    """
    return [
        _served(
            directory / name,
            name,
            groups,
            states,
            features,
            samples,
            capacity,
            detector or create_detector(features),
            sections,
        )
        for name in names
    ]


def create_groups(count: int) -> list[Labels]:
    """Labels of so many groups."""
    return [(("instance", f"host-{number:04d}:9100"), ("job", "node")) for number in range(count)]


@contextmanager
def serve_detectors(
    running: Sequence[RunningDetector],
    ready: bool = True,
    port: int = 0,
    security: Security = UNPROTECTED,
    prefix: str = "",
    open_probes: bool = False,
    on_refusal: Callable[[str], None] = lambda reason: None,
    on_close: Callable[[str], None] = lambda reason: None,
) -> Iterator[str]:
    """A web server on a real socket until the block ends; yields its address."""
    registry = CollectorRegistry()
    Gauge("one", "The first.", registry=registry).set(1)
    app = build_app(registry, lambda: running, lambda: ready, now=lambda: NOW)
    protected = protect(app, lambda: security, on_refusal, prefix, open_probes)
    bound = listen("127.0.0.1", port)
    server = WebServer(protected, bound, on_close, lambda: security.tls)
    server.start()
    try:
        yield f"http{'s' if security.tls else ''}://127.0.0.1:{server.port}{prefix}"
    finally:
        server.stop()
        close_logs(running)


def close_logs(running: Sequence[RunningDetector]) -> None:
    for one in running:
        one.events.close()


def create_detector(
    features: Sequence[str] = FEATURES,
    *,
    model: Model | None = None,
    scored: int | None = None,
    length: int = LENGTH,
    threshold: float = 1.0,
    time_features: Sequence[str] = (),
    span: int = 1,
) -> Detector:
    """A detector on features around 0 that vary by 1."""
    count = len(features)
    scored = count if scored is None else scored
    scaler = Scaler("StandardScaler", np.zeros(count), np.ones(count))
    preparation = Preparation(
        tuple(features),
        scored,
        STEP,
        "ffill_then_bfill",
        3,
        np.zeros(count),
        scaler,
        tuple(time_features),
        "UTC",
    )
    scoring = Scoring("normalised", np.ones(scored), np.full(scored, 0.5), None, span, 0.7)
    fixed = Threshold("quantile", threshold, 1.0, "a test")
    return Detector(preparation, model or ExpectsNothing(scored), scoring, fixed, length)


def create_bundle(
    directory: Path, config: Config, model: str = "linear", created: float = NOW
) -> Bundle:
    """A bundle of which there is the manifest alone."""
    moment = datetime.fromtimestamp(created, UTC)
    part = Range(start=moment.isoformat(), end=moment.isoformat(), windows=100)
    manifest = Manifest(
        format=2,
        created=moment.isoformat(),
        name=config.name,
        model=model,
        preset="improved",
        trained_on="all windows",
        server="http://prometheus.example",
        queries=config.promql,
        step_seconds=STEP,
        sequence_length=LENGTH,
        scaler="StandardScaler",
        scoring="normalised",
        threshold={"method": "quantile", "value": 1.0},
        training=part,
        validation=part,
        seed=1,
        versions={},
        figures={},
    )
    content = manifest.model_dump_json().encode()
    name = f"{moment:%Y%m%dT%H%M%SZ}-{hashlib.sha256(content).hexdigest()[:8]}"
    (directory / name).mkdir(parents=True)
    (directory / name / MANIFEST_FILE).write_bytes(content)
    return Bundle(directory / name, manifest)


def create_verdict(at: float, features: Sequence[str], ratio: float, state: State) -> Verdict:
    """A verdict with a score; the features share it unequally, and the last one has no sample."""
    shares = 0.5 ** np.arange(1, len(features) + 1)
    views = tuple(
        FeatureView(
            name=name,
            error=ratio * share,
            contribution=float(share / shares.sum()),
            observed=math.nan if column == len(features) - 1 else 10.0 * (column + 1) + ratio,
            expected=10.0 * (column + 1),
            elevation=2 * ratio * float(share),
            since=at - STEP if 2 * ratio * share > 1 else None,
        )
        for column, (name, share) in enumerate(zip(features, shares, strict=True))
    )
    return Verdict(at, state, 2.0, score=2.0 * ratio, mse=0.1 * ratio, features=views)


def _served(
    directory: Path,
    name: str,
    groups: Sequence[Labels],
    states: Sequence[State],
    features: Sequence[str],
    samples: int,
    capacity: int,
    detector: Detector,
    sections: dict[str, Any],
) -> RunningDetector:
    queries = {feature: {"expr": f"avg({feature})"} for feature in features}
    raw = {"name": name, "artifacts_dir": directory, "queries": queries, **sections}
    config = Config.model_validate(raw)
    bundle = create_bundle(directory / "bundles", config)
    (directory / "bundles" / "current").symlink_to(bundle.id)
    events = EventLog(directory / "events.db")
    histories, statuses = {}, []
    for number, labels in enumerate(groups):
        group, state = name_group(name, labels), states[number % len(states)]
        histories[group] = RecentHistory(features, capacity)
        past = _past(features, samples, state, number)
        for verdict in past:
            histories[group].add(verdict)
        logged = _logged(group, features, past[-1])
        for event in logged:
            events.record(event, bundle.id, event.end or past[-1].at)
        statuses.append(_status(labels, past, logged))
    failed = (("cpu", "timeout after 10 s"),) if State.BLIND in states else ()
    snapshot = Snapshot(name, "anomaly_detector_", tuple(statuses), failed)
    return RunningDetector(config, bundle, detector, events, histories, lambda: snapshot)


def _past(features: Sequence[str], samples: int, state: State, number: int) -> list[Verdict]:
    """Verdicts up to now: quiet, blind for a while, and in the end as the group is."""
    verdicts = []
    for back in range(samples - 1, -1, -1):
        at = NOW - STEP * back
        ratio = 0.5 + 0.3 * math.sin(back / 7 + number)
        if back < ODD_SAMPLES and state is State.ANOMALOUS:
            verdict = create_verdict(
                at, features, 1.0 + number % 7 + (ODD_SAMPLES - back) / 10, state
            )
        elif (back < ODD_SAMPLES and state is not State.OK) or 20 <= back < 23:
            odd = state if back < ODD_SAMPLES else State.BLIND
            verdict = Verdict(at, odd, 2.0, why=_WHY[odd])
        else:
            verdict = create_verdict(at, features, ratio, State.OK)
        verdicts.append(verdict)
    return verdicts


def _logged(group: str, features: Sequence[str], newest: Verdict) -> list[AnomalyEvent]:
    """Two events that are over, and the one that is open in an anomalous group."""
    events = []
    for hours in (30.0, 5.0):
        start = NOW - hours * 3600
        peak = create_verdict(start + STEP, features, 1 + hours / 10, State.ANOMALOUS)
        events.append(AnomalyEvent(group, start, start + STEP, start + 600.0, peak))
    if newest.state is State.ANOMALOUS:
        start = NOW - STEP * (ODD_SAMPLES - 1)
        events.append(AnomalyEvent(group, start, start + STEP, None, newest))
    return events


def _status(labels: Labels, past: Sequence[Verdict], events: Sequence[AnomalyEvent]) -> GroupStatus:
    newest, scored = past[-1], [verdict for verdict in past if verdict.score is not None]
    return GroupStatus(
        verdict=replace(newest),
        group=labels,
        events_begun=len(events),
        event=events[-1] if events[-1].end is None else None,
        last_scored_at=scored[-1].at if scored else None,
        samples_in_window={State.BLIND: 0, State.WARMING: 3}.get(newest.state, LENGTH),
    )
