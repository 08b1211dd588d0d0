"""Resize whose extents are no formulas, as a part that computes them and one that is told.

For sessions alone: no model that is written has these parts. Decides which nodes are taken apart:
those of numbers, of known rank, by as many scales as there are axes, where some extent of the
result is not known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fornix.dtype import INT64
from fornix.infer import Inference
from fornix.infer.model import has_unknown
from fornix.ir.dim import Dim
from fornix.ir.graph import Model, Node, Value
from fornix.ir.types import TensorType
from fornix.ops.fact import Fact
from fornix.passes.apply import replace
from fornix.passes.make import Maker
from fornix.passes.split_counted import DOMAIN, is_plain

EMPTY = TensorType(INT64, (0,))
"""Sizes that Resize-11 writes where it is given scales."""
OPERATORS = ("Resize", "Upsample")
WITH_ROI = 11
"""The version since which Resize takes roi ahead of scales."""
WITH_SCALES = 7
"""That since which Upsample has one scale per axis."""
LEAST_ENLARGING = 1.0
"""The least scale that Upsample takes."""
SPENT = ("height_scale", "keep_aspect_ratio_policy", "scales", "width_scale")
"""Attributes that say nothing of how elements are read by scales."""


class _Given(NamedTuple):
    """What a node reads, and how."""

    x: Value
    roi: Value | None
    scales: Value
    attributes: dict[str, Any]


def split_resized(model: Model, inference: Inference) -> bool:
    """Take nodes of the main graph apart; whether there were any."""
    found = [n for n in model.graph.nodes if not n.domain and n.op_type in OPERATORS]
    changed = False
    for node in found:
        if node in inference.broken or not _is_open(inference.fact(node.output)):
            continue
        make = Maker(node, model.graph, inference)
        given = _given(node, make)
        if given is None or not _is_apt(given, inference):
            continue
        model.opset_imports.setdefault(DOMAIN, 1)
        axes = given.attributes.get("axes")
        least = given.attributes.get("least")
        sizes = make.ScaledExtents(given.x, given.scales, domain=DOMAIN, axes=axes, least=least)
        inputs = (given.x, given.roi, given.scales, sizes)
        told = make.Resized(*inputs, domain=DOMAIN, **given.attributes)
        replace(node, [told], inference)
        changed = True
    return changed


def _is_open(fact: Fact) -> bool:
    """Whether an extent is not known."""
    return fact.has_rank and any(isinstance(d, Dim) and has_unknown(d) for d in fact.shape)


def _given(node: Node, make: Maker) -> _Given | None:
    """What the parts of ``node`` read; None if it stays whole."""
    x, first, second, sizes = [*node.inputs, None, None, None][:4]
    roi: Value | None = None
    scales: Value | None = first
    how = {name: a.value for name, a in node.attributes.items() if name not in SPENT}
    if node.op_type == "Upsample":
        how |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        how["least"] = LEAST_ENLARGING
        if how.get("mode", "nearest") not in {"nearest", "linear"}:
            return None
        scales = _enlarging(node, make)
    elif make.opset < WITH_ROI:
        how |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "outward"}
    else:
        is_cropped = how.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        roi, scales = first if is_cropped else None, second
        if sizes is not None and make.fact(sizes).type != EMPTY:
            return None
    return None if x is None or scales is None else _Given(x, roi, scales, how)


def _enlarging(node: Node, make: Maker) -> Value | None:
    """The scales of an Upsample, but for stored ones that its kernel refuses."""
    if make.opset < WITH_SCALES:
        return None
    own, value = node.attributes.get("scales"), [*node.inputs, None][1]
    if own is not None:
        value = make.value(np.array(own.value, np.float32))
    stored = None if value is None else make.fact(value).constant
    return value if stored is None or (stored >= LEAST_ENLARGING).all() else None


def _is_apt(given: _Given, inference: Inference) -> bool:
    """Whether code can be made for it, and stored scales are some."""
    x, scales = inference.fact(given.x), inference.fact(given.scales)
    if not (is_plain(x) and is_plain(scales)):
        return False
    count = len(given.attributes.get("axes") or range(x.rank))
    stored = scales.constant
    is_sound = stored is None or bool((stored > 0).all() and np.isfinite(stored).all())
    return is_sound and count > 0 and scales.shape == (count,)
