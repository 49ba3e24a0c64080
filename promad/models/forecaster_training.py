"""The forecaster's network and its loss, in Keras."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from promad.config import TrainingSettings
from promad.models.compiled_steps import Loss


def build_network(width: int, features: int, settings: TrainingSettings, seed: int) -> keras.Model:
    """(batch, any length, width) → (batch, length, n_predictions * features), first weights by
    `seed`.

    After each row it forecasts all features of the next row, then of the one after, and so on.
    """
    keras.utils.set_random_seed(seed)
    own = settings.lstm_forecaster
    network = keras.Sequential([keras.layers.Input((None, width))])
    for units in own.layers:
        network.add(keras.layers.LSTM(units, return_sequences=True))
        network.add(keras.layers.Dropout(own.dropout))
    network.add(keras.layers.Dense(own.n_predictions * features))
    return network


def forecast_loss(network: keras.Model, length: int, features: int, horizons: int) -> Loss:
    """The mean squared error of all forecasts within a window; the horizon n weighs 1 / n².

    Forecasts of rows beyond the window have nothing to be compared with. Nor are those from the
    first tenth of the window counted: they are made from too little.
    """
    first = length // 10
    reachable = range(1, min(horizons, length - 1 - first) + 1)
    total = sum(1 / ahead**2 for ahead in reachable)

    def weigh_error(windows: Any, forecasts: Any, ahead: int) -> Any:
        own = slice((ahead - 1) * features, ahead * features)
        away = windows[:, first + ahead :, :features] - forecasts[:, first : length - ahead, own]
        return ops.mean(ops.square(away)) / ahead**2

    def loss(windows: Any, training: bool) -> Any:
        forecasts = network(windows[:, :-1], training=training)
        return sum(weigh_error(windows, forecasts, ahead) for ahead in reachable) / total

    return loss
