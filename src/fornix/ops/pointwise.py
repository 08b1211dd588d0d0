"""Elementwise operators: inference, kernel, data propagation and lowering from one function.

The function is written with `scalar` functions and sees one element of each input, broadcast. On
arrays it is the kernel, on object arrays of dims it propagates data, on loop scalars it is the
lowering. float16 and bfloat16 are widened to float32 and rounded once, at the end.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, STRING, DType
from fornix.errors import FornixError, require
from fornix.ir.dim import Dim, DimLike, ceildiv, is_nonnegative
from fornix.ir.loops import Scalar, Tensor, cast, compute
from fornix.ops import scalar
from fornix.ops.call import LowerNode, RunNode, output_dtype
from fornix.ops.fact import EXACT_FLOATS, Array, Fact, tensor
from fornix.ops.geometry import (
    agreed_shape,
    broadcast_shapes,
    may_equal,
    normalize_axis,
    shape_text,
)
from fornix.ops.precision import wide_dtype, wide_element
from fornix.ops.schema import Schema
from fornix.ops.signature import Occurrence

PROPAGATED_ELEMENTS = 256
"""Elements up to which symbolic contents are computed: shapes and index lists are shorter."""

Function = Callable[..., Any]

KEEPS_INTEGERS = frozenset({
    scalar.add, scalar.sub, scalar.mul, scalar.neg, scalar.abs, scalar.floor, scalar.ceil,
    scalar.rint, scalar.sign, scalar.where, scalar.less, scalar.less_equal, scalar.greater,
    scalar.greater_equal, scalar.equal, scalar.greatest, scalar.least, scalar.clip,
})  # fmt: skip
"""What may be computed on dims for floats too: a quotient of integers is none in general."""


def pointwise_rules(
    function: Function, description: str, common_shape: Function = broadcast_shapes
) -> dict[str, Function]:
    """The infer, kernel and lower rules of the elementwise ``function``.

    ``common_shape`` gives the shape of the result from those of the inputs. Optional inputs that
    are left out reach the function as None. Schemas before opset 7 have the attributes
    ``broadcast`` and ``axis``: without broadcast the shapes must be equal, with it the second input
    is aligned with the first one's ``axis``.
    """
    kernel = _kernel_rule(function, common_shape)
    kernel.__doc__ = description
    kernel.common_shape = common_shape  # type: ignore[attr-defined] # `shapes_text` asks
    infer, lower = _infer_rule(function, common_shape), _lower_rule(function, common_shape)
    return {"infer": infer, "kernel": kernel, "lower": lower}


def _infer_rule(function: Function, common_shape: Function) -> Function:
    def infer(
        *inputs: Fact | None,
        broadcast: int | None = None,
        axis: int | None = None,
        **attributes: object,
    ) -> Fact:
        given = [fact for fact in inputs if fact is not None]
        if broadcast is not None:
            return tensor(None, _aligned_shape(given[0], given[1], bool(broadcast), axis))
        shapes = [fact.shape for fact in _deciding(given, common_shape)]
        found = tensor(None, common_shape(*shapes), _propagated(function, inputs, attributes))
        return replace(found, quotient=_quotient(function, given))

    return infer


def _deciding(facts: list[Fact], common_shape: Function) -> list[Fact]:
    """Those whose shapes the result's depends on; what has no rank may not matter."""
    if common_shape is broadcast_shapes:
        return facts
    ranked = [fact for fact in facts if fact.has_rank]
    if common_shape is identical:
        return ranked or facts
    return [facts[0], *(fact for fact in facts[1:] if fact.has_rank)]


def _aligned_shape(a: Fact, b: Fact, broadcasts: bool, axis: int | None) -> tuple[DimLike, ...]:
    """The shape of ``a``, to which ``b`` is aligned; without broadcasting, that of both."""
    if a.has_rank and b.has_rank:
        _start(a.shape, b.shape, broadcasts, axis)
    return a.shape if broadcasts else agreed_shape(a, b)


