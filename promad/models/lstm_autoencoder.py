"""LSTM autoencoder: reconstructs a window from a narrow state that it was squeezed into.

Good at: features that move together, daily shapes, a relation that breaks while each value stays
in its usual range. Bad at: anomalies that are merely rare values of a smooth feature, and short
spikes in long windows, which the mean over the window dilutes.

Malhotra et al. 2016, "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection", section 2,
with these departures: the decoder is fed with the repeated latent state rather than its own output;
tanh throughout and a linear output, which can follow a feature beyond what training saw.

Preset `original` has two layers on each side, by the keys `lstm_units_*`, and is fitted to the mean
squared error of every window in every epoch. Preset `improved` has one layer of
`lstm_units_encoder1`, a dense latent state of `lstm_units_encoder2_latent` and one layer of
`lstm_units_decoder2`. It clips what it reads, so that what is far away cannot be copied through,
while the error is taken against what was measured and keeps the overshoot. It is trained with
noise, on Huber's error, on every third of the overlapping windows in each epoch. Its decoder sees
the conditions, which the latent state then need not carry. Preset `residual`, the default, is a
linear model with such an autoencoder for what that leaves, see `residual_autoencoder`.
"""

from __future__ import annotations

from pathlib import Path

from promad.config import TrainingSettings
from promad.data.windows import Split, cut_to
from promad.models import linear
from promad.models.autoencoder import LstmAutoencoder
from promad.models.base import Model, Progress
from promad.models.linear_parts import Linear
from promad.models.loading import refuse_unreadable
from promad.models.onnx_session import CODE_FREE_FILE, load_session, open_session
from promad.models.residual_autoencoder import (
    ResidualAutoencoder,
    TrainedResidual,
    find_shares,
)
from promad.models.trained_network import (
    TrainedNetwork,
    check_equality,
    run_native,
    silence_native_messages,
    take_few,
)

RESIDUAL = "residual"


def fit(
    split: Split, features: int, settings: TrainingSettings, seed: int, progress: Progress
) -> TrainedNetwork[LstmAutoencoder] | TrainedResidual:
    """Fit on `split.training`, stop by `split.validation`; the same seed gives the same model.

    Args:
        features: how many columns of the windows are to be reconstructed.
    """
    split = cut_to(split, settings.sequence_length)
    if settings.preset != RESIDUAL:
        return _fit_network(split, features, settings, seed, progress, None)
    base = linear.fit(split, features, settings, seed, lambda *_: None)
    network = _fit_network(split, features, settings, seed, progress, base.model)
    return TrainedResidual(base, network)


def _fit_network(
    split: Split,
    features: int,
    settings: TrainingSettings,
    seed: int,
    progress: Progress,
    base: Linear | None,
) -> TrainedNetwork[LstmAutoencoder]:
    """The network of the preset.

    Args:
        base: the linear model that the network completes, if it does.
    """
    with silence_native_messages():
        from promad.models.autoencoder_training import PRESETS, scale_output
        from promad.models.training import plan_with_adam, train_network

    length, width = split.training.length, split.training.width
    preset = PRESETS[settings.preset]
    network = preset.build(length, width, features, settings, seed)
    plan = plan_with_adam(
        preset.loss(network, features, base), settings.learning_rate, preset.course
    )
    history = train_network(network, plan, split, settings, seed, progress)
    if base is not None:
        shares = find_shares(base, lambda batch: run_native(network, batch), split.validation)
        scale_output(network, shares)
    onnx_bytes = preset.to_onnx(network.get_weights(), length, features)
    model = LstmAutoencoder(open_session(onnx_bytes), length, features)
    few = take_few(split.validation)
    check_equality(model.reconstruct(few), run_native(network, few))
    return TrainedNetwork(model, history, network, onnx_bytes)


def load(directory: Path) -> Model:
    """The model in a bundle's directory, from its code-free form.

    There is a linear model beside the network, or in place of it, by the preset `residual`.

    Raises:
        BundleError: if the file is no such model.
    """
    path = directory / CODE_FREE_FILE
    base = linear.load(directory) if (directory / linear.CODE_FREE_FILE).exists() else None
    if base is not None and not path.exists():
        return base
    session = load_session(path)
    with refuse_unreadable(path):
        _, length, features = session.get_outputs()[0].shape
        network = LstmAutoencoder(session, int(length), int(features))
        if base is None:
            return network
        if (network.length, network.features) != (base.length, base.features):
            raise ValueError(f"it does not fit {linear.CODE_FREE_FILE}")
        return ResidualAutoencoder(base, network)
