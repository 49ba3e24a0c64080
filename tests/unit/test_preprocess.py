"""preprocess fills short gaps, splits at long ones, and learns from the training part only."""

import json

import joblib
import numpy as np
import pandas as pd
import pytest

from promad.config.durations import format_instant
from promad.data.artifacts import read_frames
from promad.errors import DataError
from promad.stages.preprocess import preprocess
from tests.support.simulated import (
    LENGTH,
    NAMES,
    START,
    STEP,
    config_for,
    contents,
    frame_of,
    host_values,
    read_processed,
    write_raw,
)

NAN = np.nan
STRATEGIES = ("ffill_then_bfill", "mean", "median", "drop_rows", "none")
SAMPLES = 100


def unscale(preparation, values):
    """Scaled values in the features' own units."""
    return values * preparation.scaler.scale + preparation.scaler.center


def gappy():
    """100 samples: 3 missing of the first feature from 20 on, 7 of the second from 60 on."""
    values = host_values(SAMPLES)
    values[20:23, 0] = NAN
    values[60:67, 1] = NAN
    return values


def ready(directory, frames, **settings):
    """A configuration with these preprocessing settings, for which collect has run."""
    config = config_for(directory, preprocessing_settings=settings)
    write_raw(config, frames, server="http://prometheus.example")
    return config


@pytest.fixture
def config(tmp_path):
    return ready(tmp_path, [frame_of(gappy())])


def stretches(config):
    """First and last sample number of each stretch in the processed file."""
    frames, _, _ = read_processed(config)
    return [(round((f.start - START) / STEP), round((f.end - START) / STEP)) for f in frames]


def test_a_short_gap_is_filled_and_a_long_one_splits(config):
    report = preprocess(config)
    assert stretches(config) == [(0, 59), (67, 99)]
    assert (report.rows, report.dropped, report.parts) == (100, 7, 2)
    frames, preparation, _ = read_processed(config)
    filled = unscale(preparation, frames[0].values[0])
    np.testing.assert_allclose(filled[20:23, 0], gappy()[19, 0])


@pytest.mark.parametrize("strategy", ["drop_rows", "none"])
def test_without_filling_every_gap_splits(tmp_path, strategy):
    config = ready(tmp_path, [frame_of(gappy())], nan_fill_strategy=strategy)
    report = preprocess(config)
    assert (report.dropped, report.parts) == (10, 3)
    frames, preparation, _ = read_processed(config)
    windows = preparation.windows(frames, LENGTH)
    assert len(windows) == sum(stretch - LENGTH + 1 for stretch in (20, 37, 33))


def test_none_keeps_every_row_in_the_file_and_drop_rows_only_complete_ones(tmp_path):
    for strategy, rows in (("none", 100), ("drop_rows", 90)):
        config = ready(tmp_path / strategy, [frame_of(gappy())], nan_fill_strategy=strategy)
        preprocess(config)
        frames, _, _ = read_processed(config)
        assert sum(frame.samples for frame in frames) == rows


@pytest.mark.parametrize(("strategy", "known"), [("mean", np.nanmean), ("median", np.nanmedian)])
def test_mean_and_median_are_those_of_the_training_part(tmp_path, strategy, known):
    values = gappy()
    values[90:, 0] += 1000
    config = ready(tmp_path, [frame_of(values)], nan_fill_strategy=strategy)
    preprocess(config)
    frames, preparation, processed = read_processed(config)
    trained = round((processed.training_ends_at - START) / STEP) + 1
    substitute = known(values[:trained, 0])
    np.testing.assert_allclose(preparation.substitutes[0], substitute)
    filled = unscale(preparation, frames[0].values[0])
    np.testing.assert_allclose(filled[20:23, 0], substitute)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("scaler", ["MinMaxScaler", "StandardScaler", "RobustScaler"])
def test_nothing_after_the_training_part_is_learned_from(tmp_path, strategy, scaler):
    learned = []
    for later in (0.0, 12345.0):
        values = gappy()
        values[85:] += later
        config = ready(
            tmp_path / str(later),
            [frame_of(values)],
            nan_fill_strategy=strategy,
            scaler_type=scaler,
        )
        preprocess(config)
        _, preparation, processed = read_processed(config)
        learned.append((preparation.to_json(), processed.training_ends_at))
    assert learned[0] == learned[1]
    assert learned[0][0]["scaler"]["kind"] == scaler


