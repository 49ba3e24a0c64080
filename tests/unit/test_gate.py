"""The gate lets a network through that beats what learns nothing, and no other."""

from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
import pytest

from promad.bundle import BundleStore
from promad.cli.commands.train import format_training
from promad.errors import DataError
from promad.evaluation.injection import KINDS
from promad.evaluation.naive import NAIVE
from promad.models import Outcome, linear
from promad.scoring.detector import Detector
from promad.scoring.scoring import Scoring
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.thresholds import Threshold
from promad.training.gate import FEWEST_WINDOWS, Gate, is_calm, run_gate, weigh_network
from tests.support.simulated import (
    NOW,
    config_for,
    contents,
    frame_of,
    host_values,
    read_processed,
    silent,
    write_raw,
)

SAMPLES = 2000


@dataclass(frozen=True)
class Blind:
    """Its error has nothing to do with what it sees."""

    features: int = 3
    length: int = 8

    def apply(self, windows):
        shape = (len(windows), self.features)
        noise = np.random.default_rng(0).random(shape)
        return Outcome(noise, np.zeros(shape), noise)


@dataclass(frozen=True)
class Seer:
    """Knows the clean values: its error is what was put into them."""

    clean: np.ndarray

    def apply(self, windows):
        last = windows[:, -1, : self.clean.shape[1]].astype(np.float64)
        errors = np.square(last - self.clean[-len(windows) :])
        return Outcome(errors, last, errors)


PLAIN = Scoring("normalised", np.ones(3), np.ones(3), None, 1, 0.7)


def prepared(directory, samples=SAMPLES, **training):
    """The configuration with the gate in place, and preprocessed data."""
    config = config_for(directory, training_settings={"gate": True, **training})
    write_raw(config, [frame_of(host_values(samples))])
    preprocess(config)
    return config


def judged(config, model):
    frames, preparation, processed = read_processed(config)
    return run_gate("network", detector_of(model, preparation), frames, processed.training_ends_at)


def detector_of(model, preparation):
    return Detector(preparation, model, PLAIN, Threshold("fixed", 1.0, None, ""), 8)


@pytest.fixture
def blind(monkeypatch, stub_model):
    """Training yields a model that finds nothing."""
    module = import_module("tests.support.stub_model")
    real = module.fit
    monkeypatch.setattr(module, "fit", lambda *given: replace(real(*given), model=Blind()))


def run(config, **options):
    return train(config, silent, now=lambda: NOW, **options)


def test_a_model_that_knows_what_is_normal_passes(tmp_path):
    config = prepared(tmp_path)
    (frame,), _, _ = read_processed(config)
    found = judged(config, Seer(frame.values[0]))
    assert found.passed
    assert found.own > 0.95
    assert found.own > found.best_naive[1] + 0.1


def test_a_model_that_finds_nothing_does_not(tmp_path):
    found = judged(prepared(tmp_path), Blind())
    assert not found.passed
    assert found.own < found.best_naive[1]


def test_a_model_as_good_as_the_best_naive_score_does_not(tmp_path):
    found = judged(prepared(tmp_path), Blind())
    tied = {**found.rows, "network": found.rows[found.best_naive[0]]}
    assert not replace(found, rows=tied).passed


def test_the_figures_are_by_row_and_kind_and_their_mean(tmp_path):
    found = judged(prepared(tmp_path), Blind())
    assert set(found.rows) == {"network", *NAIVE} - {"random"}
    for row in found.rows.values():
        assert set(row) == {"mean", *KINDS}
        assert row["mean"] == pytest.approx(np.mean([row[kind] for kind in KINDS]))
        assert all(0 <= figure <= 1 for figure in row.values())
    assert found.best_naive[1] == max(
        row["mean"] for name, row in found.rows.items() if name != "network"
    )


def test_the_same_data_and_model_have_the_same_verdict(tmp_path):
    config = prepared(tmp_path)
    assert judged(config, Blind()) == judged(config, Blind())


