"""A fusion is its members side by side: each on windows of its own length, one score of all."""

import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest

from promad.config import Config, ScoringSettings, TrainingSettings
from promad.data.windows import Split
from promad.errors import BundleError
from promad.models import MODELS, Outcome, TrainingHistory, fusion, linear
from promad.scoring.detector import apply_model
from promad.scoring.scoring import fit_scoring
from tests.support import stub_model
from tests.support.linked_windows import windows_of
from tests.support.simulated import silent

LENGTH = 24


@dataclass(frozen=True)
class Zero:
    """A model that expects 0, and says how long the windows were that it was fitted on."""

    features: int
    length: int

    def apply(self, windows):
        squares = np.square(windows[:, :, : self.features], dtype=np.float64)
        expected = np.zeros_like(squares[:, -1])
        return Outcome(squares[:, -1], expected, squares.mean(axis=1))


@pytest.fixture(autouse=True)
def members(monkeypatch):
    """Two members that take no time to fit in the places of two that do."""
    module = ModuleType("zero_model")
    seen = []

    @dataclass(frozen=True)
    class Trained:
        model: Zero
        history = TrainingHistory((0.5, 0.25, 0.2), (0.6, 0.3, 0.2), 3)
        versions = {"zero": "1"}  # noqa: RUF012

        def save(self, directory, native_file_name):
            (directory / "zero.txt").write_text(str(self.model.features))

        def refit(self, windows):
            return self

    def fit(split, features, settings, seed, progress):
        seen.append((split, settings))
        return Trained(Zero(features, split.training.length))

    module.fit = fit
    module.load = lambda directory: Zero(int((directory / "zero.txt").read_text()), 0)
    monkeypatch.setitem(sys.modules, "zero_model", module)
    monkeypatch.setitem(fusion.MODULES, "lstm_autoencoder", "tests.support.stub_model")
    monkeypatch.setitem(fusion.MODULES, "tranad", "zero_model")
    return seen


ALL = ("linear", "lstm_autoencoder", "tranad")


def settings_of(*names, **keys):
    return TrainingSettings.model_validate(
        {"model": "fusion", "fusion": {"members": names or ALL}, **keys}
    )


def fitted(*names, windows=None, conditions=0, **keys):
    windows = windows or windows_of(conditions=conditions, length=LENGTH)
    return fusion.fit(Split(windows, windows), 3, settings_of(*names, **keys), 0, silent)


def test_the_errors_of_the_members_stand_side_by_side():
    windows = windows_of(length=LENGTH).array
    trained = fitted()
    whole = trained.model.apply(windows)
    each = [member.apply(windows) for member in trained.model.members.values()]
    assert whole.errors.shape == (len(windows), 9)
    np.testing.assert_array_equal(whole.errors, np.hstack([one.errors for one in each]))
    for name in ("expected", "window_errors"):
        mean = sum(getattr(one, name) for one in each) / 3
        np.testing.assert_allclose(getattr(whole, name), mean, rtol=1e-12)


def test_members_come_in_one_order_however_they_are_named():
    for names in (ALL, ALL[::-1]):
        assert tuple(fitted(*names).members) == ALL
    assert list(fusion.MODULES) == sorted(fusion.MODULES)  # and this order is kept in bundles


def test_only_the_members_that_are_named_are_fitted(members):
    assert tuple(fitted("linear", "lstm_autoencoder").members) == ("linear", "lstm_autoencoder")
    assert members == []


def test_each_member_is_fitted_on_the_tail_of_its_own_length(members):
    windows = windows_of(length=LENGTH)
    trained = fitted(windows=windows)
    assert trained.members["linear"].model.length == 20
    tail = windows_of(length=LENGTH)
    tail = type(tail)(tail.array[:, -20:], tail.times)
    settings = settings_of().of_member("linear")
    alone = linear.fit(Split(tail, tail), 3, settings, 0, silent).model
    np.testing.assert_array_equal(trained.members["linear"].model.coefficients, alone.coefficients)
    ((split, own),) = members
    assert split.training.length == split.validation.length == own.sequence_length == 10
    np.testing.assert_array_equal(split.training.take(np.arange(5)), windows.array[:5, -10:])


