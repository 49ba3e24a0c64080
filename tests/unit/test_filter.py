"""filter sorts every window into one of two files, with its end time beside it."""

from dataclasses import dataclass

import numpy as np
import pytest

from promad.bundle import BundleStore, load_detector
from promad.config import Config
from promad.data.artifacts import end_times_path
from promad.errors import BundleError, DataError
from promad.scoring.attribution import shares
from promad.stages.filter import filter_windows
from promad.stages.preprocess import preprocess
from tests.support import naive_scoring
from tests.support.detectors import score_rows
from tests.support.simulated import (
    LENGTH,
    NAMES,
    STEP,
    config_for,
    contents,
    frame_of,
    read_processed,
)


def with_threshold(config: Config, value, **names) -> Config:
    live = config.real_time_anomaly_detection.model_copy(update={"anomaly_threshold_mse": value})
    filtering = config.data_filtering_settings.model_copy(update=names)
    return config.model_copy(
        update={"real_time_anomaly_detection": live, "data_filtering_settings": filtering}
    )


@dataclass(frozen=True)
class Expected:
    """What filter should find: of every window without a gap its end, score and errors."""

    times: np.ndarray
    score: np.ndarray
    errors: np.ndarray


def scores_of(worked):
    """By the twin of smoothing, from the windows that training would see."""
    detector = worked.detector()
    scaled = detector.preparation.scale(frame_of(worked.values))
    windows = detector.preparation.windows([scaled], LENGTH)
    errors = detector.model.apply(windows.take(np.arange(len(windows)))).errors
    scoring, at = detector.scoring, windows.starts + LENGTH - 1
    normalised, places = errors / scoring.normaliser, at.tolist()
    smoothed = np.array(
        [
            naive_scoring.recursive_average(normalised[: row + 1], places[: row + 1], scoring.span)
            for row in range(len(places))
        ]
    )
    return Expected(windows.times, find_scores(smoothed, scoring), smoothed)


def find_scores(smoothed, scoring):
    """The score of each row of smoothed errors of one model, of which all are known."""
    share, compression = scoring.required_share, scoring.compression
    return np.array(
        [naive_scoring.score(list(row), 1, None, share, compression) for row in smoothed]
    )


@pytest.fixture
def half(sketched):
    """What filter does where half of the windows are anomalous."""
    scores = scores_of(sketched)
    threshold = float(np.median(scores.score))
    config = with_threshold(
        sketched.config, threshold, all_sequence_errors_output_filename="errors.npy"
    )
    return config, filter_windows(config), scores, threshold


def loaded(path):
    return np.load(path, allow_pickle=False), np.load(end_times_path(path), allow_pickle=False)


def test_a_window_without_a_gap_scores_as_in_serving_once_gaps_are_forgotten(half, sketched):
    config, report, _, _ = half
    errors, ends = loaded(report.errors_path)
    detector = load_detector(BundleStore.of(config).open_current())
    served = score_rows(detector, frame_of(sketched.values))
    forgotten = LENGTH + 3 * detector.scoring.memory
    rows = (served.times - served.times[0]) / STEP + LENGTH - 1
    gaps = ((100, 102), (200, 210))  # serving scores no sample of the short one, which is filled
    apart = np.all([(rows < first) | (rows > last + forgotten) for first, last in gaps], axis=0)
    np.testing.assert_allclose(
        served.score[apart],
        errors[np.isin(ends.astype(np.int64), np.round(served.times[apart] * 1000))],
        rtol=1e-9,
    )
    assert apart.sum() > 50


def test_every_window_is_either_normal_or_anomalous(half):
    _, report, scores, threshold = half
    assert report.normal == int((scores.score <= threshold).sum()) > 0
    assert report.anomalous == int((scores.score > threshold).sum()) > 0
    assert report.threshold == threshold


def test_files_hold_as_many_windows_as_the_report_says_each_with_its_end(half):
    config, report, scores, _ = half
    _, preparation, _ = read_processed(config)
    width = len(NAMES) + 2 * len(preparation.time_features)
    together = []
    for path, count in (
        (report.normal_path, report.normal),
        (report.anomalous_path, report.anomalous),
    ):
        windows, ends = loaded(path)
        assert windows.shape == (count, LENGTH, width)
        assert windows.dtype == np.float32
        assert ends.shape == (count,)
        assert (np.diff(ends.astype(np.int64)) > 0).all()
        together += ends.astype(np.int64).tolist()
    np.testing.assert_array_equal(np.sort(together), np.round(scores.times * 1000))