def test_anomalies_are_put_into_the_validation_part_alone(tmp_path):
    config = prepared(tmp_path)
    frames, preparation, processed = read_processed(config)
    boundary = processed.training_ends_at
    seen = []

    class Watching(Blind):
        def apply(self, windows):
            seen.append(windows)
            return super().apply(windows)

    found = run_gate("network", detector_of(Watching(), preparation), frames, boundary)
    held_out = int((frames[0].times > boundary + 8.5 * preparation.step).sum())
    assert found.samples == held_out
    assert sum(map(len, seen)) == found.seeds * (held_out - 7)


def test_few_samples_are_told_many_times(tmp_path):
    few, many = prepared(tmp_path / "few", 1100), prepared(tmp_path / "many", 6000)
    assert judged(few, Blind()).seeds > judged(many, Blind()).seeds >= 5


def test_too_few_windows_are_no_ground_for_a_verdict(tmp_path):
    found = judged(prepared(tmp_path, 5 * (FEWEST_WINDOWS + 10)), Blind())
    assert found.passed
    assert f"consecutive validation samples, fewer than {FEWEST_WINDOWS + 7}" in found.skipped
    assert found.to_json() == {"skipped": found.skipped}


def test_gaps_are_no_reason_to_judge_across_them(tmp_path):
    config = config_for(tmp_path)
    values = host_values(SAMPLES)
    values[1750:1760] = np.nan
    write_raw(config, [frame_of(values)])
    preprocess(config)
    assert judged(config, Blind()).samples == SAMPLES - 1760


