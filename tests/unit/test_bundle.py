"""A bundle is what its manifest says, becomes current in one step, and fits the configuration."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from promad.bundle import BundleStore, check_fits, load_detector, open_bundle
from promad.errors import BundleError
from promad.stages.train import train
from tests.support import naive_scoring
from tests.support.simulated import NOW, config_for, contents, frame_of, silent


@pytest.fixture
def store(sketched):
    return sketched.store


def retrain(worked, later=1.0):
    """Another bundle, made `later` seconds after the first."""
    return train(worked.config, silent, now=lambda: NOW + later).bundle


def files_of(bundle):
    below = (path for path in bundle.directory.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(bundle.directory)) for path in below)


def test_the_manifest_holds_the_digest_and_size_of_every_file(worked):
    bundle = worked.bundle
    assert sorted([*bundle.manifest.files, "manifest.json"]) == files_of(bundle)
    for name, entry in bundle.manifest.files.items():
        content = (bundle.directory / name).read_bytes()
        assert entry.sha256 == hashlib.sha256(content).hexdigest()
        assert entry.bytes == len(content) > 0


def test_the_manifest_tells_what_the_model_was_made_from(worked):
    manifest = worked.bundle.manifest
    assert list(manifest.queries) == list(worked.config.features)
    assert manifest.queries == worked.config.promql
    assert (manifest.step_seconds, manifest.sequence_length) == (30.0, 8)
    assert (manifest.model, manifest.scaler) == ("lstm_autoencoder", "ParetoScaler")
    assert (manifest.format, manifest.preset, manifest.scoring) == (2, "improved", "normalised")
    assert manifest.server == "http://prometheus.example"
    assert (manifest.seed, manifest.trained_on) == (42, "all windows")
    assert {"promad", "python", "numpy", "tensorflow", "keras", "onnx"} <= set(manifest.versions)
    assert manifest.threshold == worked.training.threshold.to_json()
    assert manifest.training.end < manifest.validation.start
    assert manifest.training.windows == worked.training.training_windows
    assert worked.bundle.trained_at == NOW


def test_the_manifest_on_disk_is_plain_json(worked):
    raw = json.loads((worked.bundle.directory / "manifest.json").read_text())
    assert raw == worked.bundle.manifest.model_dump()


def test_the_name_is_the_time_of_training_and_the_digest_of_the_manifest(worked):
    moment, digest = worked.bundle.id.split("-")
    content = (worked.bundle.directory / "manifest.json").read_bytes()
    assert moment == "20250715T150700Z"
    assert digest == hashlib.sha256(content).hexdigest()[:8]


def changed(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def longer(path):
    path.write_bytes(path.read_bytes() + b"\n")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


SPOIL = {"changed": changed, "longer": longer, "cut short": cut_short, "removed": os.unlink}


@pytest.mark.parametrize("how", list(SPOIL))
def test_no_file_can_be_spoilt_without_being_named(sketched, tmp_path, how):
    for name in files_of(sketched.bundle):
        copy = sketched.copied_to(tmp_path / f"{name}-{how}")
        store = BundleStore.of(copy)
        SPOIL[how](store.root / sketched.bundle.id / name)
        with pytest.raises(
            BundleError, match=rf"{sketched.bundle.id}/{name}: .*(roll|train again)"
        ):
            store.open_current()


def test_a_file_and_its_entry_cannot_be_exchanged_together(store):
    directory = store.open_current().directory
    threshold = directory / "threshold.json"
    threshold.write_text(threshold.read_text().replace('"value": ', '"value": 9'))
    manifest = json.loads((directory / "manifest.json").read_text())
    content = threshold.read_bytes()
    manifest["files"]["threshold.json"] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"manifest.json: was changed since training"):
        store.open_current()


def test_a_directory_in_the_place_of_a_file_is_refused(store):
    path = store.open_current().directory / "preparation.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(BundleError, match=r"preparation.json: is missing"):
        store.open_current()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 1, r"format 1, model lstm_autoencoder is not for this version .*format 2"),
        ("model", "oracle", r"format 2, model oracle is not for this version"),
        ("surprise", 1, r"cannot be read \(1 validation error for Manifest\)"),
    ],
)
def test_a_bundle_of_another_version_is_refused(store, key, value, message):
    path = store.open_current().directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(BundleError, match=rf"^{path}: {message}"):
        store.open_current()


def test_what_is_loaded_scores_as_what_was_trained(worked):
    detector = load_detector(worked.bundle)
    assert detector.threshold == worked.training.threshold
    assert detector.length == 8
    scaled = detector.preparation.scale(frame_of(worked.values))
    windows = detector.preparation.windows([scaled], 8)
    errors = detector.model.apply(windows.take(np.arange(len(windows)))).errors
    of_training = np.arange(len(windows)) < worked.training.training_windows
    of_validation = np.arange(len(windows)) >= len(windows) - worked.training.validation_windows
    seen = of_training | of_validation  # and not the windows between the two
    scoring = detector.scoring
    smoothed = naive_scoring.moving_average(
        errors[seen] / scoring.normaliser,
        (windows.starts + 7)[seen],
        scoring.span,
        scoring.memory,
    )
    scores = smoothed.mean(axis=1)
    quantiles = worked.bundle.manifest.figures["validation_score_quantiles"]
    assert float(np.quantile(scores, 0.5)) == pytest.approx(quantiles["0.5"], rel=1e-4)
    assert scores.max() == pytest.approx(quantiles["1"], rel=1e-4)


def test_a_given_threshold_takes_the_place_of_the_bundles_own(worked):
    detector = load_detector(worked.bundle, 0.75)
    assert (detector.threshold.method, detector.threshold.value) == ("fixed", 0.75)


def test_before_the_first_training_there_is_none(tmp_path):
    store = BundleStore.of(config_for(tmp_path / "nothing"))
    assert (store.ids(), store.current_id()) == ([], None)
    with pytest.raises(BundleError, match=r"no bundle yet — run promad train first"):
        store.open_current()
    with pytest.raises(BundleError, match=r"nothing older than None"):
        store.rollback()


def test_each_training_is_kept_and_the_last_is_in_use(sketched, store):
    second = retrain(sketched)
    assert store.ids() == [sketched.bundle.id, second.id]
    assert store.current_id() == second.id
    assert (store.root / "current").resolve() == second.directory


def test_rollback_goes_back_one_at_a_time_and_promote_forward_again(sketched, store):
    second, third = retrain(sketched), retrain(sketched, 2.0)
    assert [store.rollback().id, store.rollback().id] == [second.id, sketched.bundle.id]
    with pytest.raises(BundleError, match=f"nothing older than {sketched.bundle.id}"):
        store.rollback()
    assert store.promote(third.id).id == third.id
    assert store.current_id() == third.id


@pytest.mark.parametrize("name", ["20990101T000000Z-00000000", "../bundles", "current", ""])
def test_what_is_no_bundle_cannot_be_promoted(sketched, store, name):
    with pytest.raises(BundleError, match=rf"no such bundle .*there: {sketched.bundle.id}\)"):
        store.promote(name)
    assert store.current_id() == sketched.bundle.id


def test_a_damaged_bundle_is_not_promoted_and_can_be_rolled_back_from(sketched, store):
    second = retrain(sketched)
    changed(second.directory / "threshold.json")
    with pytest.raises(BundleError, match=r"threshold.json: was changed"):
        store.promote(second.id)
    assert store.rollback().id == sketched.bundle.id
    with pytest.raises(BundleError, match=r"threshold.json: was changed"):
        store.promote(second.id)
    assert store.current_id() == sketched.bundle.id


def test_promoting_never_leaves_a_moment_without_a_current_bundle(sketched, store, monkeypatch):
    """The link is made aside and renamed over the old one: one step for every reader."""
    retrain(sketched)
    seen = []
    real_replace = os.replace

    def replace(source, target):
        seen.append(store.current_id())
        real_replace(source, target)
        seen.append(store.current_id())

    monkeypatch.setattr(os, "replace", replace)
    second = store.current_id()
    store.rollback()
    assert seen == [second, sketched.bundle.id]


def test_artifacts_can_be_moved_elsewhere_as_a_whole(sketched, tmp_path):
    moved = shutil.copytree(sketched.config.artifacts_dir, tmp_path / "moved", symlinks=True)
    shutil.rmtree(sketched.config.artifacts_dir)
    store = BundleStore(moved / "bundles")
    assert store.open_current().directory == moved / "bundles" / sketched.bundle.id


# A training that does not end well leaves everything as it was.


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def interrupt(*_):
    raise Interrupted


def test_an_interrupted_training_leaves_everything_as_it_was(sketched):
    before = contents(sketched.config.artifacts_dir)
    with pytest.raises(Interrupted):
        train(sketched.config, interrupt, now=lambda: NOW + 1)
    assert contents(sketched.config.artifacts_dir) == before


@pytest.mark.parametrize("step", ["draw_history", "draw_histogram"])
def test_a_disk_error_while_writing_leaves_everything_as_it_was(sketched, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = contents(sketched.config.artifacts_dir)
    monkeypatch.setattr(f"promad.training.bundling.{step}", full)
    with pytest.raises(
        BundleError, match=r"bundles: cannot be written \(No space left on device\)"
    ):
        train(sketched.config, silent, now=lambda: NOW + 1)
    assert contents(sketched.config.artifacts_dir) == before


def test_a_disk_error_at_the_last_step_leaves_the_old_bundle_in_use(sketched, store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BundleError, match="No space left"):
        train(sketched.config, silent, now=lambda: NOW + 1)
    assert store.open_current().id == sketched.bundle.id


KILLED_WHILE_WRITING = """
import sys, time
from pathlib import Path
from promad.models import MODELS
from promad.stages.train import train
from promad.training import bundling
from tests.support.simulated import config_for, silent

