"""The LSTM forecaster: what it reads, what it is trained on, and that both its forms are one."""

import numpy as np
import pytest

from promad.data.windows import build_windows, split_at
from promad.models import lstm_forecaster
from tests.support.simulated import config_for, frame_of, silent


def settings_of(layers=(8,), n_predictions=3, dropout=0.0, **keys):
    own = {"layers": layers, "n_predictions": n_predictions, "dropout": dropout}
    keys = {"model": "lstm_forecaster", "sequence_length": 12, "lstm_forecaster": own, **keys}
    return config_for("unused", training_settings=keys).training_settings


def windows_of(values, conditions=None, length=12):
    names = tuple(f"feature{index}" for index in range(values.shape[1]))
    columns = [] if conditions is None else [conditions.astype(np.float32)]
    return build_windows([frame_of(values, names=names)], 0, length, columns)


def every(windows):
    return windows.take(np.arange(len(windows)))


def fitted_to(windows, features, seed=1, **keys):
    split = split_at(windows, windows.times[len(windows) * 7 // 10], 30.0)
    return lstm_forecaster.fit(split, features, settings_of(**keys), seed, silent)


def obeyed(samples, seed):
    """A random command (samples, 1), and a target (samples, 1) that follows it one sample later."""
    command = np.random.default_rng(seed).integers(0, 2, (samples, 1)).astype(np.float64)
    return command, np.roll(command, 1, axis=0)


@pytest.fixture(scope="module")
def obedient():
    """A forecaster of one target, with the command as its condition."""
    command, target = obeyed(900, 0)
    windows = windows_of(target, command)
    return fitted_to(windows, 1, epochs=12, batch_size=16, learning_rate=0.02)


@pytest.fixture(scope="module")
def of_cycles():
    """A forecaster of two features that go round and round."""
    phase = np.arange(600) * 2 * np.pi / 24
    windows = windows_of(np.column_stack([np.sin(phase), np.cos(phase)]))
    return windows, fitted_to(windows, 2, epochs=12, batch_size=16, learning_rate=0.02)


def test_a_target_that_follows_its_command_is_forecast(obedient):
    command, target = obeyed(200, 1)
    errors = obedient.model.apply(every(windows_of(target, command))).errors
    assert errors.shape == (189, 1)
    assert errors.mean() < 0.02


def test_a_target_that_disobeys_its_command_has_a_large_error(obedient):
    command, target = obeyed(200, 1)
    errors = obedient.model.apply(every(windows_of(1 - target, command))).errors
    assert errors.mean() > 0.5


def test_a_cycle_of_several_features_is_forecast_and_a_break_in_it_is_not(of_cycles):
    windows, trained = of_cycles
    inputs = every(windows)
    usual = trained.model.apply(inputs).errors
    inputs[:, -1] = inputs[:, -7]
    assert usual.max() < 0.1
    assert trained.model.apply(inputs).errors.mean() > 5 * usual.max()


def test_the_forecast_does_not_depend_on_the_sample_that_is_forecast(of_cycles):
    windows, trained = of_cycles
    inputs = every(windows)[:50]
    before = trained.model.apply(inputs)
    inputs[:, -1] += 3
    after = trained.model.apply(inputs)
    np.testing.assert_array_equal(after.expected, before.expected)
    np.testing.assert_allclose(after.errors, np.square(inputs[:, -1] - after.expected))


def test_the_forecast_depends_on_every_sample_before(of_cycles):
    windows, trained = of_cycles
    inputs = every(windows)[:1]
    before = trained.model.apply(inputs).expected
    for row in range(inputs.shape[1] - 1):
        changed = inputs.copy()
        changed[:, row] += 1
        assert (trained.model.apply(changed).expected != before).any()


def test_the_error_over_the_window_is_that_of_its_last_sample(of_cycles):
    windows, trained = of_cycles
    outcome = trained.model.apply(every(windows))
    np.testing.assert_array_equal(outcome.window_errors, outcome.errors)


def test_the_last_epoch_is_kept_even_if_an_earlier_one_was_better_on_validation():
    from promad.models.forecaster_training import forecast_loss

    command, target = obeyed(400, 0)
    target[280:] = 1 - target[280:]
    windows = windows_of(target, command)
    trained = fitted_to(windows, 1, epochs=8, batch_size=16, learning_rate=0.02)
    losses = trained.history.validation_loss
    assert trained.history.best_epoch == len(losses)
    assert min(losses) < 0.9 * losses[-1]
    held_out = split_at(windows, windows.times[len(windows) * 7 // 10], 30.0).validation
    loss = forecast_loss(trained.keras_model, 12, 1, 3)
    kept = float(loss(held_out.take(np.arange(0, len(held_out), 3)), False))
    assert kept == pytest.approx(losses[-1], rel=1e-4)


@pytest.mark.parametrize(
    ("length", "width", "features", "layers", "n_predictions"),
    [(1, 1, 1, (1,), 1), (7, 3, 3, (4,), 5), (40, 9, 1, (80, 80), 10), (12, 6, 4, (5, 3, 7), 2)],
)
def test_the_code_free_form_equals_keras_for_every_size(
    length, width, features, layers, n_predictions
):
    from promad.models.forecaster_training import build_network
    from promad.models.lstm_onnx import forecaster_to_onnx
    from promad.models.onnx_session import open_session

    network = build_network(width, features, settings_of(layers, n_predictions), 1)
    chance = np.random.default_rng(1)
    network.set_weights(
        [array + 0.1 * chance.normal(size=array.shape) for array in network.get_weights()]
    )
    session = open_session(forecaster_to_onnx(network.get_weights(), length, features))
    model = lstm_forecaster.LstmForecaster(session, length, features)
    windows = chance.normal(scale=2, size=(300, length + 1, width)).astype(np.float32)
    native = network(windows[:, :-1]).numpy()[:, -1, :features]
    assert np.abs(model.forecast(windows) - native).max() < 1e-5


def test_the_keras_file_forecasts_the_same(of_cycles, tmp_path):
    import keras

    windows, trained = of_cycles
    trained.save(tmp_path, "model.keras")
    network = keras.models.load_model(tmp_path / "model.keras")
    inputs = every(windows)
    native = network(inputs[:, :-1]).numpy()[:, -1, :2]
    assert np.abs(lstm_forecaster.load(tmp_path).forecast(inputs) - native).max() < 1e-5


def loss_one_by_one(windows, forecasts, features, horizons):
    """The forecaster's loss, one forecast after another."""
    count, length, _ = windows.shape
    by_horizon, weights = [], []
    for ahead in range(1, horizons + 1):
        squares = [
            (float(windows[window, row + ahead, feature]) - forecast) ** 2
            for window in range(count)
            for row in range(length // 10, length - ahead)
            for feature in range(features)
            for forecast in [float(forecasts[window, row, (ahead - 1) * features + feature])]
        ]
        if squares:
            by_horizon.append(sum(squares) / len(squares))
            weights.append(1 / ahead**2)
    return np.average(by_horizon, weights=weights)


@pytest.mark.parametrize(
    ("length", "features", "horizons"), [(2, 1, 1), (5, 2, 3), (25, 1, 10), (6, 2, 20)]
)
def test_the_loss_is_that_of_every_forecast_that_meets_a_sample(length, features, horizons):
    from promad.models.forecaster_training import forecast_loss

    chance = np.random.default_rng(length)
    windows = chance.normal(size=(4, length, features + 1)).astype(np.float32)
    forecasts = chance.normal(size=(4, length - 1, horizons * features)).astype(np.float32)

    def network(given, training):
        np.testing.assert_array_equal(given, windows[:, :-1])
        return forecasts

    loss = float(forecast_loss(network, length, features, horizons)(windows, True))
    assert loss == pytest.approx(loss_one_by_one(windows, forecasts, features, horizons), rel=1e-5)
