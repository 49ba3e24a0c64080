"""A network from elsewhere contains its own numbers, and reads none from anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from promad.errors import BundleError
from promad.models.onnx_session import CODE_FREE_FILE, load_session

SIZE = 4


def write_network(directory: Path, location: str) -> Path:
    """A network whose weights are at `location`; in the file itself if that is empty."""
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[SIZE, SIZE])
    if location:
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=location)
        weights.external_data.add(key="length", value=str(4 * SIZE * SIZE))
    else:
        weights.float_data.extend([1.0] * SIZE * SIZE)
    window, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, SIZE])
        for name in ("window", "out")
    )
    node = helper.make_node("MatMul", ["window", "weights"], ["out"])
    graph = helper.make_graph([node], "network", [window], [out], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = directory / CODE_FREE_FILE
    path.write_bytes(model.SerializeToString())
    return path


def test_a_network_with_its_own_numbers_is_loaded(tmp_path):
    assert load_session(write_network(tmp_path, "")).get_outputs()[0].name == "out"


@pytest.mark.parametrize(
    "location", ["secret", "./secret", "../secret", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"]
)
def test_a_network_that_refers_to_other_data_is_refused(tmp_path, monkeypatch, location):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(b"hush" * SIZE * SIZE)
    path = write_network(tmp_path, location)
    with pytest.raises(BundleError, match=r"refers to data outside of the file\) — train again"):
        load_session(path)
