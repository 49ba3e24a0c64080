"""A bundle is what its manifest says, becomes current in one step, and fits the configuration."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import structlog

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
    assert (manifest.format, manifest.preset, manifest.scoring) == (2, "residual", "normalised")
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


def test_what_is_loaded_scores_as_what_was_trained(sketched):
    detector = load_detector(sketched.bundle)
    assert detector.threshold == sketched.training.threshold
    assert detector.length == 8
    scaled = detector.preparation.scale(frame_of(sketched.values))
    windows = detector.preparation.windows([scaled], 8)
    errors = detector.model.apply(windows.take(np.arange(len(windows)))).errors
    of_training = np.arange(len(windows)) < sketched.training.training_windows
    of_validation = np.arange(len(windows)) >= len(windows) - sketched.training.validation_windows
    seen = of_training | of_validation  # and not the windows between the two
    scoring = detector.scoring
    smoothed = naive_scoring.moving_average(
        errors[seen] / scoring.normaliser,
        (windows.starts + 7)[seen],
        scoring.span,
        scoring.memory,
    )
    share, compression = scoring.required_share, scoring.compression
    scores = np.array(
        [naive_scoring.score(list(row), 1, None, share, compression) for row in smoothed]
    )
    quantiles = sketched.bundle.manifest.figures["validation_score_quantiles"]
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
    assert not list(store.root.glob(".partial-*"))


def test_a_training_under_way_keeps_its_folder(sketched, store):
    with store.writing() as directory:
        retrain(sketched)
        assert directory.is_dir()


def test_what_dead_processes_left_is_removed_and_what_live_ones_write_is_not(sketched, store):
    folder = sketched.config.artifacts_dir
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    dead = [
        folder / f".normal_sequences.npy.{process.pid}.partial",
        store.root / f".current.{process.pid}",
    ]
    alive = [folder / ".normal_sequences.npy.1.partial", store.root / ".current.1"]
    for path in [*dead, *alive]:
        path.write_text("half")
    retrain(sketched)
    assert [path.exists() for path in [*dead, *alive]] == [False, False, True, True]


# What is in a bundle is known, plain, bounded and finite.


def forge(store, change):
    """The current bundle after `change(directory)`, with digests and a name that fit again."""
    directory = store.root / store.current_id()
    change(directory)
    return seal(store, directory, lambda manifest: None, digests=True)


def forge_manifest(store, change):
    """The current bundle after `change(manifest)`, with a name that fits again."""
    return seal(store, store.root / store.current_id(), change, digests=False)


def seal(store, directory, change, *, digests):
    manifest = json.loads((directory / "manifest.json").read_text())
    for name in manifest["files"] if digests else ():
        content = (directory / name).read_bytes()
        manifest["files"][name] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
    change(manifest)
    content = json.dumps(manifest).encode()
    (directory / "manifest.json").write_bytes(content)
    name = f"20250715T150700Z-{hashlib.sha256(content).hexdigest()[:8]}"
    directory.rename(store.root / name)
    (store.root / "current").unlink()
    (store.root / "current").symlink_to(name)
    return store.root / name


def test_a_manifest_without_files_switches_no_check_off(store):
    forge_manifest(store, lambda manifest: manifest.update(files={}))
    with pytest.raises(
        BundleError,
        match=r"manifest.json: does not list preparation.json, scoring.json, stub.txt, threshold",
    ):
        store.open_current()


@pytest.mark.parametrize("left", ["preparation.json", "scoring.json", "threshold.json", "stub.txt"])
def test_each_file_that_is_loaded_must_be_listed(store, left):
    forge_manifest(store, lambda manifest: manifest["files"].pop(left))
    with pytest.raises(BundleError, match=rf"manifest.json: does not list {left}"):
        store.open_current()


@pytest.mark.parametrize(
    "name",
    ["../../secret", "/etc/passwd", "a/../b", "./c", "folder/file", "..", "", "a\\b", "a\nb"],
)
def test_a_name_that_is_no_file_of_a_bundle_is_refused(store, name):
    def list_it(manifest):
        manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
        del manifest["files"]["fitted_scaler.joblib"]

    forge_manifest(store, list_it)
    with pytest.raises(BundleError, match=r"manifest.json: lists '.*', which is no file of a"):
        store.open_current()


def test_one_file_more_than_there_can_be_is_refused(store):
    entry = {"sha256": "0" * 64, "bytes": 1}
    forge_manifest(store, lambda manifest: manifest["files"].update({"run.sh": entry}))
    with pytest.raises(BundleError, match=r"lists 'run.sh', which is no file of a bundle"):
        store.open_current()


def test_files_that_are_not_listed_are_named_once_and_not_read(store):
    directory = store.open_current().directory
    for name in (".DS_Store", "Thumbs.db", "threshold.json~"):
        (directory / name).write_bytes(b"\0")
        (directory / name).chmod(0)
    with structlog.testing.capture_logs() as logged:
        assert store.open_current().unlisted == (".DS_Store", "Thumbs.db", "threshold.json~")
    assert logged == [
        {
            "event": "ignored files that the manifest does not list",
            "log_level": "warning",
            "bundle": str(directory),
            "files": ".DS_Store, Thumbs.db, threshold.json~",
        }
    ]


def test_an_unlisted_file_that_would_be_read_as_the_model_is_refused(store):
    """A network is listed; nothing has checked the linear model beside it."""
    path = store.open_current().directory / "linear.npz"
    path.write_bytes(b"\0")
    with pytest.raises(BundleError, match=r"linear\.npz: is not listed in manifest\.json — remove"):
        store.open_current()
    path.unlink()
    assert store.open_current().unlisted == ()


def test_an_unlisted_file_takes_no_place_of_a_listed_one(store):
    path = store.open_current().directory / "threshold.json"
    path.rename(path.with_name("threshold.json~"))
    with pytest.raises(BundleError, match=r"/threshold.json: is missing"):
        store.open_current()


@pytest.mark.parametrize(
    "make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("threshold.json")]
)
def test_what_is_not_listed_and_no_regular_file_is_refused(store, make):
    make(store.open_current().directory / "linear")
    with pytest.raises(BundleError, match=r"/linear: is not listed in manifest.json"):
        store.open_current()


NOT_PLAIN = {
    "a symbolic link": lambda path: path.symlink_to("manifest.json"),
    "a symbolic link ": lambda path: path.symlink_to("/dev/zero"),
    "a FIFO": os.mkfifo,
    "a directory": os.mkdir,
}


@pytest.mark.parametrize("what", list(NOT_PLAIN))
@pytest.mark.parametrize("name", ["threshold.json", "stub.txt", "fitted_scaler.joblib"])
def test_what_is_no_plain_file_is_refused_without_opening_it(store, name, what):
    path = store.open_current().directory / name
    path.unlink()
    NOT_PLAIN[what](path)
    with pytest.raises(
        BundleError, match=rf"/{name}: is missing or not a regular file: {what.strip()}"
    ):
        store.open_current()


@pytest.mark.parametrize("what", list(NOT_PLAIN))
def test_a_manifest_that_is_no_plain_file_is_refused_without_opening_it(store, what):
    path = store.open_current().directory / "manifest.json"
    path.unlink()
    NOT_PLAIN[what](path)
    with pytest.raises(
        BundleError, match=rf"manifest.json: cannot be read \(not a .*{what.strip()}"
    ):
        store.open_current()


@pytest.mark.parametrize("name", ["threshold.json", "stub.txt", "manifest.json"])
def test_a_file_of_gigabytes_is_refused_without_reading_it(store, name):
    path = store.open_current().directory / name
    os.truncate(path, 1 << 40)
    with pytest.raises(BundleError, match=rf"/{name}: .*1,099,511,627,776 bytes; at most"):
        store.open_current()


def rewrite(name, place, value):
    """A change that puts a value, as JSON text, into a file of the bundle."""

    def change(directory):
        content = json.loads((directory / name).read_text())
        *above, last = place
        target = content
        for key in above:
            target = target[key]
        target[last] = "HERE"
        (directory / name).write_text(json.dumps(content).replace('"HERE"', value))

    return change


@pytest.mark.parametrize("value", ["Infinity", "1e999", "NaN", "-1.0", "0.0", "null", '"x"', "[]"])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("scoring.json", ("normaliser", 0)),
        ("scoring.json", ("baseline", 0)),
        ("scoring.json", ("required_share",)),
        ("preparation.json", ("scaler", "scale", 0)),
        ("preparation.json", ("step_seconds",)),
        ("threshold.json", ("value",)),
    ],
)
def test_a_number_that_is_not_finite_or_out_of_range_is_refused(store, name, place, value):
    forge(store, rewrite(name, place, value))
    with pytest.raises(BundleError, match=r"^[^\n]*: invalid content \([^\n]*train again[^\n]*$"):
        load_detector(store.open_current())


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("scoring.json", ("normaliser",), "[1.0]"),
        ("scoring.json", ("baseline",), "[1.0]"),
        ("scoring.json", ("span_samples",), "0"),
        ("scoring.json", ("members",), "2"),
        ("scoring.json", ("top_k",), "-1"),
        ("scoring.json", ("method",), '"guess"'),
        ("preparation.json", ("features",), '["a", "b", "c"]'),
        ("preparation.json", ("substitutes",), "[1.0]"),
        ("preparation.json", ("substitutes", 0), "Infinity"),
        ("preparation.json", ("scaler", "center", 0), "-Infinity"),
        ("preparation.json", ("scored",), "4"),
        ("preparation.json", ("max_fill_steps",), "-1"),
        ("preparation.json", ("time_zone",), '"Atlantis"'),
        ("preparation.json", ("time_features",), '["phase_of_the_moon"]'),
        ("threshold.json", ("method",), '"guess"'),
        ("threshold.json", ("expected_false_alarms_per_week",), '"few"'),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(store, name, place, value):
    forge(store, rewrite(name, place, value))
    with pytest.raises(BundleError, match=r"^[^\n]*: invalid content \([^\n]*train again[^\n]*$"):
        load_detector(store.open_current())


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "[]", "7", "\udcff", '{"a": 1}'])
@pytest.mark.parametrize("name", ["preparation.json", "scoring.json", "threshold.json"])
def test_a_file_of_anything_else_is_one_line(store, name, content):
    forge(
        store, lambda directory: (directory / name).write_bytes(content.encode("utf-8", "replace"))
    )
    with pytest.raises(BundleError, match=r"^[^\n]*: invalid content \([^\n]*train again[^\n]*$"):
        load_detector(store.open_current())


@pytest.mark.parametrize(
    "error", [ValueError("odd"), RecursionError(), MemoryError(), OverflowError(), IndexError("x")]
)
def test_any_error_of_a_damaged_file_is_a_bundle_error(store, monkeypatch, error):
    def fail(*_):
        raise error

    bundle = store.open_current()
    for target in (
        "promad.scoring.scoring.Scoring.from_json",
        "tests.support.stub_model.MeanOfWindow.apply",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, fail)
            with pytest.raises(BundleError, match=r"train again or roll back$"):
                load_detector(bundle)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("2 8", "does not reconstruct 3 features"),
        ("4 8", "does not reconstruct 3 features"),
        ("3 9", "looks at 9 samples; windows have 8"),
        ("3 0", "looks at 0 samples"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(store, shape, message):
    forge(store, lambda directory: (directory / "stub.txt").write_text(shape))
    with pytest.raises(BundleError, match=message):
        load_detector(store.open_current())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("created", "yesterday"),
        ("created", "2025-01-01"),
        ("step_seconds", -1.0),
        ("sequence_length", 10**12),
    ],
)
def test_a_manifest_out_of_range_is_refused(store, key, value):
    forge_manifest(store, lambda manifest: manifest.update({key: value}))
    with pytest.raises(BundleError, match=r"manifest.json: cannot be read \(1 validation error"):
        store.open_current()


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
            r"preset is residual in the bundle, original in the configuration",
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


@pytest.mark.parametrize(("preset", "fits"), [("auto", True), ("original", False)])
def test_a_bundle_of_the_default_before_goes_on_under_the_default(sketched, preset, fits):
    bundle = replace(
        sketched.bundle, manifest=sketched.bundle.manifest.model_copy(update={"preset": "improved"})
    )
    scoring = {"method": "normalised"}
    config = config_for(
        sketched.config.artifacts_dir, training_settings={"preset": preset, "scoring": scoring}
    )
    if fits:
        check_fits(bundle, config)
    else:
        with pytest.raises(BundleError, match="preset is improved in the bundle, original in"):
            check_fits(bundle, config)


def test_a_bundle_fits_the_configuration_that_it_was_trained_with(worked):
    check_fits(worked.bundle, worked.config)
    check_fits(open_bundle(worked.bundle.directory), worked.config)