@pytest.mark.parametrize("ratio", [0.5, 0.8])
def test_the_training_part_is_the_wanted_share_of_the_complete_rows(tmp_path, ratio):
    config = config_for(tmp_path, training_settings={"train_split_ratio": ratio})
    write_raw(config, [frame_of(gappy())])
    report = preprocess(config)
    assert report.training_rows == int(93 * ratio)
    _, _, processed = read_processed(config)
    kept = np.setdiff1d(np.arange(100), np.arange(60, 67))
    assert processed.training_ends_at == START + STEP * kept[int(93 * ratio) - 1]


def test_no_window_spans_the_seam_between_two_periods(tmp_path):
    periods = [frame_of(host_values(40)), frame_of(host_values(30), START + 86400.0)]
    config = ready(tmp_path, periods)
    report = preprocess(config)
    assert report.parts == 2
    frames, preparation, _ = read_processed(config)
    windows = preparation.windows(frames, LENGTH)
    assert len(windows) == (40 - LENGTH + 1) + (30 - LENGTH + 1)


def test_a_gap_at_a_seam_is_filled_from_its_own_side(tmp_path):
    later = host_values(30)
    later[:2, 0] = NAN
    periods = [frame_of(host_values(40)), frame_of(later, START + 86400.0)]
    config = ready(tmp_path, periods)
    preprocess(config)
    frames, preparation, _ = read_processed(config)
    filled = unscale(preparation, frames[1].values[0])
    np.testing.assert_allclose(filled[:2, 0], later[2, 0])


def test_the_report_counts_what_happened_to_each_feature(config):
    report = preprocess(config)
    first, second, third = (report.features[name] for name in NAMES)
    assert (first.missing, first.filled, first.in_long_gaps) == (3, 3, 0)
    assert (second.missing, second.filled, second.in_long_gaps) == (7, 0, 7)
    assert (third.missing, third.filled, third.in_long_gaps) == (0, 0, 0)
    assert not any(feature.constant for feature in report.features.values())


def test_the_same_figures_are_kept_with_the_data(config):
    report = preprocess(config)
    _, metadata = read_frames(report.path, "preprocess")
    kept = json.loads(metadata["filled_dropped_split"])
    assert (kept["rows"], kept["dropped"], kept["parts"]) == (100, 7, 2)
    assert kept["features"][NAMES[0]] == {
        "missing": 3,
        "filled": 3,
        "in_long_gaps": 0,
        "constant": False,
    }
    assert metadata["server"] == "http://prometheus.example"


def test_a_constant_feature_survives_and_is_told(tmp_path):
    values = gappy()
    values[:, 2] = 5.0
    config = ready(tmp_path, [frame_of(values)])
    report = preprocess(config)
    assert report.features[NAMES[2]].constant
    frames, preparation, _ = read_processed(config)
    assert (frames[0].values[0, :, 2] == 0).all()
    assert preparation.scaler.transform(np.array([0.0, 0.0, 6.0]))[2] == pytest.approx(4)


@pytest.mark.parametrize(
    "scaler", ["ParetoScaler", "MinMaxScaler", "StandardScaler", "RobustScaler"]
)
def test_the_joblib_file_scales_as_the_processed_data_was_scaled(tmp_path, scaler):
    config = ready(tmp_path, [frame_of(gappy())], scaler_type=scaler)
    report = preprocess(config)
    frames, preparation, _ = read_processed(config)
    estimator = joblib.load(report.scaler_path)
    natural = pd.DataFrame(preparation.fill(frame_of(gappy())).values[:60], columns=NAMES)
    assert type(estimator).__name__ == {"ParetoScaler": "StandardScaler"}.get(scaler, scaler)
    np.testing.assert_allclose(
        estimator.transform(natural), frames[0].values[0], rtol=1e-12, atol=1e-12
    )


def test_files_have_the_configured_names(tmp_path):
    config = ready(
        tmp_path,
        [frame_of(gappy())],
        processed_output_filename="p.parquet",
        scaler_output_filename="s.joblib",
    )
    report = preprocess(config)
    assert (report.path, report.scaler_path) == (tmp_path / "p.parquet", tmp_path / "s.joblib")
    assert len(contents(tmp_path)) == 3


# Refusals: one clear line, and nothing written


def refusal(config):
    before = contents(config.artifacts_dir)
    with pytest.raises(DataError) as caught:
        preprocess(config)
    assert contents(config.artifacts_dir) == before
    message = str(caught.value)
    assert "\n" not in message
    assert " — " in message
    return message


def test_a_missing_file_is_refused(tmp_path):
    assert "no such file — run promad collect first" in refusal(config_for(tmp_path))