def test_each_window_stands_on_the_side_of_its_own_error(half):
    config, report, scores, threshold = half
    frames, preparation, _ = read_processed(config)
    windows = preparation.windows(frames, LENGTH)
    for path, anomalous in ((report.normal_path, False), (report.anomalous_path, True)):
        chosen = np.flatnonzero((scores.score > threshold) == anomalous)
        held, ends = loaded(path)
        np.testing.assert_array_equal(held, windows.take(chosen))
        np.testing.assert_array_equal(
            ends, np.round(windows.times[chosen] * 1000).astype("datetime64[ms]")
        )


def test_the_errors_of_all_windows_are_written_if_named(half):
    config, report, scores, _ = half
    assert report.errors_path == config.artifacts_dir / "errors.npy"
    errors, ends = loaded(report.errors_path)
    np.testing.assert_allclose(errors, scores.score, rtol=1e-9)
    assert len(ends) == len(scores.times)


def test_and_not_if_not(sketched):
    assert sketched.filtered.errors_path is None
    names = set(contents(sketched.config.artifacts_dir))
    assert {name for name in names if name.endswith(".npy")} == {
        "normal_sequences.npy",
        "normal_sequences_end_times.npy",
        "anomalous_sequences.npy",
        "anomalous_sequences_end_times.npy",
    }


def test_files_have_the_configured_names(sketched):
    config = with_threshold(
        sketched.config,
        "auto",
        normal_sequences_output_filename="n.npy",
        anomalous_sequences_output_filename="a.npy",
    )
    report = filter_windows(config)
    assert (report.normal_path.name, report.anomalous_path.name) == ("n.npy", "a.npy")
    assert report.normal_path.exists()
    assert report.anomalous_path.exists()


def test_the_worst_windows_come_first_and_share_no_sample(half):
    _, report, scores, threshold = half
    ends = [window.end for window in report.worst]
    ratios = [window.ratio for window in report.worst]
    assert len(ends) == 5
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == pytest.approx(scores.score.max() / threshold)
    apart = np.abs(np.subtract.outer(ends, ends))[~np.eye(5, dtype=bool)]
    assert apart.min() >= LENGTH * STEP


def test_a_worst_window_tells_what_made_it(half):
    _, report, scores, _ = half
    row = int(np.argmax(scores.score))
    share = shares(scores.errors[row])
    expected = sorted(zip(NAMES, share.tolist(), strict=True), key=lambda pair: -pair[1])
    assert report.worst[0].end == scores.times[row]
    top = report.worst[0].top_features
    assert [name for name, _ in top] == [name for name, _ in expected[:3]]
    assert [share for _, share in top] == pytest.approx([share for _, share in expected[:3]])


def test_where_nothing_is_anomalous_there_is_no_worst_window(sketched):
    report = filter_windows(with_threshold(sketched.config, 1e9))
    assert (report.anomalous, report.worst) == (0, ())
    windows, ends = loaded(report.anomalous_path)
    assert (len(windows), len(ends)) == (0, 0)
    assert report.normal == len(scores_of(sketched).times)


def test_the_real_model_sorts_by_the_threshold_of_its_bundle(worked):
    scores = scores_of(worked)
    threshold = worked.training.threshold.value
    assert worked.filtered.threshold == threshold
    assert worked.filtered.anomalous == int((scores.score > threshold).sum())
    assert worked.filtered.normal == int((scores.score <= threshold).sum())


def test_an_interrupted_filter_leaves_the_files_of_the_last_run(sketched, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = contents(sketched.config.artifacts_dir)
    monkeypatch.setattr("promad.data.windows.SampleWindows.take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        filter_windows(sketched.config)
    assert contents(sketched.config.artifacts_dir) == before


def test_without_a_bundle_it_says_what_to_run(sketched, tmp_path):
    config = sketched.copied_to(tmp_path / "copy")
    (config.artifacts_dir / "bundles" / "current").unlink()
    with pytest.raises(BundleError, match="no bundle yet — run promad train first"):
        filter_windows(config)


def test_a_bundle_for_other_queries_is_refused(sketched):
    features = {name: f"avg({name})" for name in NAMES}
    config = config_for(
        sketched.config.artifacts_dir,
        queries=features,
        preprocessing_settings={"time_features": ("hour_of_day",)},
    )
    with pytest.raises(BundleError, match="does not fit the configuration"):
        filter_windows(config)


def test_data_prepared_otherwise_than_the_bundles_is_refused(sketched):
    settings = sketched.config.preprocessing_settings
    other = sketched.config.model_copy(
        update={"preprocessing_settings": settings.model_copy(update={"max_fill_steps": 2})}
    )
    preprocess(other)
    with pytest.raises(
        DataError, match=r"was not prepared as that of bundle .* run promad train again"
    ):
        filter_windows(other)
