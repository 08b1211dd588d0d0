"""What might have been meant instead: changed copies of a small model.

Each change says in `text` what it is. Whether it explains anything is found out in `causes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix import ops
from fornix.debug.part import Array, Part, double, is_float
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32
from fornix.errors import FornixError
from fornix.ir.attribute import Attribute
from fornix.ir.graph import Model, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ops.opsets import LATEST
from fornix.ops.signature import FormalAttribute
from fornix.reference.plan import Plan
from fornix.reference.scope import Custom, Environment, OperatorKey

EPSILONS = (0.0, 1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""What normalizations add to a variance, from framework to framework."""
LARGEST_EPSILON = 1e-2
MOST = 8
"""Nodes that are changed one by one."""

ALTERNATIVES: Mapping[str, tuple[object, ...]] = {
    "align_corners": (0, 1),
    "alpha": (0.01, 0.1, 1 / 6, 0.2, 1.0),
    "approximate": ("none", "tanh"),
    "auto_pad": ("SAME_UPPER", "SAME_LOWER"),
    "axis": (-1, 0, 1, 2, 3),
    "ceil_mode": (0, 1),
    "coordinate_transformation_mode": (
        "half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners",
        "half_pixel_symmetric", "output_half_pixel", "tf_half_pixel_for_nn",
    ),
    "count_include_pad": (0, 1),
    "cubic_coeff_a": (-0.5, -0.75),
    "exclude_outside": (0, 1),
    "linear_before_reset": (0, 1),
    "mode": ("nearest", "linear", "cubic", "constant", "reflect", "edge", "wrap", "DCR", "CRD"),
    "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    "padding_mode": ("zeros", "border", "reflection"),
}  # fmt: skip
"""Attributes that frameworks understand differently, and what else they may say."""


@dataclass(frozen=True)
class ConstantChange:
    """A stored tensor that another model has otherwise."""

    name: str
    array: Array
    text: str
    rounded_to: str = ""
    """The narrower type, if it is the same, rounded to that."""


@dataclass(frozen=True)
class AttributeChange:
    """An attribute that another model has otherwise."""

    output: str
    """A result of the node."""
    name: str
    attribute: Attribute | None
    text: str


def changed_constants(part: Part, theirs: Part) -> list[ConstantChange]:
    """The stored data of ``part`` that ``theirs`` has otherwise: by name, else by shape."""
    ours, others = _stored(part), _stored(theirs)
    changes = []
    for name, array in ours.items():
        if name in others and others[name].shape == array.shape:
            other = others[name]
        else:
            alike = [x for key, x in others.items() if x.shape == array.shape and key not in ours]
            rivals = [x for key, x in ours.items() if x.shape == array.shape and key not in others]
            if len(alike) != 1 or len(rivals) != 1:
                continue
            other = alike[0]
        change = _constant_change(name, array, other)
        if change is not None:
            changes.append(change)
    return changes


def _stored(part: Part) -> dict[str, Array]:
    constants = part.plan.constants
    return {v.name: constants[v] for v in part.entering if v in constants}


def _constant_change(name: str, one: Array, other: Array) -> ConstantChange | None:
    if one.dtype.kind in "OUSc" or other.dtype.kind in "OUSc" or not one.size:
        return None
    a, b = double(one), double(other)
    differs = a != b
    if not differs.any():
        return None
    narrow = _narrower(one, other) if is_float(one) and is_float(other) else ""
    off = np.abs(a.astype(np.float64) - b.astype(np.float64))
    place = np.unravel_index(int(np.argmax(off)), off.shape)
    text = (
        f"constant '{name}' differs in {int(differs.sum())} of {a.size} elements, by up to "
        f"{float(off[place]):.6g}: {float(a[place]):.6g} here, {float(b[place]):.6g} there"
    )
    return ConstantChange(name, other.astype(one.dtype), text, narrow)


def _narrower(one: Array, other: Array) -> str:
    """The type to which ``one`` was rounded to be ``other``, whatever holds it; empty if none."""
    if not one.size or one.dtype.itemsize < other.dtype.itemsize:
        return ""
    for dtype in (FLOAT32, FLOAT16, BFLOAT16):
        if dtype.numpy.itemsize < one.dtype.itemsize:
            with np.errstate(all="ignore"):
                rounded = one.astype(dtype.numpy)
            if np.array_equal(double(rounded), double(other)):
                return dtype.name
    return ""


