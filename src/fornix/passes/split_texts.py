"""Nodes that compute with numbers and speak of texts, as two: one of numbers and one of texts.

For sessions alone, where what has texts runs a NumPy kernel, and all that it computes with it.

1. A classifier whose labels are texts gives the numbers of classes, and Gather their names; so do
   LabelEncoder and CategoryMapper from numbers to texts.
2. What looks texts up shares their numbers (`number_texts`).
3. What only gives names another shape does so with the numbers that they are names of.
4. What computes with numbers alone comes together: texts that are read ahead of it, those that are
   made behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fornix.dtype import STRING
from fornix.infer import Inference
from fornix.ir.attribute import plain_attributes
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.order import needed_nodes, sorted_nodes
from fornix.ir.types import TensorType
from fornix.passes.apply import replace
from fornix.passes.make import Maker
from fornix.passes.number_texts import ENCODER, number_texts

ML = "ai.onnx.ml"
NUMBERS = {
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
    "TreeEnsembleClassifier": "classlabels_int64s",
}
"""Of classifiers, the attribute with labels that are numbers."""
SHAPING = {"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators that give the elements of their first input another shape."""
GATHER = 13
"""The opset whose Gather names classes where a model has no opset of the standard's."""


def split_texts(model: Model, inference: Inference) -> bool:
    """Take nodes of the main graph apart and put them in order; whether any were taken apart."""
    changed = number_texts(model, inference)
    for node in [node for node in model.graph.nodes if node.domain == ML]:
        if node.op_type in NUMBERS:
            changed |= _split_classifier(node, model, inference)
        elif node.op_type in {"LabelEncoder", "CategoryMapper"}:
            changed |= _split_naming(node, model, inference)
    for node in list(model.graph.nodes):
        changed |= _name_last(node, model.graph, inference)
    _put_together(model.graph, inference)
    return changed


def _put_together(graph: Graph, inference: Inference) -> None:
    """Have as many nodes in a row as there can be that have texts, or have none."""
    turns: dict[Node, int] = {}
    for node in sorted_nodes(graph):
        # Texts have the even turns; what a node needs comes ahead of it, in its turn or before.
        last = max((turns[needed] for needed in needed_nodes(node)), default=0)
        turns[node] = last + ((last % 2 == 0) != _has_texts(node, inference))
    if len({turn % 2 for turn in turns.values()}) == 2:
        graph.move_before(None, *sorted(turns, key=turns.__getitem__))


def _has_texts(node: Node, inference: Inference) -> bool:
    """Whether anything that it reads or gives is no tensor of numbers."""
    types = [inference.fact(v).type for v in (*node.inputs, *node.outputs) if v is not None]
    return any(not isinstance(t, TensorType) or t.dtype is STRING for t in types if t is not None)


def _texts(node: Node, name: str) -> list[str]:
    """A list of texts among the attributes."""
    attribute = node.attributes.get(name)
    values = attribute.value if attribute is not None and attribute.ref is None else None
    is_whole = isinstance(values, list) and all(isinstance(text, str) for text in values)
    return values if is_whole and isinstance(values, list) else []


def _split_classifier(node: Node, model: Model, inference: Inference) -> bool:
    names = _texts(node, "classlabels_strings")
    if len(names) < 2:
        return False
    numbers = {name: a for name, a in node.attributes.items() if name != "classlabels_strings"}
    made = Node(ML, node.op_type, node.inputs, len(node.outputs), numbers, name=node.name)
    made.set_attribute(NUMBERS[node.op_type], list(range(len(names))))
    model.graph.insert_before(node, made)
    inference.update([made])
    model.opset_imports.setdefault("", GATHER)
    label = Maker(node, model.graph, inference).Gather(np.array(names, object), made.outputs[0])
    replace(node, [label, *made.outputs[1:]], inference)
    return True


def _split_naming(node: Node, model: Model, inference: Inference) -> bool:
    """Let a look-up of numbers give places of names."""
    x, attributes = node.inputs[0], plain_attributes(node.attributes, {})
    names, kind = _texts(node, "values_strings"), "keys_int64s"
    if node.op_type == "CategoryMapper":
        names, keys = _texts(node, "cats_strings"), attributes.get("cats_int64s")
    else:
        kind = kind if kind in attributes else "keys_floats"
        keys = attributes.get(kind)
    has_keys = isinstance(keys, list) and len(keys) == len(names) > 0
    is_known = node not in inference.broken and model.opset_imports.get(ML, 1) >= ENCODER
    dtype = None if x is None else inference.fact(x).dtype
    if not has_keys or not is_known or dtype in {None, STRING}:
        return False
    count, other = len(names), str(attributes.get("default_string", "_Unused"))
    make = Maker(node, model.graph, inference)
    listed: dict[str, Any] = {kind: keys, "values_int64s": list(range(count))}
    model.opset_imports.setdefault("", GATHER)
    numbers = make.LabelEncoder(x, domain=ML, default_int64=count, **listed)
    replace(node, [make.Gather(np.array([*names, other], object), numbers)], inference)
    return True


def _name_last(node: Node, graph: Graph, inference: Inference) -> bool:
    """Let names be the last thing that becomes of numbers; whether ``node`` was behind it."""
    x = node.inputs[0] if node.inputs else None
    if x is None or node in inference.broken:
        return False
    make = Maker(node, graph, inference)
    if (node.domain, node.op_type) == (ML, "ArrayFeatureExtractor"):
        numbers = node.inputs[1]
        maker = None if numbers is None else numbers.producer
        if not _are_names(x) or maker is None or maker.op_type != "ArgMax" or maker.domain:
            return False
        flat = make.Reshape(numbers, np.array([1, -1], np.int64))
        replace(node, [make.Gather(x, flat)], inference)
        return True
    naming = x.producer
    if node.domain or node.op_type not in SHAPING or naming is None or x.is_output:
        return False
    if naming.op_type != "Gather" or naming.domain or x.use_count > 1 or naming.attr("axis", 0):
        return False
    names, numbers = naming.inputs
    if names is None or not _are_names(names):
        return False
    inputs = [numbers, *node.inputs[1:]]
    made = Node("", node.op_type, inputs, 1, node.attributes, name=node.name)
    graph.insert_before(node, made)
    inference.update([made])
    replace(node, [make.Gather(names, made.output)], inference)
    return True


def _are_names(value: Value) -> bool:
    """Whether it is a stored list of texts."""
    known = value.type
    is_list = isinstance(known, TensorType) and known.shape is not None and len(known.shape) == 1
    return value.constant is not None and is_list and getattr(known, "dtype", None) is STRING
