"""Networks that are trained by Keras on JAX: the same bundles, and the same outputs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from promad.cli.extras import require_training
from promad.errors import PromadError

ROOT = Path(__file__).parents[2]

CODE = """
import json, sys
from pathlib import Path
import numpy as np
from promad.config import TrainingSettings
from promad.data.frame import single_group
from promad.data.windows import build_windows, split_at
from promad.models import find_model
model, directory = sys.argv[1], Path(sys.argv[2])
times = np.arange(300)[:, np.newaxis]
values = np.sin(times / [5.0, 9.0]) + 0.1 * np.random.default_rng(1).normal(size=(300, 2))
frame = single_group(0.0, 15.0, ["a", "b"], values)
split = split_at(build_windows([frame], 0, 6), float(frame.times[240]), 15.0)
settings = TrainingSettings.model_validate({"model": model, "sequence_length": 6, "epochs": 3})
losses = []
trained = find_model(model).fit(split, 2, settings, 1, lambda *epoch: losses.append(epoch[3]))
trained.save(directory, "native.keras")
loaded = find_model(model).load(directory)
windows = split.validation.take(np.arange(len(split.validation)))
ours, theirs = (each.apply(windows).expected for each in (trained.model, loaded))
assert np.array_equal(ours, theirs), "the saved model differs"
if model == "lstm_forecaster":
    again = find_model(model).fit(split, 2, settings, 1, lambda *epoch: None)
    assert np.array_equal(again.model.apply(windows).expected, ours), "the seed does not decide"
files = sorted(path.name for path in directory.iterdir())
print(json.dumps([sorted(trained.versions), losses, files]))
"""


@pytest.mark.slow  # JAX compiles each network
@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.parametrize("model", ["lstm_autoencoder", "tranad", "lstm_forecaster"])
def test_a_network_learns_and_its_two_forms_agree(model, tmp_path) -> None:
    """`fit` itself refuses a network whose ONNX form differs by more than 1e-5."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, model, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    versions, losses, files = json.loads(done.stdout.splitlines()[-1])
    assert {"jax", "keras", "onnx"} <= set(versions)
    assert "tensorflow" not in versions
    assert len(losses) == 3
    assert all(map(math.isfinite, losses))
    if model == "lstm_forecaster":
        assert losses[-1] < losses[0]
    assert {"native.keras", "model.onnx"} <= set(files)


def test_another_backend_of_keras_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(PromadError, match="KERAS_BACKEND is torch; promad trains with tensorflow"):
        require_training("train", ["tranad"])
    require_training("train", ["linear"])


def test_jax_that_is_not_installed_names_its_extra(monkeypatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("promad.cli.extras.find_spec", lambda module: None)
    with pytest.raises(PromadError, match=r"JAX, ONNX .* pip install 'promad-exporter\[jax\]'"):
        require_training("train", ["tranad"])
