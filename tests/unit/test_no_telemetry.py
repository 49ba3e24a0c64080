"""ONNX Runtime sends nothing to its vendor, and leaves no identifier of the device behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).parents[2]

PLAIN = """
import sys, onnxruntime
onnxruntime.InferenceSession(sys.argv[1])
"""
OURS = """
import sys
from pathlib import Path
from promad.models.onnx_session import load_session
load_session(Path(sys.argv[1]))
"""
OURS_FROM_BYTES = """
import sys
from pathlib import Path
from promad.models.onnx_session import open_session
open_session(Path(sys.argv[1]).read_bytes())
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that returns its input."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", *zip(ends))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path: Path = tmp_path_factory.mktemp("network") / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def list_what_is_left(code: str, network: Path, home: Path) -> list[str]:
    """What a process leaves in its home directory; it is no test as far as it can tell."""
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, network],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return sorted(path.name for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("code", [OURS, OURS_FROM_BYTES], ids=["file", "bytes"])
def test_nothing_is_written_to_the_home_directory(code, network, tmp_path):
    assert list_what_is_left(code, network, tmp_path / "home") == []


def test_without_our_setting_there_would_be_an_identifier(network, tmp_path):
    """If not, ONNX Runtime has changed, and the test above shows nothing."""
    assert "deviceid" in list_what_is_left(PLAIN, network, tmp_path / "home")
