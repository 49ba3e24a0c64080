"""train splits by time, chooses a threshold and says why, and keeps everything in one bundle."""

import tracemalloc
from datetime import datetime

import joblib
import numpy as np
import pytest

from promad.bundle import BundleStore, check_fits, load_detector
from promad.data.artifacts import end_times_path, write_small_array
from promad.data.windows import Split
from promad.errors import BundleError, DataError
from promad.models import TrainingHistory, fusion
from promad.models import linear as linear_model
from promad.scoring.scoring import fit_scoring
from promad.stages.filter import filter_windows
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.training.plots import draw_histogram, draw_history
from tests.support import stub_model
from tests.support.detectors import judge_rows, score_rows
from tests.support.simulated import (
    LENGTH,
    NAMES,
    NOW,
    STEP,
    config_for,
    frame_of,
    host_values,
    read_processed,
    silent,
    write_raw,
)

PNG = b"\x89PNG\r\n\x1a\n"


def with_keys(config, section, **keys):
    return config.model_copy(update={section: getattr(config, section).model_copy(update=keys)})


def run(config):
    return train(config, silent, now=lambda: NOW + 1)


@pytest.fixture
def fits(monkeypatch):
    """The splits that the stub model is fitted on."""
    seen = []
    real = stub_model.fit

    def fit(split, *rest):
        seen.append(split)
        return real(split, *rest)

    monkeypatch.setattr(stub_model, "fit", fit)
    return seen


def seconds(iso):
    return datetime.fromisoformat(iso).timestamp()


def test_validation_comes_after_training_with_a_gap_of_one_window(worked):
    manifest = worked.bundle.manifest
    gap = seconds(manifest.validation.start) - seconds(manifest.training.end)
    assert gap == (LENGTH + 1) * STEP
    assert seconds(manifest.training.start) < seconds(manifest.training.end)
    assert seconds(manifest.validation.end) == frame_of(worked.values).end


def test_training_ends_where_the_scaler_was_fitted(worked):
    _, _, processed = read_processed(worked.config)
    assert seconds(worked.bundle.manifest.training.end) == processed.training_ends_at


def test_the_model_sees_no_sample_in_both_parts(sketched, fits):
    run(sketched.config)
    (split,) = fits
    spans = [
        {round(end / STEP) - back for end in part.times.tolist() for back in range(LENGTH)}
        for part in (split.training, split.validation)
    ]
    assert max(spans[0]) + LENGTH < min(spans[1])
    assert not spans[0] & spans[1]


def test_every_epoch_is_told(worked):
    assert [epoch[:2] for epoch in worked.progress] == [(1, 3), (2, 3), (3, 3)]
    history = worked.training.history
    assert tuple(epoch[3] for epoch in worked.progress) == history.validation_loss


def test_the_threshold_is_chosen_by_the_budget_and_says_why(worked):
    threshold = worked.training.threshold
    assert threshold.method == "pot"
    low, high = threshold.interval
    assert low <= threshold.expected_false_alarms_per_week <= high
    assert "normal data" in threshold.why
    assert threshold.value > worked.bundle.manifest.figures["validation_score_quantiles"]["0.9"]


def test_a_larger_budget_gives_a_lower_threshold(sketched):
    live = sketched.config.real_time_anomaly_detection
    budget = live.alert_budget.model_copy(update={"false_alarms_per_week": 2000.0})
    report = run(with_keys(sketched.config, "real_time_anomaly_detection", alert_budget=budget))
    assert report.threshold.value < sketched.training.threshold.value


def test_a_number_is_used_as_given(sketched):
    report = run(
        with_keys(sketched.config, "real_time_anomaly_detection", anomaly_threshold_mse=0.125)
    )
    assert (report.threshold.method, report.threshold.value) == ("fixed", 0.125)
    assert report.bundle.manifest.threshold["value"] == 0.125
    assert load_detector(report.bundle).threshold == report.threshold
    assert report.threshold.why == "given in the configuration"


def test_the_bundle_holds_the_model_the_scaler_and_the_pictures(worked):
    directory = worked.bundle.directory
    assert sorted(path.name for path in directory.iterdir()) == [
        "fitted_scaler.joblib",
        "linear.npz",
        "lstm_autoencoder_model.keras",
        "manifest.json",
        "model.onnx",
        "preparation.json",
        "reconstruction_error_histogram.png",
        "scoring.json",
        "threshold.json",
        "training_history_loss.png",
    ]
    for picture in directory.glob("*.png"):
        assert picture.read_bytes().startswith(PNG)
        assert picture.stat().st_size > 10_000
    scaler = joblib.load(directory / "fitted_scaler.joblib")
    assert scaler.feature_names_in_.tolist() == list(NAMES)
    assert joblib.hash(scaler) == joblib.hash(joblib.load(worked.scaler_path))