def test_a_damaged_file_is_refused(config):
    (config.artifacts_dir / config.data_settings.output_filename).write_bytes(b"PAR1 broken")
    assert "cannot be read" in refusal(config)


def test_no_rows_are_refused(tmp_path):
    assert "holds no rows" in refusal(ready(tmp_path, [frame_of(host_values(0))]))


def test_a_feature_that_is_missing_throughout_is_refused(tmp_path):
    values = gappy()
    values[:, 1] = NAN
    message = refusal(ready(tmp_path, [frame_of(values)]))
    assert f"{NAMES[1]} has no value at all — check its query" in message


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_features_that_are_never_there_together_are_refused(tmp_path, strategy):
    values = host_values(SAMPLES)
    values[:50, 0] = values[50:, 1] = NAN
    message = refusal(ready(tmp_path, [frame_of(values)], nan_fill_strategy=strategy))
    assert "parquet: no sample has a value for every query" in message


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rows", [1, LENGTH, 2 * LENGTH - 1])
def test_fewer_rows_than_two_windows_are_refused(tmp_path, strategy, rows):
    message = refusal(ready(tmp_path, [frame_of(host_values(rows))], nan_fill_strategy=strategy))
    assert (
        f"{rows} complete rows, at most {rows} of them consecutive, are fewer than two" in message
    )


def test_enough_rows_in_stretches_too_short_are_refused(tmp_path):
    values = host_values(SAMPLES)
    values[::LENGTH] = NAN
    message = refusal(ready(tmp_path, [frame_of(values)], nan_fill_strategy="drop_rows"))
    assert f"at most {LENGTH - 1} of them consecutive, are fewer than two windows" in message


def test_a_feature_without_a_value_before_the_boundary_is_refused(tmp_path):
    values = host_values(40)
    values[:4, 1] = NAN
    config = config_for(tmp_path, training_settings={"train_split_ratio": 0.05})
    write_raw(config, [frame_of(values)])
    message = refusal(config)
    assert f"parquet: {NAMES[1]} has no value in the training part, which ends at" in message
    assert format_instant(START + STEP) in message


@pytest.mark.parametrize("names", [NAMES[::-1], NAMES[:2], ("x", "y", "z")])
def test_data_of_other_queries_is_refused(tmp_path, names):
    config = config_for(tmp_path)
    write_raw(config, [frame_of(host_values(SAMPLES)[:, : len(names)], names=names)])
    message = refusal(config)
    assert (
        f"has the features {', '.join(names)}; the configuration has {', '.join(NAMES)}" in message
    )


def test_data_that_an_alias_was_collected_for_with_other_promql_is_refused(tmp_path):
    config = config_for(tmp_path)
    write_raw(
        config,
        [frame_of(gappy())],
        queries=json.dumps({**config.promql, NAMES[1]: "rate(other[5m])"}),
    )
    message = refusal(config)
    assert (
        f"{NAMES[1]} was collected with the query rate(other[5m]); the configuration has" in message
    )


def test_data_of_another_step_is_refused(config):
    other = config.model_copy(
        update={"data_settings": config.data_settings.model_copy(update={"step": 15.0})}
    )
    assert "with a step of 30 s; the configuration has 15 s" in refusal(other)


@pytest.mark.parametrize(
    ("section", "key", "value", "shown"),
    [
        (
            "preprocessing_settings",
            "scaler_type",
            "MinMaxScaler",
            "ParetoScaler; .* MinMaxScaler",
        ),
        ("preprocessing_settings", "nan_fill_strategy", "mean", "ffill_then_bfill; .* mean"),
        ("preprocessing_settings", "max_fill_steps", 2, "5; the configuration has 2"),
        ("preprocessing_settings", "time_zone", "Asia/Tokyo", "UTC; .* Asia/Tokyo"),
        ("preprocessing_settings", "time_features", ("day_of_week",), "none; .* day_of_week"),
        ("training_settings", "train_split_ratio", 0.5, "0.8; the configuration has 0.5"),
    ],
)
def test_processed_data_of_other_settings_is_refused(config, section, key, value, shown):
    preprocess(config)
    changed = getattr(config, section).model_copy(update={key: value})
    other = config.model_copy(update={section: changed})
    with pytest.raises(DataError, match=rf"was made with {key} {shown} — run promad preprocess"):
        read_processed(other)


def test_raw_data_is_not_taken_for_processed(config):
    raw = config.data_settings.output_filename
    training = config.training_settings.model_copy(update={"input_processed_filename": raw})
    with pytest.raises(DataError, match="not written by this version of promad preprocess"):
        read_processed(config.model_copy(update={"training_settings": training}))
