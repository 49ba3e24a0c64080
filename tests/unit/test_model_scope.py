"""`model_scope: per_group`: weights of each group's own, fitted in processes, applied at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from promad import cli
from promad.bundle import open_detector
from promad.cli.commands.train import run_train
from promad.config import load_config
from promad.config.contradictions import find_contradictions
from promad.data.frame import MetricFrame
from promad.errors import BundleError, DataError
from promad.models.linear import Linear
from promad.models.linear_groups import GROUPS_FILE, GroupedLinear, pack, stack_rows
from promad.parallel.engine import Backend
from promad.scoring.streaming import score_frame
from promad.stages.filter import filter_fleet
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.training import group_runs
from promad.training.group_fitting import fit_group, read_group
from promad.training.group_runs import fit_groups, name_kept, read_fit
from tests.support.parallel_work import end_process
from tests.support.simulated import silent
from tests.support.small_fleet import (
    FEATURES,
    SAMPLES,
    STEP,
    SmallFleet,
    at,
    write_collected,
    write_config,
)

FLEET = SmallFleet(lives={"a": (0, SAMPLES), "b": (0, SAMPLES), "short": (400, 460)})
URL = "http://prometheus.example"


def read_config(directory: Path, **sections: str):
    return load_config(write_config(directory / "config.yaml", URL, **sections))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The configuration and what `train` reported."""
    config = read_config(tmp_path_factory.mktemp("scope"), training="model_scope: per_group")
    write_collected(config, FLEET)
    preprocess(config)
    return config, train(config, silent, now=lambda: at(SAMPLES))


def make_pair(seed: int, length: int = 4, width: int = 5, features: int = 3, lags: int = 2):
    chance = np.random.default_rng(seed)
    size = length * width
    directions = np.linalg.qr(chance.normal(size=(size, 3)))[0]
    known = 1 + lags * width + width - features
    return Linear(
        features,
        length,
        chance.normal(size=size),
        directions,
        chance.normal(size=(known, features)),
        lags,
        chance.uniform(0.5, 2.0, 2),
    )


# The model


@pytest.mark.parametrize("counts", [[1, 1, 1], [3, 0, 1], [0, 70, 2]])
def test_groups_at_once_are_judged_as_one_by_one(counts) -> None:
    pairs = [make_pair(seed) for seed in range(len(counts))]
    grouped = GroupedLinear(make_pair(9), stack_rows([pack(pair) for pair in pairs]))
    groups = np.repeat([*range(len(counts)), -1], [*counts, 2])
    chance = np.random.default_rng(1)
    chance.shuffle(groups)
    windows = chance.normal(size=(len(groups), 4, 5)).astype(np.float32)
    found = grouped.apply_groups(windows, groups)
    for row in np.unique(groups):
        chosen = groups == row
        alone = grouped.of_group(int(row)).apply(windows[chosen])
        for name in ("errors", "expected", "window_errors"):
            np.testing.assert_allclose(
                getattr(found, name)[chosen], getattr(alone, name), rtol=1e-9, atol=1e-12
            )
    exact = pairs[2].apply(windows[groups == 2])
    np.testing.assert_allclose(
        grouped.of_group(2).apply(windows[groups == 2]).errors, exact.errors, rtol=1e-3
    )


# Training


def test_each_group_has_its_own_weights_in_one_file(trained) -> None:
    config, report = trained
    detector = open_detector(config).detector
    assert isinstance(detector.model, GroupedLinear)
    assert [dict(labels)["instance"] for labels in detector.table.groups] == ["a", "b"]
    assert len(detector.model.stack) == 2
    assert not np.array_equal(detector.model.stack[0], detector.model.stack[1])
    assert GROUPS_FILE in report.bundle.manifest.files


def test_a_group_that_fails_is_reported_and_the_others_are_trained(trained) -> None:
    ((labels, why),) = trained[1].groups_left_out.items()
    assert labels == (("instance", "short"),)
    assert "windows in the training part" in why
    assert not list(trained[0].artifacts_dir.glob(".group-models-*"))


def test_a_group_is_scored_by_its_own_weights_and_others_by_the_pooled_ones(trained) -> None:
    detector = open_detector(trained[0]).detector
    groups = tuple((("instance", name),) for name in ("b", "new", "a"))
    values = np.stack([FLEET.values(name)[:200] for name in ("b", "b", "a")])
    scores = score_frame(detector, MetricFrame(at(0), STEP, FEATURES, groups, values))
    for row, labels in enumerate(groups):
        own, unit = detector.of_group(labels)
        assert isinstance(own.model, Linear)
        calibrated = detector.calibrate([labels])
        frame = MetricFrame(at(0), STEP, FEATURES, (labels,), values[row : row + 1])
        alone = score_frame(detector, frame)
        np.testing.assert_allclose(scores.score[row], alone.score[0], rtol=1e-9)
        assert float(calibrated.unit[0]) == unit
    assert not np.allclose(scores.score[0][50:], scores.score[1][50:])
    assert np.nanmedian(scores.score[0]) < 10 * np.nanmedian(scores.score[2])


def test_filter_scores_each_group_by_its_own_weights(trained) -> None:
    report = filter_fleet(trained[0])
    assert report.groups == 3
    assert report.anomalous / (report.normal + report.anomalous) < 0.05