def test_model_and_scaler_have_the_configured_names(tmp_path, stub_model):
    config = config_for(
        tmp_path,
        preprocessing_settings={"scaler_output_filename": "mine.joblib"},
        training_settings={"model_output_filename": "mine.keras"},
    )
    write_raw(config, [frame_of(host_values(300))])
    preprocess(config)
    directory = run(config).bundle.directory
    assert (directory / "mine.keras").exists()
    assert (directory / "mine.joblib").exists()


def test_figures_are_those_of_the_epoch_that_was_kept(worked):
    history, figures = worked.training.history, worked.bundle.manifest.figures
    best = int(np.argmin(history.validation_loss))
    assert figures["best_epoch"] == best + 1
    assert figures["validation_loss"] == history.validation_loss[best]
    assert figures["training_loss"] == history.training_loss[best]
    assert figures["epochs"] == 3


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [
        (np.full(20, 0.3), 0.3),
        (np.zeros(20), 1e-30),
        (np.geomspace(1e-12, 1e3, 50), 0.5),
        (np.linspace(0, 1, 30), 1e9),
    ],
)
def test_any_scores_can_be_drawn(tmp_path, scores, threshold):
    draw_histogram(scores, threshold, tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes().startswith(PNG)


def test_a_history_of_one_epoch_can_be_drawn(tmp_path):
    draw_history(TrainingHistory((0.5,), (0.4,), 1), tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes().startswith(PNG)


# Conditions, other models and other scorings


@pytest.fixture
def conditioned(tmp_path, stub_model):
    """Trained with the last feature as a condition."""
    queries = {name: name for name in NAMES[:2]} | {NAMES[2]: {"expr": NAMES[2], "condition": True}}
    config = config_for(tmp_path, queries=dict(reversed(queries.items())))
    assert config.features == (NAMES[1], NAMES[0], NAMES[2])
    write_raw(config, [frame_of(values_in_order(), names=config.features)])
    preprocess(config)
    return config, run(config)


def values_in_order():
    return host_values(420)[:, [1, 0, 2]]


def test_conditions_reach_the_model_but_no_score_and_no_attribution(fits, conditioned):
    config, report = conditioned
    assert config.features[-1] == NAMES[2]
    (split,) = fits
    assert split.training.width == 3
    detector = load_detector(report.bundle)
    assert detector.scoring.normaliser.shape == detector.scoring.baseline.shape == (2,)
    scores = score_rows(detector, frame_of(values_in_order(), names=config.features))
    assert scores.errors.shape[1] == scores.observed.shape[1] == 2
    frame = frame_of(values_in_order(), names=config.features)
    for verdict in judge_rows(detector, frame)[-5:]:
        assert {view.name for view in verdict.features} == set(NAMES[:2])


def test_filter_blames_no_condition(conditioned):
    config, _ = conditioned
    lower = with_keys(config, "real_time_anomaly_detection", anomaly_threshold_mse=1e-9)
    for window in filter_windows(lower).worst:
        assert {name for name, _ in window.top_features} == set(NAMES[:2])


def test_a_bundle_with_another_valid_range_does_not_fit(worked):
    name = worked.config.features[0]
    query = worked.config.queries[name].model_copy(update={"valid_range": (0.0, None)})
    config = worked.config.model_copy(update={"queries": {**worked.config.queries, name: query}})
    with pytest.raises(BundleError, match=r"valid_range is none in the bundle, \[0, null\], "):
        check_fits(worked.bundle, config)


def test_a_bundle_whose_conditions_became_features_does_not_fit(conditioned):
    config, report = conditioned
    check_fits(report.bundle, config)
    other = config_for(config.artifacts_dir, queries={name: name for name in config.features})
    with pytest.raises(BundleError, match="number of scored features is 2 in the bundle, 3 in"):
        check_fits(report.bundle, other)


@pytest.fixture
def linear(tmp_path):
    """Trained with the linear model."""
    config = config_for(tmp_path, training_settings={"model": "linear"})
    write_raw(config, [frame_of(host_values(420))])
    preprocess(config)
    return config, run(config)


def test_a_model_that_is_quick_to_fit_is_fitted_to_all_windows_in_the_end(linear):
    config, report = linear
    frames, preparation, _ = read_processed(config)
    windows = preparation.windows(frames, LENGTH)
    detector = load_detector(report.bundle)
    every = windows.take(np.arange(len(windows))).reshape(len(windows), -1)
    np.testing.assert_allclose(detector.model.mean, every.mean(axis=0), rtol=1e-4, atol=1e-6)
    settings = config.training_settings
    split = Split(windows, windows)
    trained, errors = linear_model.fit(split, 3, settings, 0, silent).cross_fit(windows)
    np.testing.assert_allclose(detector.model.baselines, trained.model.baselines)
    expected = fit_scoring(errors, windows.starts, 1, settings.scoring)
    np.testing.assert_allclose(detector.scoring.normaliser, expected.normaliser)
    np.testing.assert_allclose(detector.scoring.baseline, expected.baseline)


def test_and_its_bundle_needs_no_training_library(linear):
    _, report = linear
    assert {"linear.npz", "scoring.json"} <= set(report.bundle.manifest.files)
    assert not any(name.endswith(".keras") for name in report.bundle.manifest.files)
    assert (report.bundle.manifest.model, report.bundle.manifest.preset) == ("linear", "standard")


@pytest.fixture
def fused(tmp_path, monkeypatch):
    """Trained with a fusion of the linear model and the stub."""
    monkeypatch.setitem(fusion.MODULES, "lstm_autoencoder", "tests.support.stub_model")
    keys = {"model": "fusion", "scoring": {"compression": None}}
    config = config_for(tmp_path, training_settings=keys)
    write_raw(config, [frame_of(host_values(420))])
    preprocess(config)
    return config, run(config)


def test_the_bundle_of_a_fusion_holds_a_folder_for_each_member(fused):
    config, report = fused
    files = set(report.bundle.manifest.files)
    assert {"linear/linear.npz", "lstm_autoencoder/stub.txt", "scoring.json"} <= files
    detector = load_detector(BundleStore.of(config).open_current())
    assert detector.scoring.members == 2
    assert detector.scoring.normaliser.shape == (6,)
    scores = score_rows(detector, frame_of(host_values(420)))
    assert scores.errors.shape == (420 - LENGTH + 1, 3)
    np.testing.assert_allclose(scores.errors.mean(axis=1), scores.score)
    assert filter_windows(config).normal > 0


def test_no_file_of_a_member_can_be_spoilt_without_being_named(fused):
    config, report = fused
    path = report.bundle.directory / "linear" / "linear.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"linear/linear.npz: was changed since training"):
        BundleStore.of(config).open_current()


@pytest.mark.parametrize("model", ["fusion", "linear"])
def test_the_plain_error_can_be_the_score_of_any_model(tmp_path, monkeypatch, model):
    monkeypatch.setitem(fusion.MODULES, "lstm_autoencoder", "tests.support.stub_model")
    config = config_for(tmp_path, training_settings={"model": model, "scoring": "mse"})
    write_raw(config, [frame_of(host_values(420))])
    preprocess(config)
    report = run(config)
    detector = load_detector(report.bundle)
    assert (report.bundle.manifest.scoring, detector.scoring.members) == ("mse", 1)
    scores = score_rows(detector, frame_of(host_values(420)))
    np.testing.assert_allclose(scores.score, scores.window_errors.mean(axis=1))
    verdict = judge_rows(detector, frame_of(host_values(420)))[-1]
    assert verdict.threshold_mse == verdict.threshold
    assert verdict.mse == pytest.approx(verdict.score)


# Training on filter's normal windows


def on_filtered(config):
    return with_keys(config, "training_settings", train_on_filtered_sequences=True)


@pytest.fixture
def halved(sketched):
    """Filtered with a threshold that calls a good part of the windows anomalous."""
    frame = frame_of(sketched.values)
    threshold = float(np.quantile(score_rows(sketched.detector(), frame).score, 0.7))
    config = with_keys(
        sketched.config, "real_time_anomaly_detection", anomaly_threshold_mse=threshold
    )
    return config, filter_windows(config)


def test_a_model_can_be_trained_on_the_normal_windows_alone(halved, fits):
    config, filtered = halved
    report = run(on_filtered(config))
    (split,) = fits
    normal = np.load(end_times_path(filtered.normal_path)).astype(np.int64) / 1000
    for part in (split.training, split.validation):
        assert len(part) > 0
        assert np.isin(part.times, normal).all()
    assert report.training_windows + report.validation_windows < filtered.normal
    assert max(split.training.times) < min(split.validation.times) - LENGTH * STEP


def test_such_a_bundle_says_so_and_holds_the_model_under_its_own_name(halved):
    bundle = run(on_filtered(halved[0])).bundle
    assert bundle.manifest.trained_on == "normal windows of filter"
    assert (bundle.directory / "lstm_autoencoder_model_filtered.keras").exists()
    assert not (bundle.directory / "lstm_autoencoder_model.keras").exists()


def refused(config, fits, error=DataError):
    """The message of a refusal that comes before any training."""
    before = BundleStore.of(config).ids()
    with pytest.raises(error) as caught:
        run(config)
    assert fits == []
    assert BundleStore.of(config).ids() == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_filters_windows_it_says_what_to_run(halved, fits):
    config, filtered = halved
    filtered.normal_path.unlink()
    assert "no such file — run promad filter first" in refused(on_filtered(config), fits)


def test_windows_of_another_length_are_refused(halved, fits):
    longer = with_keys(halved[0], "training_settings", sequence_length=LENGTH + 1)
    message = refused(on_filtered(longer), fits)
    assert "was not made from the current processed data" in message
    assert "run promad filter again" in message


def test_windows_from_before_the_data_was_prepared_anew_are_refused(halved, fits):
    config, _ = halved
    write_raw(config, [frame_of(host_values(420) * 1.01)])
    preprocess(config)
    assert "was not made from the current processed data" in refused(on_filtered(config), fits)


def test_windows_without_an_end_time_each_are_refused(halved, fits):
    config, filtered = halved
    ends = np.load(end_times_path(filtered.normal_path))
    write_small_array(end_times_path(filtered.normal_path), ends[:-1])
    assert "does not contain windows with an end time each" in refused(on_filtered(config), fits)


def test_windows_of_other_numbers_are_refused(halved, fits):
    config, filtered = halved
    windows = np.load(filtered.normal_path).astype(np.float64)
    write_small_array(filtered.normal_path, windows)
    assert "does not contain windows with an end time each" in refused(on_filtered(config), fits)


def test_no_normal_window_at_all_is_refused(sketched, fits):
    config = with_keys(sketched.config, "real_time_anomaly_detection", anomaly_threshold_mse=1e-12)
    filter_windows(config)
    assert "0 windows of 8 samples leave 0 for training" in refused(on_filtered(config), fits)


# Refusals come before hours of training


def prepared(directory, rows, **sections):
    config = config_for(directory, **sections)
    write_raw(config, [frame_of(host_values(rows))])
    preprocess(config)
    return config


def test_without_processed_data_it_says_what_to_run(tmp_path, stub_model, fits):
    message = refused(config_for(tmp_path), fits)
    assert "no such file — run promad preprocess first" in message


def test_too_few_windows_to_train_and_validate_are_refused(tmp_path, stub_model, fits):
    message = refused(prepared(tmp_path, 40), fits)
    assert "33 windows of 8 samples leave 25 for training and 0 for validation" in message
    assert "collect a longer period, or lower sequence_length or train_split_ratio" in message


def test_too_few_validation_scores_for_a_threshold_are_refused(tmp_path, stub_model, fits):
    config = prepared(tmp_path, 100)
    assert "5 scores are too few to choose a threshold" in refused(config, fits)
    run(with_keys(config, "real_time_anomaly_detection", anomaly_threshold_mse=0.5))
    assert len(fits) == 1


def test_a_missing_scaler_is_refused(sketched, fits):
    sketched.scaler_path.unlink()
    assert "run promad preprocess again" in refused(sketched.config, fits)


def test_a_scaler_of_other_data_is_refused(sketched, fits):
    path = sketched.scaler_path
    path.write_bytes(path.read_bytes() + b" ")
    message = refused(sketched.config, fits)
    assert "is not the scaler of the processed data" in message


def test_windows_are_never_held_all_at_once(tmp_path, stub_model, fits):
    length, rows = 100, 20_000
    config = prepared(tmp_path, rows, training_settings={"sequence_length": length})
    tracemalloc.start()
    try:
        run(config)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    all_windows = fits[0].training.width * length * rows * np.dtype(np.float32).itemsize
    assert most < all_windows / 2
