"""Filtering and trimming a fleet, and training on what is left."""

from __future__ import annotations

import numpy as np
import pytest

from promad.bundle import open_detector
from promad.cli.commands.filter import format_fleet_filtering
from promad.cli.commands.run import trim_and_train
from promad.config import load_config
from promad.data.artifacts import end_times_path
from promad.errors import DataError
from promad.models import MODELS
from promad.stages.filter import filter_fleet
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.training.filtered_groups import locate_groups
from tests.support.simulated import silent
from tests.support.small_fleet import (
    SAMPLES,
    TRAINED,
    Fault,
    SmallFleet,
    at,
    write_collected,
    write_config,
)

FLEET = SmallFleet(
    lives={"a": (0, SAMPLES), "b": (0, SAMPLES), "c": (300, SAMPLES), "short": (400, 460)},
    faults=(Fault(("b",), 200, 210),),
)
URL = "http://prometheus.example"


def prepare(path, **sections):
    config = load_config(write_config(path / "config.yaml", URL, **sections))
    write_collected(config, FLEET)
    preprocess(config)
    train(config, silent, now=lambda: at(SAMPLES))
    return config


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    more = "data_filtering_settings: {all_sequence_errors_output_filename: errors.npy}\n"
    return prepare(tmp_path_factory.mktemp("filter"), more=more)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A fleet with a model that takes no time and is trimmed."""
    monkeypatch.setitem(MODELS, "lstm_autoencoder", "tests.support.stub_model")
    return prepare(tmp_path, model="lstm_autoencoder")


def read(path):
    """The windows, their end times, and the names of their groups."""
    groups = np.load(locate_groups(path))
    names = groups["groups"][groups["group_of"]]
    times = np.load(end_times_path(path)).astype("datetime64[ms]").astype(float) / 1000
    return np.load(path), times, names


def on_filtered(config):
    training = config.training_settings.model_copy(update={"train_on_filtered_sequences": True})
    return config.model_copy(update={"training_settings": training})


def test_each_window_is_written_with_its_end_and_its_group(linear):
    report = filter_fleet(linear)
    normal, anomalous = read(report.normal_path), read(report.anomalous_path)
    assert report.normal == len(normal[0]) == report.written
    assert report.anomalous == len(anomalous[0])
    assert set(normal[2]) == {f'instance="{name}"' for name in FLEET.lives}
    of_c = normal[1][normal[2] == 'instance="c"']
    assert at(300) < of_c.min() <= of_c.max() <= at(TRAINED)
    errors = np.load(report.errors_path)
    assert len(errors) == report.normal + report.anomalous
    assert (errors > report.threshold).sum() == report.anomalous


def test_the_worst_windows_are_named_with_their_groups(linear):
    report = filter_fleet(linear)
    group, window, _ = report.worst[0] if report.worst else ("", None, 0)
    lines = list(format_fleet_filtering(report))
    assert lines[-1].startswith(f"filter: {report.normal} normal and {report.anomalous} anomalous")
    assert " of 4 groups, " in lines[-1]
    if window is not None:
        assert lines[0].startswith(f"  {group}: ")


def test_a_window_that_stands_out_is_found_in_its_group(stub):
    report = filter_fleet(stub, trimming=True)
    assert {dict(labels)["instance"] for labels, _ in report.dropped} == {"b"}
    assert all(at(200) <= end <= at(240) for _, end in report.dropped)
    windows, _, names = read(report.anomalous_path)
    assert len(windows) == len(report.dropped) == report.anomalous
    assert set(names) == {'instance="b"'}
    lines = list(format_fleet_filtering(report))
    assert lines[0].startswith('  dropped: web{instance="b"}: ')
    assert "windows dropped" in lines[-1]
    assert "in 1 of 4 groups" in lines[-1]


def test_what_a_round_dropped_stays_dropped(stub):
    first = filter_fleet(stub, trimming=True)
    second = filter_fleet(stub, trimming=True, dropped_before=first.dropped)
    assert set(first.dropped) <= set(second.dropped)


def test_a_linear_model_is_not_trimmed_and_it_is_said(linear):
    report = filter_fleet(linear, trimming=True)
    assert (report.anomalous, report.dropped, report.not_trimmed) == (0, (), "linear")
    assert "model linear is not trimmed" in next(iter(format_fleet_filtering(report)))


def test_retraining_learns_from_what_is_left(stub, capsys):
    before = open_detector(stub)
    trim_and_train(on_filtered(stub), force=True)
    after = open_detector(stub)
    assert after.bundle.manifest.trained_on == "normal windows of filter"
    rows = [each.detector.table.groups.index((("instance", "b"),)) for each in (before, after)]
    normaliser = [
        each.detector.table.rows.normaliser[row]
        for each, row in zip((before, after), rows, strict=True)
    ]
    assert (normaliser[1] <= normaliser[0]).all()
    assert "windows dropped" in capsys.readouterr().out


def test_no_more_normal_windows_are_written_than_train_uses(linear):
    training = linear.training_settings.model_copy(update={"max_training_windows": 200})
    report = filter_fleet(linear.model_copy(update={"training_settings": training}))
    _, times, names = read(report.normal_path)
    assert report.written == len(times) <= 200 < report.normal
    counts = [int((names == f'instance="{name}"').sum()) for name in FLEET.lives]
    assert max(counts) == 50
    assert min(counts) > 25
    assert f"({report.written} normal windows)" in list(format_fleet_filtering(report))[-1]
    filter_fleet(linear)


def test_windows_of_other_data_are_refused(tmp_path, linear):
    report = filter_fleet(linear)
    kept = np.load(report.normal_path)
    np.save(report.normal_path, kept + np.float32(1))
    try:
        with pytest.raises(DataError, match="was not made from the current processed data"):
            train(on_filtered(linear), silent, now=lambda: at(SAMPLES))
        locate_groups(report.normal_path).unlink()
        with pytest.raises(DataError, match="no such file — run promad filter first"):
            train(on_filtered(linear), silent, now=lambda: at(SAMPLES))
    finally:
        filter_fleet(linear)


def test_a_group_with_few_windows_has_the_pooled_calibration(linear):
    detector = open_detector(linear).detector
    assert [dict(labels)["instance"] for labels in detector.table.groups] == ["a", "b", "c"]
    assert detector.find_pooled([(("instance", "short"),)]).all()