def test_a_training_that_was_killed_continues_with_the_groups_left(trained, tmp_path, monkeypatch):
    config, _ = trained
    from promad.stages.train import _read_fleet_material
    from promad.training.processed_file import locate_processed, read_fleet
    from promad.training.processing import ProcessingOptions

    source = read_fleet(locate_processed(config), ProcessingOptions.of(config))
    material = _read_fleet_material(config, source)
    settings = config.training_settings
    fit = fit_group(settings, read_group(material, 0))
    np.savez(tmp_path / "0.npz", **{**vars(fit), "scores": fit.scores + 1})
    run = fit_groups(material, settings, tmp_path, Backend("loky", jobs=1))
    assert (sorted(run.done), sorted(run.too_few), run.failed) == ([0, 1], [2], {})
    np.testing.assert_array_equal(read_fit(run.done[0]).scores, fit.scores + 1)
    alone = fit_group(settings, read_group(material, 1))
    np.testing.assert_allclose(read_fit(run.done[1]).weights, alone.weights, rtol=1e-4, atol=1e-5)


def test_what_was_kept_of_other_settings_is_removed(trained, tmp_path) -> None:
    source = tmp_path / "processed.parquet"
    source.write_text("x")
    settings = trained[0].training_settings
    first = name_kept(tmp_path, source, settings, {})
    first.mkdir()
    assert name_kept(tmp_path, source, settings, {}) == first
    assert first.is_dir()
    other = name_kept(tmp_path, source, settings.model_copy(update={"seed": 1}), {})
    assert other != first
    assert not first.exists()


def test_a_process_that_dies_is_reported(trained, tmp_path, monkeypatch) -> None:
    from promad.stages.train import _read_fleet_material
    from promad.training.processed_file import locate_processed, read_fleet
    from promad.training.processing import ProcessingOptions

    config, _ = trained
    source = read_fleet(locate_processed(config), ProcessingOptions.of(config))
    monkeypatch.setattr(group_runs, "fit_or_refuse", end_process)
    for group in (0, 1):
        (tmp_path / f"{group}.npz").touch()
    material, settings = _read_fleet_material(config, source), config.training_settings
    run = fit_groups(material, settings, tmp_path, Backend("loky", jobs=2))
    assert sorted(run.done) == [0, 1]
    assert list(run.left_out) == list(run.failed) == [2]
    assert "its worker ended unexpectedly" in run.failed[2]


def test_a_group_that_fails_has_the_pooled_weights_and_an_exit_code(
    trained, monkeypatch, capsys
) -> None:
    def fail_second(settings, data):
        if data.frames[0].groups[0] == (("instance", "b"),):
            raise ZeroDivisionError("no spread")
        return fit_group(settings, data)

    monkeypatch.setattr(group_runs, "fit_or_refuse", fail_second)
    config = trained[0]
    assert run_train(config, backend=Backend()) == 2
    out = " ".join(capsys.readouterr().out.split())
    assert '{instance="b"} has no calibration of its own: ZeroDivisionError: no spread' in out
    assert "2 groups failed; the bundle has the weights of all groups for them" in out
    table = open_detector(config).detector.table
    assert [dict(labels)["instance"] for labels in table.groups] == ["a"]
    monkeypatch.setattr("promad.cli.commands.train.run_train", lambda *_, **__: 2)
    path = config.artifacts_dir.parent / "config.yaml"
    monkeypatch.setattr("sys.argv", ["promad", "-c", str(path), "train", "--jobs", "1"])
    with pytest.raises(SystemExit, match="3"):
        cli.main()


# What is refused


def test_a_pooled_model_has_no_use_for_a_backend(trained, monkeypatch, capsys) -> None:
    path = write_config(trained[0].artifacts_dir.parent / "pooled.yaml", URL)
    monkeypatch.setattr("sys.argv", ["promad", "-c", str(path), "train", "--backend", "loky"])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert "--backend loky fits groups one by one, and needs group_by" in capsys.readouterr().err


def test_a_bundle_of_the_other_scope_does_not_fit(trained) -> None:
    config = trained[0]
    training = config.training_settings.model_copy(update={"model_scope": "pooled"})
    with pytest.raises(BundleError, match="model_scope is per_group in the bundle, pooled in"):
        open_detector(config.model_copy(update={"training_settings": training}))


def test_networks_have_pooled_weights_only(tmp_path, trained) -> None:
    config = trained[0]
    training = config.training_settings.model_copy(update={"model": "tranad"})
    other = config.model_copy(update={"training_settings": training})
    assert any(
        "per_group supports the model linear only" in what for _, what in find_contradictions(other)
    )
    with pytest.raises(DataError, match="set model_scope: pooled"):
        train(other, silent, now=lambda: at(SAMPLES))


def test_a_damaged_stack_is_refused(trained) -> None:
    config = trained[0]
    detector = open_detector(config)
    path = detector.bundle.directory / GROUPS_FILE
    from promad.models.linear_groups import load_groups

    pooled = detector.detector.model.pooled
    with pytest.raises(BundleError, match="its arrays do not match"):
        load_groups(detector.bundle.directory, pooled, 3)
    assert path.stat().st_size > 0
