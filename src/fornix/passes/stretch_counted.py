"""Extents that broadcast, and that data tell, stretched: one of them may be 1 in some runs.

For sessions alone, once a run had such extents: no model that is written has these nodes. Decides
which inputs are stretched: of the main graph's nodes that broadcast all of theirs to one shape,
those with an extent that only data tell to be that of the result.
"""

from __future__ import annotations

from fornix.infer import Inference
from fornix.infer.model import has_unknown
from fornix.ir.dim import Dim, DimLike
from fornix.ir.graph import Model, Node, Value
from fornix.ops import operator_of, schema_of
from fornix.ops.geometry import broadcast_shapes
from fornix.ops.stretched import stretched_shape
from fornix.passes.make import Maker
from fornix.passes.split_counted import DOMAIN, is_plain

BROADCASTS = 7
"""The opset from which on shapes broadcast as in NumPy."""


def stretch_counted(model: Model, inference: Inference) -> bool:
    """Stretch what nodes of the main graph read; whether there was any of it."""
    changed = False
    for node in list(model.graph.nodes):
        if node not in inference.broken and _broadcasts(node, inference):
            changed |= _stretch(node, model, inference)
    return changed


def _broadcasts(node: Node, inference: Inference) -> bool:
    """Whether the result of ``node`` is of the common shape of all that it reads."""
    version = inference.imports.get("", 0)
    if node.domain or len(node.inputs) < 2 or version < BROADCASTS or node.graphs:
        return False
    operator = operator_of(schema_of("", node.op_type, version))
    common_shape = getattr(operator.rule("kernel", version), "common_shape", None)
    return common_shape is broadcast_shapes


def _stretch(node: Node, model: Model, inference: Inference) -> bool:
    """Stretch what ``node`` reads where that is to be done; whether it is."""
    given = [value for value in node.inputs if value is not None]
    facts = [inference.fact(value) for value in given]
    if not all(map(is_plain, facts)):
        return False
    shapes = [fact.shape for fact in facts]
    stretched: dict[Value, Value] = {}
    for number, (value, shape) in enumerate(zip(given, shapes, strict=True)):
        others = [*given[:number], *given[number + 1 :]]
        wholes = stretched_shape(shape, *shapes[:number], *shapes[number + 1 :])
        if any(map(_may_be_one, shape, wholes)):
            make = Maker(node, model.graph, inference)
            stretched[value] = make.Stretched(value, *others, domain=DOMAIN)
    if stretched:
        model.opset_imports.setdefault(DOMAIN, 1)
        node.inputs = tuple(None if v is None else stretched.get(v, v) for v in node.inputs)
        inference.update([node])
    return bool(stretched)


def _may_be_one(extent: DimLike, whole: DimLike) -> bool:
    """Whether a run tells that ``extent`` is 1, or that it is ``whole``."""
    told = any(isinstance(d, Dim) and has_unknown(d) for d in (extent, whole))
    return told and extent not in (1, whole)
