"""ONNX graphs, built node by node: networks as data without code, run without TensorFlow.

Keras's own export (`model.export(path, format="onnx")`, by way of tf2onnx) is not used: an LSTM
layer that is traced on a GPU becomes a cuDNN operation, which tf2onnx cannot convert, tensors held
by the network become required inputs, an export takes 1 to 4 s, and its LSTM graphs load 2 to 6
times as slowly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Sequence[NDArray[np.float32]]
"""Arrays in Keras's order: of a dense layer kernel (inputs, outputs) and bias (outputs,)."""

_OPSET, _IR_VERSION = 17, 9


class Graph:
    """A graph of one input, `window`, that grows; each method returns the names of its results."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add_constant(self, array: Any) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def add_constants(self, arrays: Iterable[Any]) -> list[str]:
        return [self.add_constant(array) for array in arrays]

    def add(
        self, operation: str, *inputs: str, output: str = "", skip: int = 0, **attributes: Any
    ) -> str:
        """A node of which one result is used.

        Args:
            output: the result's name, if it is an output of the graph.
            skip: how many of the operation's results come before it.
        """
        name = output or f"value{len(self._nodes)}"
        results = [*[""] * skip, name]
        self._nodes.append(helper.make_node(operation, inputs, results, **attributes))
        return name

    def add_several(
        self, operation: str, results: int, *inputs: str, **attributes: Any
    ) -> list[str]:
        """A node of several results."""
        names = [f"value{len(self._nodes)}_{index}" for index in range(results)]
        self._nodes.append(helper.make_node(operation, inputs, names, **attributes))
        return names

    def add_dense(self, value: str, kernel: str, bias: str) -> str:
        """A dense layer over the last axis."""
        return self.add("Add", self.add("MatMul", value, kernel), bias)

    def add_clip(self, value: str, lowest: float, highest: float) -> str:
        bounds = self.add_constants([np.float32(lowest), np.float32(highest)])
        return self.add("Clip", value, *bounds)

    def add_slice(self, value: str, axis: int, first: int, end: int) -> str:
        """From `first` to before `end` along an axis."""
        return self.add("Slice", value, *self.add_constants([[first], [end], [axis]]))

    def serialise(
        self,
        name: str,
        window: Sequence[int],
        outputs: Mapping[str, Sequence[int]],
        properties: Mapping[str, str],
    ) -> bytes:
        """The finished model, float32 in and out.

        Args:
            window: the input's shape without the batch.
            outputs: the shape of each output without the batch, by its name.
            properties: text that is kept beside the graph.
        """
        inputs = [_describe("window", window)]
        results = [_describe(output, shape) for output, shape in outputs.items()]
        graph = helper.make_graph(self._nodes, name, inputs, results, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = _IR_VERSION
        helper.set_model_props(model, dict(properties))
        return bytes(model.SerializeToString())


def _describe(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
