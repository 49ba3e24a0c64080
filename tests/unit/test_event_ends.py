"""An event ends with its cause: of a short fault soon after it, of a long one not before."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from promad.config import TrainingSettings
from promad.data.frame import MetricFrame
from promad.data.groups import THE_ONLY_GROUP
from promad.detection.state import begin_hysteresis, begin_state, choose_rule
from promad.detection.step import run
from promad.events.events import AnomalyEvent
from promad.scoring.detector import apply_model
from promad.scoring.scoring import fit_scoring
from promad.simulation.host import FEATURES, SimulatedHost
from promad.thresholds import Threshold, ThresholdSettings
from promad.thresholds.controller import put_to_work
from promad.training.fitting import FittingOptions, fit_detector
from promad.training.material import split_material
from promad.training.processing import ProcessingOptions, process
from tests.support.detectors import LastAgain
from tests.support.simulated import config_for

STEP = 30.0
START = 1_750_000_000.0
TRAINED, WATCHED = 5760, 720
"""Samples: two days, and six hours."""

ONSET = 240
IOWAIT = "node_cpu_iowait_ratio"
NAMES = (*FEATURES, IOWAIT)
RULE = ThresholdSettings(
    step=STEP, enter_after=2, leave_after=5, leave_below=0.5, hold_seconds=7200.0
)


def host_values(samples, start):
    """A host as node_exporter shows it, with the share of time that processors wait for disks."""
    times = start + STEP * np.arange(samples)
    values = SimulatedHost(seed=3, restarted_at=START - 86400.0).values(times)
    chance = np.random.default_rng(int(start) % 1000)
    busy = values[:, list(FEATURES).index("host_disk_io_busy_ratio")]
    waiting = 0.02 * busy + 0.002 * chance.gamma(2.0, size=samples)
    return np.column_stack([values, waiting])


def break_disk(values, samples):
    """The same, with a disk that answers slowly for so many samples from the onset on."""
    broken = values.copy()
    rows = slice(ONSET, ONSET + samples)
    chance = np.random.default_rng(7)
    broken[rows, NAMES.index(IOWAIT)] = chance.normal(0.6, 0.03, samples)
    broken[rows, NAMES.index("host_load1")] += 4.0
    broken[rows, NAMES.index("host_disk_io_busy_ratio")] = chance.normal(0.97, 0.005, samples)
    return broken


def frame_of(values, start):
    return MetricFrame(start, STEP, NAMES, (THE_ONLY_GROUP,), values[np.newaxis])


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A linear model of the host, by the defaults."""
    config = config_for(tmp_path_factory.mktemp("host"))
    settings = TrainingSettings.model_validate({"model": "linear", "gate": False})
    options = ProcessingOptions(
        queries=dict.fromkeys(NAMES, ""),
        scored=len(NAMES),
        step=STEP,
        settings=config.preprocessing_settings,
        exclude=(),
        train_split_ratio=settings.train_split_ratio,
        length=settings.sequence_length,
    )
    frames = [frame_of(host_values(TRAINED, START), START)]
    processed = process(frames, options)
    frames, preparation = processed.parts, processed.preparation
    windows = preparation.windows(frames, settings.sequence_length)
    material = split_material(windows, frames, preparation, processed.training_ends_at)
    fitting = FittingOptions(settings, "auto", RULE)
    return fit_detector(material, fitting, lambda *epoch: None).detector


@dataclass(frozen=True)
class Seen:
    """What an operator sees: each event with the sample at which it was over, None if it is not."""

    events: list[tuple[AnomalyEvent, float | None]]
    open: np.ndarray


def watch(detector, values, rule=RULE):
    rule = choose_rule(detector, rule)
    limits = put_to_work(detector.threshold, rule, adapt=True)
    hysteresis = begin_hysteresis(rule, 1)
    state = begin_state(detector, limits, "d", (THE_ONLY_GROUP,), hysteresis)
    frame = frame_of(values, START + TRAINED * STEP)
    calibration = detector.calibrate(frame.groups)
    events, is_open = [], []
    for judged in run(detector, calibration, state, frame):
        events += [(event, judged.at) for event in judged.ended.values()]
        is_open.append(bool(state.events.hysteresis.open[0]))
    if (event := state.events.open_event(0)) is not None:
        events.append((event, None))
    return Seen(events, np.array(is_open))


@pytest.fixture(scope="module")
def normal():
    return host_values(WATCHED, START + TRAINED * STEP)


def at(sample):
    return START + (TRAINED + sample) * STEP


def test_a_fault_of_three_minutes_is_an_event_of_six_at_most(detector, normal):
    ((event, over),) = watch(detector, break_disk(normal, 6)).events
    assert at(ONSET) <= event.start <= at(ONSET + 1)
    assert event.end - event.start <= 6 * 60
    assert over - event.start <= 8 * 60
    assert event.peak_at < at(ONSET + 6)
    assert IOWAIT in [view.name for view in event.top_features]


def test_by_the_score_alone_the_same_event_lasts_longer(detector, normal):
    broken = break_disk(normal, 6)
    ((soon, _),) = watch(detector, broken).events
    ((late, _),) = watch(detector, broken, replace(RULE, leave_below=None)).events
    assert late.end - late.start > 2 * (soon.end - soon.start)


def test_an_incident_of_an_hour_is_one_event_until_it_is_over(detector, normal):
    ((event, over),) = watch(detector, break_disk(normal, 120)).events
    assert at(ONSET) <= event.start <= at(ONSET + 1)
    assert at(ONSET + 119) <= event.end <= at(ONSET + 120 + 30)
    assert over is not None
    assert event.peak_at < at(ONSET + 120)


@pytest.fixture(scope="module")
def forgetful(detector):
    """A model that expects each sample to be like the one before: it is used to a level at once."""
    model, preparation = LastAgain(len(NAMES)), detector.preparation
    scaled = preparation.scale(frame_of(host_values(2000, START), START))
    errors = apply_model(model, preparation.windows([scaled], detector.length)).errors
    settings = TrainingSettings.model_validate({"model": "linear"}).scoring
    at = np.arange(len(errors))
    scoring = fit_scoring(errors, at, 1, settings)
    highest = float(scoring.score(scoring.smooth(errors, at)).max())
    threshold = Threshold("fixed", 1.5 * highest, None, "a test")
    return replace(detector, model=model, scoring=scoring, threshold=threshold)


def test_a_model_that_is_used_to_an_incident_does_not_declare_it_over(forgetful, normal):
    ((event, over),) = watch(forgetful, break_disk(normal, 120)).events
    assert at(ONSET) <= event.start <= at(ONSET + 1)
    assert at(ONSET + 118) <= event.end <= at(ONSET + 120 + 6)
    assert over <= at(ONSET + 120 + 11)
    assert event.peak_at < at(ONSET + 120)


def test_without_the_state_before_it_is_declared_over_after_minutes(forgetful, normal):
    seen = watch(forgetful, break_disk(normal, 120), replace(RULE, hold_seconds=0.0))
    assert not seen.open[ONSET + 20 : ONSET + 118].any()


def test_what_stays_changed_is_normal_in_the_end(forgetful, normal):
    """A level that never returns: the event is over once the hold is."""
    broken = break_disk(normal, WATCHED - ONSET)
    ((event, over),) = watch(forgetful, broken, replace(RULE, hold_seconds=3600.0)).events
    assert over is not None
    assert 3500.0 <= event.end - event.start <= 3600.0 + 10 * 60
