"""What every operator means: schema history, inference, kernel, lowering, adapters.

One file per family, each operator in one place. `FAMILIES` is the whole list; an operator exists
because its family module declares it.
"""

from __future__ import annotations

import difflib
import importlib
from functools import cache

from fornix.errors import SchemaError
from fornix.ops.op import Operator
from fornix.ops.schema import Schema

FAMILIES: tuple[str, ...] = (
    "elementwise",
    "logic",
    "activation",
    "softmax",
    "shape",
    "squeeze",
    "move",
    "shuffle",
    "slice",
    "pad",
    "gather",
    "scatter",
    "search",
    "cast",
    "generate",
    "random",
    "sequence",
    "optional",
    "text",
    "reduce",
    "extremes",
    "cumulative",
    "linalg",
    "einsum",
    "conv",
    "conv_variants",
    "pool",
    "global_pool",
    "indexed_pool",
    "norm",
    "group_norm",
    "batch_norm",
    "recurrent",
    "control",
    "resize",
    "vision",
    "boxes",
    "image",
    "signal",
    "attention",
    "rotary",
    "linear_attention",
    "quantize",
    "quantized_products",
    "loss",
    "training",
    "ml.linear",
    "ml.svm",
    "ml.tables",
    "ml.labels",
    "ml.trees",
    "ml.ensemble",
)
"""Modules of this package that declare operators."""


@cache
def operators() -> dict[tuple[str, str], Operator]:
    """Every operator by (domain, name)."""
    modules = [importlib.import_module(f"{__name__}.{family}") for family in FAMILIES]
    declared = [v for module in modules for v in vars(module).values() if isinstance(v, Operator)]
    return {(operator.domain, operator.name): operator for operator in declared}


def find(domain: str, name: str) -> Operator | None:
    """The operator of that name, or None; "ai.onnx" is another name of the domain ""."""
    return operators().get(("" if domain == "ai.onnx" else domain, name))


def schema_of(domain: str, name: str, opset: int) -> Schema:
    """The schema of an operator in force at ``opset``; raises SchemaError if there is none."""
    operator = find(domain, name)
    if operator is None:
        names = [known for known_domain, known in operators() if known_domain == domain]
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise SchemaError(
            f"an operator of domain {domain or 'ai.onnx'!r} is required, found {name!r}{hint}"
        )
    return operator.schema(opset)
