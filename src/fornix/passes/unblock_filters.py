"""Convolutions of com.microsoft.nchwc, with filters arranged in blocks, as FusedConv or Conv.

    Conv(X, W in blocks, B, Sum)  =  FusedConv(X, W, B, Sum), where W is stored

How large the blocks are no node says, but all of a model may, so that they are looked at together.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import nodes
from fornix.ops.microsoft.filters import block_of, unblocked
from fornix.passes.apply import Changes, apply_rules
from fornix.passes.make import Maker
from fornix.passes.pattern import P, any_, const, rewrite

BLOCKED, FUSED = "com.microsoft.nchwc", "com.microsoft"
"""Domains of operators on blocks of channels, and of what else onnxruntime fuses."""

Array = np.ndarray[Any, Any]


def unblock_filters(root: Graph, inference: Inference) -> Changes:
    """Rewrite the convolutions in ``root`` and its subgraphs."""
    found = [n for n in nodes(root) if n.domain == BLOCKED and n.op_type == "Conv"]
    if not found:
        return Counter()
    stored = [n.inputs[1].constant for n in found if n.inputs[1] is not None]
    block = block_of(*(tensor.shape[0] for tensor in stored if tensor is not None))

    @rewrite(P.Conv(any_("x"), const("w"), any_("b?"), any_("z?"), domain=BLOCKED, bind="node"))
    def unblock_filter(
        x: Value,
        w: Array,
        node: Node,
        make: Maker,
        b: Value | None = None,
        z: Value | None = None,
    ) -> Value | None:
        if w.shape[0] % block or FUSED not in inference.imports:
            return None
        filters = unblocked(w, block)
        attributes = dict(node.attributes)
        if z is None and node.attr("activation") is None:
            attributes.pop("activation_params", None)
            return make.node("Conv", (x, filters, b), attributes)
        return make.node("FusedConv", (x, filters, b, z), attributes, domain=FUSED)

    return apply_rules(root, unblock_filter, inference)
