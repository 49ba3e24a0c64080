"""Weights of LSTM networks as ONNX graphs: data without code, run without TensorFlow.

Every graph takes `window` (batch, length, width). Weights are given in Keras's order: for an LSTM
layer kernel (inputs, 4 * units), recurrent kernel (units, 4 * units) and bias (4 * units,), for a
dense layer kernel (inputs, outputs) and bias (outputs,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Sequence[NDArray[np.float32]]

_OPSET, _IR_VERSION = 17, 9
_KERAS_GATES = {"input": 0, "forget": 1, "cell": 2, "output": 3}
_ONNX_ORDER = ("input", "output", "forget", "cell")


@dataclass(frozen=True)
class Graph:
    """A graph that grows node by node; within it time comes first: (length, batch, width)."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operation: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def lstm(self, name: str, source: str, weights: Weights, last_only: bool = False) -> str:
        """An LSTM layer: every state (length, batch, units), or the last (1, batch, units)."""
        kernel, recurrent, bias = weights
        given = [
            source,
            self.constant(f"{name}_w", _reordered(kernel.T)[np.newaxis]),
            self.constant(f"{name}_r", _reordered(recurrent.T)[np.newaxis]),
            self.constant(f"{name}_b", _with_recurrent_bias(bias)),
        ]
        outputs = ["", f"{name}_last"] if last_only else [f"{name}_all"]
        self.nodes.append(helper.make_node("LSTM", given, outputs, hidden_size=len(recurrent)))
        if last_only:
            return outputs[1]
        direction = self.constant(f"{name}_direction", np.array([1], np.int64))
        return self.add("Squeeze", [outputs[0], direction], f"{name}_states")

    def dense(self, name: str, source: str, weights: Weights) -> str:
        """A dense layer over the last axis."""
        kernel, bias = (
            self.constant(f"{name}_{part}", array)
            for part, array in zip(("kernel", "bias"), weights, strict=True)
        )
        product = self.add("MatMul", [source, kernel], f"{name}_product")
        return self.add("Add", [product, bias], f"{name}_sum")

    def time_first(self, source: str, output: str) -> str:
        """The first two axes exchanged; the way back is the same."""
        return self.add("Transpose", [source], output, perm=[1, 0, 2])

    def repeated(self, name: str, source: str, length: int) -> str:
        """(1, batch, units) to (length, batch, units)."""
        times = self.constant(f"{name}_times", np.array([length, 1, 1], np.int64))
        return self.add("Expand", [source, times], name)

    def clip(self, name: str, source: str, largest: float) -> str:
        """The values held within `largest` of 0."""
        bounds = [
            self.constant(f"{name}_{end}", np.array(value, np.float32))
            for end, value in (("lowest", -largest), ("highest", largest))
        ]
        return self.add("Clip", [source, *bounds], name)

    def columns(self, name: str, source: str, first: int, end: int) -> str:
        """Some of the last axis' columns."""
        bounds = [
            self.constant(f"{name}_{part}", np.array([value], np.int64))
            for part, value in (("first", first), ("end", end), ("axis", 2))
        ]
        return self.add("Slice", [source, *bounds], name)

    def serialised(self, name: str, window: Sequence[int], drawn: Sequence[int]) -> bytes:
        """The finished model; the shapes of its input and output `drawn`, without the batch."""
        graph = helper.make_graph(
            self.nodes, name, [_value("window", window)], [_value("drawn", drawn)], self.tensors
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = _IR_VERSION
        return bytes(model.SerializeToString())


def original_autoencoder_to_onnx(weights: Weights, length: int, features: int) -> bytes:
    """Four LSTM layers and a dense one → `drawn` (batch, length, features).

    The second layer hands on its last state, repeated; the others hand on every state.
    """
    graph = Graph()
    state = graph.time_first("window", "time_first")
    state = graph.lstm("encoder1", state, weights[0:3])
    state = graph.lstm("encoder2", state, weights[3:6], last_only=True)
    state = graph.repeated("repeated", state, length)
    state = graph.lstm("decoder1", state, weights[6:9])
    state = graph.lstm("decoder2", state, weights[9:12])
    graph.time_first(graph.dense("dense", state, weights[12:14]), "drawn")
    width = int(weights[0].shape[0])
    return graph.serialised("lstm_autoencoder", (length, width), (length, features))


def improved_autoencoder_to_onnx(
    weights: Weights, length: int, features: int, largest: float
) -> bytes:
    """LSTM layer, dense layer, LSTM layer, dense layer → `drawn` (batch, length, features).

    The first dense layer's output is repeated, and joined by the condition columns if there are
    any.

    Args:
        largest: inputs are clipped to this distance from 0.
    """
    graph, width = Graph(), int(weights[0].shape[0])
    read = graph.clip("clipped", graph.time_first("window", "time_first"), largest)
    state = graph.lstm("encoder", read, weights[0:3], last_only=True)
    state = graph.repeated("repeated", graph.dense("latent", state, weights[3:5]), length)
    if width > features:
        conditions = graph.columns("conditions", read, features, width)
        state = graph.add("Concat", [state, conditions], "conditioned", axis=2)
    state = graph.lstm("decoder", state, weights[5:8])
    graph.time_first(graph.dense("dense", state, weights[8:10]), "drawn")
    return graph.serialised("lstm_autoencoder", (length, width), (length, features))


def forecaster_to_onnx(weights: Weights, length: int, features: int) -> bytes:
    """Stacked LSTM layers and a dense one → `drawn` (batch, features), the forecast of one step.

    Args:
        length: samples that the forecast is made from.
        features: the dense layer's first outputs; those of further horizons are left out.
    """
    graph = Graph()
    layers = (len(weights) - 2) // 3
    source = graph.time_first("window", "time_first")
    for layer in range(layers):
        own = weights[3 * layer : 3 * layer + 3]
        source = graph.lstm(f"lstm{layer + 1}", source, own, last_only=layer == layers - 1)
    time = graph.constant("time", np.array([0], np.int64))
    source = graph.add("Squeeze", [source, time], "last")
    kernel, bias = weights[-2:]
    forecast = graph.dense("dense", source, [kernel[:, :features], bias[:features]])
    graph.add("Identity", [forecast], "drawn")
    width = int(weights[0].shape[0])
    return graph.serialised("lstm_forecaster", (length, width), (features,))


def _reordered(gates_first: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (4 * units, ...) from Keras's gate order to ONNX's."""
    gates = np.split(gates_first, 4)
    return np.concatenate([gates[_KERAS_GATES[gate]] for gate in _ONNX_ORDER])


def _with_recurrent_bias(bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keras's one bias (4 * units,) as ONNX's two (1, 8 * units), the second nothing."""
    reordered = _reordered(bias[:, np.newaxis])
    return np.concatenate([reordered, np.zeros_like(reordered)]).reshape(1, -1)


def _value(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