def _kernel_rule(function: Function, common_shape: Function) -> Function:
    def kernel(
        *inputs: Array | None,
        broadcast: int | None = None,
        axis: int | None = None,
        node: RunNode,
        **attributes: object,
    ) -> Array:
        if broadcast is not None:
            a, b = [x for x in inputs if x is not None]
            inputs = _aligned(a, b, bool(broadcast), axis)
        elif common_shape is not broadcast_shapes:
            common_shape(*(x.shape for x in inputs if x is not None))
        dtypes = tuple([None if x is None else x.dtype for x in inputs])
        known: dict[object, _Typed] = node.once(dict)
        typed = known.get(dtypes) or known.setdefault(dtypes, _Typed.of(function, node, dtypes))
        try:
            given = typed.widened(inputs) if typed.narrow else inputs
            result = np.asarray(typed.function(*given, **attributes))
        except ValueError:  # the rule says which shapes do not broadcast
            common_shape(*(x.shape for x in inputs if x is not None))
            raise
        if typed.dtype is not None and result.dtype != typed.dtype:
            result = result.astype(typed.dtype)
        return result

    return kernel


class _Typed(NamedTuple):
    """What a kernel does to inputs of some types."""

    function: Function
    narrow: tuple[bool, ...]
    """Which of them are floats in which nothing is added or multiplied."""
    dtype: np.dtype[Any] | None
    """That of the result, if it is known."""

    @classmethod
    def of(
        cls, function: Function, node: RunNode, dtypes: Sequence[np.dtype[Any] | None]
    ) -> _Typed:
        known = [None if dtype is None else DType.of(dtype) for dtype in dtypes]
        narrow = tuple([x is not None and x is not wide_dtype(x) for x in known])
        if STRING.numpy in dtypes:
            function = ON_TEXTS.get(function, function)
        result = output_dtype(node.schema, known)
        return cls(function, narrow if any(narrow) else (), result.numpy if result else None)

    def widened(self, inputs: Sequence[Array | None]) -> Sequence[Array | None]:
        """The inputs, narrow ones as float32."""
        pairs = zip(inputs, self.narrow, strict=True)
        return [x.astype(np.float32) if narrow and x is not None else x for x, narrow in pairs]


ON_TEXTS: dict[Function, Function] = {scalar.equal: np.equal, scalar.where: np.where}
"""What NumPy does to texts where a function has dims in mind."""


def _lower_rule(function: Function, common_shape: Function) -> Function:
    def lower(
        *inputs: Tensor | None,
        broadcast: int | None = None,
        axis: int | None = None,
        node: LowerNode,
        **attributes: object,
    ) -> Tensor:
        given = [x for x in inputs if x is not None]
        if broadcast is not None:
            a, b = given
            given = [a, _placed(b, a, _start(a.shape, b.shape, bool(broadcast), axis))]
            inputs = tuple(given)
        shape = common_shape(*(x.shape for x in given))
        if any(isinstance(extent, Dim) and extent.unknowns for extent in shape):
            shape = node.shape()  # as declared, which each run verifies
        narrow = output_dtype(node.schema, [None if x is None else x.dtype for x in inputs])

        def at(*place: DimLike) -> Scalar:
            elements = (None if x is None else wide_element(x, place) for x in inputs)
            result: Scalar = function(*elements, **attributes)
            return result if narrow is None else cast(result, narrow)

        return compute(shape, at)

    return lower


