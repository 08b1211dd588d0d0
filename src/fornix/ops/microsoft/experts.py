"""Mixtures of experts: MoE, and QMoE of weights in few bits.

A router gives each row of the input a score for each expert. The rows of the few with the highest
scores are what two layers, or three, make of the row; the result is their weighted sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32
from fornix.errors import NotSupported, require
from fornix.ir.dim import DimLike, ceildiv, known
from fornix.ir.loops import Scalar, Tensor, cast, compute, gathered, reduce, stored
from fornix.ops import scalar as s
from fornix.ops.activation import gelu, swish
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import row_major, shape_text, unflattened
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.blocks import (
    COARSE,
    WIDTHS,
    WORD,
    Words,
    coarse_product,
    exact_product,
    parts_of,
    rounded,
)
from fornix.ops.microsoft.fields import unpacked
from fornix.ops.microsoft.routing import (
    as_parts_of_one,
    grouped,
    lower_as_parts_of_one,
    lower_ranked,
    ranked,
)
from fornix.ops.microsoft.shapes import check_shape
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, widened
from fornix.ops.softmax import lower_softmax, softmax
from fornix.ops.types import BF16, E8M0, F16, F32, U8, tensors

MoE = op(
    """MoE <activation_alpha: float = 1.0, activation_beta: float = 0.0,
            activation_type: string = "relu", k: int = 1, normalize_routing_weights: int = 0,
            swiglu_fusion: int = 0, swiglu_limit: float?, use_sparse_mixer: int = 0>
           (input: T, router_probs: T, fc1_experts_weights: T, fc1_experts_bias: T?,
            fc2_experts_weights: T, fc2_experts_bias: T?, fc3_experts_weights: T?,
            fc3_experts_bias: T?)
        => (output: T)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32,
)  # fmt: skip

F8E4M3 = tensors("float8e4m3fn")

