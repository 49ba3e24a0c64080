"""Running a network's code-free form in ONNX Runtime, without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.files import read_plain
from promad.models.loading import LARGEST_FILE, refuse_unreadable

CODE_FREE_FILE = "model.onnx"

_BATCH = 256
_OUTSIDE = b"location"
"""How a tensor names the file, or the address, that has its values; no network of promad does."""


def open_session(onnx_bytes: bytes) -> Any:
    """An ONNX Runtime session on one thread."""
    onnxruntime = _import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])


def _import_runtime() -> Any:
    """ONNX Runtime without its telemetry, which the first import would start.

    From 1.29 on it writes an identifier of the device to the home directory, and sends events to
    its vendor.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def load_session(path: Path) -> Any:
    """The session of a file in a bundle.

    Raises:
        BundleError: if the file is no such model.
    """
    with refuse_unreadable(path), _refuse_by_name():
        content = read_plain(path, LARGEST_FILE)
        if _OUTSIDE in content:
            raise ValueError("refers to data outside of the file")
        return open_session(content)


@contextmanager
def _refuse_by_name() -> Iterator[None]:
    """Make a ValueError of any of ONNX Runtime's errors, which have no class in common."""
    refusal = _import_runtime().capi.onnxruntime_pybind11_state

    try:
        yield
    except (
        refusal.EPFail,
        refusal.Fail,
        refusal.InvalidArgument,
        refusal.InvalidGraph,
        refusal.InvalidProtobuf,
        refusal.NoModel,
        refusal.NoSuchFile,
        refusal.NotImplemented,
        refusal.RuntimeException,
    ) as error:
        raise ValueError(str(error)) from error


def run_in_batches(session: Any, windows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Every output of the session for all windows, float32 (windows, ...), in its own order.

    Outputs are known by their order alone: their names changed between versions of promad.

    Raises:
        ValueError: if the network does not take such windows.
    """
    if len(windows) == 0:
        shapes = [output.shape[1:] for output in session.get_outputs()]
        return [np.empty((0, *shape), np.float32) for shape in shapes]
    with _refuse_by_name():
        parts = [
            session.run(None, {"window": windows[first : first + _BATCH]})
            for first in range(0, len(windows), _BATCH)
        ]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
