"""Sampling at given places: GridSample, and AffineGrid, which makes the places.

Each spatial axis yields taps, places with weights, and the taps of all axes are combined. Places
are computed in the precision of the grid, float32 at least, so that ties fall as in the peers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from fornix.dtype import BOOL, DType
from fornix.errors import ConvertError, DTypeError, require
from fornix.ir.dim import DimLike, is_nonnegative, known
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Tensor
from fornix.ops.adapt import rank_of
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, axes_listed, dims_of, tensor
from fornix.ops.geometry import listed, shape_text, unified
from fornix.ops.interpolate import keys_cubic, narrowed
from fornix.ops.op import op
from fornix.ops.precision import widened
from fornix.ops.types import BF16, FLOAT, I64, TENSOR
from fornix.ops.vision_loops import CUBIC_COEFFICIENT, lower_affine_grid, lower_grid_sample

GridSample = (
    op("""GridSample <align_corners: int = 0, mode: string = "bilinear",
                      padding_mode: string = "zeros">
                     (X: T1, grid: T2) => (Y: T1)""", since=16, T1=TENSOR, T2=FLOAT)
    .since(20, """GridSample <align_corners: int = 0, mode: string = "linear",
                              padding_mode: string = "zeros">
                             (X: T1, grid: T2) => (Y: T1)""")
    .since(22, T1=+BF16, T2=+BF16)
)  # fmt: skip

MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear",
         "cubic": "cubic", "bicubic": "cubic"}  # fmt: skip
"""GridSample-16 says bilinear and bicubic, which GridSample-20 calls linear and cubic."""

PADDINGS = ("zeros", "border", "reflection")


@GridSample.adapt(16, 20)
def grid_sample_16_to_20(node: Node, _: Graph) -> None:
    """Modes have other names, also the one that is meant where none is told."""
    node.set_attribute("mode", MODES[node.attr("mode", "bilinear")])


@GridSample.adapt(20, 16)
def grid_sample_20_to_16(node: Node, _: Graph) -> None:
    if rank_of(node.inputs[0], "X") != 4:
        raise ConvertError("before opset 20 X must be [N, C, H, W]")
    names = {"linear": "bilinear", "cubic": "bicubic"}
    mode = node.attr("mode", "linear")
    node.set_attribute("mode", names.get(mode, mode))


@GridSample.infer
def infer_grid_sample(
    X: Fact,
    grid: Fact,
    *,
    mode: str = "linear",
    padding_mode: str = "zeros",
    align_corners: int = 0,
    node: InferNode,
) -> Fact:
    if not X.has_rank:
        x = [node.unknown("X has no known extents") for _ in grid.shape]
        return tensor(X.dtype, (grid.shape[0], x[1], *grid.shape[1:-1]))
    _check_grid(X.shape, grid.shape)
    batch = unified((X.shape[0], grid.shape[0]))
    return tensor(X.dtype, (batch, X.shape[1], *grid.shape[1:-1]))


def _check_grid(x: Sequence[DimLike], grid: Sequence[DimLike]) -> None:
    require(len(x) >= 3, f"X must have spatial axes, [N, C, *S], found X{shape_text(x)}")
    require(
        len(grid) == len(x)
        and known(grid[-1]) in {None, len(x) - 2}
        and unified((x[0], grid[0])) is not None,
        f"grid must be [N, *O, {len(x) - 2}] for X{shape_text(x)}, found grid{shape_text(grid)}",
    )


@GridSample.kernel
def grid_sample(
    X: Array,
    grid: Array,
    *,
    mode: str = "linear",
    padding_mode: str = "zeros",
    align_corners: int = 0,
) -> Array:
    """Elements of ``X`` at the places that ``grid`` names, interpolated.

    x[N, C, *S] · grid[N, *O, r] → y[N, C, *O], r spatial axes. The last axis of grid holds a place,
    innermost axis first; −1 and 1 are the ends of an axis: the centers of its outer elements with
    align_corners=1, else their outer edges. nearest rounds half to even; linear weighs 2 elements
    per axis, cubic 4. Outside lie zeros, the border element, or the reflection at the ends.
    Integers are interpolated as floats and truncated. Source: ONNX GridSample-22.
    """
    _check_grid(X.shape, grid.shape)
    _check_modes(mode, padding_mode)
    batch, channels, *size = X.shape
    out = grid.shape[1:-1]
    places = widened(grid).reshape(batch, math.prod(out), len(size))[..., ::-1]
    require(
        0 not in size or places.size == 0,
        f"X{shape_text(X.shape)} has no elements to sample",
    )
    axes = [
        _taps(places[..., axis], length, MODES[mode], padding_mode, align=bool(align_corners))
        for axis, length in enumerate(size)
    ]
    flat = X.reshape(batch, channels, math.prod(size))
    y = _nearest(flat, axes, size) if MODES[mode] == "nearest" else _weighted(flat, axes, size)
    return y.reshape(batch, channels, *out)


@GridSample.lower
def lower_grid_sample_rule(
    X: Tensor,
    grid: Tensor,
    *,
    mode: str = "linear",
    padding_mode: str = "zeros",
    align_corners: int = 0,
    node: LowerNode,
) -> Tensor:
    _check_grid(X.shape, grid.shape)
    _check_modes(mode, padding_mode)
    if MODES[mode] != "nearest" and X.dtype is BOOL:
        node.decline("loops do not interpolate truth values")
    return lower_grid_sample(
        X, grid, MODES[mode], padding_mode, is_aligned=bool(align_corners)
    )  # fmt: skip


def _check_modes(mode: str, padding_mode: str) -> None:
    require(mode in MODES, f"mode must be among {', '.join(MODES)}, got {mode!r}")
    require(
        padding_mode in PADDINGS,
        f"padding_mode must be among {', '.join(PADDINGS)}, got {padding_mode!r}",
    )


def _taps(
    place: Array, length: int, mode: str, padding: str, *, align: bool
) -> tuple[Array, Array]:
    """Indices [N, P, taps] along one axis and their weights, which are 0 in the zeros outside."""
    low, high = (0.0, length - 1.0) if align else (-0.5, length - 0.5)
    x = (place + 1) / 2 * (length - 1) if align else ((place + 1) * length - 1) / 2
    if mode != "cubic":  # else each of the taps is brought inside, not the place between them
        x = _inside(x, length, padding, low, high)
    if mode == "nearest":
        tap = np.rint(x)[..., None]
        weight = np.ones_like(tap)
    else:
        reach = 2 if mode == "cubic" else 1
        tap = np.floor(x)[..., None] + np.arange(1 - reach, reach + 1, dtype=x.dtype)
        distance = tap - x[..., None]
        weight = keys_cubic(distance, CUBIC_COEFFICIENT) if reach == 2 else 1 - np.abs(distance)
    if padding == "zeros":
        weight = np.where((tap >= 0) & (tap <= length - 1), weight, 0)
    elif mode == "cubic":
        tap = _inside(tap, length, padding, low, high)
    index = np.clip(np.nan_to_num(tap), 0, length - 1).astype(np.intp)
    return index, weight


def _inside(x: Array, length: int, padding: str, low: float, high: float) -> Array:
    """Positions ``x`` brought into the axis; as they are if zeros lie outside."""
    if padding == "zeros":
        return x
    if padding == "reflection":
        x = _reflected(x, low, high)
    return np.clip(x, 0, length - 1)


def _reflected(x: Array, low: float, high: float) -> Array:
    """Positions ``x`` reflected at ``low`` and ``high`` until they lie between."""
    span = high - low
    if span <= 0:
        return np.full_like(x, low)
    distance = np.abs(x - low)
    rest = np.fmod(distance, span)
    is_odd = np.fmod(np.floor(distance / span), 2) == 1
    return np.asarray(low + np.where(is_odd, span - rest, rest))


def _nearest(flat: Array, axes: Sequence[tuple[Array, Array]], size: Sequence[int]) -> Array:
    """One element per place, or a zero; every dtype."""
    index = _flat_index([index[..., 0] for index, _ in axes], size)
    is_inside = np.logical_and.reduce([weight[..., 0] != 0 for _, weight in axes])
    y = np.take_along_axis(flat, index[:, None], axis=2)
    if np.all(is_inside):
        return y
    zero = np.array("" if flat.dtype == object else 0, flat.dtype)
    return np.where(is_inside[:, None], y, zero)


def _weighted(flat: Array, axes: Sequence[tuple[Array, Array]], size: Sequence[int]) -> Array:
    if DType.of(flat.dtype).kind == "string":
        raise DTypeError("interpolation needs numbers, found X of string; mode nearest takes it")
    wide = widened(flat) if flat.dtype.kind not in "iub" else flat.astype(np.float64)
    total = np.zeros((*flat.shape[:2], axes[0][0].shape[1]), wide.dtype)
    for chosen in itertools.product(*(range(index.shape[2]) for index, _ in axes)):
        index = _flat_index([i[..., t] for (i, _), t in zip(axes, chosen, strict=True)], size)
        factors = [w[..., t] for (_, w), t in zip(axes, chosen, strict=True)]
        weight = math.prod(factors[1:], start=factors[0])[:, None].astype(wide.real.dtype)
        part = np.take_along_axis(wide, index[:, None], axis=2) * weight
        # Without weight nothing is read: 0 · ∞ would be NaN.
        total += part if np.all(weight) else np.where(weight == 0, 0, part)
    return narrowed(np.trunc(total) if flat.dtype.kind in "iu" else total, flat.dtype)


def _flat_index(index: Sequence[Array], size: Sequence[int]) -> Array:
    """The index into the flattened spatial axes that one index per axis stands for."""
    total = index[0]
    for axis_index, length in zip(index[1:], size[1:], strict=True):
        total = total * length + axis_index
    return total


AffineGrid = op(
    "AffineGrid <align_corners: int = 0> (theta: T1, size: T2) => (grid: T1)",
    since=20, T1=FLOAT | BF16, T2=I64, deterministic=False,
)  # fmt: skip


@AffineGrid.infer
def infer_affine_grid(theta: Fact, size: Fact, *, align_corners: int = 0, node: InferNode) -> Fact:
    extents = dims_of(size.value)
    batch = None
    if theta.has_rank:
        require(
            theta.rank == 3, f"theta must be [N, r, r + 1], found shape {shape_text(theta.shape)}"
        )
        batch = theta.shape[0]
    if extents is not None:
        _check_size(extents)
        if theta.has_rank:
            _check_theta(theta.shape, extents)
        first = extents[0] if batch is None else unified((extents[0], batch))
        return tensor(theta.dtype, (first, *extents[2:], len(extents) - 2))
    axes = known(theta.shape[1])
    if axes is None and (count := axes_listed(size)) is not None:
        axes = count - 2
    if axes is None:
        return Fact()
    spatial = [node.unknown("its extents are computed") for _ in range(axes)]
    return tensor(theta.dtype, (batch, *spatial, axes))


def _check_size(size: Sequence[DimLike]) -> None:
    require(
        len(size) in {4, 5},
        f"size must be [N, C, H, W] or [N, C, D, H, W], found {len(size)} extents",
    )
    require(
        all(known(extent) is None or is_nonnegative(extent) for extent in size),
        f"size must hold no negative extent, found {shape_text(size)}",
    )


def _check_theta(theta: Sequence[DimLike], size: Sequence[DimLike]) -> None:
    rank = len(size) - 2
    wanted = (size[0], rank, rank + 1)
    pairs = zip(theta, wanted, strict=False)
    require(
        len(theta) == len(wanted) and all(unified(pair) is not None for pair in pairs),
        f"theta must be {shape_text(wanted)} for size {shape_text(size)}, "
        f"found {shape_text(theta)}",
    )


@AffineGrid.kernel
def affine_grid(theta: Array, size: Array, *, align_corners: int = 0) -> Array:
    """Where an affine map sends the elements of an image; GridSample reads there.

    theta[N, r, r+1], size = [N, C, *S] → grid[N, *S, r]: grid = theta · (x, y, …, 1), the
    coordinates of an element, innermost axis first, between −1 and 1: its outer elements' centers
    lie there with align_corners=1, else their outer edges. An axis of one element lies at 0.
    Source: ONNX AffineGrid-20.
    """
    extents = listed(size, "size")
    _check_size(extents)
    _check_theta(theta.shape, extents)
    spatial = extents[2:]
    rank = len(spatial)
    wide = widened(theta)
    axes = [_centers(length, align=bool(align_corners)).astype(wide.dtype) for length in spatial]
    mesh = np.meshgrid(*axes, indexing="ij")
    points = np.stack([*mesh[::-1], np.ones(spatial, wide.dtype)], axis=-1)
    grid = points.reshape(-1, rank + 1) @ wide.swapaxes(1, 2)
    return grid.reshape(extents[0], *spatial, rank).astype(theta.dtype, copy=False)


@AffineGrid.lower
def lower_affine(theta: Tensor, size: Tensor, *, align_corners: int = 0, node: LowerNode) -> Tensor:
    return lower_affine_grid(theta, node.shape(), is_aligned=bool(align_corners))


def _centers(length: int, *, align: bool) -> Array:
    """Coordinates of the centers of ``length`` elements."""
    i = np.arange(length, dtype=np.float64)
    if not align:
        return np.asarray((2 * i + 1) / max(length, 1) - 1)
    return np.asarray(2 * i / (length - 1) - 1 if length > 1 else np.zeros(length))


AffineGrid.body(
    """
    <domain: "", opset_import: ["": 20]>
    AffineGrid <align_corners: int = 0> (theta, size) => (grid)
    {
        Zero = Constant <value_ints = [0]> ()
        One = Constant <value_ints = [1]> ()
        Two = Constant <value_ints = [2]> ()
        Last = Constant <value_ints = [-1]> ()
        Least = Constant <value_ints = [-9]> ()
        Most = Constant <value_ints = [9]> ()
        Batch = Slice (size, Zero, One)
        Spatial = Slice (size, Two, Most)
        Rank = Shape (Spatial)
        Elements = ConstantOfShape <value = int64[1] {1}> (Spatial)
        OuterFirst = NonZero (Elements)
        InnerFirst = Slice (OuterFirst, Last, Least, Zero, Last)
        Reversed = Slice (Spatial, Last, Least, Zero, Last)
        Lengths = Unsqueeze (Reversed, One)
        Given = Constant <value_int: int = @align_corners> ()
        Half = Sub (One, Given)
        Doubled = Mul (InnerFirst, Two)
        Places = Add (Doubled, Half)
        Between = Sub (Lengths, Given)
        Steps = Max (Between, One)
        Numerators = Cast <to = 11> (Places)
        Denominators = Cast <to = 11> (Steps)
        Quotients = Div (Numerators, Denominators)
        Unit = Constant <value = double {1.0}> ()
        Middle = Constant <value = double {0.0}> ()
        Spread = Sub (Quotients, Unit)
        IsSingle = Equal (Lengths, One)
        Coordinates = Where (IsSingle, Middle, Spread)
        Column = ReduceSum <keepdims = 1> (Coordinates, Zero)
        Cleared = Mul (Column, Middle)
        Units = Add (Cleared, Unit)
        Points = Concat <axis = 0> (Coordinates, Units)
        Wide = Cast <to = 11> (theta)
        Mapped = MatMul (Wide, Points)
        Turned = Transpose <perm = [0, 2, 1]> (Mapped)
        Shape = Concat <axis = 0> (Batch, Spatial, Rank)
        Shaped = Reshape <allowzero = 1> (Turned, Shape)
        grid = CastLike (Shaped, theta)
    }
    """,
    since=20,
)
