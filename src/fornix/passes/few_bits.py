"""Products with a stored matrix of few bits as MatMulNBits of com.microsoft, for the engine alone.

    1. Where the matrix is dequantized by a scale for each block of a column, or each column, it
       stays in its bits: folded into numbers it would take many times the memory.
    2. On request a matrix of float32 is rounded to 8 bits, with a scale for each block of a column.
    3. On request the rows that meet either are rounded so in the run, and bytes are multiplied.
    4. Where g_idx says which columns of the first factor share a scale, as quantization in order of
       importance writes it, they are brought side by side: bits of blocks are read in vectors.

The first two begin at a size from which reading the matrix is what a product with few rows costs.
Models that are written never see these passes: they stay in the standard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, INT8, UINT8, DType
from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.fields import packed, reordered
from fornix.passes.apply import Changes, apply_rules
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, const, rewrite

Array = np.ndarray[Any, Any]

FEW = (2, 4, 8)
"""Bits of a weight that MatMulNBits knows."""
LEAST = 1 << 14
"""Elements of a matrix from which on its memory counts."""
WORD = 32
"""Bits; blocks fill whole words."""
LARGEST = 127
"""Steps from zero that 8 bits have on either side."""
BLOCK = 64
"""Weights of a block that are rounded together: a scale for each is 6 % of their memory."""
PARTS = (128, BLOCK, 32, 16)
"""Weights for which a column's one scale is said again: sums of several blocks are taken from
memory in few bits, one of a whole column would be folded into numbers, and its scale put behind."""


@dataclass(frozen=True)
class _Matrix:
    """Integers [K, N] as MatMulNBits takes them: steps and zero points from 0 on."""

    steps: Array
    scales: Array
    """[blocks, N]"""
    zeros: Array | None
    block: int
    bits: int

    def times(self, a: Value, bias: Value | None, accuracy: int, make: Maker) -> Value:
        """The product of ``a`` with it, at a level of ``accuracy`` of MatMulNBits."""
        count, columns = self.scales.shape
        rows = self.steps.shape[0]
        filled = np.zeros((columns, count * self.block), np.uint8)
        filled[:, :rows] = self.steps.T
        bytes_ = packed(filled, self.bits).reshape(columns, count, -1)
        zeros = (
            None if self.zeros is None else packed(np.ascontiguousarray(self.zeros.T), self.bits)
        )
        return make.MatMulNBits(
            a, bytes_, np.ascontiguousarray(self.scales.T), zeros, None, bias,
            domain=DOMAIN, K=rows, N=columns, bits=self.bits, block_size=self.block,
            accuracy_level=accuracy,
        )  # fmt: skip


def _array(value: Value | None) -> Array | None:
    """The stored contents of ``value``."""
    if value is None or value.constant is None:
        return None
    array: Array = value.constant.numpy()
    return array


def _unturned(b: Value) -> tuple[Value, bool]:
    """What ``b`` is the transpose of, and whether it is one."""
    node = b.producer
    if node is None or node.domain or node.op_type != "Transpose" or node.inputs[0] is None:
        return b, False
    return (node.inputs[0], True) if node.attr("perm", [1, 0]) == [1, 0] else (b, False)


def dequantized(b: Value, *, is_turned: bool) -> _Matrix | None:
    """The matrix ``b``, or its transpose, if stored integers are dequantized to it."""
    b, again = _unturned(b)
    node = b.producer
    if node is None or node.domain or node.op_type != "DequantizeLinear":
        return None
    w, scale, zero = (_array(x) for x in (*node.inputs, None)[:3])
    if w is None or scale is None or (zero is None and len(node.inputs) > 2):
        return None
    dtype, axis, block = DType.of(w.dtype), node.attr("axis", 1) % 2, node.attr("block_size", 0)
    is_of_many = dtype.bits in FEW and dtype.is_integer and w.ndim == 2 and w.size >= LEAST
    if not is_of_many or scale.dtype != np.float32:
        return None
    if is_turned != again:
        w, axis = w.T, 1 - axis
        scale, zero = scale.T, None if zero is None else zero.T
    rows, columns = w.shape
    if block and (axis or scale.ndim != 2):
        return None
    if not block:
        if scale.size > 1 and (scale.ndim != 1 or not axis):
            return None
        block = next((n for n in PARTS if n < rows and rows % n == 0), BLOCK)
        count = -(-rows // block)
        scale = np.broadcast_to(scale, (count, columns))
        zero = None if zero is None else np.broadcast_to(zero, (count, columns))
    if block * dtype.bits % WORD or len(scale) == 1:
        return None
    return _Matrix(*_from_zero(w, scale, zero, dtype), block, dtype.bits)


def _from_zero(
    w: Array, scale: Array, zero: Array | None, dtype: DType
) -> tuple[Array, Array, Array | None]:
    """Integers and their zero points from 0 on; without one it is the middle of the range."""
    middle = 2 ** (dtype.bits - 1) if dtype.is_signed else 0
    if zero is None and not dtype.is_signed:
        zero = np.zeros(scale.shape, np.uint8)
    moved = None if zero is None else _raised(zero, middle)
    is_told = moved is not None and bool((moved != 2 ** (dtype.bits - 1)).any())
    return _raised(w, middle), scale, moved if is_told else None


def _raised(integers: Array, middle: int) -> Array:
    """``integers`` plus the ``middle`` of their range if they have signs, in one copy."""
    whole = integers.astype(np.int8 if middle else np.uint8, copy=False).view(np.uint8)
    return np.asarray(whole + np.uint8(middle), np.uint8)


def rounded(b: Value, *, is_turned: bool) -> _Matrix | None:
    """The stored matrix ``b`` of float32, or its transpose, rounded to 8 bits."""
    b, again = _unturned(b)
    w = _array(b)
    if w is None or w.dtype != np.float32 or w.ndim != 2 or w.size < LEAST:
        return None
    w = w.T if is_turned != again else w
    rows, columns = w.shape
    count = -(-rows // BLOCK)
    blocks = np.zeros((count * BLOCK, columns), np.float32)
    blocks[:rows] = w
    blocks = blocks.reshape(count, BLOCK, columns)
    scales = np.abs(blocks).max(axis=1) / np.float32(LARGEST)
    if not np.isfinite(scales).all():
        return None
    steps = np.rint(blocks / np.where(scales == 0, 1, scales)[:, None])
    whole = (steps.reshape(-1, columns)[:rows] + 128).astype(np.uint8)
    return _Matrix(whole, scales, None, BLOCK, 8)


def _is_of_bytes(a: Value, make: Maker) -> bool:
    """Whether bytes are dequantized to ``a``."""
    node = a.producer
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return False
    return make.fact(node.inputs[0]).dtype in {INT8, UINT8}


def _is_in_blocks(b: Value) -> bool:
    """Whether blocks of the matrix ``b`` have scales of their own."""
    node = _unturned(b)[0].producer
    return node is not None and node.attr("block_size", 0) > 0


@dataclass(frozen=True)
class _Reader:
    """How second factors are read as integers, and how exactly they are multiplied."""

    read: Callable[..., _Matrix | None]
    accuracy: int


def _product(
    operands: tuple[Value, Value, Value | None],
    make: Maker,
    reader: _Reader,
    *,
    is_turned: bool = False,
) -> Value | None:
    """The product of a and b, if that is read as integers, with a bias added."""
    a, b, bias = operands
    if _is_of_bytes(a, make) and not _is_in_blocks(b):
        return None  # both are integers
    fact = make.fact(a)
    if fact.dtype is not FLOAT32 or not fact.has_rank or fact.rank < 2:
        return None
    matrix = reader.read(b, is_turned=is_turned)
    if matrix is None:
        return None
    columns = matrix.scales.shape[1]
    is_row = bias is not None and make.fact(bias).has_rank and make.fact(bias).shape == (columns,)
    product = matrix.times(a, bias if is_row else None, reader.accuracy, make)
    return product if is_row or bias is None else make.Add(product, bias)


def _rules(reader: _Reader) -> tuple[Rule, ...]:
    """Rules for products of matrices that ``reader`` knows."""

    @rewrite(P.MatMul(any_("a"), any_("b")))
    def multiply(a: Value, b: Value, make: Maker) -> Value | None:
        """MatMul by integers = MatMulNBits."""
        return _product((a, b, None), make, reader)

    @rewrite(P.Gemm(any_("a"), any_("b"), any_("c?"), alpha=1.0, beta=1.0, transA=0, bind="node"))
    def multiply_and_add(
        a: Value, b: Value, node: Node, make: Maker, c: Value | None = None
    ) -> Value | None:
        """Gemm by integers = MatMulNBits, and the third matrix added."""
        return _product((a, b, c), make, reader, is_turned=bool(node.attr("transB", 0)))

    return (*multiply, *multiply_and_add)


@rewrite(
    P.MatMulNBits(
        any_("a"), const("b"), any_("scales"), any_("zeros?"), const("groups"), any_("bias?"),
        domain=DOMAIN, bind="node",
    )
)  # fmt: skip
def sort_columns(
    a: Value,
    b: Array,
    scales: Value,
    groups: Array,
    node: Node,
    make: Maker,
    zeros: Value | None = None,
    bias: Value | None = None,
) -> Value | None:
    """MatMulNBits by g_idx = MatMulNBits of A's columns, as many of each group as a block has."""
    if not make.own_fact(node).has_rank:
        return None
    given = dict(node.attributes) | {"accuracy_level": EXACT}
    size, columns, bits, block = (node.attr(n, 4) for n in ("K", "N", "bits", "block_size"))
    order = np.argsort(groups[:size], kind="stable")
    if not np.array_equal(groups[order], np.arange(size) // block):
        return None
    if (order[:-1] < order[1:]).all():
        return make.node("MatMulNBits", (a, b, scales, zeros, None, bias), given, domain=DOMAIN)
    padded = np.arange(size, -(-size // block) * block)
    moved = reordered(b.reshape(columns, -1), np.append(order, padded), bits).reshape(b.shape)
    sorted_ = make.Gather(a, order, axis=make.fact(a).rank - 1)
    inputs = (sorted_, moved, scales, zeros, None, bias)
    return make.node("MatMulNBits", inputs, given, domain=DOMAIN)


EXACT, COARSE = 0, 4
"""Levels of accuracy: rows as they are, and rounded to 8 bits."""
KEPT = {level: _rules(_Reader(dequantized, level)) for level in (EXACT, COARSE)}
ROUNDED = {level: _rules(_Reader(rounded, level)) for level in (EXACT, COARSE)}


def keep_few_bits(root: Graph, inference: Inference, accuracy: int = EXACT) -> Changes:
    """Products with matrices that are dequantized."""
    return apply_rules(root, KEPT[accuracy], inference)


def round_weights(root: Graph, inference: Inference, accuracy: int = EXACT) -> Changes:
    """Products with matrices of float32, which lose all but 8 bits."""
    return apply_rules(root, ROUNDED[accuracy], inference)
