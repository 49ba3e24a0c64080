"""Every model keeps the contract; the autoencoder's two forms are one and the same."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import onnx
import pytest

from promad.data.calendar import calendar_columns
from promad.data.scaling import fit_scaler
from promad.data.windows import ChosenWindows, Split, build_windows, split_at
from promad.errors import BundleError, DataError
from promad.models import MODELS, find_model
from promad.models.lstm_autoencoder import LstmAutoencoder
from promad.models.onnx_session import CODE_FREE_FILE, open_session
from tests.support.simulated import LENGTH, NAMES, config_for, frame_of, host_values, silent

FEATURES = len(NAMES)
ROWS = 300


def windows_of(rows=ROWS, length=LENGTH):
    """Windows of the simulated host in scaled units, with two calendar columns."""
    values = host_values(rows)
    frame = frame_of(fit_scaler("StandardScaler", values, NAMES)[0].transform(values))
    calendar = [calendar_columns(frame.times, ("hour_of_day",), "UTC")]
    return build_windows([frame], 0, length, calendar)


def split_of(windows):
    return split_at(windows, windows.times[len(windows) * 7 // 10], 30.0)


def every(windows):
    return windows.take(np.arange(len(windows)))


def settings_of(**keys):
    return config_for("unused", training_settings=keys).training_settings


@dataclass(frozen=True)
class Fitted:
    """A model of each name, fitted with one seed."""

    name: str
    settings: object
    trained: object
    progress: list

    @property
    def module(self):
        return find_model(self.name)

    @property
    def model(self):
        return self.trained.model

    @property
    def columns(self):
        """Of errors, expected values and window errors; a fusion has its members side by side."""
        members = len(settings_of().fusion.members) if self.name == "fusion" else 1
        return (members * FEATURES, FEATURES, FEATURES)


@pytest.fixture(scope="session", params=list(MODELS))
def fitted(request):
    seen, settings = [], settings_of(model=request.param)
    trained = find_model(request.param).fit(
        split_of(windows_of()), FEATURES, settings, 5, lambda *epoch: seen.append(epoch)
    )
    return Fitted(request.param, settings, trained, seen)


def refitted(fitted, seed, windows=None):
    split = split_of(windows_of() if windows is None else windows)
    return fitted.module.fit(split, FEATURES, fitted.settings, seed, silent)


def arrays(outcome):
    return (outcome.errors, outcome.expected, outcome.window_errors)


def test_errors_and_expectations_are_finite_and_one_for_each_feature(fitted):
    outcome = fitted.model.apply(every(windows_of()))
    for array, columns in zip(arrays(outcome), fitted.columns, strict=True):
        assert array.shape == (len(windows_of()), columns)
        assert array.dtype == np.float64
        assert np.isfinite(array).all()
    assert (outcome.errors >= 0).all()
    assert (outcome.window_errors >= 0).all()


def test_no_windows_have_no_errors(fitted):
    outcome = fitted.model.apply(every(windows_of())[:0])
    assert [array.shape for array in arrays(outcome)] == [(0, many) for many in fitted.columns]


def test_each_window_is_judged_by_itself(fitted):
    windows = every(windows_of())
    together = fitted.model.apply(windows)
    for index in (0, 17, len(windows) - 1):
        alone = fitted.model.apply(windows[index : index + 1])
        for one, several in zip(arrays(alone), arrays(together), strict=True):
            np.testing.assert_allclose(one[0], several[index], rtol=1e-4, atol=1e-5)


def test_of_longer_windows_only_the_latest_rows_count(fitted):
    windows, longer = windows_of(), windows_of(length=LENGTH + 5)
    before = fitted.model.apply(every(windows)[5:])
    for expected, found in zip(
        arrays(before), arrays(fitted.model.apply(every(longer))), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_a_model_fitted_to_longer_windows_needs_no_more_than_its_own_length(fitted):
    trained = refitted(fitted, 5, windows_of(length=LENGTH + 5))
    windows = every(windows_of())
    longer = np.concatenate([np.full_like(windows[:, :5], 3), windows], axis=1)
    for short, long in zip(
        arrays(trained.model.apply(windows)), arrays(trained.model.apply(longer)), strict=True
    ):
        np.testing.assert_array_equal(short, long)


def test_a_feature_that_leaves_its_range_has_the_largest_error(fitted):
    windows = every(windows_of())[:20].copy()
    windows[:, -1, 1] += 20
    outcome = fitted.model.apply(windows)
    for errors in np.split(outcome.errors, outcome.errors.shape[1] // FEATURES, axis=1):
        assert (errors.argmax(axis=1) == 1).all()
    assert (outcome.window_errors.argmax(axis=1) == 1).all()


@pytest.mark.parametrize("value", [1e15, -1e15])
def test_even_an_absurd_value_has_a_finite_error(fitted, value):
    windows = every(windows_of())[:3].copy()
    windows[:, -1, 0] = value
    outcome = fitted.model.apply(windows)
    assert all(np.isfinite(array).all() for array in arrays(outcome))
    assert (outcome.errors[:, 0] > 1e9).all()


def test_applying_changes_nothing_in_the_windows(fitted):
    windows = every(windows_of())
    before = windows.copy()
    fitted.model.apply(windows)
    np.testing.assert_array_equal(windows, before)


def test_a_model_can_be_set_to_each_of_its_scoring_modes_and_to_no_other(fitted):
    model = fitted.trained.model
    if not model.scoring_modes:
        assert model.scoring_mode is None
        with pytest.raises(ValueError, match="no scoring mode averaged"):
            model.in_scoring_mode("averaged")
    else:
        assert model.scoring_mode in model.scoring_modes
        for mode in model.scoring_modes:
            assert model.in_scoring_mode(mode).scoring_mode == mode


def test_what_is_loaded_is_what_was_saved(fitted, tmp_path):
    fitted.trained.save(tmp_path, "model.keras")
    loaded = fitted.module.load(tmp_path)
    windows = every(windows_of())
    before, after = fitted.model.apply(windows), loaded.apply(windows)
    for kept, made in zip(arrays(after), arrays(before), strict=True):
        np.testing.assert_array_equal(kept, made)
    native = [path.stat().st_size for path in tmp_path.rglob("model.keras")]
    assert all(native)
    assert len(native) == (fitted.name != "linear")


def test_progress_is_reported_after_each_epoch(fitted):
    history = fitted.trained.history
    epochs = range(1, len(history.training_loss) + 1)
    reported = fitted.progress[-len(epochs) :]
    most = {report[1] for report in reported}
    assert [(report[0], *report[2:]) for report in reported] == list(
        zip(epochs, history.training_loss, history.validation_loss, strict=True)
    )
    assert len(most) == 1
    assert 1 <= history.best_epoch <= len(epochs) <= most.pop()


def test_the_versions_of_the_libraries_are_kept(fitted):
    assert fitted.trained.versions
    assert all(text[0].isdigit() for text in fitted.trained.versions.values())


def test_the_same_seed_gives_the_same_model(fitted):
    windows, same = every(windows_of()), refitted(fitted, 5)
    errors = fitted.model.apply(windows).errors
    np.testing.assert_array_equal(same.model.apply(windows).errors, errors)
    assert same.history == fitted.trained.history


@pytest.mark.parametrize("content", [None, b"", b"no model at all"])
def test_a_directory_without_a_model_is_refused(fitted, tmp_path, content):
    if content is not None:
        _code_free_file(fitted, tmp_path).write_bytes(content)
    with pytest.raises(BundleError, match=rf"^{tmp_path}.*: not a readable model .* train again"):
        fitted.module.load(tmp_path)


def _code_free_file(fitted, directory):
    """Of a fusion, that of its first member."""
    if fitted.name != "fusion":
        return directory / fitted.module.CODE_FREE_FILE
    (directory / "linear").mkdir()
    return directory / "linear" / find_model("linear").CODE_FREE_FILE


# The LSTM autoencoder


@pytest.mark.parametrize("name", ["lstm_autoencoder", "lstm_forecaster"])
def test_another_seed_gives_another_network(name):
    windows, settings = every(windows_of()), settings_of(model=name, epochs=1)
    one, other = (
        find_model(name).fit(split_of(windows_of()), FEATURES, settings, seed, silent).model
        for seed in (5, 6)
    )
    assert not np.allclose(one.apply(windows).errors, other.apply(windows).errors, rtol=1e-3)


SIZES = [
    (2, 1, 1, (1, 1, 1, 1)),
    (8, 3, 3, (8, 4, 4, 8)),
    (30, 12, 12, (64, 32, 32, 64)),
    (60, 9, 5, (16, 8, 12, 24)),
    (5, 40, 36, (7, 3, 2, 5)),
]


@pytest.mark.parametrize("preset", ["improved", "original"])
@pytest.mark.parametrize(("length", "width", "features", "units"), SIZES)
def test_the_code_free_form_equals_keras_for_every_size(length, width, features, units, preset):
    from promad.models.autoencoder_training import PRESETS

    names = ("encoder1", "encoder2_latent", "decoder1", "decoder2")
    settings = settings_of(
        **dict(zip((f"lstm_units_{name}" for name in names), units, strict=True))
    )
    network = PRESETS[preset].build(length, width, features, settings, 1)
    chance = np.random.default_rng(1)
    network.set_weights(
        [array + 0.1 * chance.normal(size=array.shape) for array in network.get_weights()]
    )
    graph = PRESETS[preset].to_onnx(network.get_weights(), length, features)
    model = LstmAutoencoder(open_session(graph), length, features)
    windows = chance.normal(scale=5, size=(300, length, width)).astype(np.float32)
    found = model.reconstruct(windows)
    assert found.shape == (300, length, features)
    assert np.abs(found - network(windows).numpy()).max() < 1e-5


def test_the_keras_file_in_a_bundle_equals_its_code_free_form(worked):
    import keras

    network = keras.models.load_model(worked.bundle.directory / "lstm_autoencoder_model.keras")
    windows = every(windows_of())
    found = worked.detector().model.network.reconstruct(windows)
    assert np.abs(found - network(windows).numpy()).max() < 1e-5
    weights = [array.shape for array in network.get_weights()]
    assert weights[0] == (FEATURES + 2, 4 * 8)
    assert weights[-1] == (FEATURES,)


def test_errors_are_squares_at_the_last_sample_and_their_mean_over_the_window(improved):
    model, windows = improved.model, every(windows_of())[:9]
    found = model.reconstruct(windows)
    outcome = model.apply(windows)
    for window in range(9):
        for feature in range(FEATURES):
            squares = [
                (float(windows[window, row, feature]) - float(found[window, row, feature])) ** 2
                for row in range(LENGTH)
            ]
            assert outcome.errors[window, feature] == pytest.approx(squares[-1], rel=1e-5)
            mean = sum(squares) / LENGTH
            assert outcome.window_errors[window, feature] == pytest.approx(mean, rel=1e-5)
    np.testing.assert_array_equal(outcome.expected, found[:, -1])


@pytest.mark.parametrize("preset", ["improved", "original"])
def test_the_output_can_leave_the_range_that_training_saw(preset):
    from promad.models.autoencoder_training import PRESETS

    network = PRESETS[preset].build(4, 2, 2, settings_of(), 1)
    weights = network.get_weights()
    weights[-1] = np.array([-7.5, 40.0], np.float32)
    network.set_weights(weights)
    output = network(np.zeros((1, 4, 2), np.float32)).numpy()
    assert output[..., 0].max() < -5
    assert output[..., 1].min() > 35


@pytest.fixture(scope="module")
def improved():
    settings = settings_of(model="lstm_autoencoder", preset="improved")
    return find_model("lstm_autoencoder").fit(split_of(windows_of()), FEATURES, settings, 3, silent)


def test_a_file_from_before_its_output_was_renamed_loads(improved, tmp_path):
    file = onnx.load_from_string(improved.onnx_bytes)
    (output,) = file.graph.output
    for node in file.graph.node:
        node.output[:] = ["drawn" if name == output.name else name for name in node.output]
    output.name = "drawn"
    (tmp_path / CODE_FREE_FILE).write_bytes(file.SerializeToString())
    windows = every(windows_of())
    loaded = find_model("lstm_autoencoder").load(tmp_path)
    np.testing.assert_array_equal(loaded.reconstruct(windows), improved.model.reconstruct(windows))


def test_the_improved_model_sees_nothing_beyond_ten_units(improved):
    near = every(windows_of())[:20].copy()
    near[:, -1, 1] = 10.0
    far = near.copy()
    far[:, -1, 1] = 25.0
    at_ten, beyond = improved.model.apply(near), improved.model.apply(far)
    np.testing.assert_array_equal(beyond.expected, at_ten.expected)
    overshoot = np.sqrt(beyond.errors[:, 1]) - np.sqrt(at_ten.errors[:, 1])
    np.testing.assert_allclose(overshoot, 15.0, rtol=1e-5)


def test_the_improved_decoder_sees_the_conditions_itself(improved):
    decoder = improved.keras_model.get_weights()[5]
    assert decoder.shape[0] == settings_of().lstm_units_encoder2_latent + 2


def test_the_improved_keras_file_equals_its_code_free_form(improved, tmp_path):
    import keras

    improved.save(tmp_path, "model.keras")
    network = keras.models.load_model(tmp_path / "model.keras")
    windows = every(windows_of())
    found = improved.model.reconstruct(windows)
    assert np.abs(found - network(windows).numpy()).max() < 1e-5


def test_hubers_error_is_squared_near_by_and_linear_far_away():
    from promad.models.autoencoder_training import huber_loss

    windows = np.array([[[0.5, 7.0]], [[-3.0, 7.0]]], np.float32)
    loss = huber_loss(lambda given, training: np.zeros_like(given[:, :, :1]), 1, None)
    assert float(loss(windows, False)) == pytest.approx((0.25 + 5.0) / 2)


def test_the_residual_loss_is_of_what_the_linear_model_leaves():
    from promad.models.autoencoder_training import residual_loss

    windows, settings = windows_of(), settings_of(model="linear")
    base = find_model("linear").fit(Split(windows, windows), FEATURES, settings, 0, silent).model
    given = every(windows)[:50]
    left = base.find_residuals(given)
    halves = residual_loss(lambda shown, training: 0.5 * left, FEATURES, base)
    squares = np.where(np.abs(left) < 2, (left / 2) ** 2, np.abs(left) - 1)
    expected = squares.mean() + squares[:, -1].mean()
    assert float(halves(given, False)) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="no linear model"):
        residual_loss(lambda *_: left, FEATURES, None)


@pytest.fixture(scope="module")
def overfitted():
    """Trained with steps so large that the last epoch is not the best."""
    split = split_of(windows_of())
    settings = settings_of(
        preset="original", epochs=30, learning_rate=0.1, early_stopping_patience=3
    )
    trained = find_model("lstm_autoencoder").fit(split, FEATURES, settings, 3, silent)
    return split, trained


def test_the_weights_of_the_best_epoch_are_kept(overfitted):
    split, trained = overfitted
    losses = trained.history.validation_loss
    assert trained.history.best_epoch == int(np.argmin(losses)) + 1 < len(losses)
    errors = trained.model.apply(every(split.validation)).window_errors
    assert errors.mean() == pytest.approx(min(losses), rel=1e-4)
    assert errors.mean() != pytest.approx(losses[-1], rel=1e-3)


def test_training_stops_after_as_many_epochs_without_a_better_one_as_it_has_patience(overfitted):
    _, trained = overfitted
    assert len(trained.history.validation_loss) == trained.history.best_epoch + 3 < 30


def test_training_reduces_the_loss(overfitted):
    losses = overfitted[1].history.training_loss
    assert min(losses) < 0.8 * losses[0]


def test_a_loss_that_is_no_number_is_refused():
    split, settings = split_of(windows_of()), settings_of(learning_rate=1e38)
    with pytest.raises(DataError, match=r"not a finite number in epoch 1 .* \(now 1e\+38\)"):
        find_model("lstm_autoencoder").fit(split, FEATURES, settings, 3, silent)


@dataclass
class Asked:
    """Endless windows of zeros that note how much is asked for at once, in bytes."""

    length: int
    width: int
    most: int = 0

    def __len__(self):
        return 10**6

    def take(self, indices):
        self.most = max(self.most, 4 * len(indices) * self.length * self.width)
        return np.zeros((len(indices), self.length, self.width), np.float32)


@pytest.mark.parametrize(("length", "width"), [(60, 38), (1440, 50)])
def test_an_epoch_gathers_a_few_megabytes_of_windows_at_a_time(length, width):
    from promad.models.training import _gather_blocks

    windows = Asked(length, width)
    blocks = _gather_blocks(windows, np.arange(len(windows)), batch_size=32)
    assert next(blocks).shape[1:] == (32, length, width)
    assert 2**20 < windows.most <= 16 * 2**20


@pytest.mark.parametrize("batch_size", [1, 7, 64, 5000])
def test_an_epoch_sees_every_window_once(batch_size):
    from promad.models.training import _gather_blocks

    windows = windows_of()
    order = np.random.default_rng(0).permutation(len(windows))
    blocks = list(_gather_blocks(windows, order, batch_size))
    assert all(block.shape[1] <= batch_size for block in blocks)
    seen = np.concatenate([block.reshape(-1, *block.shape[2:]) for block in blocks])
    np.testing.assert_array_equal(seen, windows.take(order))


def test_validation_that_gets_no_window_twice_is_used_whole():
    windows, settings = windows_of(), settings_of(preset="original", epochs=1)
    split = Split(windows, ChosenWindows(windows, np.arange(40)))
    trained = find_model("lstm_autoencoder").fit(split, FEATURES, settings, 1, silent)
    errors = trained.model.apply(every(split.validation)).window_errors
    assert trained.history.validation_loss[0] == pytest.approx(errors.mean(), rel=1e-4)


@pytest.mark.parametrize(("windows", "stride"), [(100, 1), (100, 7), (5, 7), (1, 3)])
def test_an_epoch_trains_on_every_nth_window_and_in_time_on_all(windows, stride):
    from promad.models.training import Course

    chance, course = np.random.default_rng(1), Course(stride)
    seen = set()
    for _ in range(50):
        order = course.order_epoch(windows, chance)
        assert set(np.diff(np.sort(order))) <= {stride}
        assert len(order) in {windows // stride, -(-windows // stride)} - {0}
        seen.update(order.tolist())
    assert seen == set(range(windows))


def test_the_order_of_windows_is_random():
    from promad.models.training import Course

    order = Course(3).order_epoch(100, np.random.default_rng(1))
    assert (order != np.sort(order)).any()


def test_a_share_too_small_to_count_as_better_stops_training():
    from promad.models.autoencoder_training import build_original, squared_loss
    from promad.models.training import Course, plan_with_adam, train_network

    settings = settings_of(epochs=9, early_stopping_patience=2)
    network = build_original(LENGTH, FEATURES + 2, FEATURES, settings, 1)
    loss, split = squared_loss(network, FEATURES, None), split_of(windows_of())
    plan = plan_with_adam(loss, settings.learning_rate, Course(1, 0.9))
    history = train_network(network, plan, split, settings, 1, silent)
    assert history.best_epoch == 1
    assert len(history.validation_loss) == 3


WITHOUT_TRAINING_LIBRARIES = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tensorflow", "keras", "sklearn", "joblib", "matplotlib", "onnx"}:
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())

from pathlib import Path
import promad.stages.collect, promad.detection.daemon, promad.stages.filter
from promad.bundle import BundleStore, load_detector
import numpy as np

detector = load_detector(BundleStore(Path(sys.argv[1])).open_current())
windows = np.zeros((1, detector.length, 5), np.float32)
print(detector.model.apply(windows).errors.shape)
"""


def test_serving_and_filtering_need_none_of_the_libraries_that_train(worked):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRAINING_LIBRARIES, str(worked.store.root)],
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == (f"(1, {FEATURES})", "")
