"""train splits by time, chooses a threshold and says why, and keeps everything in one bundle."""

import tracemalloc
from datetime import datetime

import joblib
import numpy as np
import pytest
import stub_model
from simulated import (
    LENGTH,
    NAMES,
    NOW,
    STEP,
    config_for,
    frame_of,
    host_values,
    silent,
    write_raw,
)

from promad.artifacts import end_times_path, write_small_array
from promad.bundle import BundleStore, load_detector
from promad.errors import DataError
from promad.models import TrainingHistory
from promad.stages.filter import filter_windows
from promad.stages.plots import draw_histogram, draw_history
from promad.stages.preprocess import preprocess, read_processed
from promad.stages.train import train

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
    _, _, metadata = read_processed(worked.config)
    assert seconds(worked.bundle.manifest.training.end) == float(metadata["training_ends_at"])


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
    assert threshold.method == "quantile"
    assert threshold.expected_false_alarms_per_week == 1.0
    assert threshold.why.startswith(
        f"{threshold.value:.4g} is expected to give 1 false alarm a week"
    )
    assert threshold.value > worked.bundle.manifest.figures["validation_mse_quantiles"]["0.9"]


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
    assert report.threshold.why == "0.125 was given in the config"


def test_the_bundle_holds_the_model_the_scaler_and_the_pictures(worked):
    directory = worked.bundle.directory
    assert sorted(path.name for path in directory.iterdir()) == [
        "fitted_scaler.joblib",
        "lstm_autoencoder_model.keras",
        "manifest.json",
        "model.onnx",
        "preparation.json",
        "reconstruction_error_histogram.png",
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


# Training on filter's normal windows


def on_filtered(config):
    return with_keys(config, "training_settings", train_on_filtered_sequences=True)


@pytest.fixture
def halved(sketched):
    """Filtered with a threshold that calls a good part of the windows anomalous."""
    frame = frame_of(sketched.values)
    threshold = float(np.quantile(sketched.detector().score(frame).score, 0.7))
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
    assert "was not made from the processed data" in message
    assert "run promad filter again" in message


def test_windows_from_before_the_data_was_prepared_anew_are_refused(halved, fits):
    config, _ = halved
    write_raw(config, [frame_of(host_values(420) * 1.01)])
    preprocess(config)
    assert "was not made from the processed data" in refused(on_filtered(config), fits)


def test_windows_without_an_end_time_each_are_refused(halved, fits):
    config, filtered = halved
    ends = np.load(end_times_path(filtered.normal_path))
    write_small_array(end_times_path(filtered.normal_path), ends[:-1])
    assert "no windows with an end time each" in refused(on_filtered(config), fits)


def test_windows_of_other_numbers_are_refused(halved, fits):
    config, filtered = halved
    windows = np.load(filtered.normal_path).astype(np.float64)
    write_small_array(filtered.normal_path, windows)
    assert "no windows with an end time each" in refused(on_filtered(config), fits)


def test_no_normal_window_at_all_is_refused(sketched, fits):
    config = with_keys(sketched.config, "real_time_anomaly_detection", anomaly_threshold_mse=1e-12)
    filter_windows(config)
    assert "0 windows of 8 samples leave 0 to train on" in refused(on_filtered(config), fits)


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
    assert "33 windows of 8 samples leave 25 to train on and 0 to validate with" in message
    assert "collect a longer period, or lower sequence_length or train_split_ratio" in message


def test_too_few_validation_scores_for_a_threshold_are_refused(tmp_path, stub_model, fits):
    config = prepared(tmp_path, 100)
    assert "5 validation scores are too few to choose a threshold by" in refused(config, fits)
    run(with_keys(config, "real_time_anomaly_detection", anomaly_threshold_mse=0.5))
    assert len(fits) == 1


def test_a_missing_scaler_is_refused(sketched, fits):
    sketched.scaler_path.unlink()
    assert "run promad preprocess again" in refused(sketched.config, fits)


def test_a_scaler_of_other_data_is_refused(sketched, fits):
    path = sketched.scaler_path
    path.write_bytes(path.read_bytes() + b" ")
    message = refused(sketched.config, fits)
    assert "is not the scaler that the processed data was made with" in message


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
