"""A TranAD network's weights as an ONNX graph; the twin of the network in `tranad_network`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from promad.models.onnx_graph import Graph, Weights
from promad.models.tranad_design import FACTS, Design, Measure, positional_encoding


def to_onnx(
    weights: Mapping[str, Weights],
    design: Design,
    measure: Measure,
    length: int,
    facts: Mapping[str, Any],
) -> bytes:
    """The graph `window` (batch, length, width) → `first`, `second` (batch, features), serialised.

    Windows are in outer units, the outputs in the model's own. `facts` are kept beside the graph
    as JSON.

    Args:
        weights: kernel and, but for `conditions`, bias of each dense layer, by its name in
            `tranad_network`.
    """
    graph = Graph()
    layers = {layer: graph.add_constants(arrays) for layer, arrays in weights.items()}
    above = graph.add("Sub", "window", graph.add_constant(measure.low))
    ratio = graph.add("Div", above, graph.add_constant(measure.span))
    network = _Network(graph, layers, measure.features, design.rectified)
    _add_phases(network, graph.add_clip(ratio, *design.limits), design, measure, length)
    outputs = dict.fromkeys(("first", "second"), (measure.features,))
    return graph.serialise("tranad", (length, measure.width), outputs, {FACTS: json.dumps(facts)})


def _add_phases(
    network: _Network, rows: str, design: Design, measure: Measure, length: int
) -> None:
    """The network from normalised rows (batch, length, width) on."""
    graph, features, width = network.graph, measure.features, measure.width
    seen = graph.add_slice(graph.add_slice(rows, 1, 0, length - 1), 2, 0, features)
    query = graph.add("Concat", *[network.pick_row(seen, length - 2)] * 2, axis=-1)
    offsets = graph.add_constant(positional_encoding(length - 1, 2 * features)[np.newaxis])
    if width > features:
        given = graph.add_slice(rows, 2, features, width)
        conditions = graph.add("MatMul", given, *network.layers["conditions"])
        offsets = graph.add("Add", graph.add_slice(conditions, 1, 0, length - 1), offsets)
        query = graph.add("Add", query, network.pick_row(conditions, length + design.judged))

    nothing = graph.add("Sub", seen, seen)
    memory = network.encode(seen, nothing, offsets)
    first = network.add_output(network.decode("decoder1", query, memory), "first")
    away = graph.add("Sub", network.insert_axis(1, first), seen)
    memory = network.encode(seen, graph.add("Mul", away, away), offsets)
    network.add_output(network.decode("decoder2", query, memory), "second")


@dataclass(frozen=True)
class _Network:
    """The parts that both phases are made of; `layers` holds each dense layer's constants."""

    graph: Graph
    layers: Mapping[str, Sequence[str]]
    features: int
    rectified: bool

    def encode(self, seen: str, focus: str, offsets: str) -> str:
        graph = self.graph
        both = graph.add("Concat", seen, focus, axis=-1)
        root = graph.add_constant(np.float32(self.features**0.5))
        rows = graph.add("Add", graph.add("Mul", both, root), offsets)
        planes = graph.add_several("Split", 6, self.add_dense("encoder_heads", rows), axis=-1)
        queries = [self.insert_axis(2, plane) for plane in planes[:2]]
        others = [self.insert_axis(1, plane) for plane in planes[2:]]
        attended = self.add_dense("encoder_attended", self.attend(queries, others, axis=2))
        return self.feed("encoder", graph.add("Add", rows, attended))

    def decode(self, name: str, query: str, memory: str) -> str:
        graph = self.graph
        itself = self.add_dense(f"{name}_itself", self.add_dense(f"{name}_value", query))
        row = graph.add("Add", query, itself)
        planes = graph.add_several("Split", 2, self.add_dense(f"{name}_query", row), axis=-1)
        queries = [self.insert_axis(1, plane) for plane in planes]
        others = graph.add_several("Split", 4, self.add_dense(f"{name}_memory", memory), axis=-1)
        attended = self.add_dense(f"{name}_attended", self.attend(queries, others, axis=1))
        return self.feed(name, graph.add("Add", row, attended))

    def attend(self, queries: Sequence[str], others: Sequence[str], axis: int) -> str:
        """What each head takes from the rows of memory; `others` are two planes each of keys and
        of values.
        """
        graph, along = self.graph, self.graph.add_constant([axis])
        products = [graph.add("Mul", *pair) for pair in zip(queries, others[:2], strict=True)]
        scale = graph.add_constant(np.float32(0.5**0.5))
        logits = graph.add("Mul", graph.add("Add", *products), scale)
        largest = graph.add("ReduceMax", logits, axes=[axis], keepdims=1)
        powers = graph.add("Exp", graph.add("Sub", logits, largest))
        total = graph.add("ReduceSum", powers, along, keepdims=0)
        weighted = [graph.add("Mul", powers, value) for value in others[2:]]
        sums = [graph.add("ReduceSum", each, along, keepdims=0) for each in weighted]
        means = [graph.add("Div", each, total) for each in sums]
        return graph.add("Concat", *means, axis=-1)

    def feed(self, name: str, rows: str) -> str:
        hidden = self.add_dense(f"{name}_hidden", rows)
        if self.rectified:
            hidden = self.graph.add("Relu", hidden)
        return self.graph.add("Add", rows, self.add_dense(f"{name}_fed", hidden))

    def add_output(self, row: str, name: str) -> str:
        return self.graph.add("Sigmoid", self.add_dense("output", row), output=name)

    def add_dense(self, layer: str, value: str) -> str:
        return self.graph.add_dense(value, *self.layers[layer])

    def insert_axis(self, axis: int, value: str) -> str:
        return self.graph.add("Unsqueeze", value, self.graph.add_constant([axis]))

    def pick_row(self, value: str, index: int) -> str:
        """One row of (batch, rows, columns): (batch, columns)."""
        return self.graph.add("Gather", value, self.graph.add_constant(index), axis=1)
