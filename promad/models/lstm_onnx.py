"""An LSTM autoencoder's weights as an ONNX graph: data without code, run without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Sequence[NDArray[np.float32]]

_OPSET, _IR_VERSION = 17, 9
_LAYERS = ("encoder1", "encoder2", "decoder1", "decoder2")
_KERAS_GATES = {"input": 0, "forget": 1, "cell": 2, "output": 3}
_ONNX_ORDER = ("input", "output", "forget", "cell")


def to_onnx(weights: Weights, length: int, features: int) -> bytes:
    """The graph `window` (batch, length, width) → `drawn` (batch, length, features), serialised.

    Args:
        weights: Keras's order: kernel (inputs, 4 * units), recurrent kernel (units, 4 * units) and
            bias (4 * units,) of the four LSTM layers, then the dense layer's kernel and bias.
    """
    initializers = [_tensor("repeat", np.array([length, 1, 1], np.int64))]
    nodes = [helper.make_node("Transpose", ["window"], ["encoder1_in"], perm=[1, 0, 2])]
    for index, layer in enumerate(_LAYERS):
        initializers += _lstm_tensors(layer, weights[3 * index : 3 * index + 3])
        nodes += _lstm_nodes(layer, _follower(index), weights[3 * index + 1].shape[0])
    initializers += [_tensor("dense_kernel", weights[12]), _tensor("dense_bias", weights[13])]
    nodes += [
        helper.make_node("MatMul", ["dense_in", "dense_kernel"], ["dense_product"]),
        helper.make_node("Add", ["dense_product", "dense_bias"], ["dense_out"]),
        helper.make_node("Transpose", ["dense_out"], ["drawn"], perm=[1, 0, 2]),
    ]
    width = int(weights[0].shape[0])
    return bytes(_model(nodes, initializers, length, width, features).SerializeToString())


def _follower(index: int) -> str:
    return _LAYERS[index + 1] if index + 1 < len(_LAYERS) else "dense"


def _lstm_nodes(layer: str, follower: str, units: int) -> list[onnx.NodeProto]:
    """One LSTM layer; only encoder2 hands on its last state, repeated, the others every state."""
    last_only = layer == "encoder2"
    outputs = ["", f"{layer}_last"] if last_only else [f"{layer}_all"]
    lstm = helper.make_node(
        "LSTM",
        [f"{layer}_in", f"{layer}_w", f"{layer}_r", f"{layer}_b"],
        outputs,
        hidden_size=units,
    )
    if last_only:
        onward = helper.make_node("Expand", [outputs[1], "repeat"], [f"{follower}_in"])
    else:
        onward = helper.make_node("Squeeze", [outputs[0], "direction"], [f"{follower}_in"])
    return [lstm, onward]


def _lstm_tensors(layer: str, weights: Weights) -> list[onnx.TensorProto]:
    kernel, recurrent, bias = weights
    input_bias = _reordered(bias[:, np.newaxis])
    both_biases = np.concatenate([input_bias, np.zeros_like(input_bias)])
    return [
        _tensor(f"{layer}_w", _reordered(kernel.T)[np.newaxis]),
        _tensor(f"{layer}_r", _reordered(recurrent.T)[np.newaxis]),
        _tensor(f"{layer}_b", both_biases.reshape(1, -1)),
    ]


def _reordered(gates_first: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (4 * units, ...) from Keras's gate order to ONNX's."""
    gates = np.split(gates_first, 4)
    return np.concatenate([gates[_KERAS_GATES[gate]] for gate in _ONNX_ORDER])


def _tensor(name: str, array: NDArray[np.generic]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def _model(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto],
    length: int,
    width: int,
    features: int,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "lstm_autoencoder",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", length, width])],
        [helper.make_tensor_value_info("drawn", TensorProto.FLOAT, ["batch", length, features])],
        [*initializers, _tensor("direction", np.array([1], np.int64))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR_VERSION
    return model