def identical(*shapes: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """The one shape that all inputs have; raises ShapeError where two differ."""
    first = shapes[0]
    for other in shapes[1:]:
        same = len(first) == len(other) and all(map(may_equal, first, other))
        require(
            same, f"inputs must have one shape, got {shape_text(first)} and {shape_text(other)}"
        )
    return agreed_shape(*shapes)


def of_first(first: tuple[DimLike, ...], *others: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """The shape of the first input, to which the others broadcast: unidirectionally, as ONNX says.

    Raises ShapeError where one does not.
    """
    for other in others:
        pairs = zip(reversed(first), reversed(other), strict=False)
        fits = len(other) <= len(first) and all(n == 1 or may_equal(m, n) for m, n in pairs)
        require(
            fits, f"{shape_text(other)} must broadcast to the first input's {shape_text(first)}"
        )
    return first


def shapes_text(schema: Schema, common_shape: Function) -> str:
    """How the shapes of the inputs of an elementwise operator make that of its result."""
    names = [formal.name for formal in schema.inputs]
    output = schema.outputs[0].name
    if schema.inputs[-1].occurrence is Occurrence.VARIADIC:
        return f"The inputs broadcast to the shape of {output}, as in NumPy."
    if len(names) == 1 or common_shape is identical:
        return " · ".join(f"{name}[*S]" for name in names) + f" → {output}[*S]."
    shapes = [f"{name}[*{letter}]" for name, letter in zip(names, "STU", strict=False)]
    if common_shape is of_first:
        return f"{' · '.join(shapes)} → {output}[*S]; T broadcasts to S."
    if common_shape is not broadcast_shapes:
        return f"{names[0]}[*S] → {output}[*S]; {' and '.join(names[1:])} have one element."
    letters = "S, T and U" if len(names) > 2 else "S and T"
    return f"{' · '.join(shapes)} → {output}[*V]; {letters} broadcast to V, as in NumPy."


def _placed(b: Tensor, a: Tensor, start: int) -> Tensor:
    """``b`` with axes of extent 1 behind its own, so that it begins at axis ``start`` of ``a``."""
    behind = a.rank - start - b.rank
    return compute((*b.shape, *[1] * behind), lambda *i: b[i[: b.rank]])


def _start(
    a: tuple[DimLike, ...], b: tuple[DimLike, ...], broadcasts: bool, axis: int | None
) -> int:
    """The axis of ``a`` with which ``b`` begins; raises ShapeError where the two cannot fit."""
    if not broadcasts:
        same = len(a) == len(b) and all(map(may_equal, a, b))
        require(same, f"without broadcast=1, B{shape_text(b)} must equal A{shape_text(a)}")
        return 0
    start = len(a) - len(b) if axis is None else normalize_axis(axis, len(a))
    fits = 0 <= start <= len(a) - len(b) and all(
        n == 1 or may_equal(m, n) for m, n in zip(a[start:], b, strict=False)
    )
    require(fits, f"B{shape_text(b)} must equal the part of A{shape_text(a)} from axis {start} on")
    return start


def _aligned(a: Array, b: Array, broadcasts: bool, axis: int | None) -> tuple[Array, Array]:
    start = _start(a.shape, b.shape, broadcasts, axis)
    return a, b.reshape(b.shape + (1,) * (a.ndim - start - b.ndim))


def _propagated(
    function: Function, inputs: tuple[Fact | None, ...], attributes: dict[str, object]
) -> Array | None:
    """``function`` on known contents, symbolic ones included; None where it cannot be told."""
    given = [fact for fact in inputs if fact is not None]
    if given[0].quotient is not None and function in ROUNDED:
        numerators, divisor = given[0].quotient
        return np.asarray(ROUNDED[function](numerators, divisor), object)
    if any(fact.value is None or fact.value.size > PROPAGATED_ELEMENTS for fact in given):
        return None
    is_float = any(fact.dtype is not None and fact.dtype.is_float for fact in given)
    if is_float and function not in KEEPS_INTEGERS:
        return None
    values = [None if fact is None else fact.value for fact in inputs]
    try:
        result = np.asarray(function(*values, **attributes), object)
    except (TypeError, ArithmeticError, FornixError):
        return None
    dtype = given[-1].dtype
    if dtype is not None and dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        if any(type(v) is int and not info.min <= v <= info.max for v in result.flat):
            return None
    return result


ROUNDED: dict[Function, Function] = {
    scalar.floor: operator.floordiv,
    scalar.ceil: np.frompyfunc(ceildiv, 2, 1),
}
"""What functions make of quotients of integers. Floats that hold these integers round quotients to
none that is not theirs: the next one is 1 / divisor away at least."""

HALF = 0.5
"""Fraction of a power of two, which has an exact reciprocal."""


def _quotient(function: Function, given: Sequence[Fact]) -> tuple[Array, int] | None:
    """Integers over a positive one, where floats are that: x / 3, or x · 0.5."""
    if function not in {scalar.div, scalar.mul} or given[0].dtype not in {FLOAT32, FLOAT64}:
        return None
    factor = given[1].constant
    if factor is None or factor.size != 1:
        return None
    numerators = given[0].value
    if numerators is None or numerators.size > PROPAGATED_ELEMENTS or factor.ndim > numerators.ndim:
        return None
    number = float(factor.reshape(()))
    divisor = number if function is scalar.div else 1 / number if number else 0.0
    is_exact = function is scalar.div or math.frexp(number)[0] == HALF
    if not is_exact or not 1 <= divisor < EXACT_FLOATS or not divisor.is_integer():
        return None
    if not all(is_nonnegative(numerator) for numerator in numerators.flat):
        return None  # −1 / 2 is rounded to −0
    return numerators, int(divisor)
