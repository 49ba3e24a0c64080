"""Weights of LSTM networks as ONNX graphs.

Weights are given in Keras's order: for an LSTM layer kernel (inputs, 4 * units), recurrent kernel
(units, 4 * units) and bias (4 * units,), for a dense layer kernel and bias. Within a graph time
comes first: (length, batch, columns).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from promad.models.onnx_graph import Graph, Weights

_KERAS_GATES = {"input": 0, "forget": 1, "cell": 2, "output": 3}
_ONNX_ORDER = ("input", "output", "forget", "cell")


def original_autoencoder_to_onnx(weights: Weights, length: int, features: int) -> bytes:
    """Four LSTM layers and a dense one → `reconstruction` (batch, length, features).

    The second layer hands on its last state, repeated; the others hand on every state.
    """
    graph, width = Graph(), int(weights[0].shape[0])
    state = _add_lstm(graph, _swap_time_and_batch(graph, "window"), weights[0:3])
    state = _add_lstm(graph, state, weights[3:6], last_only=True)
    state = _add_lstm(graph, _repeat(graph, state, length), weights[6:9])
    state = _add_lstm(graph, state, weights[9:12])
    return _serialise_autoencoder(graph, state, weights[12:14], (length, width, features))


def improved_autoencoder_to_onnx(
    weights: Weights,
    length: int,
    features: int,
    largest: float,
    shown: NDArray[np.float32] | None = None,
) -> bytes:
    """LSTM, dense, LSTM and dense layer → `reconstruction` (batch, length, features).

    The first dense layer's output is repeated, and joined by the condition columns if there are
    any.

    Args:
        largest: inputs are clipped to this distance from 0.
        shown: what a window's clipped values are multiplied by, (length, width): 0 hides one.
    """
    graph, width = Graph(), int(weights[0].shape[0])
    read = graph.add_clip(_swap_time_and_batch(graph, "window"), -largest, largest)
    if shown is not None:
        read = graph.add("Mul", read, graph.add_constant(shown[:, np.newaxis]))
    state = _add_lstm(graph, read, weights[0:3], last_only=True)
    state = _repeat(graph, graph.add_dense(state, *graph.add_constants(weights[3:5])), length)
    if width > features:
        conditions = graph.add_slice(read, 2, features, width)
        state = graph.add("Concat", state, conditions, axis=2)
    state = _add_lstm(graph, state, weights[5:8])
    return _serialise_autoencoder(graph, state, weights[8:10], (length, width, features))


def forecaster_to_onnx(weights: Weights, length: int, features: int) -> bytes:
    """Stacked LSTM layers and a dense one → `forecast` (batch, features), that of one step.

    Args:
        length: samples that the forecast is made from.
        features: the dense layer's first outputs; those of further horizons are left out.
    """
    graph, width = Graph(), int(weights[0].shape[0])
    layers = (len(weights) - 2) // 3
    state = _swap_time_and_batch(graph, "window")
    for layer in range(layers):
        own = weights[3 * layer : 3 * layer + 3]
        state = _add_lstm(graph, state, own, last_only=layer == layers - 1)
    last = graph.add("Squeeze", state, graph.add_constant([0]))
    kernel, bias = weights[-2:]
    forecast = graph.add_dense(last, *graph.add_constants([kernel[:, :features], bias[:features]]))
    graph.add("Identity", forecast, output="forecast")
    return graph.serialise("lstm_forecaster", (length, width), {"forecast": (features,)}, {})


def _serialise_autoencoder(
    graph: Graph, state: str, dense: Weights, shape: tuple[int, int, int]
) -> bytes:
    """The graph with its dense layer; `shape` is length, width and features."""
    length, width, features = shape
    rows = graph.add_dense(state, *graph.add_constants(dense))
    _swap_time_and_batch(graph, rows, "reconstruction")
    outputs = {"reconstruction": (length, features)}
    return graph.serialise("lstm_autoencoder", (length, width), outputs, {})


def _swap_time_and_batch(graph: Graph, value: str, output: str = "") -> str:
    return graph.add("Transpose", value, output=output, perm=[1, 0, 2])


def _repeat(graph: Graph, value: str, length: int) -> str:
    """(1, batch, units) to (length, batch, units)."""
    return graph.add("Expand", value, graph.add_constant([length, 1, 1]))


def _add_lstm(graph: Graph, value: str, weights: Weights, last_only: bool = False) -> str:
    """An LSTM layer: every state (length, batch, units), or the last (1, batch, units)."""
    kernel, recurrent, bias = weights
    given = graph.add_constants(
        [
            _reorder_gates(kernel.T)[np.newaxis],
            _reorder_gates(recurrent.T)[np.newaxis],
            _split_bias(bias),
        ]
    )
    states = graph.add("LSTM", value, *given, skip=int(last_only), hidden_size=len(recurrent))
    return states if last_only else graph.add("Squeeze", states, graph.add_constant([1]))


def _reorder_gates(gates_first: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (4 * units, ...) from Keras's gate order to ONNX's."""
    gates = np.split(gates_first, 4)
    return np.concatenate([gates[_KERAS_GATES[gate]] for gate in _ONNX_ORDER])


def _split_bias(bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keras's one bias (4 * units,) as ONNX's two (1, 8 * units), the second all 0."""
    reordered = _reorder_gates(bias[:, np.newaxis])
    return np.concatenate([reordered, np.zeros_like(reordered)]).reshape(1, -1)