def hang(*_):
    print("half", flush=True)
    time.sleep(60)

MODELS["lstm_autoencoder"] = "tests.support.stub_model"
bundling.draw_histogram = hang
config = config_for(Path(sys.argv[1]), preprocessing_settings={"time_features": ("hour_of_day",)})
train(config, silent, now=lambda: 2e9)
"""


def test_a_training_that_is_killed_while_writing_leaves_the_old_bundle_in_use(sketched, store):
    before = contents(sketched.config.artifacts_dir)
    command = [
        sys.executable,
        "-c",
        KILLED_WHILE_WRITING,
        str(sketched.config.artifacts_dir),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as training:
        assert training.stdout.readline() == b"half\n"
        training.kill()
    after = contents(sketched.config.artifacts_dir)
    left = {name for name in after if name not in before}
    assert left
    assert all(name.startswith("bundles/.partial-") for name in left)
    assert {name: after[name] for name in before} == before
    assert store.ids() == [sketched.bundle.id]
    second = retrain(sketched)
    assert store.open_current().id == second.id


# Fit


def misfits():
    features = "host_cpu_busy_ratio, app_requests_per_second, app_latency_p99_seconds"
    return [
        (
            {"queries": {"host_cpu_busy_ratio": "host_cpu_busy_ratio", "up": "up"}},
            rf"features {features}; the configuration has host_cpu_busy_ratio, up",
        ),
        (
            {
                "queries": {
                    "host_cpu_busy_ratio": "avg(host_cpu_busy_ratio)",
                    "app_requests_per_second": "app_requests_per_second",
                    "app_latency_p99_seconds": "app_latency_p99_seconds",
                }
            },
            r"host_cpu_busy_ratio was trained on host_cpu_busy_ratio "
            r"and is now avg\(host_cpu_busy_ratio\)",
        ),
        (
            {
                "queries": {
                    "app_requests_per_second": "app_requests_per_second",
                    "host_cpu_busy_ratio": "host_cpu_busy_ratio",
                    "app_latency_p99_seconds": "app_latency_p99_seconds",
                }
            },
            rf"features {features}; the configuration has app_requests_per_second, host_cpu",
        ),
        (
            {"data_settings": {"step": "15s"}},
            r"step is 30.0 in the bundle, 15.0 in the configuration",
        ),
        (
            {"real_time_anomaly_detection": {"data_step_duration": "1m"}},
            r"step is 30.0 in the bundle, 60.0 in the configuration",
        ),
        (
            {"training_settings": {"sequence_length": 9}},
            r"sequence_length is 8 in the bundle, 9 in the configuration",
        ),
        (
            {"training_settings": {"model": "linear"}},
            r"model is lstm_autoencoder in the bundle, linear in the configuration",
        ),
        (
            {"training_settings": {"preset": "original"}},
            r"preset is improved in the bundle, original in the configuration",
        ),
        (
            {"training_settings": {"scoring": "mse"}},
            r"scoring is normalised in the bundle, mse in the configuration",
        ),
        (
            {"real_time_anomaly_detection": {"anomaly_threshold_mse": 0.5}},
            r"scoring is normalised in the bundle, mse in the configuration",
        ),
    ]


@pytest.mark.parametrize(("sections", "message"), misfits())
def test_a_bundle_that_does_not_fit_is_refused_naming_both_values(worked, sections, message):
    config = config_for(worked.config.artifacts_dir, **sections)
    with pytest.raises(BundleError, match=rf"^bundle {worked.bundle.id} does not fit .*{message}"):
        check_fits(worked.bundle, config)


def test_a_bundle_fits_the_configuration_that_it_was_trained_with(worked):
    check_fits(worked.bundle, worked.config)
    check_fits(open_bundle(worked.bundle.directory), worked.config)
