"""Look-ups of texts as numbers that all look-ups of one value share, and tables of those.

For sessions alone. Texts are the slowest thing to look at, so each is looked up once:

1. LabelEncoder of texts, CategoryMapper and OneHotEncoder from texts to numbers, and Equal of texts
   and a stored one, become Numbered, which gives the place among all their keys, and Gather or
   OneHotEncoder of numbers.
2. What only chooses among texts or gives them another shape does so with their numbers.

A category that has to be listed is looked for by a Gather that ends the run for another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fornix.dtype import STRING
from fornix.errors import FornixError
from fornix.infer import Inference
from fornix.ir.attribute import plain_attributes
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ops.fact import Fact
from fornix.ops.ml.labels import Table
from fornix.passes.apply import replace
from fornix.passes.make import Maker

PARTS, ML = "fornix.parts", "ai.onnx.ml"
GATHER = 13
"""The opset whose Gather looks into tables where a model has no opset of the standard's."""
ENCODER = 2
"""The opset from which on LabelEncoder has keys and values, no list of classes."""
_MOVING = {
    ("", name)
    for name in ("Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose",
                 "Unsqueeze")
} | {(ML, "ArrayFeatureExtractor")}  # fmt: skip
"""Operators that do with the elements of their first input nothing but move them."""
_LOOKING = {"CategoryMapper", "LabelEncoder", "OneHotEncoder"}
_DEFAULTS = {"default_float": -0.0, "default_int64": -1, "default_string": "_Unused"}


class _LookUp(NamedTuple):
    """A node that looks texts up."""

    node: Node
    texts: Value
    keys: dict[str, int]
    """The place of each key among the values."""
    values: np.ndarray[Any, Any] | None
    """The value at each place, the last one of all other texts; None for one of a row of zeros."""
    is_strict: bool = False
    """Whether other texts are an error."""


def number_texts(model: Model, inference: Inference) -> bool:
    """Let look-ups of texts share their numbers; whether there are any."""
    found: dict[Value, list[_LookUp]] = {}
    for node in model.graph.nodes:
        look_up = _look_up(node, model, inference) if node.domain == ML else None
        if (node.domain, node.op_type) == ("", "Equal"):
            look_up = _comparison(node, inference)
        if look_up is not None:
            found.setdefault(_source(look_up.texts, inference), []).append(look_up)
    if not found:
        return False
    model.opset_imports.setdefault("", GATHER)
    model.opset_imports.setdefault(PARTS, 1)
    for source, look_ups in found.items():
        _share(source, look_ups, model.graph, inference)
    return True


def _look_up(node: Node, model: Model, inference: Inference) -> _LookUp | None:
    """What ``node`` looks up, if it goes from texts to numbers."""
    x = node.inputs[0] if node.inputs else None
    if node.op_type not in _LOOKING or node in inference.broken or x is None:
        return None
    if inference.fact(x).dtype is not STRING or inference.fact(x).constant is not None:
        return None
    attributes: dict[str, Any] = {**plain_attributes(node.attributes, {})}
    if node.op_type == "OneHotEncoder":
        return _categories(node, x, attributes)
    gives_texts = inference.fact(node.output).dtype is STRING
    if inference.fact(node.output).dtype is None or (
        gives_texts and node.op_type != "LabelEncoder"
    ):
        return None
    listed = _DEFAULTS | attributes
    if node.op_type == "CategoryMapper":
        names, numbers = attributes["cats_strings"], attributes["cats_int64s"]
    elif model.opset_imports.get(ML, 1) < ENCODER:
        names = attributes.get("classes_strings", [])
        numbers = list(range(len(names)))
    else:
        return _encoder(node, x, listed)
    keys = {name: place for place, name in enumerate(names)}
    return _LookUp(node, x, keys, np.array([*numbers, listed["default_int64"]], np.int64))