def test_a_refused_network_changes_nothing_and_says_what_to_do(tmp_path, blind):
    config = prepared(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(DataError) as error:
        run(config)
    assert contents(tmp_path) == before
    assert str(error.value).count("\n") == 0
    for words in (
        "gate failed: lstm_autoencoder has VUS-PR 0.",
        "the best untrained baseline, ",
        "model: linear",
        "--force",
    ):
        assert words in str(error.value)
    assert BundleStore.of(config).ids() == []


def test_force_promotes_it_all_the_same_and_the_manifest_tells(tmp_path, blind):
    report = run(prepared(tmp_path), force=True)
    assert BundleStore.of(prepared(tmp_path)).current_id() == report.bundle.id
    kept = BundleStore.of(prepared(tmp_path)).open_current().manifest.gate
    assert (kept["passed"], kept["forced"]) == (False, True)
    assert kept["rows"]["lstm_autoencoder"]["mean"] <= kept["rows"]["|z|"]["mean"]
    lines = list(format_training(report))
    assert lines[0].startswith("  gate failed, promoted anyway: VUS-PR ")
    assert "spike 0." in lines[1]


def test_a_fixed_threshold_that_is_too_low_gets_a_comment(tmp_path):
    live = {"anomaly_threshold_mse": 1e-6}
    config = prepared(tmp_path, model="linear")
    low = config.real_time_anomaly_detection.model_copy(update=live)
    scoring = config.training_settings.scoring.model_copy(update={"method": "mse"})
    training = config.training_settings.model_copy(update={"scoring": scoring})
    report = run(
        config.model_copy(
            update={"real_time_anomaly_detection": low, "training_settings": training}
        )
    )
    (comment,) = [line for line in format_training(report) if "too low" in line]
    assert comment == (
        "  anomaly_threshold_mse is too low: 100.0% of the windows are above it — raise it, or set "
        "it to auto to choose it by alert_budget"
    )


def test_a_linear_model_is_measured_too(tmp_path):
    report = run(prepared(tmp_path, model="linear"))
    kept = report.bundle.manifest.gate
    assert kept["forced"] is False
    assert set(kept["rows"]) == {"linear", "|z|", "last value", "last value smoothed"}


def test_a_linear_model_that_loses_is_promoted_with_a_warning(tmp_path, monkeypatch):
    config = prepared(tmp_path, model="linear")
    losing = replace(judged(config, Blind()), model="linear")
    rows = {"linear": losing.rows["network"], **losing.rows}
    monkeypatch.setattr("promad.training.fitting.run_gate", lambda *_: replace(losing, rows=rows))
    report = run(config)
    assert BundleStore.of(config).current_id() == report.bundle.id
    assert next(format_training(report)).startswith("  gate failed, promoted anyway: VUS-PR ")


def test_without_the_gate_nothing_is_measured(tmp_path, blind):
    report = run(prepared(tmp_path, gate=False))
    assert report.bundle.manifest.gate == {"skipped": "training_settings.gate is false"}
    assert next(format_training(report)).startswith("  gate skipped: ")


# A network that completes a linear model


@pytest.fixture
def completed(monkeypatch, stub_model):
    """Training yields a network that finds nothing, beside a linear model."""

    @dataclass(frozen=True)
    class Both:
        base: object
        network: object
        model: object = Blind()

        @property
        def linear_part(self):
            return self.base

        @property
        def history(self):
            return self.base.history

        @property
        def versions(self):
            return {}

        def refit(self, windows):
            return self

        def save(self, directory, native_file_name):
            self.network.save(directory, native_file_name)

    module = import_module("tests.support.stub_model")
    real = module.fit

    def fit(split, features, settings, seed, progress):
        base = linear.fit(split, features, settings, seed, lambda *_: None)
        return Both(base, real(split, features, settings, seed, progress))

    monkeypatch.setattr(module, "fit", fit)


def test_a_network_that_is_worse_than_its_linear_model_is_left_out(tmp_path, completed):
    report = run(prepared(tmp_path))
    assert (report.bundle.directory / "linear.npz").exists()
    assert not (report.bundle.directory / "stub.txt").exists()
    kept = report.bundle.manifest.gate
    assert kept["left_out"].startswith("VUS-PR 0.")
    assert kept["rows"]["network"]["mean"] < kept["rows"]["lstm_autoencoder"]["mean"] - 0.01
    line = next(line for line in format_training(report) if "left out" in line)
    assert line.startswith("  network left out, linear model promoted: VUS-PR 0.")
    assert report.bundle.manifest.model == "lstm_autoencoder"


def test_forced_it_is_kept(tmp_path, completed):
    report = run(prepared(tmp_path), force=True)
    assert not (report.bundle.directory / "linear.npz").exists()
    kept = report.bundle.manifest.gate
    assert (kept["forced"], kept["left_out"]) == (True, "")
    assert kept["rows"]["lstm_autoencoder"]["mean"] < kept["rows"]["linear"]["mean"]


def gate_of(network, linear_figure):
    rows = {"lstm_autoencoder": {"mean": network}, "linear": {"mean": linear_figure}}
    return Gate("lstm_autoencoder", rows)


@pytest.mark.parametrize(
    ("network", "calm", "why"),
    [
        (0.7, True, ""),
        (0.691, True, ""),
        (0.689, True, "VUS-PR 0.689 on injected anomalies, the linear model alone 0.700"),
        (0.9, False, "its validation scores exceed the training limit more often"),
    ],
)
def test_a_network_must_be_as_good_and_as_calm(network, calm, why):
    found = weigh_network(gate_of(network, 0.7), calm)
    assert found.left_out.startswith(why)
    assert bool(found.left_out) == bool(why)
    assert found.own == (0.7 if why else network)
    assert found.rows.get("network", {"mean": None})["mean"] == (network if why else None)


def test_without_a_measurement_calm_decides():
    skipped = Gate("lstm_autoencoder", {}, skipped="too few")
    assert weigh_network(skipped, calm=True) == skipped
    assert weigh_network(skipped, calm=False).left_out


def test_calm_is_to_exceed_a_limit_of_training_about_as_often():
    training, validation = np.linspace(0, 1, 1000), np.full(200, 0.5)
    often = validation.copy()
    often[:4] = 2.0  # 2 %
    linear_scores = np.concatenate([training, validation])
    assert is_calm(linear_scores, linear_scores, 200)
    assert not is_calm(np.concatenate([training, often]), linear_scores, 200)
    assert is_calm(np.concatenate([training, often]), np.concatenate([training, often]), 200)
    often[3:] = 0.5  # 1.5 %
    assert is_calm(np.concatenate([training, often]), linear_scores, 200)
