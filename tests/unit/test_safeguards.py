"""What must not happen to a detector, whatever else changes: a test for each way to go wrong."""

import ast
import inspect
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import pytest
import typer

import promad
from promad.cli.app import build_app
from promad.config import load_config, parse_duration, parse_instant
from promad.data.calendar import calendar_columns
from promad.errors import BundleError, DataError
from promad.events.verdict import State, Verdict
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.bench import live_of
from tests.support.detectors import judge_rows, score_rows
from tests.support.simulated import (
    LENGTH,
    NAMES,
    NOW,
    START,
    STEP,
    config_for,
    frame_of,
    host_values,
    read_processed,
    silent,
    worked_through,
    write_raw,
)


def test_artefacts_lie_beside_the_configuration_and_not_beside_the_code(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("queries: {x: up}\nartifacts_dir: here\n")
    assert load_config(path).artifacts_dir == tmp_path / "here"


def test_filter_is_a_command_and_what_it_leaves_can_be_trained_on(sketched):
    assert "filter" in typer.main.get_command(build_app()).commands
    settings = sketched.config.training_settings.model_copy(
        update={"train_on_filtered_sequences": True}
    )
    config = sketched.config.model_copy(update={"training_settings": settings})
    report = train(config, silent, now=lambda: NOW + 1)
    assert report.bundle.manifest.trained_on == "normal windows of filter"


def test_an_outage_is_not_filled_in_until_the_model_sees_nothing(worked):
    values = host_values(60)
    values[30:, 1] = np.nan
    times = score_rows(worked.detector(), frame_of(values)).times
    carried = worked.config.preprocessing_settings.max_fill_steps
    assert times.max() == START + (29 + carried) * STEP
    everything_gone = np.full((60, len(NAMES)), np.nan)
    assert len(score_rows(worked.detector(), frame_of(everything_gone)).times) == 0


def test_a_time_without_an_offset_is_utc_and_the_calendar_knows_summer_time():
    assert parse_instant("2026-03-29T12:00:00") == datetime(2026, 3, 29, 12, tzinfo=UTC).timestamp()
    noon_in_winter, noon_in_summer = (
        parse_instant(text) for text in ("2026-03-28T12:00+01:00", "2026-03-29T12:00+02:00")
    )
    columns = calendar_columns(
        np.array([noon_in_winter, noon_in_summer]), ("hour_of_day",), "Europe/Berlin"
    )
    np.testing.assert_allclose(columns[0], columns[1], atol=1e-6)


def test_windows_do_not_bridge_the_gap_between_two_periods(tmp_path):
    config = config_for(tmp_path)
    first, second = frame_of(host_values(50)), frame_of(host_values(50), START + 7 * 86400)
    write_raw(config, [first, second])
    preprocess(config)
    frames, preparation, _ = read_processed(config)
    windows = preparation.windows(frames, LENGTH)
    assert len(windows) == 2 * (50 - LENGTH + 1)
    starts = windows.times - STEP * (LENGTH - 1)
    assert not ((starts < second.start) & (windows.times >= second.start)).any()


def test_nothing_of_the_validation_part_is_learned_by_the_scaler_or_the_model(worked):
    manifest = worked.bundle.manifest
    assert parse_instant(manifest.validation.start) > parse_instant(manifest.training.end)
    _, preparation, processed = read_processed(worked.config)
    trained = frame_of(worked.values).times <= processed.training_ends_at
    filled = preparation.fill(frame_of(worked.values))
    rows = filled.values[filled.usable & trained]
    np.testing.assert_allclose(preparation.scaler.center, rows.mean(axis=0))
    unit = np.sqrt(rows.std(axis=0) * np.ptp(rows, axis=0))
    np.testing.assert_allclose(preparation.scaler.scale, unit)


def test_the_output_is_not_confined_to_the_range_of_a_sigmoid(worked):
    frames, preparation, _ = read_processed(worked.config)
    windows = preparation.windows(frames, LENGTH)
    outcome = worked.detector().model.apply(windows.take(np.arange(len(windows))))
    assert outcome.expected.min() < -0.05


def test_an_old_model_that_lies_around_is_not_taken_for_the_new_one(sketched):
    stale = sketched.config.artifacts_dir / sketched.config.training_settings.model_output_filename
    stale.write_text("from last year")
    second = train(sketched.config, silent, now=lambda: NOW + 1).bundle
    assert (second.directory / stale.name).read_text() != "from last year"


def test_without_validation_windows_nothing_is_trained(tmp_path, stub_model):
    config = config_for(tmp_path)
    write_raw(config, [frame_of(host_values(40))])
    preprocess(config)
    with pytest.raises(DataError, match="0 for validation"):
        train(config, silent, now=lambda: NOW)


def test_the_threshold_is_calibrated_on_validation_errors(tmp_path, stub_model):
    """Scores a hundred times as large have a threshold a hundred times as large."""
    plain = worked_through(tmp_path / "plain")
    scores = score_rows(plain.detector(), frame_of(plain.values)).score
    validation = scores[-plain.training.validation_windows :]
    assert plain.training.threshold.value > validation.max()
    assert plain.training.threshold.value < 11 * validation.max()


def test_what_has_no_score_is_neither_healthy_nor_zero(worked):
    assert judge_rows(worked.detector(), frame_of(host_values(LENGTH - 1))) == []
    blind = Verdict(0.0, State.BLIND, 1.0)
    assert (blind.score, blind.score_ratio, blind.features) == (None, None, ())


def test_one_spike_is_one_event_however_often_it_is_seen(worked):
    """The spike stays in the window for its whole length, and polls come oftener than samples."""
    detector, values = worked.detector(), host_values(120)
    values[40] *= 30
    live, above = live_of(detector, detector.threshold.begin(), 1, 5), 0
    for end in range(LENGTH, 121):
        for _ in range(4):
            for judgements in live.catch_up(frame_of(values).slice(0, end)):
                above += int(judgements.score[0] > judgements.limit[0])
    assert above >= LENGTH
    assert live.state.events.begun.tolist() == [1]
    assert live.state.events.open_event(0) is None


def test_the_calendar_is_no_part_of_error_or_attribution_and_midnight_no_jump(worked):
    scores = score_rows(worked.detector(), frame_of(host_values(40)))
    assert scores.errors.shape[1] == len(NAMES)
    verdict = judge_rows(worked.detector(), frame_of(host_values(40)))[0]
    assert [view.name for view in verdict.features] == list(NAMES)
    midnight = parse_instant("2026-06-22T00:00:00")  # a Monday
    columns = calendar_columns(
        midnight + np.array([-1.0, 1.0]), ("hour_of_day", "day_of_week"), "UTC"
    )
    assert np.abs(np.diff(columns, axis=0)).max() < 1e-3


@pytest.mark.parametrize(("text", "seconds"), [("1d", 86400), ("1m30s", 90), ("500ms", 0.5)])
def test_every_duration_of_prometheus_is_understood(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["1 day", "30", "s", "", "1s1m"])
def test_what_is_no_duration_is_refused_rather_than_guessed(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def calls_in(path):
    """The names of the functions that a module calls."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {ast.unparse(function) for function in calls}


def test_only_the_command_line_ends_the_process():
    package = Path(inspect.getfile(promad)).parent
    ending = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if calls_in(path) & {"exit", "quit", "sys.exit", "os._exit"}
    }
    assert ending <= {"cli"}


class Explosive:
    """Unpickling it ends the tests."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a file was run')",))


def test_a_pickle_that_someone_put_in_is_never_opened(sketched):
    joblib.dump(Explosive(), sketched.bundle.directory / "fitted_scaler.joblib")
    with pytest.raises(BundleError, match=r"fitted_scaler.joblib: was changed since training"):
        sketched.store.open_current()
