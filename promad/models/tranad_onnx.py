"""A TranAD network's weights as an ONNX graph: data without code, run without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from promad.models.tranad import FACTS, Design, Measure, positional_encoding

Weights = Mapping[str, Sequence[NDArray[np.float32]]]
"""Kernel (inputs, outputs) and, but for `conditions`, bias (outputs,) of each dense layer, by its
name in `tranad_network`."""

_OPSET, _IR_VERSION = 17, 9


def to_onnx(
    weights: Weights, design: Design, measure: Measure, length: int, facts: Mapping[str, Any]
) -> bytes:
    """The graph `window` (batch, length, width) → `first`, `second` (batch, features), serialised.

    Windows are in outer units, the outputs in the model's own. `facts` are kept beside the graph
    as JSON.
    """
    graph = _Graph(design.rectified)
    for layer, arrays in weights.items():
        for part, array in zip(("kernel", "bias"), arrays, strict=False):
            graph.constant(array, f"{layer}_{part}")
    above = graph.node("Sub", "window", graph.constant(measure.low))
    ratio = graph.node("Div", above, graph.constant(measure.span))
    limits = [graph.constant(np.float32(limit)) for limit in design.limits]
    _phases(graph, graph.node("Clip", ratio, *limits), design, measure, length)
    return _serialised(graph, length, measure, facts)


class _Graph:
    """Nodes and constants as they are put down; methods return the names of what comes out."""

    def __init__(self, rectified: bool) -> None:
        self.rectified = rectified
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any, name: str = "") -> str:
        name = name or f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def several(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        names = [f"value{len(self.nodes)}_{index}" for index in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.several(kind, 1, *inputs, **attributes)[0]

    def dense(self, layer: str, value: str) -> str:
        product = self.node("MatMul", value, f"{layer}_kernel")
        return self.node("Add", product, f"{layer}_bias")

    def square(self, value: str) -> str:
        return self.node("Mul", value, value)

    def inserted(self, axis: int, value: str) -> str:
        return self.node("Unsqueeze", value, self.constant(np.array([axis])))

    def part(self, value: str, axis: int, first: int, end: int) -> str:
        """From `first` to before `end` along an axis."""
        return self.node(
            "Slice", value, *(self.constant(np.array([at])) for at in (first, end, axis))
        )

    def row(self, value: str, index: int) -> str:
        """One row of (batch, rows, columns): (batch, columns)."""
        return self.node("Gather", value, self.constant(np.array(index)), axis=1)


def _phases(graph: _Graph, rows: str, design: Design, measure: Measure, length: int) -> None:
    """The network from normalised rows (batch, length, width) on."""
    features, width = measure.features, measure.width
    seen = graph.part(graph.part(rows, 1, 0, length - 1), 2, 0, features)
    query = graph.node("Concat", *[graph.row(seen, length - 2)] * 2, axis=-1)
    offsets = graph.constant(positional_encoding(length - 1, 2 * features)[np.newaxis])
    if width > features:
        given = graph.part(rows, 2, features, width)
        conditions = graph.node("MatMul", given, "conditions_kernel")
        offsets = graph.node("Add", graph.part(conditions, 1, 0, length - 1), offsets)
        query = graph.node("Add", query, graph.row(conditions, length + design.judged))

    nothing = graph.node("Sub", seen, seen)
    memory = _encoded(graph, seen, nothing, offsets, features)
    first = _output(graph, _decoded(graph, "decoder1", query, memory), "first")
    focus = graph.square(graph.node("Sub", graph.inserted(1, first), seen))
    memory = _encoded(graph, seen, focus, offsets, features)
    _output(graph, _decoded(graph, "decoder2", query, memory), "second")


def _encoded(graph: _Graph, seen: str, focus: str, offsets: str, features: int) -> str:
    both = graph.node("Concat", seen, focus, axis=-1)
    rows = graph.node("Add", graph.node("Mul", both, graph.scalar(features**0.5)), offsets)
    planes = graph.several("Split", 6, graph.dense("encoder_heads", rows), axis=-1)
    queries = [graph.inserted(2, plane) for plane in planes[:2]]
    others = [graph.inserted(1, plane) for plane in planes[2:]]
    attended = graph.dense("encoder_attended", _attention(graph, queries, others, axis=2))
    return _fed(graph, "encoder", graph.node("Add", rows, attended))


def _decoded(graph: _Graph, name: str, query: str, memory: str) -> str:
    itself = graph.dense(f"{name}_itself", graph.dense(f"{name}_value", query))
    row = graph.node("Add", query, itself)
    planes = graph.several("Split", 2, graph.dense(f"{name}_query", row), axis=-1)
    queries = [graph.inserted(1, plane) for plane in planes]
    others = graph.several("Split", 4, graph.dense(f"{name}_memory", memory), axis=-1)
    attended = graph.dense(f"{name}_attended", _attention(graph, queries, others, axis=1))
    return _fed(graph, name, graph.node("Add", row, attended))


def _attention(graph: _Graph, queries: list[str], others: list[str], axis: int) -> str:
    """What each head takes from the rows of memory; `others` are two planes of keys, of values."""
    along = graph.constant(np.array([axis]))
    products = [graph.node("Mul", *pair) for pair in zip(queries, others[:2], strict=True)]
    logits = graph.node("Mul", graph.node("Add", *products), graph.scalar(0.5**0.5))
    largest = graph.node("ReduceMax", logits, axes=[axis], keepdims=1)
    powers = graph.node("Exp", graph.node("Sub", logits, largest))
    total = graph.node("ReduceSum", powers, along, keepdims=0)
    weighted = [graph.node("Mul", powers, value) for value in others[2:]]
    sums = [graph.node("ReduceSum", each, along, keepdims=0) for each in weighted]
    means = [graph.node("Div", each, total) for each in sums]
    return graph.node("Concat", *means, axis=-1)


def _fed(graph: _Graph, name: str, rows: str) -> str:
    hidden = graph.dense(f"{name}_hidden", rows)
    if graph.rectified:
        hidden = graph.node("Relu", hidden)
    return graph.node("Add", rows, graph.dense(f"{name}_fed", hidden))


def _output(graph: _Graph, row: str, name: str) -> str:
    graph.nodes.append(helper.make_node("Sigmoid", [graph.dense("output", row)], [name]))
    return name


def _serialised(graph: _Graph, length: int, measure: Measure, facts: Mapping[str, Any]) -> bytes:
    def floats(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    outputs = [floats(name, measure.features) for name in ("first", "second")]
    inputs = [floats("window", length, measure.width)]
    whole = helper.make_graph(graph.nodes, "tranad", inputs, outputs, graph.constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR_VERSION
    helper.set_model_props(model, {FACTS: json.dumps(facts)})
    return bytes(model.SerializeToString())
