"""A network completes a linear model: it sees no newest sample, and counts where it helps."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from promad.config import TrainingSettings
from promad.data.windows import Split
from promad.errors import BundleError
from promad.models import MODELS, find_model, linear, list_model_files
from promad.models.lstm_autoencoder import load
from promad.models.residual_autoencoder import (
    ResidualAutoencoder,
    TrainedResidual,
    find_shares,
    find_shown,
)
from tests.support.linked_windows import LENGTH, windows_of
from tests.support.simulated import silent


@dataclass(frozen=True)
class Halves:
    """Reconstructs some share of what the linear model leaves."""

    base: object
    share: float

    def reconstruct(self, windows):
        return (self.share * self.base.find_residuals(windows)).astype(np.float32)


@dataclass(frozen=True)
class Network:
    model: object


@pytest.fixture(scope="module")
def base():
    windows = windows_of(3, 2)
    settings = TrainingSettings.model_validate({"model": "linear"})
    return linear.fit(Split(windows, windows), 3, settings, 0, silent)


@pytest.fixture(scope="module")
def residual():
    """A network of three epochs, in no way good, of which half is used all the same."""
    windows, halves = windows_of(3, 2), np.full(3, 0.5, np.float32)
    keys = {"model": "lstm_autoencoder", "epochs": 3, "sequence_length": LENGTH}
    settings = TrainingSettings.model_validate(keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("promad.models.lstm_autoencoder.find_shares", lambda *_: halves)
        return find_model("lstm_autoencoder").fit(Split(windows, windows), 3, settings, 0, silent)


def all_of(windows):
    return windows.take(np.arange(len(windows)))


def test_it_is_the_default_and_its_network_sees_no_newest_sample(residual):
    assert isinstance(residual, TrainedResidual)
    shown = all_of(windows_of(3, 2))[:20]
    changed = shown.copy()
    changed[:, -2:, :3] += 5.0
    network = residual.model.network
    np.testing.assert_array_equal(network.reconstruct(shown), network.reconstruct(changed))
    changed[:, -1, 3:] += 1.0
    assert (network.reconstruct(shown) != network.reconstruct(changed)).any()


@pytest.mark.parametrize(("length", "hidden"), [(2, 1), (4, 1), (8, 2), (12, 3), (60, 3)])
def test_the_newest_samples_are_hidden_but_not_their_conditions(length, hidden):
    shown = find_shown(length, 5, 3)
    assert shown.shape == (length, 5)
    assert (shown[-hidden:, :3] == 0).all()
    assert shown.sum() == length * 5 - hidden * 3


@pytest.mark.parametrize(
    ("made", "share"), [(1.0, 1.0), (2.0, 0.5), (0.5, 1.0), (-1.0, 0.0), (0.0, 0.0), (1e-4, 0.0)]
)
def test_a_share_is_the_one_that_lowers_the_error_most(base, made, share):
    model = base.model
    found = find_shares(model, Halves(model, made).reconstruct, windows_of(3, 2))
    np.testing.assert_allclose(found, share, rtol=1e-4)


def test_a_network_that_makes_nothing_leaves_the_linear_model(base):
    windows = all_of(windows_of(3, 2))
    alone, both = (
        model.apply(windows)
        for model in (base.model, ResidualAutoencoder(base.model, Halves(base.model, 0.0)))
    )
    np.testing.assert_array_equal(both.errors, alone.errors)
    np.testing.assert_array_equal(both.expected, alone.expected)
    np.testing.assert_array_equal(both.window_errors, alone.window_errors)


def test_what_the_network_makes_is_taken_off_the_residuals_of_the_first_part_alone(base):
    windows, model = all_of(windows_of(3, 2)), base.model
    alone = model.apply(windows)
    both = ResidualAutoencoder(model, Halves(model, 0.5)).apply(windows)
    first, *others = model.measure_parts(windows)
    units = model.baselines[:, np.newaxis, np.newaxis]
    expected = np.stack([first / 4, *others]) / units
    np.testing.assert_allclose(both.errors, expected.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(both.window_errors, alone.window_errors / 4, rtol=1e-5)
    # the expectation moves by a third of what the first of three parts moves
    newest = model.find_residuals(windows)[:, -1]
    np.testing.assert_allclose(both.expected, alone.expected + newest / 6, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("count", [400, 60])
def test_it_is_refitted_and_cross_fitted_as_the_linear_model_is(base, count):
    windows = windows_of(3, 2, count=count)
    trained = TrainedResidual(base, Network(Halves(base.model, 0.0)))
    found, alone = trained.cross_fit(windows), base.cross_fit(windows)
    assert (found is None) == (alone is None)
    if found is not None:
        np.testing.assert_array_equal(found[1], alone[1])
    again, one = trained.refit(windows).model.base, base.refit(windows).model
    np.testing.assert_array_equal(again.baselines, one.baselines)
    np.testing.assert_array_equal(again.directions, one.directions)


def test_what_is_usual_is_found_after_the_network(base):
    windows = windows_of(3, 2)
    trained = TrainedResidual(base, Network(Halves(base.model, 0.5)))
    model = trained.refit(windows).model.base
    np.testing.assert_allclose(model.baselines[0], base.model.baselines[0] / 4, rtol=1e-4)
    np.testing.assert_allclose(model.baselines[1:], base.model.baselines[1:], rtol=1e-9)


def test_both_files_are_loaded_or_the_linear_one_alone(residual, tmp_path):
    residual.save(tmp_path, "own.keras")
    windows = all_of(windows_of(3, 2))
    loaded = load(tmp_path)
    np.testing.assert_array_equal(
        loaded.apply(windows).errors, residual.model.apply(windows).errors
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert list_model_files("lstm_autoencoder", names) == {"model.onnx", "linear.npz"}
    (tmp_path / "model.onnx").unlink()
    assert isinstance(load(tmp_path), type(residual.model.base))
    assert list_model_files("lstm_autoencoder", {"linear.npz"}) == {"linear.npz"}
    assert list_model_files("lstm_autoencoder", {"other"}) == {"model.onnx"}
    member = {"lstm_autoencoder/linear.npz", "lstm_autoencoder/model.onnx", "scoring.json"}
    assert list_model_files("fusion", member) == member - {"scoring.json"}


def test_two_files_that_do_not_fit_each_other_are_refused(residual, tmp_path):
    residual.save(tmp_path, "own.keras")
    windows = windows_of(2, 3)
    settings = TrainingSettings.model_validate({"model": "linear"})
    linear.fit(Split(windows, windows), 2, settings, 0, silent).save(tmp_path, "own.keras")
    with pytest.raises(BundleError, match=r"model\.onnx.*does not fit linear\.npz"):
        load(tmp_path)


def test_every_share_is_part_of_the_network_that_is_kept(residual):
    """What is loaded and what Keras has are the same: no share is applied beside them."""
    windows = all_of(windows_of(3, 2))[:10]
    own = residual.network.keras_model(windows).numpy()
    np.testing.assert_allclose(residual.model.network.reconstruct(windows), own, atol=1e-5)


def test_its_linear_part_is_the_linear_model(residual):
    windows = windows_of(3, 2)
    settings = TrainingSettings.model_validate({"model": "linear", "sequence_length": LENGTH})
    alone = linear.fit(Split(windows, windows), 3, settings, 0, silent)
    part = residual.linear_part
    np.testing.assert_array_equal(part.model.directions, alone.model.directions)
    np.testing.assert_array_equal(part.model.baselines, alone.model.baselines)
    assert replace(part, settings=alone.settings).history == alone.history
    assert set(MODELS) >= {"lstm_autoencoder", "linear"}
