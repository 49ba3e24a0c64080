"""The linear model is PCA and two Ridges, holds what it has learned, and needs no luck."""

import io
import os
import zipfile
from itertools import pairwise

import numpy as np
import pytest

from promad.config import TrainingSettings
from promad.data.windows import Split, StoredWindows
from promad.errors import BundleError
from promad.models import linear
from tests.support import naive_scoring
from tests.support.linked_windows import LENGTH, windows_of
from tests.support.simulated import silent


def settings_of(**keys):
    return TrainingSettings.model_validate({"model": "linear", "linear": keys})


def fitted(windows, features=3, later=None, **keys):
    split = Split(windows, later or windows)
    return linear.fit(split, features, settings_of(**keys), 0, silent)


@pytest.mark.parametrize("conditions", [0, 2])
@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.parametrize(("lags", "ridge"), [(1, 0.1), (4, 10.0), (50, 1.0)])
def test_all_parts_are_those_of_their_twins(features, conditions, lags, ridge):
    training = windows_of(features, conditions)
    later = windows_of(features, conditions, count=40, seed=1)
    model = fitted(training, features, components=2, lags=lags, ridge=ridge).model
    found = model.apply(later.array)
    both = [
        naive_scoring.linear_parts(
            training.array.astype(np.float64),
            windows.array.astype(np.float64),
            features,
            components=min(2, LENGTH * (features + conditions) // 4),
            lags=min(lags, LENGTH - 1),
            ridge=ridge,
        )
        for windows in (training, later)
    ]
    usual = [np.quantile(np.square(part).mean(axis=1), 0.99) for part in both[0][0]]
    weights = [1.0, 0.5, 0.5] if features == 1 else [1.0, 0.5, 1.5]
    baselines = np.array(usual) / weights
    residuals, window_errors = both[1]
    errors = sum(np.square(part) / own for part, own in zip(residuals, baselines, strict=True))
    np.testing.assert_allclose(found.errors, errors, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.window_errors, window_errors, rtol=1e-5, atol=1e-9)
    expected = later.array[:, -1, :features] - residuals.mean(axis=0)
    np.testing.assert_allclose(found.expected, expected, rtol=1e-4, atol=1e-6)


def test_no_more_than_a_quarter_of_all_directions_is_kept():
    model = fitted(windows_of(1), 1, components=999).model
    assert model.directions.shape == (LENGTH, LENGTH // 4)
    identity = model.directions.T @ model.directions
    np.testing.assert_allclose(identity, np.eye(LENGTH // 4), atol=1e-12)


def test_a_baseline_is_about_one_on_each_part():
    training = windows_of(count=2000)
    errors = fitted(training).model.apply(training.array).errors.mean(axis=1)
    assert np.quantile(errors, 0.999) > 1
    assert np.quantile(errors, 0.98) < 3


def test_a_broken_relation_stands_out():
    training = windows_of(count=2000)
    model = fitted(training, components=3).model
    broken = training.array[:50].copy()
    broken[:, -1, 1] *= -1
    moved = np.abs(broken[:, -1, 1]) > 0.5
    errors = model.apply(broken).errors[moved]
    assert (errors.argmax(axis=1) == 1).mean() > 0.9
    assert np.median(errors[:, 1]) > 10 * np.median(model.apply(training.array).errors[:, 1])


def test_each_window_is_judged_by_itself_and_nothing_is_changed_by_it():
    training = windows_of()
    model, before = fitted(training).model, training.array.copy()
    whole = model.apply(training.array)
    np.testing.assert_array_equal(training.array, before)
    one = model.apply(training.array[7:8])
    np.testing.assert_allclose(one.errors[0], whole.errors[7], rtol=1e-9)
    assert whole.errors.shape == whole.expected.shape == whole.window_errors.shape == (200, 3)
    assert whole.errors.dtype == whole.expected.dtype == whole.window_errors.dtype == np.float64


def test_of_no_windows_nothing_is_said():
    outcome = fitted(windows_of()).model.apply(np.empty((0, LENGTH, 3), np.float32))
    assert outcome.errors.shape == outcome.expected.shape == outcome.window_errors.shape == (0, 3)


def test_of_a_longer_window_the_last_samples_count():
    training = windows_of()
    model = fitted(training).model
    longer = windows_of(length=LENGTH + 5, seed=1).array
    whole, tail = model.apply(longer), model.apply(longer[:, 5:])
    np.testing.assert_array_equal(whole.errors, tail.errors)
    np.testing.assert_array_equal(whole.window_errors, tail.window_errors)


def test_the_seed_changes_nothing():
    windows = windows_of()
    split = Split(windows, windows)
    errors = [
        linear.fit(split, 3, settings_of(), seed, silent).model.apply(windows.array).errors
        for seed in (0, 1)
    ]
    assert errors[0].tobytes() == errors[1].tobytes()


@pytest.mark.parametrize("level", [0.0, 7.0])
@pytest.mark.parametrize("constant", [1, 3])
def test_constant_features_are_nothing_until_they_move_and_then_finite(constant, level):
    training = windows_of()
    training.array[:, :, :constant] = level
    model = fitted(training).model
    outcome = model.apply(training.array)
    assert np.isfinite(outcome.errors).all()
    still = outcome.window_errors[:, :constant]
    np.testing.assert_allclose(still, 0, atol=1e-5)
    moved = training.array[:1].copy()
    moved[0, -1, 0] += 1
    after = model.apply(moved)
    assert outcome.errors[0, 0] < after.errors[0, 0] < np.inf
    assert np.isfinite(after.expected).all()


def test_absurd_numbers_yield_finite_errors():
    model = fitted(windows_of()).model
    absurd = np.full((2, LENGTH, 3), np.float32(3e38))
    absurd[1] = -absurd[1]
    assert np.isfinite(model.apply(absurd).errors).all()


def test_windows_of_two_samples_are_enough():
    windows = windows_of(1, length=2)
    model = fitted(windows, 1).model
    assert (model.lags, model.directions.shape) == (1, (2, 1))
    assert np.isfinite(model.apply(windows.array).errors).all()


# How it is fitted


def test_only_the_training_part_is_fitted_on_and_both_losses_are_reported():
    training, other, seen = windows_of(), windows_of(seed=1), []
    split = Split(training, other)
    trained = linear.fit(split, 3, settings_of(), 0, lambda *epoch: seen.append(epoch))
    alone = fitted(training)
    np.testing.assert_array_equal(trained.model.coefficients, alone.model.coefficients)
    losses = [float(trained.model.apply(w.array).window_errors.mean()) for w in (training, other)]
    assert seen == [(1, 1, pytest.approx(losses[0]), pytest.approx(losses[1]))]
    history = trained.history
    assert (history.training_loss, history.validation_loss) == ((seen[0][2],), (seen[0][3],))
    assert history.best_epoch == 1


def test_refitting_fits_to_all_windows_and_keeps_the_history():
    everything = windows_of(count=300)
    half = StoredWindows(everything.array[:150], everything.times[:150])
    trained = fitted(half, components=2, lags=3, ridge=0.5)
    again = trained.refit(everything)
    expected = fitted(everything, components=2, lags=3, ridge=0.5)
    for part in ("mean", "directions", "coefficients", "baselines"):
        np.testing.assert_array_equal(getattr(again.model, part), getattr(expected.model, part))
    assert again.history == trained.history
    assert not np.array_equal(again.model.mean, trained.model.mean)


# Kept in a file


@pytest.fixture
def kept(tmp_path):
    trained = fitted(windows_of(conditions=1))
    trained.save(tmp_path, "unused.keras")
    return trained, tmp_path


def test_what_is_loaded_says_the_same_to_the_last_bit(kept):
    trained, directory = kept
    windows = windows_of(conditions=1, seed=2).array
    before, after = trained.model.apply(windows), linear.load(directory).apply(windows)
    for name in ("errors", "expected", "window_errors"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes()
    assert [path.name for path in directory.iterdir()] == [linear.CODE_FREE_FILE]


def test_a_file_of_before_has_two_parts(kept):
    trained, directory = kept
    path = directory / linear.CODE_FREE_FILE
    with np.load(path) as found:
        content = {name: found[name] for name in found if name != "own"}
    content["usual"] = content["usual"][:2]
    with path.open("wb") as file:
        np.savez(file, **content)
    windows = windows_of(conditions=1, seed=2).array
    before = linear.load(directory)
    first, second, _ = trained.model.measure_parts(windows)
    usual = trained.model.baselines
    np.testing.assert_allclose(
        before.apply(windows).errors, first / usual[0] + second / usual[1], rtol=1e-9
    )


# Cross-fitting


def alone(windows, **keys):
    return linear.fit(Split(windows, windows), 3, settings_of(**keys), 0, silent).model


def cut(windows, chosen):
    return StoredWindows(windows.array[chosen], windows.times[chosen])


@pytest.mark.parametrize(("count", "blocks"), [(400, 5), (100, 2)])
def test_each_block_is_judged_by_parts_that_share_no_sample_with_it(count, blocks):
    windows = windows_of(count=count)
    trained, errors = fitted_to(windows).cross_fit(windows)
    bounds = np.linspace(0, count, blocks + 1).astype(int)
    squares = np.empty((3, count, 3))
    for first, last in pairwise(bounds):
        rows = np.arange(count)
        unseen = (rows < first - LENGTH) | (rows >= last + LENGTH)
        squares[:, first:last] = alone(cut(windows, unseen)).measure_parts(
            windows.array[first:last]
        )
    usual = np.quantile(squares.mean(axis=2), 0.99, axis=1) / [1.0, 0.5, 1.5]
    np.testing.assert_allclose(trained.model.baselines, usual, rtol=1e-6)
    np.testing.assert_allclose(errors, np.einsum("pwf,p->wf", squares, 1 / usual), rtol=1e-6)
    np.testing.assert_allclose(trained.model.coefficients, alone(windows).coefficients)


def test_of_too_few_windows_nothing_is_cross_fitted():
    assert fitted_to(windows_of()).cross_fit(windows_of(count=8 * LENGTH - 1)) is None


def fitted_to(windows):
    return fitted(windows, 3)


def plain_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def compressed(path):
    with np.load(path) as found:
        content = dict(found)
    with path.open("wb") as file:
        np.savez_compressed(file, **content)


def announced(path, numbers):
    """A header that announces far more numbers than follow it."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (numbers,)}
    )
    with np.load(path) as found, zipfile.ZipFile(path.with_suffix(".new"), "w") as archive:
        for name, array in found.items():
            file = io.BytesIO()
            np.save(file, array)
            archive.writestr(f"{name}.npy", (header if name == "mean" else file).getvalue())
    path.with_suffix(".new").replace(path)


def rewritten(path, **parts):
    with np.load(path) as found:
        content = {**found, **parts}
    with path.open("wb") as file:
        np.savez(file, **content)


SPOIL = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no model\nat all\n"),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "changed within": lambda path: path.write_bytes(path.read_bytes().replace(b"mean", b"maen")),
    "one array": plain_array,
    "another length": lambda path: rewritten(path, shape=np.array([3, LENGTH + 1, 7])),
    "one part fewer": lambda path: rewritten(path, usual=np.ones(2)),
    "another own part": lambda path: rewritten(path, own=np.zeros((3, 3))),
    "more features": lambda path: rewritten(path, shape=np.array([4, LENGTH, 7])),
    "too little of a shape": lambda path: rewritten(path, shape=np.array([3])),
    "not a number": lambda path: rewritten(path, usual=np.array([np.nan, 1.0, 1.0])),
    "nothing usual": lambda path: rewritten(path, usual=np.zeros(3)),
    "infinite": lambda path: rewritten(path, usual=np.array([np.inf, 1.0, 1.0])),
    "single precision": lambda path: rewritten(path, mean=np.zeros(LENGTH * 3, np.float32)),
    "compressed": compressed,
    "a bomb": lambda path: announced(path, 400_000_000),
    "another array beside them": lambda path: rewritten(path, more=np.zeros(1)),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
    "objects": lambda path: rewritten(path, mean=np.array([{}], dtype=object)),
}


@pytest.mark.parametrize("how", list(SPOIL))
def test_a_damaged_file_is_one_line_that_says_what_to_do(kept, how):
    path = kept[1] / linear.CODE_FREE_FILE
    SPOIL[how](path)
    with pytest.raises(BundleError) as caught:
        linear.load(kept[1])
    message = str(caught.value)
    assert message.startswith(f"{path}: not a readable model (")
    assert message.endswith("— train again or roll back")
    assert "\n" not in message
