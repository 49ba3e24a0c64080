"""TranAD: attention of all heads at once, two phases, and presets that differ where they should."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest

from promad.data.calendar import calendar_columns
from promad.data.scaling import fit_scaler
from promad.data.windows import SampleWindows, build_windows, split_at
from promad.errors import BundleError, DataError
from promad.models import tranad
from promad.models.onnx_session import CODE_FREE_FILE, open_session, run_in_batches
from promad.models.tranad_design import (
    DESIGNS,
    FACTS,
    Measure,
    first_phase_weight,
    fit_measure,
    positional_encoding,
)
from tests.support.simulated import LENGTH, NAMES, config_for, frame_of, host_values, silent

FEATURES = len(NAMES)
PRESETS = pytest.mark.parametrize("preset", list(DESIGNS))


def windows_of(rows=300, length=LENGTH):
    """Windows of the simulated host in scaled units, with two calendar columns."""
    values = host_values(rows)
    frame = frame_of(fit_scaler("StandardScaler", values, NAMES)[0].transform(values))
    calendar = [calendar_columns(frame.times, ("hour_of_day",), "UTC")]
    return build_windows([frame], 0, length, calendar)


def every(windows):
    return windows.take(np.arange(len(windows)))


def settings_of(**keys):
    keys = {"model": "tranad", "epochs": 4, "learning_rate": 0.001, "batch_size": 32, **keys}
    return config_for("unused", training_settings=keys).training_settings


def fit(windows=None, **keys):
    windows = windows_of() if windows is None else windows
    split = split_at(windows, windows.times[len(windows) * 7 // 10], 30.0)
    return tranad.fit(split, FEATURES, settings_of(**keys), 5, silent)


@pytest.fixture(scope="module")
def strict():
    return fit(preset="strict")


@pytest.fixture(scope="module")
def paper():
    return fit(preset="paper")


@pytest.fixture
def trained(request, preset):
    return request.getfixturevalue(preset)


def network_of(design, length, width, features, seed=1):
    """A network whose weights lie apart from where training starts, and its measure."""
    from promad.models.tranad_network import build_network

    chance = np.random.default_rng(seed)
    low = chance.normal(size=width).astype(np.float32)
    measure = Measure(low, chance.uniform(0.5, 3, width).astype(np.float32), features)
    network = build_network(design, measure, length, seed)
    network.set_weights(
        [array + 0.05 * chance.normal(size=array.shape) for array in network.get_weights()]
    )
    return network, measure


def open_code_free(network, design, measure, length):
    from promad.models.tranad_network import collect_weights
    from promad.models.tranad_onnx import to_onnx

    return open_session(to_onnx(collect_weights(network), design, measure, length, {}))


# The network


def slow_positional_encoding(rows, columns):
    return [
        [
            np.sin(row * 10_000 ** (-column / columns))
            + np.cos(row * 10_000 ** (-column / columns))
            for column in range(columns)
        ]
        for row in range(rows)
    ]


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (9, 76), (30, 6)])
def test_a_position_is_a_sine_and_a_cosine_in_one_cell(rows, columns):
    np.testing.assert_allclose(
        positional_encoding(rows, columns), slow_positional_encoding(rows, columns), atol=1e-6
    )


def slow_attention(query_rows, key_rows, value_rows):
    """One head over rows of two numbers each: (query rows, 2)."""
    taken = []
    for query in query_rows:
        logits = np.array([float(query @ key) for key in key_rows]) / np.sqrt(2)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        taken.append(sum(share * row for share, row in zip(shares, value_rows, strict=True)))
    return np.array(taken)


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_all_heads_at_once_take_what_each_head_would(rows, spread):
    from promad.models.tranad_network import attend

    chance, heads = np.random.default_rng(rows), 5
    queries, keys, values = spread * chance.normal(size=(3, 4, rows, heads, 2))
    at_once = attend(
        [queries[:, :, None, :, part] for part in (0, 1)],
        [keys[:, None, :, :, part] for part in (0, 1)],
        [values[:, None, :, :, part] for part in (0, 1)],
        axis=2,
    ).numpy()
    for batch in range(4):
        for head in range(heads):
            np.testing.assert_allclose(
                at_once[batch][:, [head, heads + head]],
                slow_attention(
                    queries[batch, :, head], keys[batch, :, head], values[batch, :, head]
                ),
                atol=1e-9 + 1e-6 * spread,
            )


@PRESETS
@pytest.mark.parametrize(
    ("length", "width", "features"), [(2, 1, 1), (3, 4, 2), (11, 8, 8), (25, 13, 3)]
)
def test_the_code_free_form_equals_keras_for_every_size(preset, length, width, features):
    design = DESIGNS[preset]
    network, measure = network_of(design, length, width, features)
    session = open_code_free(network, design, measure, length)
    windows = np.random.default_rng(2).normal(size=(50, length, width)).astype(np.float32)
    for code_free, native in zip(run_in_batches(session, windows), network(windows), strict=True):
        assert code_free.shape == (50, features)
        assert np.abs(code_free - native.numpy()).max() < 1e-5


def phases(network, windows):
    return [output.numpy() for output in network(windows)]


def shifted(network, layer):
    """The network with a layer's bias moved."""
    kernel, bias = network.get_layer(layer).get_weights()
    network.get_layer(layer).set_weights([kernel, bias + 1.0])
    return network


