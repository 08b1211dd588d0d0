"""DynamicQuantizeLSTM of com.microsoft with stored weights as the LSTM that it is, for the engine.

It multiplies in float32, as the standard's does: weights that are numbers from the start are
arranged for that once, not in every run. Models that are written keep their bytes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import graphs
from fornix.passes.apply import Changes, replace
from fornix.passes.make import Maker

DOMAIN = "com.microsoft"
LEAST = 7
"""Version of ai.onnx from which on LSTM is what it is today."""
SHARED = 8
"""Inputs that both have in common; a scale and a zero point for W and for R follow."""

Array = np.ndarray[Any, Any]


def restore_weights(root: Graph, inference: Inference) -> Changes:
    """Rewrite what is found in ``root`` and its subgraphs."""
    changes: Changes = Counter()
    for graph in list(graphs(root)):
        for node in graph.nodes:
            is_found = node.domain == DOMAIN and node.op_type == "DynamicQuantizeLSTM"
            if is_found and _restored(node, graph, inference):
                changes["DynamicQuantizeLSTM"] += 1
    return changes


def _restored(node: Node, graph: Graph, inference: Inference) -> bool:
    make = Maker(node, graph, inference)
    if make.opset < LEAST or len(node.inputs) != SHARED + 4:
        return False
    weights = [
        _numbers(node.inputs[place], *node.inputs[first : first + 2])
        for place, first in ((1, SHARED), (2, SHARED + 2))
    ]
    if weights[0] is None or weights[1] is None:
        return False
    stored = [None if w is None else make.value(w) for w in weights]
    inputs = [node.inputs[0], *stored, *node.inputs[3:SHARED]]
    made = Node("", "LSTM", inputs, len(node.outputs), dict(node.attributes), name=node.name)
    made.metadata.update(node.metadata)
    graph.insert_before(node, made)
    inference.update([made])
    replace(node, made.outputs, inference)
    return True


def _numbers(weights: Value | None, scale: Value | None, zero: Value | None) -> Array | None:
    """What weights[D, K, 4·H] stand for, [D, 4·H, K]; None if they are not stored, or misfit."""
    arrays = [
        None if x is None or x.constant is None else x.constant.numpy()
        for x in (weights, scale, zero)
    ]
    w, factors, origins = arrays
    if w is None or factors is None or origins is None or w.ndim != 3:
        return None
    fitting = (w.shape[:1], (w.shape[0], w.shape[2]))
    if factors.shape not in fitting or origins.shape not in fitting:
        return None
    factors, origins = (x.reshape(len(w), 1, -1).astype(np.float32) for x in (factors, origins))
    return np.ascontiguousarray(((w.astype(np.float32) - origins) * factors).swapaxes(1, 2))
