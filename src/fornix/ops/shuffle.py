"""Elements of pictures, sequences and matrices in other places: DepthToSpace, Trilu and their kin.

None of these computes with elements, so every rule holds for every dtype.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import Scalar, Tensor, compute, gathered, index, select
from fornix.ops.call import BodyNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import check_single, shape_text, single, unified
from fornix.ops.op import op
from fornix.ops.types import BF16, TENSOR

DepthToSpace = (
    op("DepthToSpace <blocksize: int> (input: T) => (output: T)", since=1, T=TENSOR)
    .since(11, 'DepthToSpace <blocksize: int, mode: string = "DCR"> (input: T) => (output: T)')
    .since(13, T=+BF16)
    .since(28, undetermined=True)
)


@DepthToSpace.infer
def infer_depth_to_space(input: Fact, *, blocksize: int, mode: str = "DCR") -> Fact:
    _check_picture(input.shape, blocksize, mode)
    _check_multiple(input.shape, (1,), blocksize**2)
    n, c, h, w = input.shape
    return tensor(input.dtype, (n, c // blocksize**2, h * blocksize, w * blocksize))


@DepthToSpace.kernel
def depth_to_space(input: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Move channels into b×b blocks of pixels, b being ``blocksize``.

    input[N, C · b², H, W] → output[N, C, H · b, W · b]. In mode DCR the channels are ordered
    (row, column, depth), in mode CRD (depth, row, column). Source: ONNX DepthToSpace-13.
    """
    _check_picture(input.shape, blocksize, mode)
    _check_multiple(input.shape, (1,), blocksize**2)
    n, c, h, w = input.shape
    b, depth = blocksize, c // blocksize**2
    if mode == "DCR":
        blocks = input.reshape(n, b, b, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = input.reshape(n, depth, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, depth, h * b, w * b)


@DepthToSpace.lower
def lower_depth_to_space(input: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    _check_picture(input.shape, blocksize, mode)
    _check_multiple(input.shape, (1,), blocksize**2)
    n, c, h, w = input.shape
    b, depth = blocksize, c // blocksize**2

    def at(i: DimLike, d: DimLike, y: DimLike, x: DimLike) -> Scalar:
        block = y % b * b + x % b
        channel = block * depth + d if mode == "DCR" else d * b * b + block
        return input[i, channel, y // b, x // b]

    return compute((n, depth, h * b, w * b), at)


@DepthToSpace.body(since=28)
def depth_to_space_body(*, node: BodyNode) -> str:
    is_dcr = node.attributes["mode"] == "DCR"
    apart = "N, Block, Block, Depth, H, W" if is_dcr else "N, Depth, Block, Block, H, W"
    order = "[0, 3, 4, 1, 5, 2]" if is_dcr else "[0, 1, 4, 2, 5, 3]"
    return f"""
        {PICTURE}
        Area = Mul (Block, Block)
        Depth = Div (C, Area)
        Height = Mul (H, Block)
        Width = Mul (W, Block)
        Apart = Concat <axis = 0> ({apart})
        Blocks = Reshape <allowzero = 1> (input, Apart)
        Ordered = Transpose <perm = {order}> (Blocks)
        Joined = Concat <axis = 0> (N, Depth, Height, Width)
        output = Reshape <allowzero = 1> (Ordered, Joined)
    """


PICTURE = """
        Side = Constant <value_int: int = @blocksize> ()
        First = Constant <value_ints = [0]> ()
        Block = Unsqueeze (Side, First)
        Extents = Shape (input)
        N, C, H, W = Split <num_outputs = 4> (Extents)
"""
"""How bodies call the extents of a picture and the sides of its blocks."""


def _check_picture(shape: Sequence[DimLike], blocksize: int, mode: str) -> None:
    require(len(shape) == 4, f"input must be [N, C, H, W], found {shape_text(shape)}")
    require(blocksize >= 1, f"blocksize must be 1 or more, got {blocksize}")
    require(mode in {"DCR", "CRD"}, f"mode must be DCR or CRD, got {mode!r}")


def _check_multiple(shape: Sequence[DimLike], axes: Sequence[int], divisor: int) -> None:
    for axis in axes:
        extent = known(shape[axis])
        require(
            extent is None or extent % divisor == 0,
            f"axis {axis} of input{shape_text(shape)} must be a multiple of {divisor}, "
            f"found {extent}",
        )


SpaceToDepth = (
    op("SpaceToDepth <blocksize: int> (input: T) => (output: T)", since=1, T=TENSOR)
    .since(13, T=+BF16)
    .since(
        28,
        'SpaceToDepth <blocksize: int, mode: string = "DCR"> (input: T) => (output: T)',
        undetermined=True,
    )
)


@SpaceToDepth.infer
def infer_space_to_depth(input: Fact, *, blocksize: int, mode: str = "DCR") -> Fact:
    _check_picture(input.shape, blocksize, mode)
    _check_multiple(input.shape, (2, 3), blocksize)
    n, c, h, w = input.shape
    return tensor(input.dtype, (n, c * blocksize**2, h // blocksize, w // blocksize))


@SpaceToDepth.kernel
def space_to_depth(input: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Move b×b blocks of pixels into channels, b being ``blocksize``; undoes DepthToSpace.

    input[N, C, H · b, W · b] → output[N, C · b², H, W]. Source: ONNX SpaceToDepth-28.
    """
    _check_picture(input.shape, blocksize, mode)
    _check_multiple(input.shape, (2, 3), blocksize)
    n, c, h, w = input.shape
    b, rows, columns = blocksize, h // blocksize, w // blocksize
    blocks = input.reshape(n, c, rows, b, columns, b)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks.transpose(order).reshape(n, c * b * b, rows, columns)


@SpaceToDepth.lower
def lower_space_to_depth(input: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    _check_picture(input.shape, blocksize, mode)
    _check_multiple(input.shape, (2, 3), blocksize)
    n, c, h, w = input.shape
    b, depths = blocksize, 1 if c == 0 else c  # of no channels, any will do

    def at(i: DimLike, channel: DimLike, y: DimLike, x: DimLike) -> Scalar:
        block = channel // depths if mode == "DCR" else channel % (b * b)
        depth = channel % depths if mode == "DCR" else channel // (b * b)
        return input[i, depth, y * b + block // b, x * b + block % b]

    return compute((n, c * b * b, h // b, w // b), at)


@SpaceToDepth.body(since=28)
def space_to_depth_body(*, node: BodyNode) -> str:
    order = "[0, 3, 5, 1, 2, 4]" if node.attributes["mode"] == "DCR" else "[0, 1, 3, 5, 2, 4]"
    return f"""
        {PICTURE}
        Rows = Div (H, Block)
        Columns = Div (W, Block)
        Area = Mul (Block, Block)
        Depth = Mul (C, Area)
        Apart = Concat <axis = 0> (N, C, Rows, Block, Columns, Block)
        Blocks = Reshape <allowzero = 1> (input, Apart)
        Ordered = Transpose <perm = {order}> (Blocks)
        Joined = Concat <axis = 0> (N, Depth, Rows, Columns)
        output = Reshape <allowzero = 1> (Ordered, Joined)
    """


ReverseSequence = (
    op("""ReverseSequence <batch_axis: int = 1, time_axis: int = 0>
              (input: T, sequence_lens: tensor(int64)) => (Y: T)""", since=10, T=TENSOR)
    .since(28, T=+BF16)
)  # fmt: skip


@ReverseSequence.infer
def infer_reverse_sequence(
    input: Fact, sequence_lens: Fact, *, batch_axis: int, time_axis: int
) -> Fact:
    if sequence_lens.has_rank:
        _check_batch(input.shape, sequence_lens.shape, batch_axis, time_axis)
    return tensor(input.dtype, input.shape)


@ReverseSequence.kernel
def reverse_sequence(
    input: Array, sequence_lens: Array, *, batch_axis: int, time_axis: int
) -> Array:
    """``input`` with the first ``sequence_lens[i]`` steps of each batch entry i reversed.

    Batch and time are axes 0 and 1 in either order; later steps stay where they are.
    Raises Fail if a length exceeds the number of steps. Source: ONNX ReverseSequence-10.
    """
    _check_batch(input.shape, sequence_lens.shape, batch_axis, time_axis)
    steps = input.shape[time_axis]
    for length in sequence_lens.tolist():
        require(
            0 <= length <= steps,
            f"entries of sequence_lens must be in [0, {steps}], got {length}",
            Fail,
        )
    step = np.arange(steps)
    lengths = sequence_lens[:, np.newaxis]
    source = np.where(step < lengths, lengths - 1 - step, step)  # [batch, time]
    if time_axis == 0:
        return input[source.T, np.arange(input.shape[1])]
    return input[np.arange(input.shape[0])[:, np.newaxis], source]


@ReverseSequence.lower
def lower_reverse_sequence(
    input: Tensor, sequence_lens: Tensor, *, batch_axis: int, time_axis: int
) -> Tensor:
    _check_batch(input.shape, sequence_lens.shape, batch_axis, time_axis)
    steps = input.shape[time_axis]

    def at(*i: DimLike) -> Scalar:
        # The greatest position that a length may stand for is the number of steps itself.
        length = index(gathered(sequence_lens[i[batch_axis]], steps + 1))
        step = index(i[time_axis])
        source = gathered(select(step < length, length - 1 - step, step), steps)
        return input[(*i[:time_axis], source, *i[time_axis + 1 :])]

    return compute(input.shape, at)


def _check_batch(
    shape: Sequence[DimLike], lengths: Sequence[DimLike], batch_axis: int, time_axis: int
) -> None:
    require(len(shape) >= 2, f"input must have rank 2 or more, found {shape_text(shape)}")
    require(
        {batch_axis, time_axis} == {0, 1},
        f"batch_axis and time_axis must be 0 and 1 in either order, got {batch_axis} and "
        f"{time_axis}",
    )
    require(
        len(lengths) == 1 and unified([lengths[0], shape[batch_axis]]) is not None,
        f"sequence_lens must be [{shape[batch_axis]}], found {shape_text(lengths)}",
    )


Trilu = op(
    "Trilu <upper: int = 1> (input: T, k: tensor(int64)?) => (output: T)", since=14, T=TENSOR | BF16
)


@Trilu.infer
def infer_trilu(input: Fact, k: Fact | None = None, *, upper: int) -> Fact:
    _check_matrix(input.shape)
    if k is not None and k.has_rank:
        check_single(k.shape, "k")
    return tensor(input.dtype, input.shape)


@Trilu.kernel
def trilu(input: Array, k: Array | None = None, *, upper: int) -> Array:
    """The upper or lower triangle of each matrix in ``input``; zero elsewhere.

    input[*B, N, M] → output[*B, N, M]. The triangle includes diagonal ``k``, counted to the right
    from the main one. Source: ONNX Trilu-14.
    """
    _check_matrix(input.shape)
    rows, columns = input.shape[-2:]
    diagonal = 0 if k is None else int(single(k, "k"))
    diagonal = min(max(diagonal, -rows), columns)  # beyond, nothing changes
    distance = np.arange(columns) - np.arange(rows)[:, np.newaxis]
    keeps = distance >= diagonal if upper else distance <= diagonal
    return np.where(keeps, input, zero_of(input.dtype))


@Trilu.lower
def lower_trilu(input: Tensor, k: Tensor | None = None, *, upper: int) -> Tensor:
    _check_matrix(input.shape)

    def at(*i: DimLike) -> Scalar:
        row, column = index(i[-2]), index(i[-1])
        if k is None:
            return select(row <= column if upper else column <= row, input[i], False)
        diagonal, distance = k[(0,) * k.rank], column - row
        keeps = diagonal <= distance if upper else distance <= diagonal
        return select(keeps, input[i], False)

    return compute(input.shape, at)


def _check_matrix(shape: Sequence[DimLike]) -> None:
    require(len(shape) >= 2, f"input must be [*B, N, M], found {shape_text(shape)}")


def zero_of(dtype: np.dtype[np.generic]) -> Array:
    """The scalar 0, False or "" of ``dtype``; of float8e8m0, which has no 0, its least number."""
    return np.array("", object) if dtype.kind == "O" else np.zeros((), dtype)