def test_the_second_phase_depends_on_the_first_and_not_the_other_way():
    windows = np.random.default_rng(3).normal(size=(5, 6, 3)).astype(np.float32)
    network, _ = network_of(DESIGNS["strict"], 6, 3, 3)
    first, second = phases(network, windows)
    other_first, same_first_other_second = (
        phases(shifted(network_of(DESIGNS["strict"], 6, 3, 3)[0], layer), windows)
        for layer in ("decoder1_fed", "decoder2_fed")
    )
    assert np.abs(other_first[0] - first).min() > 1e-3
    assert np.abs(other_first[1] - second).max() > 1e-4
    np.testing.assert_array_equal(same_first_other_second[0], first)
    assert np.abs(same_first_other_second[1] - second).min() > 1e-3


def test_conditions_are_read_but_not_reconstructed():
    network, _ = network_of(DESIGNS["strict"], 6, 5, 3)
    windows = np.random.default_rng(3).normal(size=(5, 6, 5)).astype(np.float32)
    before = phases(network, windows)
    windows[:, -1, 3:] += 0.5
    for after, earlier in zip(phases(network, windows), before, strict=True):
        assert after.shape == (5, 3)
        assert np.abs(after - earlier).max() > 1e-3


def test_the_seed_decides_the_first_weights():
    from promad.models.tranad_network import build_network

    measure = Measure(np.zeros(2, np.float32), np.ones(2, np.float32), 2)
    one, same, other = (
        build_network(DESIGNS["strict"], measure, 4, seed).get_weights() for seed in (1, 1, 2)
    )
    assert all(np.array_equal(*pair) for pair in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


# What the presets differ in


def test_strict_does_not_see_what_it_is_to_reconstruct(strict):
    windows = every(windows_of())[:9]
    changed = windows.copy()
    changed[:, -1, :FEATURES] += 7
    before, after = strict.model.apply(windows), strict.model.apply(changed)
    np.testing.assert_array_equal(after.expected, before.expected)
    assert (np.abs(after.errors - before.errors) > 0.1).all()


def test_paper_judges_the_sample_before_the_newest_and_sees_it(paper):
    windows = every(windows_of())[:9]
    newest, judged = windows.copy(), windows.copy()
    newest[:, -1, :FEATURES] += 7
    judged[:, -2, :FEATURES] += 7
    outcome = paper.model.apply(windows)
    np.testing.assert_array_equal(paper.model.apply(newest).errors, outcome.errors)
    assert (paper.model.apply(judged).errors != outcome.errors).all()
    assert (paper.model.apply(judged).expected != outcome.expected).any()


@PRESETS
def test_an_error_is_the_square_of_what_lies_between_in_papers_own_units_or_outer_ones(
    trained, preset
):
    windows = every(windows_of())[:9]
    outcome, span = trained.model.apply(windows), trained.model.measure.span[:FEATURES]
    row, unit = {"paper": (-2, span), "strict": (-1, 1.0)}[preset]
    between = (windows[:, row, :FEATURES] - outcome.expected) / unit
    np.testing.assert_allclose(outcome.errors, between**2, rtol=1e-6)
    np.testing.assert_array_equal(outcome.window_errors, outcome.errors)


def test_strict_holds_its_inputs_near_the_range_of_training_and_paper_does_not():
    windows = np.random.default_rng(4).normal(size=(3, 6, 2)).astype(np.float32)
    far, farther = windows.copy(), windows.copy()
    far[:, -2], farther[:, -2] = 8, 9
    for preset, same in (("strict", True), ("paper", False)):
        network, _ = network_of(DESIGNS[preset], 6, 2, 2)
        differ = np.abs(phases(network, far)[1] - phases(network, farther)[1]).max()
        assert (differ == 0) == same


@pytest.mark.parametrize(("preset", "activation"), [("strict", "relu"), ("paper", "linear")])
def test_hidden_layers_are_linear_in_paper_alone(preset, activation):
    network, _ = network_of(DESIGNS[preset], 4, 2, 2)
    for name in ("encoder", "decoder1", "decoder2"):
        assert network.get_layer(f"{name}_hidden").activation.__name__ == activation


def normalised(windows, measure):
    """What the network is fed: float64 (windows, length, features)."""
    features = slice(measure.features)
    return (every(windows)[:, :, features] - measure.low[features]) / measure.span[features]


@PRESETS
def test_training_spans_0_to_1(preset):
    windows = windows_of()
    measure = fit_measure(windows, FEATURES, DESIGNS[preset])
    fed = normalised(windows, measure)
    np.testing.assert_allclose(fed.min(axis=(0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(fed.max(axis=(0, 1)), 1, atol=1e-3)
    np.testing.assert_allclose(measure.denormalise(fed), every(windows)[:, :, :FEATURES], atol=1e-5)


@PRESETS
def test_an_affine_scaling_outside_is_undone(preset):
    windows = windows_of()
    scaled = SampleWindows(3 * windows.rows - 5, windows.row_times, windows.starts, LENGTH)
    plain, other = (
        normalised(each, fit_measure(each, FEATURES, DESIGNS[preset])) for each in (windows, scaled)
    )
    np.testing.assert_allclose(other, plain, atol=1e-4)


@pytest.mark.parametrize(("preset", "span"), [("strict", 1.0), ("paper", 1e-4)])
def test_a_feature_that_never_moved_explodes_in_paper_alone(preset, span):
    rows = np.full((20, 1), 0.5, np.float32)
    windows = SampleWindows(rows, np.arange(20.0), np.arange(15), 5)
    measure = fit_measure(windows, 1, DESIGNS[preset])
    assert measure.span == pytest.approx([span])


# Training and what comes of it


@PRESETS
def test_training_reduces_the_loss(trained):
    history = trained.history
    assert history.validation_loss[history.best_epoch - 1] == min(history.validation_loss)
    assert min(history.training_loss) < 0.9 * history.training_loss[0]


def test_it_is_not_fitted_again_without_windows_held_out(strict):
    assert strict.refit(windows_of()) is strict


@pytest.mark.parametrize(
    ("weighting", "epoch", "weight"),
    [
        ("epoch_inverse", 1, 1.0),
        ("epoch_inverse", 4, 0.25),
        ("exponential_decay", 1, 1 / 1.01),
        ("exponential_decay", 20, 1.01**-20),
    ],
)
def test_the_first_phase_weighs_less_from_epoch_to_epoch(weighting, epoch, weight):
    assert first_phase_weight(weighting, epoch) == pytest.approx(weight)


def test_the_scoring_mode_says_whose_errors_are_taken(strict):
    windows = every(windows_of())[:9]
    model, averaged = strict.model, replace(strict.model, averaged=True)
    observed = windows[:, -1, :FEATURES].astype(np.float64)
    first, second = (
        np.square(observed - model.measure.denormalise(output))
        for output in run_in_batches(model.session, windows)
    )
    assert np.abs(first - second).max() > 1e-4
    np.testing.assert_allclose(model.apply(windows).errors, second, rtol=1e-9)
    np.testing.assert_allclose(averaged.apply(windows).errors, (first + second) / 2, rtol=1e-9)
    assert not model.averaged


def test_the_scoring_mode_and_the_own_length_reach_the_file(tmp_path):
    longer = windows_of(120, LENGTH + 5)
    trained = fit(
        longer,
        epochs=1,
        tranad={"scoring_mode": "averaged", "loss_weighting": "exponential_decay"},
    )
    trained.save(tmp_path, "model.keras")
    loaded = tranad.load(tmp_path)
    assert loaded.averaged
    assert loaded.length == LENGTH
    windows = every(longer)
    assert loaded.apply(windows).errors.shape == (len(windows), FEATURES)


@PRESETS
@pytest.mark.parametrize("value", [1e15, -1e15])
def test_even_an_absurd_value_has_a_finite_error(trained, preset, value):
    windows = every(windows_of())[:3].copy()
    windows[:, :, 0] = value
    outcome = trained.model.apply(windows)
    assert np.isfinite(outcome.errors).all()
    assert np.isfinite(outcome.expected).all()
    assert (outcome.errors[:, 0] > 1e20).all()
    assert outcome.errors[:, 1:].max() < 1e6


def test_of_longer_windows_the_last_rows_are_used(strict):
    longer = windows_of(length=LENGTH + 5)
    windows = every(longer)
    np.testing.assert_array_equal(
        strict.model.apply(windows).errors, strict.model.apply(windows[:, 5:]).errors
    )


@PRESETS
def test_the_keras_file_equals_the_code_free_form(trained, tmp_path):
    import keras

    trained.save(tmp_path, "model.keras")
    network, windows = keras.models.load_model(tmp_path / "model.keras"), every(windows_of())
    session = tranad.load(tmp_path).session
    for code_free, native in zip(run_in_batches(session, windows), network(windows), strict=True):
        assert np.abs(code_free - native.numpy()).max() < 1e-5


@pytest.mark.parametrize("facts", [None, {}, {"low": 0, "span": 1, "judged": None}])
def test_a_model_without_its_facts_is_refused(strict, tmp_path, facts):
    graph = onnx.load_from_string(strict.onnx_bytes)
    del graph.metadata_props[:]
    if facts is not None:
        onnx.helper.set_model_props(graph, {FACTS: json.dumps(facts)})
    (tmp_path / CODE_FREE_FILE).write_bytes(graph.SerializeToString())
    with pytest.raises(BundleError, match=r"not a TranAD model .* train again"):
        tranad.load(tmp_path)


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(DataError, match=r"not a finite number in epoch 1 .* \(now 1e\+38\)"):
        fit(windows_of(120), learning_rate=1e38)


WITHOUT_TRAINING_LIBRARIES = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tensorflow", "keras", "onnx"}:
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())

from pathlib import Path
import numpy as np
from promad.models import tranad

model = tranad.load(Path(sys.argv[1]))
print(model.apply(np.zeros((1, model.length, 5), np.float32)).errors.shape)
"""


def test_a_loaded_model_needs_none_of_the_libraries_that_train(strict, tmp_path):
    strict.save(tmp_path, "model.keras")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRAINING_LIBRARIES, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == (f"(1, {FEATURES})", "")
