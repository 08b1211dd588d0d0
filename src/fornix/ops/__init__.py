"""What every operator means: schema history, inference, kernel, lowering, adapters.

One file per family, each operator in one place. `FAMILIES` is the whole list; an operator of the
standard exists because its family module declares it, another because a user registered it.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from functools import cache

from fornix.errors import SchemaError
from fornix.ops.op import Operator
from fornix.ops.opsets import LATEST
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


Table = Mapping[tuple[str, str], Operator]

_table: dict[str, Table] = {}


@cache
def standard() -> Table:
    """The operators of the standard, by (domain, name)."""
    modules = [importlib.import_module(f"{__name__}.{family}") for family in FAMILIES]
    found = [v for module in modules for v in vars(module).values() if isinstance(v, Operator)]
    return {(operator.domain, operator.name): operator for operator in found}


def operators() -> Table:
    """Every operator by (domain, name): those of the standard, and those that users registered.

    The table is replaced when that changes, and never changed itself.
    """
    return _table.get("now") or standard()


def use_table(table: Table) -> None:
    """Make ``table`` what `operators` gives; for `registered`."""
    _table["now"] = table


def find(domain: str, name: str) -> Operator | None:
    """The operator of that name, or None; "ai.onnx" is another name of the domain ""."""
    return operators().get(("" if domain == "ai.onnx" else domain, name))


def schema_of(domain: str, name: str, opset: int) -> Schema:
    """The schema of an operator in force at ``opset``; raises SchemaError if there is none."""
    operator = find(domain, name)
    if operator is None:
        raise SchemaError(
            f"an operator of domain {domain or 'ai.onnx'!r} is required, found {name!r}"
            f"{_remedy(domain, name)}"
        )
    return operator.schema(opset)


def _remedy(domain: str, name: str) -> str:
    """What to do about an operator that nobody knows."""
    names = [known for known_domain, known in operators() if known_domain == domain]
    close = difflib.get_close_matches(name, names, 1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    if domain in LATEST:
        return meant
    other = " Else" if close else ";"
    return f"{meant}{other} register it: @fornix.op('{domain}::{name} (X: T) => (Y: T)')"
