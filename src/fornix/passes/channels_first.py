"""Images with their channels last as the standard has them, between Transposes that may meet.

    NhwcConv(X, W, B)                    =  Conv(X′, W′, B)′
    GroupNorm(X, gamma, beta)            =  GroupNorm <channels_last = 0> (X′, gamma, beta)′
    SkipGroupNorm(X, gamma, beta, S, B)  =  GroupNorm(X + S + B, gamma, beta), and X + S + B

where ′ turns an image around. Exporters wrote Conv and channels first; onnxruntime's transformer
optimizer put Transposes there, which these cancel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import graphs
from fornix.ops.microsoft import DOMAIN
from fornix.passes.apply import Changes, attempt, replace
from fornix.passes.make import Maker


def channels_first(root: Graph, inference: Inference) -> Changes:
    """Rewrite such nodes in ``root`` and its subgraphs."""
    changes: Changes = Counter()
    if DOMAIN not in inference.imports:
        return changes
    for graph in list(graphs(root)):
        for node in [n for n in graph.nodes if n.domain == DOMAIN]:
            make = Maker(node, graph, inference)
            results = attempt("channels_first", _rewritten, node, make)
            if results is not None:
                replace(node, results, inference)
                changes[f"{node.op_type} with channels last"] += 1
    return changes


def _rewritten(node: Node, make: Maker) -> Sequence[Value] | None:
    """The results of ``node``, computed with the channels first; None if that is no such node."""
    given = {name: attribute.value for name, attribute in node.attributes.items()}
    if node.op_type == "NhwcConv":
        x, w, *bias = node.inputs
        y = make.node("Conv", (_first(x, make), _first(w, make), *bias), given)
        return [_last(y, make)]
    if node.op_type not in {"GroupNorm", "SkipGroupNorm"} or not given.get("channels_last", 1):
        return None
    x, gamma, beta, *added = node.inputs
    total = _first(x, make)
    for term in added:
        if total is not None and term is not None:
            total = make.Add(total, _beside(term, total, make))
    if total is None:
        return None
    attributes: dict[str, Any] = {**given, "channels_last": 0}
    y = make.node("GroupNorm", (total, gamma, beta), attributes, domain=DOMAIN)
    return [_last(of, make) for of in (y, total)[: len(node.outputs)]]


def _beside(term: Value, image: Value, make: Maker) -> Value | None:
    """What is added to images: one itself, or [N, C] or [C], which is the same at all places."""
    rank, places = make.fact(term).rank, (1,) * (make.fact(image).rank - 2)
    if rank > 2:
        return _first(term, make)
    return make.Reshape(term, np.array([*(0,) * (rank - 1), -1, *places]))


def _first(x: Value | None, make: Maker) -> Value | None:
    if x is None:
        return None
    rank = make.fact(x).rank
    return make.Transpose(x, perm=[0, rank - 1, *range(1, rank - 1)])


def _last(x: Value, make: Maker) -> Value:
    rank = make.fact(x).rank
    return make.Transpose(x, perm=[0, *range(2, rank), 1])