def _encoder(node: Node, x: Value, attributes: dict[str, Any]) -> _LookUp | None:
    try:
        lookup = Table.of(attributes).lookup
    except FornixError:
        return None
    named = lookup.named
    if named is None:
        return None
    listed = [*named.values(), named.default]
    is_text = lookup.values.dtype == object
    values = np.array(listed, object) if is_text else np.frombuffer(
        b"".join(listed), lookup.values.dtype
    )  # fmt: skip
    return _LookUp(node, x, {key: place for place, key in enumerate(named)}, values)


def _categories(node: Node, x: Value, attributes: dict[str, Any]) -> _LookUp | None:
    names = attributes.get("cats_strings") or []
    keys = {name: place for place, name in enumerate(names)}
    if not names or len(keys) < len(names) or attributes.get("cats_int64s"):
        return None
    return _LookUp(node, x, keys, None, not attributes.get("zeros", 1))


def _comparison(node: Node, inference: Inference) -> _LookUp | None:
    """What ``node`` looks up, if it compares texts with a single stored one."""
    one, other = (inference.fact(value) if value else Fact() for value in node.inputs)
    flipped = one.constant is not None
    stored, given = (one, other) if flipped else (other, one)
    texts, key = node.inputs[int(flipped)], stored.constant
    if node in inference.broken or texts is None or key is None or given.constant is not None:
        return None
    if given.dtype is not STRING or key.size != 1 or not given.has_rank or given.rank < key.ndim:
        return None
    return _LookUp(node, texts, {key.item(): 0}, np.array([True, False]))


def _source(value: Value, inference: Inference) -> Value:
    """What the elements of ``value`` are elements of, before they were moved."""
    node = value.producer
    while (
        node is not None
        and (node.domain, node.op_type) in _MOVING
        and node not in inference.broken
        and (x := node.inputs[0]) is not None
        and inference.fact(x).constant is None
    ):
        value, node = x, x.producer
    return value


def _share(source: Value, look_ups: Iterable[_LookUp], graph: Graph, inference: Inference) -> None:
    """Number ``source`` by all keys of ``look_ups``, and take these from the numbers."""
    together = dict.fromkeys(key for one in look_ups for key in one.keys)
    users = set(source.users)
    first = next(node for node in graph.nodes if node in users)
    numbers = Maker(first, graph, inference).Numbered(source, domain=PARTS, keys=[*together])
    moved = {source: numbers}
    for look_up in look_ups:
        make = Maker(look_up.node, graph, inference)
        places = _moved(look_up.texts, moved, graph, inference)
        replace(look_up.node, [_looked_up(look_up, places, [*together], make)], inference)


def _moved(value: Value, moved: dict[Value, Value], graph: Graph, inference: Inference) -> Value:
    """The numbers of the texts that ``value`` is, moved as these are."""
    way = []
    while value not in moved and (node := value.producer) is not None:
        way.append(node)
        value = next(x for x in node.inputs if x is not None)
    for node in reversed(way):
        inputs = [moved[value], *node.inputs[1:]]
        made = Node(node.domain, node.op_type, inputs, 1, node.attributes, name=node.name)
        made.metadata.update(node.metadata)
        graph.insert_before(node, made)
        inference.update([made])
        value = node.output
        moved[value] = made.output
    return moved[value]


def _looked_up(look_up: _LookUp, numbers: Value, together: list[str], make: Maker) -> Value:
    """What a look-up gives, from ``numbers`` of the keys ``together``."""
    own = len(look_up.keys)
    places = np.array([*(look_up.keys.get(key, own) for key in together), own], np.int64)
    if look_up.values is not None:
        return make.Gather(look_up.values[places], numbers)
    if look_up.is_strict or len(together) > own or [*look_up.keys] != together:
        numbers = make.Gather(places, numbers)
    if look_up.is_strict:
        numbers = make.Gather(np.arange(own), numbers)
    return make.OneHotEncoder(numbers, domain=ML, cats_int64s=list(range(own)))
