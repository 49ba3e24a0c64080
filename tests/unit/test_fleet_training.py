"""A small fleet from collected data to a bundle: each group by its own scale."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest

from promad.bundle import BundleStore, load_detector
from promad.config import Config
from promad.data.artifacts import write_groups
from promad.data.frame import MetricFrame
from promad.errors import DataError, PromadError
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.training.fleet_material import draw_material, map_groups
from promad.training.gate import Gate
from promad.training.processed_file import locate_processed, read_fleet
from promad.training.processing import ProcessingOptions
from tests.support.detectors import host_samples
from tests.support.simulated import LENGTH, NAMES, NOW, START, STEP, config_for, silent

SCALES = (1.0, 10.0, 100.0)
SAMPLES = 400


def label(host):
    return (("instance", f"host-{host}"),)


def write_fleet(config: Config, scales: tuple[float, ...] = SCALES) -> None:
    """Hosts of different scales, and one with hardly any data."""
    groups = []
    for host, scale in enumerate((*scales, 1.0)):
        values = host_samples(SAMPLES, seed=host) * scale
        values = values[: SAMPLES if host < len(scales) else 5]
        groups.append([MetricFrame(START, STEP, NAMES, (label(host),), values[np.newaxis])])
    path = config.artifacts_dir / config.data_settings.output_filename
    metadata = {"server": "http://prometheus.example"}
    write_groups(path, STEP, ["instance"], iter(groups), lambda: metadata)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = config_for(
        tmp_path_factory.mktemp("fleet"), training_settings={"model": "linear", "gate": False}
    )
    config = config.model_copy(update={"group_by": ("instance",)})
    write_fleet(config)
    preprocess(config)
    train(config, silent, now=lambda: NOW)
    return config


def open_fleet(config):
    return read_fleet(locate_processed(config), ProcessingOptions.of(config))


def test_each_group_has_its_own_scaler_and_a_group_with_too_little_data_is_left_out(trained):
    config = trained
    fleet = open_fleet(config)
    assert fleet.groups == tuple(map(label, range(len(SCALES))))
    ratio = fleet.scale[2] / fleet.scale[0]
    np.testing.assert_allclose(ratio, 100.0, rtol=0.5)
    for group in range(len(SCALES)):
        (frame,) = fleet.read(group)
        training = frame.values[0][frame.times <= fleet.training_ends_at]
        np.testing.assert_allclose(training.mean(axis=0), 0.0, atol=1e-6)


def test_the_training_part_ends_for_all_groups_at_the_same_time(trained):
    config = trained
    fleet = open_fleet(config)
    share = (fleet.training_ends_at - START) / ((SAMPLES - 1) * STEP)
    assert share == pytest.approx(config.training_settings.train_split_ratio, abs=0.02)


def test_windows_are_drawn_from_all_groups_and_times_and_the_same_for_a_seed(trained):
    fleet = open_fleet(trained)
    material = draw_material(fleet, LENGTH, 90, seed=1)
    again = draw_material(fleet, LENGTH, 90, seed=1)
    other = draw_material(fleet, LENGTH, 90, seed=2)
    assert len(material.windows) <= 90 + 2 * len(SCALES)
    np.testing.assert_array_equal(material.windows.times, again.windows.times)
    assert not np.array_equal(material.windows.times, other.windows.times)
    assert (np.diff(material.split.training.times) >= 0).all()
    assert material.split.training.times[-1] <= fleet.training_ends_at + STEP / 2
    halves = np.array_split(np.unique(material.windows.times), 2)
    assert all(len(half) > 10 for half in halves)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processor cores")
def test_what_is_made_of_each_group_is_in_their_order_whichever_is_finished_first():
    later = threading.Event()

    def work(group):
        if group == 4:
            assert later.wait(5)
        else:
            later.set()
        return 10 * group

    assert map_groups(work, [4, 1, 2]) == [40, 10, 20]


def test_a_group_that_cannot_be_read_ends_the_training():
    def work(group):
        raise DataError(f"group {group} is damaged")

    with pytest.raises(DataError, match="group 1 is damaged"):
        map_groups(work, [1, 2])


def test_the_bundle_has_the_calibration_of_each_group_and_the_pooled_one(trained):
    config = trained
    bundle = BundleStore.of(config).open_current()
    detector = load_detector(bundle)
    assert detector.table is not None
    assert detector.table.groups == tuple(map(label, range(len(SCALES))))
    groups = [label(2), label(9), label(0)]
    assert detector.find_pooled(groups).tolist() == [False, True, False]
    calibration = detector.calibrate(groups)
    rows = detector.table.rows
    np.testing.assert_array_equal(calibration.center[0], rows.center[2])
    np.testing.assert_array_equal(calibration.center[2], rows.center[0])
    np.testing.assert_array_equal(calibration.scale[1], detector.preparation.scaler.scale)
    assert calibration.unit[1] == detector.table.median_unit


def test_groups_that_resemble_each_other_are_told_from_those_that_do_not(tmp_path, trained):
    def caution_of(config):
        return load_detector(BundleStore.of(config).open_current()).table.caution

    config = config_for(tmp_path, training_settings={"model": "linear", "gate": False})
    config = config.model_copy(update={"group_by": ("instance",)})
    write_fleet(config, scales=(1.0, 1.01, 1.02, 100.0, 101.0, 102.0))
    preprocess(config)
    train(config, silent, now=lambda: NOW)
    assert 1.4 <= caution_of(config).later <= caution_of(config).first < 4.0
    assert not caution_of(trained).is_small


def spoil_groups(path):
    groups = json.loads((path / "groups.json").read_text())
    text = json.dumps(groups[:-1] if isinstance(groups, list) else {})
    (path / "groups.json").write_text(text)


def spoil_numbers(path):
    with np.load(path / "calibration.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["scale"] = -arrays["scale"]
    np.savez(path / "calibration.npz", **arrays)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_groups,
        spoil_numbers,
        lambda path: (path / "calibration.npz").write_bytes(b"x"),
        lambda path: (path / "groups.json").write_text("["),
        lambda path: (path / "groups.json").unlink(),
        lambda path: (path / "calibration.npz").unlink(),
    ],
)
def test_a_damaged_calibration_is_refused_in_one_line(trained, tmp_path, spoil):
    bundle = BundleStore.of(trained).open_current()
    shutil.copytree(bundle.directory, tmp_path / "b")
    spoil(tmp_path / "b")
    with pytest.raises(PromadError) as caught:
        load_detector(replace(bundle, directory=tmp_path / "b"))
    assert "\n" not in caught.value.summary


def test_a_fleet_without_enough_data_in_any_group_is_refused(tmp_path):
    config = config_for(tmp_path).model_copy(update={"group_by": ("instance",)})
    groups = [[MetricFrame(START, STEP, NAMES, (label(0),), host_samples(3, seed=0)[np.newaxis])]]
    path = config.artifacts_dir / config.data_settings.output_filename
    write_groups(path, STEP, ["instance"], iter(groups), lambda: {"server": "http://x"})
    with pytest.raises(PromadError, match="host-0"):
        preprocess(config)


@pytest.mark.parametrize("figure", [0.9, 0.4])
def test_of_a_fleet_too_a_network_worse_than_its_linear_model_is_left_out(
    tmp_path, monkeypatch, figure
):
    seen = []

    def run_gate(model, detector, frames, ends_at, linear):
        seen.append((type(detector.model).__name__, type(linear.model).__name__))
        naive = {row: {"mean": 0.1} for row in ("|z|", "last value", "last value smoothed")}
        return Gate(model, {model: {"mean": figure}, "linear": {"mean": 0.6}, **naive})

    monkeypatch.setattr("promad.training.fleet_fitting.run_gate", run_gate)
    config = config_for(tmp_path, training_settings={"gate": True, "epochs": 1})
    config = config.model_copy(update={"group_by": ("instance",)})
    write_fleet(config)
    preprocess(config)
    report = train(config, silent, now=lambda: NOW)
    assert set(seen) == {("ResidualAutoencoder", "Linear")}
    assert len(seen) == len(SCALES)
    files = {path.name for path in report.bundle.directory.iterdir()}
    assert ("model.onnx" in files) == (figure == 0.9)
    assert "linear.npz" in files
    assert report.gate.own == max(figure, 0.6)
    assert bool(report.gate.left_out) == (figure == 0.4)
    detector = load_detector(BundleStore.of(config).open_current())
    assert type(detector.model).__name__ == ("ResidualAutoencoder" if figure == 0.9 else "Linear")