def with_constants(model: Model, changes: Sequence[ConstantChange]) -> Model:
    """A copy of ``model`` with other stored data."""
    changed = model.clone()
    for change in changes:
        value = changed.graph.initializers.get(change.name)
        if value is not None:
            value.tensor = ArrayTensor(change.array, change.name)
    return changed


def changed_attributes(part: Part, theirs: Part) -> list[AttributeChange]:
    """The attributes that nodes of ``theirs`` have otherwise, nodes paired by operator."""
    changes = []
    waiting = list(theirs.nodes)
    for node in part.nodes:
        key = node.domain, node.op_type
        other = next((x for x in waiting if (x.domain, x.op_type) == key), None)
        if other is None:
            continue
        waiting.remove(other)
        for name in dict.fromkeys((*node.attributes, *other.attributes)):
            change = _attribute_change(node, other, name, part.plan, theirs.plan)
            if change is not None:
                changes.append(change)
    return changes


def _attribute_change(
    node: Node, other: Node, name: str, plan: Plan, their_plan: Plan
) -> AttributeChange | None:
    one, two = node.attributes.get(name), other.attributes.get(name)
    if (one and one.graphs) or (two and two.graphs):
        return None
    said, theirs = _said(one, node, name, plan), _said(two, other, name, their_plan)
    if said == theirs:
        return None
    text = f"{node.op_type} has {name} = {_shown(said)} here, {_shown(theirs)} there"
    return AttributeChange(node.output.name, name, two, text)


def _said(attribute: Attribute | None, node: Node, name: str, plan: Plan) -> Any:
    """The value of an attribute, its default if it is left out."""
    if attribute is not None:
        value = attribute.value
        return value.numpy().tolist() if hasattr(value, "numpy") else value
    try:
        schema = ops.schema_of(node.domain, node.op_type, plan.scope.opset(node.domain))
    except FornixError:
        return None
    formal = schema.attributes.get(name)
    return None if formal is None else formal.default


def _shown(value: object) -> str:
    return (
        "nothing" if value is None else f"{value:.6g}" if isinstance(value, float) else f"{value}"
    )


def with_attributes(model: Model, changes: Sequence[AttributeChange]) -> Model:
    """A copy of ``model`` with other attributes."""
    changed = model.clone()
    for node in changed.graph.nodes:
        for change in changes:
            if node.outputs and node.output.name == change.output:
                _set(node, change.name, change.attribute)
    return changed


def _set(node: Node, name: str, attribute: Attribute | None) -> None:
    if attribute is not None:
        node.set_attribute(name, attribute)
    elif name in node.attributes:
        node.remove_attribute(name)


def other_opsets(model: Model, wanted: int | None) -> Iterator[tuple[int, list[str]]]:
    """Opsets in which operators of ``model`` mean something else, and which operators.

    ``wanted`` alone, if it is given; else one for each set of meanings.
    """
    own = model.opset_imports.get("", 0)
    names = list(dict.fromkeys(node.op_type for node in model.graph.nodes if not node.domain))
    before = tuple(_meaning(name, own) for name in names)
    seen = {before}
    for opset in range(1, LATEST[""] + 1) if wanted is None else [wanted]:
        meanings = tuple(_meaning(name, opset) for name in names)
        if meanings not in seen and None not in meanings:
            seen.add(meanings)
            pairs = zip(names, meanings, before, strict=True)
            yield opset, [name for name, new, old in pairs if new != old]


def _meaning(name: str, opset: int) -> int | None:
    """The version from which on an operator means the same; None if there is none.

    Where nodes change from one version to the next, an adapter stands between them.
    """
    try:
        version = ops.schema_of("", name, opset).since_version
    except FornixError:
        return None
    steps = {max(step) for step in ops.operator_of(ops.schema_of("", name, opset)).adapters}
    return max((step for step in steps if step <= version), default=1)


def with_opset(model: Model, opset: int) -> Model:
    """A copy of ``model`` whose nodes are understood as in ``opset``."""
    changed = model.clone()
    changed.opset_imports = {**changed.opset_imports, "": opset}
    return changed


