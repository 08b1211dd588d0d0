"""Tensor expressions: what an operator computes, element by element, for the compiler to read.

A lowering takes tensors and gives tensors; the only vocabulary is below. Indices, extents and
addresses are dims (`fornix.ir.dim`) over loop variables, values are scalars of strict dtypes. There
is one mechanism, an expression per element, and the least that it cannot say: `scan`, `scatter`,
`routine` and `opaque`. Which loops run in which order, in which vectors and on which thread is
decided by `compile`; what an expression means is decided here, and by the interpreter in tests/ir.
An argmax is no construct of its own: it is the least k where x[k] equals the maximum.

    top = compute(x.shape[:-1], lambda *i: reduce("max", x.shape[-1], lambda k: x[(*i, k)]))
    half = compute((n // 2, m), lambda i, j: x[2 * i, n - 1 - j])
    padded = compute((n + 2,), lambda i: x.get(i - 1, default=0))
    rows = compute((k, m), lambda i, j: x[gathered(ids[i], n, wraps=True), j])
"""

from __future__ import annotations

from fornix.ir.buffer import Buffer
from fornix.ir.loops.index import Loaded, Variable, out_of_range
from fornix.ir.loops.rewrite import (
    Substitution,
    guarded,
    loaded,
    replace,
    substitute_scalar,
    walk,
)
from fornix.ir.loops.routines import routine
from fornix.ir.loops.scalar import (
    FALSE,
    OPERATIONS,
    REDUCTIONS,
    TRUE,
    Apply,
    Const,
    Index,
    Load,
    Number,
    Reduce,
    Scalar,
    apply,
    as_dim,
    bitcast,
    cast,
    const,
    gathered,
    identity,
    index,
    load,
    select,
)
from fornix.ir.loops.tensor import (
    Computation,
    Constant,
    IndexLike,
    Opaque,
    Routine,
    Scan,
    Scatter,
    Store,
    Tensor,
    compute,
    constant,
    opaque,
    reduce,
    scan,
    scatter,
    stored,
    stored_at,
    tensor,
)

__all__ = [
    "FALSE",
    "OPERATIONS",
    "REDUCTIONS",
    "TRUE",
    "Apply",
    "Buffer",
    "Computation",
    "Const",
    "Constant",
    "Index",
    "IndexLike",
    "Load",
    "Loaded",
    "Number",
    "Opaque",
    "Reduce",
    "Routine",
    "Scalar",
    "Scan",
    "Scatter",
    "Store",
    "Substitution",
    "Tensor",
    "Variable",
    "apply",
    "as_dim",
    "bitcast",
    "cast",
    "compute",
    "const",
    "constant",
    "gathered",
    "guarded",
    "identity",
    "index",
    "load",
    "loaded",
    "opaque",
    "out_of_range",
    "reduce",
    "replace",
    "routine",
    "scan",
    "scatter",
    "select",
    "stored",
    "stored_at",
    "substitute_scalar",
    "tensor",
    "walk",
]