def test_a_member_whose_windows_are_longer_takes_what_there_is():
    windows = windows_of(length=6)
    assert fitted(windows=windows).members["linear"].model.length == 6


def test_refitting_refits_those_that_can_be():
    everything = windows_of(length=LENGTH, count=300)
    trained = fitted()
    again = trained.refit(everything)
    assert tuple(again.members) == ALL
    assert again.members["tranad"] is trained.members["tranad"]
    model = again.members["linear"].model
    assert model.length == 20
    np.testing.assert_allclose(
        model.mean, everything.array[:, -20:].mean(axis=0).ravel(), rtol=1e-4, atol=1e-6
    )


def test_the_history_is_that_of_the_longest_training_and_versions_are_everybodys():
    trained = fitted()
    assert trained.history == trained.members["tranad"].history
    assert {"numpy", "stub", "zero"} <= set(trained.versions)


def test_the_score_is_the_mean_of_the_logarithms_of_the_members_scores():
    windows = windows_of(length=LENGTH)
    trained, at = fitted(), np.arange(len(windows))
    settings = ScoringSettings(smoothing_samples=3)
    errors = apply_model(trained.model, windows).errors
    together = fit_scoring(errors, at, 3, settings)
    found = together.score(together.smooth(errors, at))
    alone = []
    for member in trained.model.members.values():
        own = apply_model(member, windows).errors
        scoring = fit_scoring(own, at, 1, settings)
        alone.append(scoring.score(scoring.smooth(own, at)))
    np.testing.assert_allclose(found, np.log1p(alone).mean(axis=0), rtol=1e-12)


# Kept in a bundle


def test_each_member_has_a_folder_of_its_name_and_comes_back(tmp_path):
    trained = fitted(conditions=1)
    trained.save(tmp_path, "model.keras")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ALL)
    assert (tmp_path / "linear" / linear.CODE_FREE_FILE).exists()
    windows = windows_of(conditions=1, length=LENGTH, seed=3).array
    before, after = trained.model.apply(windows), fusion.load(tmp_path).apply(windows)
    for name in ("errors", "expected", "window_errors"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes()


def test_without_any_member_it_says_what_to_do(tmp_path):
    with pytest.raises(BundleError, match=r"no member has a folder there\) — train again or"):
        fusion.load(tmp_path)


def test_a_damaged_member_is_named(tmp_path):
    fitted().save(tmp_path, "model.keras")
    (tmp_path / "linear" / linear.CODE_FREE_FILE).unlink()
    with pytest.raises(BundleError, match=rf"{tmp_path}/linear/.*: not a readable model"):
        fusion.load(tmp_path)


# Settings of members


def test_a_member_has_its_own_defaults_but_for_what_the_file_says():
    whole = settings_of(epochs=7, seed=5, linear={"lags": 3}, sequence_length=50)
    for name in ("linear", "lstm_autoencoder", "lstm_forecaster", "tranad"):
        own = whole.of_member(name)
        alone = TrainingSettings.model_validate({"model": name})
        assert (own.model, own.preset) == (name, alone.preset)
        assert (own.epochs, own.seed, own.linear.lags) == (7, 5, 3)
        assert own.sequence_length == alone.sequence_length
        assert own.batch_size == alone.batch_size
        assert own.scoring == alone.scoring


def test_members_are_at_least_two_of_the_other_models():
    assert set(MODELS) == {*fusion.MODULES, "fusion"}
    for wrong in (["linear"], ["linear", "fusion"]):
        with pytest.raises(ValueError, match="members"):
            Config.model_validate(
                {
                    "queries": {"a": "up"},
                    "training_settings": {"model": "fusion", "fusion": {"members": wrong}},
                }
            )


def test_the_stub_is_a_model_like_any_other():
    assert fitted("linear", "lstm_autoencoder").members["lstm_autoencoder"].model == (
        stub_model.MeanOfWindow(3, 20)
    )