def other_epsilons(model: Model) -> Iterator[tuple[str, Model]]:
    """``model`` with other epsilons: of normalizations, and of sums that spell them out."""
    outputs = [node.output.name for node in model.graph.nodes if "epsilon" in _formal(node, model)]
    groups = [outputs] if len(outputs) == 1 else [outputs, *([x] for x in outputs[:MOST])]
    for group in groups if outputs else ():
        for epsilon in EPSILONS:
            attribute = Attribute.of("epsilon", epsilon)
            changes = [AttributeChange(name, "epsilon", attribute, "") for name in group]
            yield f"as with epsilon = {epsilon:g}", with_attributes(model, changes)
    for value in _small_addends(model):
        for epsilon in EPSILONS:
            array = np.full_like(value.tensor.numpy(), epsilon) if value.tensor else None
            if array is not None:
                change = ConstantChange(value.name, array, "")
                text = f"as with epsilon = {epsilon:g} in the place of '{value.name}'"
                yield text, with_constants(model, [change])


def _formal(node: Node, model: Model) -> Mapping[str, FormalAttribute]:
    """Attributes that the operator of ``node`` knows."""
    try:
        opset = model.opset_imports.get(node.domain, 1)
        return ops.schema_of(node.domain, node.op_type, opset).attributes
    except FornixError:
        return {}


def _small_addends(model: Model) -> list[Value]:
    """Stored numbers that look like an epsilon which is added."""
    found = []
    for value in model.graph.initializer_values:
        tensor = value.tensor
        is_single = tensor is not None and tensor.shape in {(), (1,)} and tensor.dtype.is_float
        if is_single and any(user.op_type == "Add" for user in value.users):
            number = float(tensor.numpy().reshape(-1)[0]) if tensor is not None else 0.0
            if 0 < number <= LARGEST_EPSILON:
                found.append(value)
    return found[:MOST]


def alternatives(model: Model) -> Iterator[tuple[str, Model]]:
    """``model`` with an attribute changed to something else, in all nodes of an operator."""
    nodes = list(model.graph.nodes)
    for op_type in dict.fromkeys(node.op_type for node in nodes):
        alike = [node for node in nodes if node.op_type == op_type]
        formal = _formal(alike[0], model)
        known = [name for name in ALTERNATIVES if name in formal and op_type != "Gemm"]
        if len(nodes) > 1 and "axis" in known:
            known.remove("axis")  # it means another thing at every node
        for name, value in [(x, y) for x in known for y in ALTERNATIVES[x]]:
            usual = formal[name].default
            others = [node for node in alike if node.attr(name, usual) != value]
            attribute = Attribute.of(name, value)
            changes = [AttributeChange(x.output.name, name, attribute, "") for x in others]
            if changes:
                text = f"as if {op_type} had {name} = {_shown(value)}"
                yield text, with_attributes(model, changes)


def batch_statistics(
    _node: Node, attributes: Mapping[str, Attribute]
) -> Callable[[list[Any], Environment], list[Any]]:
    """BatchNormalization with the mean and variance of the batch."""
    epsilon = attributes["epsilon"].value if "epsilon" in attributes else 1e-5

    def call(inputs: list[Any], _outer: Environment) -> list[Any]:
        x, scale, shift = (double(array) for array in inputs[:3])
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        standard = (x - mean) / np.sqrt(variance + epsilon)
        return [standard * scale.reshape(shape) + shift.reshape(shape)]

    return call


LAYOUTS: Mapping[int, tuple[tuple[int, ...], ...]] = {
    3: ((0, 2, 1),),
    4: ((0, 2, 3, 1), (0, 3, 1, 2)),
    5: ((0, 2, 3, 4, 1), (0, 4, 1, 2, 3)),
}
"""Orders of axes that put channels last, or first again, by rank."""


def other_layouts(part: Part) -> Iterator[tuple[str, dict[OperatorKey, Custom]]]:
    """The last node, if it reshapes, of what it reads in another order."""
    node, step = part.last, part.steps[-1]
    if node.op_type not in {"Reshape", "Flatten"} or node.domain:
        return

    for rank, orders in LAYOUTS.items():
        for order in orders:

            def custom(
                _node: Node, _attributes: object, order: tuple[int, ...] = order, rank: int = rank
            ) -> Callable[[list[Any], Environment], list[Any]]:
                def call(inputs: list[Any], outer: Environment) -> list[Any]:
                    [made] = step.call(inputs, outer)
                    x = inputs[0]
                    return [np.transpose(x, order).reshape(made.shape) if x.ndim == rank else made]

                return call

            text = f"{node.op_type} of elements in another order: axes transposed by {list(order)}"
            yield text, {("", node.op_type): custom}