QMoE = op(
    """QMoE <accuracy_level: int = 0, activation_alpha: float = 1.0, activation_beta: float = 0.0,
             activation_type: string = "relu", block_size: int?, expert_weight_bits: int = 4,
             fc1_expert_weight_bits: int?, fc2_expert_weight_bits: int?,
             fc3_expert_weight_bits: int?, k: int = 1, normalize_routing_weights: int = 0,
             quant_type: string = "int", swiglu_fusion: int = 0, swiglu_limit: float?,
             use_sparse_mixer: int = 0, weights_prepacked: int = -1>
            (input: T, router_probs: T, fc1_experts_weights: T1, fc1_scales: T2?,
             fc1_experts_bias: T?, fc2_experts_weights: T1, fc2_scales: T2?, fc2_experts_bias: T?,
             fc3_experts_weights: T1?, fc3_scales: T2?, fc3_experts_bias: T?, fc1_zero_points: T1?,
             fc2_zero_points: T1?, fc3_zero_points: T1?, router_weights: T?,
             fc1_global_scale: T4?, fc2_global_scale: T4?, fc1_act_scale: T4?, fc2_act_scale: T4?,
             fc1_act_block_scale: T2?, fc2_act_block_scale: T2?)
         => (output: T)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32, T1=U8 | F8E4M3,
    T2=BF16 | F16 | F32 | E8M0 | F8E4M3, T4=F32,
)  # fmt: skip

ACTIVATIONS: dict[str, Callable[[s.Operand], s.Operand]] = {
    "relu": lambda x: s.maximum(x, 0.0),
    "gelu": lambda x: gelu(x, approximate="tanh"),
    "silu": lambda x: swish(x, alpha=1.0),
    "identity": lambda x: x,
}
GATED = "swiglu"
"""The activation of one half of what the first layer gives, by which the other is multiplied."""
INTERLEAVED = 1
"""The fusion whose halves take turns, column by column."""


@dataclass(frozen=True)
class _Gate:
    """What the layer in the middle takes of what the one in front of it gives."""

    name: str
    alpha: float
    beta: float
    limit: float | None
    fusion: int

    @classmethod
    def of(cls, has_third: bool, attributes: dict[str, Any]) -> _Gate:
        """The one that attributes describe."""
        fusion, name = attributes["swiglu_fusion"], attributes["activation_type"]
        names = [*ACTIVATIONS, GATED]
        require(name in names, f"activation_type must be one of {', '.join(names)}, got {name!r}")
        require(fusion in {0, 1, 2}, f"swiglu_fusion must be 0, 1 or 2, got {fusion}")
        if name != GATED:
            fusion = 0
        require(
            has_third is (fusion == 0) or name != GATED,
            f"swiglu needs either swiglu_fusion or fc3_experts_weights, got swiglu_fusion={fusion}",
        )
        require(
            not attributes["use_sparse_mixer"],
            f"use_sparse_mixer must be 0, got {attributes['use_sparse_mixer']}",
            NotSupported,
        )
        limits = attributes.get("swiglu_limit")
        alpha, beta = attributes["activation_alpha"], attributes["activation_beta"]
        return cls(name, alpha, beta, limits, fusion)

    @property
    def parts(self) -> int:
        """How many columns of the first layer one of the second takes."""
        return 2 if self.fusion else 1

    def pair(
        self, first: Any, third: Any, lead: tuple[Any, ...], i: Any, width: DimLike
    ) -> tuple[Any, Any]:
        """What `applied` takes for column ``i`` of ``width``, of rows at ``lead``."""
        if not self.fusion:
            return first[(*lead, i)], None if third is None else third[(*lead, i)]
        places = (2 * i, 2 * i + 1) if self.fusion == INTERLEAVED else (i, i + width)
        return first[(*lead, places[0])], first[(*lead, places[1])]

    def applied(self, x: s.Operand, other: s.Operand) -> s.Operand:
        """What becomes of an element and the one that it is multiplied by, or None."""
        if self.name != GATED:
            y = ACTIVATIONS[self.name](x)
            return y if other is None else y * other
        if self.limit is not None:
            x = s.minimum(x, self.limit)
            other = s.clip(other, -self.limit, self.limit)
        return swish(x, alpha=self.alpha) * (other + self.beta)


@dataclass(frozen=True)
class _Layer:
    """One layer of all experts, of weights[E, N, K] that are floats."""

    weights: Any
    bias: Any
    """[E, N], or None."""

    def product(self, rows: Array, expert: int) -> Array:
        """What an expert's weights make of rows[R, K], in float32."""
        return np.asarray(rows @ widened(self.weights[expert]).T)

    def lowered_product(self, rows: Tensor, experts: Tensor) -> Tensor:
        """What the weights of the expert of each of rows[T, J, K] make of it, [T, J, N]."""
        count, columns, size = self.weights.shape

        def at(t: DimLike, j: DimLike, n: DimLike) -> Scalar:
            expert = gathered(experts[t, j], count)
            return reduce(
                "sum",
                size,
                lambda k: rows[t, j, k] * cast(self.weights[expert, n, k], FLOAT32),
            )

        return compute((*rows.shape[:2], columns), at)

    def output(self, rows: Array, expert: int) -> Array:
        """What an expert makes of rows."""
        y = self.product(rows, expert)
        return y if self.bias is None else y + widened(self.bias[expert])

    def lowered(self, rows: Tensor, experts: Tensor) -> Tensor:
        """`output` for lowerings, each row's by its expert."""
        y = self.lowered_product(rows, experts)
        if self.bias is None:
            return stored(y, "layer")

        def at(t: DimLike, j: DimLike, n: DimLike) -> Scalar:
            expert = gathered(experts[t, j], self.bias.shape[0])
            return y[t, j, n] + cast(self.bias[expert, n], FLOAT32)

        return stored(compute(y.shape, at), "layer")


@dataclass(frozen=True)
class _Bits(_Layer):
    """Weights in bytes [E, N, K · bits / 8] with a scale for each column, or block of it."""

    scales: Any
    zeros: Any
    bits: int
    block: int
    """Weights that have one scale; 0 for those of a column."""
    is_coarse: bool

    def product(self, rows: Array, expert: int) -> Array:
        steps = unpacked(self.weights[expert], self.bits).astype(np.float32)
        columns, whole = steps.shape
        size = self.block or whole
        steps = steps.reshape(columns, whole // size, size)
        if self.zeros is None:
            steps -= 1 << self.bits - 1
        else:
            zeros = unpacked(self.zeros[expert], self.bits)
            zeros = zeros[:, : whole // size] if self.block else zeros[:columns]
            steps -= zeros.reshape(columns, whole // size, 1)
        steps *= widened(self.scales[expert]).reshape(columns, whole // size, 1)
        left = rounded(rows, size) if self.is_coarse else rows
        return np.asarray(left @ steps.reshape(columns, whole).T)

    def size(self) -> int | None:
        """Weights of a block; of a part of a column that has one scale. None if unknown."""
        whole = known(self.weights.shape[2] * (8 // self.bits))
        if whole is None or self.block:
            return self.block or None
        return whole // parts_of(whole, whole)

    def check_words(self, node: LowerNode) -> None:
        """Decline blocks that are no whole words."""
        size = self.size()
        if size is None or size % (WORD // self.bits):
            node.decline(f"blocks of {size} weights are no whole words")

    def lowered_product(self, rows: Tensor, experts: Tensor) -> Tensor:
        count, columns, bytes_ = self.weights.shape
        size = self.size() or 1
        width = size * self.bits // 8
        blocks = bytes_ // width
        packed = compute(
            (count, columns, blocks, width), lambda e, n, j, b: self.weights[e, n, j * width + b]
        )
        scales = compute(
            (count, columns, blocks), lambda e, n, j: self.scales[(e, n, j)[: self.scales.rank]]
        )
        words = Words(packed, scales, self.zeros, self.bits, experts=experts)
        multiplied = coarse_product if self.is_coarse else exact_product
        apart = compute(
            (*rows.shape[:2], blocks, size), lambda t, j, b, k: rows[t, j, b * size + k]
        )
        return multiplied(apart, words, columns)


@dataclass(frozen=True)
class _Experts:
    """The layers of all experts, and how they follow each other."""

    first: _Layer
    second: _Layer
    third: _Layer | None
    gate: _Gate

    def mixture(self, x: Array, chosen: Array, shares: Array) -> Array:
        """The sum of what the ``chosen`` experts of each row make of it, by ``shares``."""
        rows = widened(x).reshape(-1, x.shape[-1])
        require(
            len(rows) == len(chosen),
            f"router_probs must have {len(rows)} rows, as the input has, got {len(chosen)}",
        )
        y = np.zeros_like(rows)
        for expert in np.unique(chosen).tolist():
            row, place = np.nonzero(chosen == expert)
            y[row] += shares[row, place, None] * self._output(rows[row], expert)
        return y.reshape(x.shape).astype(x.dtype)

    def _output(self, rows: Array, expert: int) -> Array:
        first = self.first.output(rows, expert)
        third = None if self.third is None else self.third.output(rows, expert)
        columns = np.arange(first.shape[1] // self.gate.parts)
        pair = self.gate.pair(first, third, (slice(None),), columns, len(columns))
        return self.second.output(self.gate.applied(*pair), expert)

    def lowered(self, x: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
        """`mixture` for lowerings."""
        count = chosen.shape[1]
        lead, size = x.shape[:-1], x.shape[-1]
        groups = grouped(chosen, self.first.weights.shape[0])

        def row(i: DimLike, r: DimLike, k: DimLike) -> Scalar:
            t = gathered(groups.rows[i, r], chosen.shape[0])
            return cast(x[(*unflattened(t, lead), k)], FLOAT32)

        wide = stored(compute((*groups.rows.shape, size), row), "rows")
        first = self.first.lowered(wide, groups.experts)
        third = None if self.third is None else self.third.lowered(wide, groups.experts)
        width = first.shape[2] // self.gate.parts

        def hidden(i: DimLike, r: DimLike, n: DimLike) -> Scalar:
            value: Scalar = self.gate.applied(*self.gate.pair(first, third, (i, r), n, width))
            return value

        inner = stored(compute((*groups.rows.shape, width), hidden), "hidden")
        outputs = self.second.lowered(inner, groups.experts)

        def at(*i: DimLike) -> Scalar:
            t = row_major(i[:-1], lead)

            def part(j: DimLike) -> Scalar:
                tile, place = groups.place(t, j)
                return shares[t, j] * outputs[tile, place, i[-1]]

            return cast(reduce("sum", count, part), x.dtype)

        return compute(x.shape, at)


def _check_mixture(
    x: Fact,
    router: Fact,
    layers: Sequence[tuple[Fact | None, Fact | None, int]],
    gate: _Gate,
    k: int,
) -> None:
    """Raise ShapeError unless weights and biases, of so many in a byte, fit the input."""
    require(x.rank in {2, 3}, f"input must have 2 or 3 axes, found input{shape_text(x.shape)}")
    size, rows = x.shape[-1], math.prod(x.shape[:-1])
    experts = router.shape[-1]
    check_shape("router_probs", router, (rows, experts))
    most = known(experts)
    require(k > 0 and (most is None or k <= most), f"k must be in [1, {experts}], got {k}")
    second, _, per_byte = layers[1]
    inner = None if second is None or not second.has_rank else second.shape[-1] * per_byte
    wide = None if inner is None else inner * gate.parts
    shapes = ((wide, size), (size, inner), (inner, size))
    for number, ((weights, bias, fields), (columns, width)) in enumerate(
        zip(layers, shapes, strict=True), 1
    ):
        stored_width = None if width is None else ceildiv(width, fields)
        wanted = (experts, columns, stored_width)
        check_shape(f"fc{number}_experts_weights", weights, wanted)
        check_shape(f"fc{number}_experts_bias", bias, wanted[:2])


@MoE.infer
def infer_moe(
    input: Fact,
    router_probs: Fact,
    fc1_experts_weights: Fact,
    fc1_experts_bias: Fact | None,
    fc2_experts_weights: Fact,
    fc2_experts_bias: Fact | None = None,
    fc3_experts_weights: Fact | None = None,
    fc3_experts_bias: Fact | None = None,
    *,
    k: int,
    **attributes: Any,
) -> Fact:
    layers = (
        (fc1_experts_weights, fc1_experts_bias, 1),
        (fc2_experts_weights, fc2_experts_bias, 1),
        (fc3_experts_weights, fc3_experts_bias, 1),
    )
    gate = _Gate.of(fc3_experts_weights is not None, attributes)
    _check_mixture(input, router_probs, layers, gate, k)
    return tensor(input.dtype, input.shape)


def _floats(weights: Sequence[Any], biases: Sequence[Any], attributes: dict[str, Any]) -> _Experts:
    """Experts whose weights are floats."""
    first, second, third = map(_Layer, weights, biases)
    has_third = third.weights is not None
    gate = _Gate.of(has_third, attributes)
    return _Experts(first, second, third if has_third else None, gate)


@MoE.kernel
def moe(
    input: Array,
    router_probs: Array,
    fc1_experts_weights: Array,
    fc1_experts_bias: Array | None,
    fc2_experts_weights: Array,
    fc2_experts_bias: Array | None = None,
    fc3_experts_weights: Array | None = None,
    fc3_experts_bias: Array | None = None,
    *,
    k: int,
    normalize_routing_weights: int,
    **attributes: Any,
) -> Array:
    """Each row by its k best experts, as much of each as a softmax of its scores gives it.

    output = Σₑ pₑ · (f(x · fc1ₑᵀ + bias) · fc2ₑᵀ + bias) over the k greatest of router_probs[T, E],
    of equals the last, p = Softmax(router_probs), over those k if normalize_routing_weights.
    x[T, H] or [B, S, H], T = B · S; fc1[E, I, H], fc2[E, H, I]. f is activation_type, gelu by tanh;
    with fc3[E, I, H], f(x · fc1ᵀ) · (x · fc3ᵀ). swiglu has l of fc3 and g of fc1, or both of
    fc1[E, 2·I, H] in turns (swiglu_fusion 1) or one behind the other (2), and gives
    g · Sigmoid(activation_alpha · g) · (l + activation_beta), g at most swiglu_limit and l between
    −swiglu_limit and it, if given.
    Source: onnxruntime's contributed operators, MoE-1.
    """
    experts = _floats(
        (fc1_experts_weights, fc2_experts_weights, fc3_experts_weights),
        (fc1_experts_bias, fc2_experts_bias, fc3_experts_bias), attributes,
    )  # fmt: skip
    logits = widened(router_probs)
    values, chosen = ranked(logits, k)
    if normalize_routing_weights:
        shares = softmax(values, axis=1)
    else:
        shares = np.take_along_axis(softmax(logits, axis=1), chosen, 1)
    return experts.mixture(input, chosen, shares)


@MoE.lower
def lower_moe(
    input: Tensor,
    router_probs: Tensor,
    fc1_experts_weights: Tensor,
    fc1_experts_bias: Tensor | None,
    fc2_experts_weights: Tensor,
    fc2_experts_bias: Tensor | None = None,
    fc3_experts_weights: Tensor | None = None,
    fc3_experts_bias: Tensor | None = None,
    *,
    k: int,
    normalize_routing_weights: int,
    **attributes: Any,
) -> Tensor:
    experts = _floats(
        (fc1_experts_weights, fc2_experts_weights, fc3_experts_weights),
        (fc1_experts_bias, fc2_experts_bias, fc3_experts_bias), attributes,
    )  # fmt: skip
    logits = cast_tensor(router_probs, FLOAT32)
    values, chosen = lower_ranked(logits, k)
    shares = lower_softmax(values, axis=1)
    if not normalize_routing_weights:
        whole, count = lower_softmax(logits, axis=1), logits.shape[1]
        shares = compute(chosen.shape, lambda t, j: whole[t, gathered(chosen[t, j], count)])
    return experts.lowered(input, chosen, stored(shares, "shares"))


MIXING = 12
"""Place of router_weights among the inputs of QMoE behind router_probs."""
PLACES = ((0, 1, 2, 9), (3, 4, 5, 10), (6, 7, 8, 11))
"""Places of a layer's weights, scales, bias and zero points among them."""


def _widths(attributes: dict[str, Any]) -> list[int]:
    """Bits of the weights of each layer."""
    every = attributes["expert_weight_bits"]
    widths = [attributes.get(f"fc{n}_expert_weight_bits", every) for n in (1, 2, 3)]
    require(
        all(bits in WIDTHS for bits in widths),
        f"weights of experts must have 2, 4 or 8 bits, got {', '.join(map(str, widths))}",
    )
    return widths


def _check_plain(more: Sequence[object], attributes: dict[str, Any]) -> None:
    kind, packed = attributes["quant_type"], attributes["weights_prepacked"]
    require(kind == "int", f"quant_type must be 'int', got {kind!r}", NotSupported)
    require(packed < 1, f"weights_prepacked must be 0 or -1, got {packed}", NotSupported)
    require(
        all(x is None for x in more[MIXING + 1 :]),
        "global and activation scales must be left out",
        NotSupported,
    )


@QMoE.infer
def infer_q_moe(
    input: Fact, router_probs: Fact, *more: Fact | None, k: int, **attributes: Any
) -> Fact:
    _check_plain(more, attributes)
    layers = _layers(more)
    widths, block = _widths(attributes), attributes.get("block_size", 0)
    plain = [
        (weights, bias, 8 // bits)
        for (weights, _, bias, _), bits in zip(layers, widths, strict=True)
    ]
    gate = _Gate.of(layers[2][0] is not None, attributes)
    _check_mixture(input, router_probs, plain, gate, k)
    for number, (layer, bits) in enumerate(zip(layers, widths, strict=True), 1):
        _check_scales(number, layer, bits, block)
    check_shape("router_weights", more[MIXING] if len(more) > MIXING else None, router_probs.shape)
    return tensor(input.dtype, input.shape)


def _layers(more: Sequence[Any]) -> list[tuple[Any, Any, Any, Any]]:
    """Weights, scales, bias and zero points of each layer; None for what is left out."""
    given = [*more, *[None] * (MIXING - len(more))]
    return [(given[a], given[b], given[c], given[d]) for a, b, c, d in PLACES]


def _check_scales(number: int, layer: tuple[Fact | None, ...], bits: int, block: int) -> None:
    """Raise ShapeError unless each column, or block of it, has a scale and perhaps a zero point."""
    weights, scales, _, zeros = layer
    if weights is None:
        return
    require(scales is not None, f"fc{number}_scales must be given")
    count, columns, width = weights.shape
    size = width * (8 // bits)
    extent = known(size)
    require(
        block == 0 or (block > 0 and (extent is None or extent % block == 0)),
        f"block_size must divide the {size} weights of a column of fc{number}, got {block}",
    )
    blocks = (ceildiv(size, block),) if block else ()
    places = (count, columns, *blocks)
    check_shape(f"fc{number}_scales", scales, places)
    packed = (*places[:-1], ceildiv(places[-1] * bits, 8))
    check_shape(f"fc{number}_zero_points", zeros, packed)


def _bits(more: Sequence[Any], attributes: dict[str, Any]) -> _Experts:
    """Experts whose weights have few bits."""
    _check_plain(more, attributes)
    block = attributes.get("block_size", 0)
    is_coarse = attributes["accuracy_level"] == COARSE and block > 0
    first, second, third = (
        _Bits(weights, bias, scales, zeros, bits, block, is_coarse)
        for (weights, scales, bias, zeros), bits in zip(
            _layers(more), _widths(attributes), strict=True
        )
    )
    has_third = third.weights is not None
    gate = _Gate.of(has_third, attributes)
    return _Experts(first, second, third if has_third else None, gate)


@QMoE.kernel
def q_moe(
    input: Array,
    router_probs: Array,
    *more: Array | None,
    k: int,
    normalize_routing_weights: int,
    **attributes: Any,
) -> Array:
    """MoE of weights of 2, 4 or 8 bits with a scale for each column, or block_size of it.

    As in MoE, with weights (q − zero_points) · scales of bytes that hold 8 / bits elements each,
    the first in the lowest bits: fc1[E, I, H · bits / 8], scales[E, I] or [E, I, H / block_size],
    and zero_points packed along the last axis of that, 2^(bits − 1) if absent. Shares are a softmax
    over the k chosen scores, or what router_weights[T, E] says, divided by its sum if
    normalize_routing_weights. accuracy_level 4 has rows rounded first, as in MatMulNBits.
    Source: onnxruntime's contributed operators, QMoE-1.
    """
    experts = _bits(more, attributes)
    values, chosen = ranked(widened(router_probs), k)
    given = more[MIXING] if len(more) > MIXING else None
    if given is None:
        return experts.mixture(input, chosen, softmax(values, axis=1))
    shares = np.take_along_axis(widened(given), chosen, 1)
    if normalize_routing_weights:
        shares = as_parts_of_one(shares)
    return experts.mixture(input, chosen, shares)


@QMoE.lower
def lower_q_moe(
    input: Tensor,
    router_probs: Tensor,
    *more: Tensor | None,
    k: int,
    normalize_routing_weights: int,
    node: LowerNode,
    **attributes: Any,
) -> Tensor:
    experts = _bits(more, attributes)
    for layer in (experts.first, experts.second, experts.third):
        if isinstance(layer, _Bits):
            layer.check_words(node)
    values, chosen = lower_ranked(cast_tensor(router_probs, FLOAT32), k)
    given = more[MIXING] if len(more) > MIXING else None
    if given is None:
        shares = lower_softmax(values, axis=1)
    else:
        taken, count = given, given.shape[1]
        shares = compute(
            chosen.shape, lambda t, j: cast(taken[t, gathered(chosen[t, j], count)], FLOAT32)
        )
        if normalize_routing_weights:
            shares = lower_as_parts_of_one(shares)
    return experts.lowered(input, chosen, stored(shares, "shares"))
