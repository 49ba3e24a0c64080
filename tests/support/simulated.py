"""A small history of the simulated host, and what the stages make of it. No server is needed."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from promad.bundle import Bundle, BundleStore, load_detector
from promad.config import Config
from promad.data.artifacts import write_frames
from promad.data.frame import single_group
from promad.models import MODELS
from promad.scoring.detector import Detector
from promad.simulation.host import FEATURES, SimulatedHost
from promad.stages.filter import FilterReport, filter_windows
from promad.stages.preprocess import Preprocessed, preprocess
from promad.stages.train import TrainingReport, train
from promad.training import processed_file
from promad.training.processing import ProcessingOptions

START = 1_750_000_020.0
STEP = 30.0
LENGTH = 8
NOW = START + 30 * 86400.0
NAMES = ("host_cpu_busy_ratio", "app_requests_per_second", "app_latency_p99_seconds")
COLUMNS = [list(FEATURES).index(name) for name in NAMES]


def host_values(samples, start=START):
    """Values of three features: float64 (samples, 3), nothing missing."""
    host = SimulatedHost(seed=7, restarted_at=start - 86400.0)
    return host.values(start + STEP * np.arange(samples))[:, COLUMNS]


def frame_of(values, start=START, names=NAMES):
    return single_group(start, STEP, names, values)


def config_for(directory, **sections):
    """A configuration with tiny networks; `sections` add keys to it, but `queries` replace all."""
    raw = {
        "artifacts_dir": directory,
        "queries": {name: name for name in NAMES},
        "data_settings": {"step": "30s"},
        "training_settings": {
            "model": "lstm_autoencoder",
            "sequence_length": LENGTH,
            "epochs": 3,
            "lstm_units_encoder1": 8,
            "lstm_units_encoder2_latent": 4,
            "lstm_units_decoder1": 4,
            "lstm_units_decoder2": 8,
            "gate": False,
        },
    }
    raw["queries"] = sections.pop("queries", raw["queries"])
    for section, keys in sections.items():
        raw[section] = {**raw.get(section, {}), **keys}
    return Config.model_validate(raw)


def write_raw(config, frames, **metadata):
    """What `collect` would have left."""
    write_frames(config.artifacts_dir / config.data_settings.output_filename, frames, metadata)


def read_processed(config):
    """What `preprocess` left: the frames, the preparation, and all that is known about them."""
    processed = processed_file.read_processed(
        processed_file.locate_processed(config), ProcessingOptions.of(config)
    )
    return processed.frames, processed.preparation, processed


def silent(*_):
    """Progress that nobody watches."""


def contents(directory):
    """Every file below a directory and what it holds; of a link, where it points."""
    return {
        str(path.relative_to(directory)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(Path(directory).rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@dataclass(frozen=True)
class Worked:
    """A directory in which preprocess, train and filter have run."""

    config: Config
    values: np.ndarray
    preprocessed: Preprocessed
    training: TrainingReport
    filtered: FilterReport
    progress: list

    @property
    def bundle(self) -> Bundle:
        return replace(self.training.bundle, directory=self.store.root / self.training.bundle.id)

    @property
    def scaler_path(self) -> Path:
        return self.config.artifacts_dir / self.preprocessed.scaler_path.name

    @property
    def store(self) -> BundleStore:
        return BundleStore.of(self.config)

    def detector(self) -> Detector:
        return load_detector(self.store.open_current())

    def copied_to(self, directory) -> Config:
        """The configuration of a copy that a test may spoil."""
        shutil.copytree(self.config.artifacts_dir, directory, symlinks=True)
        return self.config.model_copy(update={"artifacts_dir": directory})


def worked_through(directory, **sections) -> Worked:
    """Run the stages from raw data with a short gap, a long one, and a calendar column."""
    values = host_values(420)
    values[100:103, 0] = np.nan
    values[200:210, 1] = np.nan
    config = config_for(
        directory, preprocessing_settings={"time_features": ("hour_of_day",)}, **sections
    )
    write_raw(config, [frame_of(values)], server="http://prometheus.example")
    preprocessed = preprocess(config)
    seen = []
    training = train(config, lambda *epoch: seen.append(epoch), now=lambda: NOW)
    return Worked(config, values, preprocessed, training, filter_windows(config), seen)


@pytest.fixture(scope="session")
def worked(tmp_path_factory):
    """The stages run with the real model; not to be changed, see `copied_to`."""
    return worked_through(tmp_path_factory.mktemp("worked"))


@pytest.fixture
def stub_model(monkeypatch):
    """A model that takes no time to train, in the place of the real one."""
    monkeypatch.setitem(MODELS, "lstm_autoencoder", "tests.support.stub_model")


@pytest.fixture(scope="session")
def sketch(tmp_path_factory):
    """The stages run with the stub model; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "lstm_autoencoder", "tests.support.stub_model")
        return worked_through(tmp_path_factory.mktemp("sketch"))


@pytest.fixture
def sketched(sketch, tmp_path, stub_model):
    """A copy of that, for a test to change or to train on once more."""
    return replace(sketch, config=sketch.copied_to(tmp_path / "artifacts"))
