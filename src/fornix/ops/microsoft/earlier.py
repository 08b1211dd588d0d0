"""Operators that com.microsoft had before the standard: GatherND, GridSample, Pad.

Each is computed by the rules that the standard's operator of its name has now.
"""

from __future__ import annotations

from fornix.dtype import INT64
from fornix.errors import DTypeError, require
from fornix.ir.loops import Tensor
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, as_value, tensor
from fornix.ops.gather import gather_nd, infer_gather_nd, lower_gather_nd
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.shapes import check_extents, check_shape
from fornix.ops.op import op
from fornix.ops.pad import infer_pad, lower_pad, pad
from fornix.ops.types import FLOAT, I32, I64, TENSOR
from fornix.ops.vision import grid_sample, infer_grid_sample, lower_grid_sample_rule

GatherND = op(
    "GatherND (data: T, indices: Tind) => (output: T)",
    since=1, domain=DOMAIN, T=TENSOR, Tind=I32 | I64,
)  # fmt: skip


@GatherND.infer
def infer_gather_n_d(data: Fact, indices: Fact) -> Fact:
    return infer_gather_nd(data, indices)


@GatherND.kernel
def gather_n_d(data: Array, indices: Array) -> Array:
    """The parts of ``data`` that the last axis of ``indices`` addresses, as the standard's does.

    data[*D, *E] · indices[*I, k] → output[*I, *E], the k entries indexing the axes D.
    Raises Fail if an index is out of range. Source: onnxruntime's contributed operators,
    GatherND-1.
    """
    return gather_nd(data, indices)


@GatherND.lower
def lower_gather_n_d(data: Tensor, indices: Tensor, *, node: LowerNode) -> Tensor:
    return lower_gather_nd(data, indices, node=node)


FLOAT_NAMES = ("float16", "float32", "float64")
"""Types of Y; the declaration has X be of any."""

GridSample = op(
    """GridSample <align_corners: int = 0, mode: string = "bilinear",
                   padding_mode: string = "zeros">
                  (X: T1, Grid: T1) => (Y: T2)""",
    since=1, domain=DOMAIN, T1=TENSOR, T2=FLOAT,
)  # fmt: skip


@GridSample.infer
def infer_sample(
    X: Fact, Grid: Fact, *, mode: str, padding_mode: str, align_corners: int, node: InferNode
) -> Fact:
    of_floats = X.dtype is None or X.dtype.name in FLOAT_NAMES
    require(of_floats, f"X must be of floats, as Y is, got {X.dtype}", DTypeError)
    return infer_grid_sample(
        X, Grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners, node=node
    )


@GridSample.kernel
def sample(X: Array, Grid: Array, *, mode: str, padding_mode: str, align_corners: int) -> Array:
    """Elements of ``X`` at the places that ``Grid`` names, interpolated, as the standard's does.

    X[N, C, *S] · Grid[N, *O, r] → Y[N, C, *O], r spatial axes. mode is bilinear, nearest or
    bicubic. Source: onnxruntime's contributed operators, GridSample-1.
    """
    return grid_sample(X, Grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


@GridSample.lower
def lower_sample(
    X: Tensor, Grid: Tensor, *, mode: str, padding_mode: str, align_corners: int, node: LowerNode
) -> Tensor:
    return lower_grid_sample_rule(
        X, Grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners, node=node
    )


Pad = op(
    """Pad <mode: string = "constant"> (data: T, pads: tensor(int64), value: T?) =>
           (output: T)""",
    since=1, domain=DOMAIN, T=FLOAT,
)  # fmt: skip


@Pad.infer
def infer_margins(
    data: Fact, pads: Fact, value: Fact | None = None, *, mode: str, node: InferNode
) -> Fact:
    if pads.has_rank and pads.rank > 1:
        check_shape("pads", pads, (1, 2 * data.rank))
        row = pads.constant
        pads = tensor(
            INT64, (2 * data.rank,), None if row is None else as_value(row.reshape(-1).tolist())
        )
    return infer_pad(data, pads, value, mode=mode, node=node)


@Pad.kernel
def with_margins(data: Array, pads: Array, value: Array | None = None, *, mode: str) -> Array:
    """``data`` with elements added at both ends of axes, or cut off, as the standard's does.

    data[*S] → output[S + before + after], pads = [before each axis …, after each axis …], perhaps
    as a row. mode is constant, with ``value`` or 0, edge or reflect.
    Source: onnxruntime's contributed operators, Pad-1.
    """
    if pads.ndim > 1:
        check_extents("pads", pads.shape, (1, 2 * data.ndim))
    return pad(data, pads.reshape(-1), value, mode=mode)


@Pad.lower
def lower_margins(
    data: Tensor, pads: Tensor, value: Tensor | None = None, *, mode: str, node: LowerNode
) -> Tensor:
    if pads.rank > 1:
        node.decline("its pads are a row")
    return lower_pad(data, pads, value, mode=mode, node=node)
