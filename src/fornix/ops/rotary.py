"""RotaryEmbedding: positions written into queries and keys as rotations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, divide, equal, known
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, gathered, index, select
from fornix.ops.call import BodyNode, LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.op import op
from fornix.ops.precision import wide_dtype, widened
from fornix.ops.types import BF16, F16, F32, I64

RotaryEmbedding = op(
    """RotaryEmbedding <interleaved: int = 0, num_heads: int?, rotary_embedding_dim: int = 0>
                       (X: T, cos_cache: T, sin_cache: T, position_ids: M?) => (Y: T)""",
    since=23, T=BF16 | F16 | F32, M=I64,
)  # fmt: skip


@RotaryEmbedding.infer
def infer_rotary_embedding(
    X: Fact,
    cos_cache: Fact,
    sin_cache: Fact,
    position_ids: Fact | None = None,
    *,
    interleaved: int = 0,
    num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
) -> Fact:
    _check_heads(X.shape, num_heads)
    is_split = X.rank == 4
    width = known(X.shape[3] if is_split else divide(X.shape[2], num_heads or 1))
    size = rotary_embedding_dim or width
    if size is not None:
        _check_rotated(size, size if width is None else width)
        wanted = (X.shape[0], X.shape[1 + is_split], size // 2)
        for name, cache in (("cos_cache", cos_cache), ("sin_cache", sin_cache)):
            _check_angle_facts(cache, position_ids, wanted, name)
    return tensor(X.dtype, X.shape)


def _check_angle_facts(
    cache: Fact, position_ids: Fact | None, wanted: Sequence[DimLike], name: str
) -> None:
    if cache.has_rank and (position_ids is None or position_ids.has_rank):
        ids = None if position_ids is None else position_ids.shape
        _check_angles(cache.shape, ids, wanted, name)


def _check_heads(x: Sequence[DimLike], num_heads: int | None) -> None:
    require(
        len(x) in {3, 4},
        "X must be [batch, heads, length, size] or [batch, length, heads·size], "
        f"found X{shape_text(x)}",
    )
    if len(x) == 3:
        require(
            num_heads is not None and num_heads > 0,
            f"num_heads is required for X{shape_text(x)} of rank 3, found {num_heads}",
        )
        hidden = known(x[2])
        require(
            hidden is None or hidden % (num_heads or 1) == 0,
            f"X{shape_text(x)} must divide into num_heads={num_heads} heads",
        )


@RotaryEmbedding.kernel
def rotary_embedding(
    X: Array,
    cos_cache: Array,
    sin_cache: Array,
    position_ids: Array | None = None,
    *,
    interleaved: int = 0,
    num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
) -> Array:
    """Rotate pairs of elements by angles that depend on their position.

    (a, b) → (a·cos − b·sin, a·sin + b·cos) for the R/2 pairs of the first R elements of each head,
    R = rotary_embedding_dim, or all if that is 0: element i with element i + R/2, or, interleaved,
    2i with 2i + 1. x[B, H, S, D] or, given num_heads, x[B, S, H·D] → y like x. The caches are
    [positions, R/2], looked up at position_ids[B, S], or without these [B, S, R/2].
    Source: ONNX RotaryEmbedding-23; J. Su et al., RoFormer, 2021.
    """
    _check_heads(X.shape, num_heads)
    is_split = X.ndim == 4
    x = widened(X)
    if not is_split:
        x = x.reshape(*X.shape[:2], num_heads or 1, X.shape[2] // (num_heads or 1))
    batch, length = X.shape[0], X.shape[2 if is_split else 1]
    size = rotary_embedding_dim or x.shape[-1]
    _check_rotated(size, x.shape[-1])
    wanted = (batch, length, size // 2)
    head_axis = 1 if is_split else 2
    cos = np.expand_dims(_angles(cos_cache, position_ids, wanted, "cos_cache"), head_axis)
    sin = np.expand_dims(_angles(sin_cache, position_ids, wanted, "sin_cache"), head_axis)
    y = x.copy()
    half = size // 2
    one, other = (
        (slice(0, size, 2), slice(1, size, 2))
        if interleaved
        else (slice(0, half), slice(half, size))
    )
    a, b = x[..., one], x[..., other]
    y[..., one] = a * cos - b * sin
    y[..., other] = a * sin + b * cos
    return y.reshape(X.shape).astype(X.dtype, copy=False)


@RotaryEmbedding.body(since=23)
def rotary_embedding_body(*, node: BodyNode) -> str:
    is_split = (node.rank(0) or (3 if "num_heads" in node.attributes else 4)) == 4
    size = node.attributes["rotary_embedding_dim"]
    split = """
        Count = Constant <value_int: int = @num_heads> ()
        Heads = Unsqueeze (Count, Zero)
        Division = Concat <axis = 0> (Zero, Zero, Heads, Minus)
        Divided = Reshape (Wide, Division)
        Whole = Transpose <perm = [0, 2, 1, 3]> (Divided)"""
    part = """
        Place = Constant <value_int: int = @rotary_embedding_dim> ()
        Border = Unsqueeze (Place, Zero)
        Rotated = Slice (Whole, Zero, Border, Last)
        Rest = Slice (Whole, Border, End, Last)"""
    pairs = """
        Two = Constant <value_ints = [2]> ()
        First = Slice (Rotated, Zero, End, Last, Two)
        Second = Slice (Rotated, One, End, Last, Two)"""
    angles = """
        Cos = Gather (cos_cache, position_ids)
        Sin = Gather (sin_cache, position_ids)"""
    together = """
        FirstOf = Unsqueeze (NewFirst, Four)
        SecondOf = Unsqueeze (NewSecond, Four)
        Pairs = Concat <axis = 4> (FirstOf, SecondOf)
        Extents = Shape (Rotated)
        Turned = Reshape <allowzero = 1> (Pairs, Extents)"""
    joined = """
        Back = Transpose <perm = [0, 2, 1, 3]> (Result)
        Form = Shape (X)
        Joined = Reshape <allowzero = 1> (Back, Form)"""
    is_paired = bool(node.attributes["interleaved"])
    return f"""
        Zero = Constant <value_ints = [0]> ()
        One = Constant <value_ints = [1]> ()
        Last = Constant <value_ints = [3]> ()
        Four = Constant <value_ints = [4]> ()
        Minus = Constant <value_ints = [-1]> ()
        End = Constant <value_ints = [9223372036854775807]> ()
        Wide = Cast <to = 1> (X)
        {"Whole = Identity (Wide)" if is_split else split}
        {part if size else "Rotated = Identity (Whole)"}
        {pairs if is_paired else "First, Second = Split <axis = 3, num_outputs = 2> (Rotated)"}
        {angles if node.has(3) else "Cos = Identity (cos_cache) Sin = Identity (sin_cache)"}
        WideCos = Cast <to = 1> (Cos)
        WideSin = Cast <to = 1> (Sin)
        Cosines = Unsqueeze (WideCos, One)
        Sines = Unsqueeze (WideSin, One)
        FirstCos = Mul (First, Cosines)
        SecondSin = Mul (Second, Sines)
        NewFirst = Sub (FirstCos, SecondSin)
        FirstSin = Mul (First, Sines)
        SecondCos = Mul (Second, Cosines)
        NewSecond = Add (FirstSin, SecondCos)
        {together if is_paired else "Turned = Concat <axis = 3> (NewFirst, NewSecond)"}
        {"Result = Concat <axis = 3> (Turned, Rest)" if size else "Result = Identity (Turned)"}
        {"Joined = Identity (Result)" if is_split else joined}
        Y = CastLike (Joined, X)
    """


@RotaryEmbedding.lower
def lower_rotary_embedding(
    X: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
    node: LowerNode,
) -> Tensor:
    _check_heads(X.shape, num_heads)
    is_split, wide = X.rank == 4, wide_dtype(X.dtype)
    width = X.shape[3] if is_split else divide(X.shape[2], num_heads or 1)
    extent = known(width)
    if extent is None:
        node.decline("the size of a head is known at run time only")
    size = rotary_embedding_dim or extent
    _check_rotated(size, extent)
    half, wanted = size // 2, (X.shape[0], X.shape[1 + is_split], size // 2)
    ids = None if position_ids is None else position_ids.shape
    _check_angles(cos_cache.shape, ids, wanted, "cos_cache")
    _check_angles(sin_cache.shape, ids, wanted, "sin_cache")

    def angle(cache: Tensor, b: DimLike, t: DimLike, j: DimLike) -> Scalar:
        if position_ids is None:
            return cast(cache.get((b, t, j), 0), wide)
        row = gathered(position_ids[b, t], cache.shape[0])
        return cast(cache.get((row, j), 0), wide)

    def at(*i: DimLike) -> Scalar:
        head = 0 if is_split else i[2] // extent * extent
        b, t, d = i[0], i[1 + is_split], i[-1] - head
        side = d - d // 2 * 2 if interleaved else d // max(half, 1)
        j = d // 2 if interleaved else d - side * half
        other = d + 1 - 2 * side if interleaved else d + half - 2 * side * half
        turned = cast(X.get((*i[:-1], head + other), 0), wide) * angle(sin_cache, b, t, j)
        signed = select(apply("eq", index(side), 0), -turned, turned)
        rotated = cast(X[i], wide) * angle(cos_cache, b, t, j) + signed
        return select(index(d) < size, cast(rotated, X.dtype), X[i])

    return X if size == 0 else compute(X.shape, at)


def _check_rotated(size: int, width: int) -> None:
    require(
        0 <= size <= width and size % 2 == 0,
        f"an even number of elements, at most the head size {width}, is rotated, got {size}",
    )


def _check_angles(
    cache: Sequence[DimLike],
    position_ids: Sequence[DimLike] | None,
    wanted: Sequence[DimLike],
    name: str,
) -> None:
    """Raise ShapeError unless ``cache`` has an angle for every position and pair of elements."""
    if position_ids is None:
        require(
            _agree(cache, wanted),
            f"{name} must be {shape_text(wanted)} without position_ids, found {shape_text(cache)}",
        )
        return
    require(
        len(cache) == 2 and equal(cache[1], wanted[2]) is not False,
        f"{name} must be [positions, {wanted[2]}], found {shape_text(cache)}",
    )
    require(
        _agree(position_ids, wanted[:2]),
        f"position_ids must be {shape_text(wanted[:2])}, found {shape_text(position_ids)}",
    )


def _agree(shape: Sequence[DimLike], wanted: Sequence[DimLike]) -> bool:
    return len(shape) == len(wanted) and all(
        equal(a, b) is not False for a, b in zip(shape, wanted, strict=True)
    )


def _angles(
    cache: Array, position_ids: Array | None, wanted: tuple[int, int, int], name: str
) -> Array:
    """The entries of ``cache`` for every position, [B, S, R/2]."""
    _check_angles(cache.shape, None if position_ids is None else position_ids.shape, wanted, name)
    if position_ids is not None:
        outside = position_ids[(position_ids < 0) | (position_ids >= len(cache))]
        require(
            not outside.size,
            f"position_ids must be in [0, {len(cache) - 1}], the rows of {name}, "
            f"got {outside[:1].tolist()}",
            Fail,
        )
        cache = cache[position_ids]
    return widened(cache)
