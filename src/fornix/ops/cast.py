"""Other element types: Cast, CastLike, BitCast.

What a conversion means stands in `fornix.cast`; here, how contents propagate through one. Exporters
compute shapes through floats, so a symbolic integer stays known as a float.
"""

from __future__ import annotations

import numpy as np

from fornix.cast import convert, require_rounding
from fornix.dtype import BOOL, FLOAT8E4M3FN, FLOAT32, FLOAT64, STRING, DType
from fornix.errors import DTypeError, require
from fornix.ir.attribute import AttributeKind
from fornix.ir.dim import less
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Tensor, bitcast, compute
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.ops.call import BodyNode, LowerNode
from fornix.ops.fact import Array, Fact, tensor, unranked
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor
from fornix.ops.types import (
    BF16,
    COMPLEX,
    E8M0,
    F4,
    F6,
    F8,
    I2,
    I4,
    NUMERIC,
    TENSOR,
)
from fornix.ops.types import (
    BOOL as BOOLS,
)
from fornix.ops.types import (
    STRING as STRINGS,
)

WIDE_BITS = 32
"""Types at least as wide are taken to hold a symbolic extent exactly."""

Cast = (
    op("Cast <to: string> (input: T1) => (output: T2)",
       since=1, T1=NUMERIC | BOOLS, T2=NUMERIC | BOOLS)
    .since(6, "Cast <to: int> (input: T1) => (output: T2)")
    .since(9, T1=+STRINGS, T2=+STRINGS)
    .since(13, T1=+BF16, T2=+BF16)
    .since(19, "Cast <saturate: int = 1, to: int> (input: T1) => (output: T2)", T1=+F8, T2=+F8)
    .since(21, T1=+I4, T2=+I4)
    .since(23, T1=+F4, T2=+F4)
    .since(24, """Cast <round_mode: string = "up", saturate: int = 1, to: int>
                      (input: T1) => (output: T2)""", T1=+E8M0, T2=+E8M0)
    .since(25, T1=+I2, T2=+I2)
    .since(28, T1=+F6, T2=+F6)
)  # fmt: skip


@Cast.infer
def infer_cast(input: Fact, *, to: int | str, saturate: int = 1, round_mode: str = "up") -> Fact:
    return _converted(input, _target(to), saturate=saturate, round_mode=round_mode)


@Cast.kernel
def cast(input: Array, *, to: int | str, saturate: int = 1, round_mode: str = "up") -> Array:
    """Each element of ``input`` as the element type ``to``, rounded once.

    input[*S] → output[*S]. Strings are read as numbers, and numbers written as strings. Before
    opset 6 ``to`` is a name. What does not fit a float8 type saturates unless saturate=0; floats
    become integers by truncation. Source: ONNX Cast-25.
    """
    return convert(input, _target(to), saturate=bool(saturate), round_mode=round_mode)


@Cast.lower
def lower_cast(
    input: Tensor,
    *,
    to: int | str,
    saturate: int = 1,
    round_mode: str = "up",
    node: LowerNode,
) -> Tensor:
    return _lowered(input, _target(to), node, saturate=saturate, round_mode=round_mode)


def _lowered(
    x: Tensor, target: DType, node: LowerNode, *, saturate: int, round_mode: str
) -> Tensor:
    is_float8 = target.is_float and target.bits == FLOAT8E4M3FN.bits
    if is_float8 and (not saturate or round_mode != "up"):
        node.decline("loops convert to 8 bits with saturation and round scales up")
    return cast_tensor(x, target)


def _target(to: int | str) -> DType:
    """The element type that ``to`` names, as a number or, before opset 6, as "FLOAT"."""
    return DType.of(to.lower() if isinstance(to, str) else to)


def _converted(input: Fact, target: DType, *, saturate: int, round_mode: str) -> Fact:
    """The fact of ``input`` as ``target``, with its contents where they are known."""
    require_rounding(round_mode)
    if not input.has_rank:
        return unranked(target)
    found = input.constant
    if found is not None and STRING not in {input.dtype, target}:
        result = convert(found, target, saturate=bool(saturate), round_mode=round_mode)
        return Fact(TensorType(target, result.shape), None, ArrayTensor(result))
    value = _symbolic(input.value, target)
    if input.quotient is not None and _is_wide(target):
        numerators, divisor = input.quotient
        value = np.asarray(numerators // divisor, object)
    return tensor(target, input.shape, value)


def _symbolic(value: Array | None, target: DType) -> Array | None:
    """Symbolic contents as ``target``.

    NB: an extent is taken to be below 2²⁴, beyond which float32 skips integers.
    """
    if value is None:
        return None
    if target is BOOL:
        truths = [less(0, entry) for entry in value.flat]
        return None if None in truths else np.array(truths, object).reshape(value.shape)
    return value if target in {FLOAT32, FLOAT64} or _is_wide(target) else None


def _is_wide(target: DType) -> bool:
    return target.is_integer and target.bits >= WIDE_BITS


@Cast.adapt(1, 6)
def cast_1_to_6(node: Node, _: Graph) -> None:
    """The type is told by its number, not by its name."""
    node.set_attribute("to", _target(node.attr("to")).code, AttributeKind.INT)


@Cast.adapt(6, 1)
def cast_6_to_1(node: Node, _: Graph) -> None:
    node.set_attribute("to", DType.of(node.attr("to")).text.upper(), AttributeKind.STRING)


CastLike = (
    op("CastLike (input: T1, target_type: T2) => (output: T2)",
       since=15, T1=(TENSOR - COMPLEX) | BF16, T2=(TENSOR - COMPLEX) | BF16)
    .since(19, "CastLike <saturate: int = 1> (input: T1, target_type: T2) => (output: T2)",
           T1=+F8, T2=+F8)
    .since(21, T1=+I4, T2=+I4)
    .since(23, T1=+F4, T2=+F4)
    .since(24, """CastLike <round_mode: string = "up", saturate: int = 1>
                      (input: T1, target_type: T2) => (output: T2)""", T1=+E8M0, T2=+E8M0)
    .since(25, T1=+I2, T2=+I2)
)  # fmt: skip


@CastLike.infer
def infer_cast_like(
    input: Fact, target_type: Fact, *, saturate: int = 1, round_mode: str = "up"
) -> Fact:
    if target_type.dtype is None:
        return tensor(None, input.shape)
    return _converted(input, target_type.dtype, saturate=saturate, round_mode=round_mode)


@CastLike.kernel
def cast_like(
    input: Array, target_type: Array, *, saturate: int = 1, round_mode: str = "up"
) -> Array:
    """Each element of ``input`` as the element type of ``target_type``; see Cast.

    Source: ONNX CastLike-25.
    """
    target = DType.of(target_type.dtype)
    return convert(input, target, saturate=bool(saturate), round_mode=round_mode)


@CastLike.lower
def lower_cast_like(
    input: Tensor,
    target_type: Tensor,
    *,
    saturate: int = 1,
    round_mode: str = "up",
    node: LowerNode,
) -> Tensor:
    target = target_type.dtype
    return _lowered(input, target, node, saturate=saturate, round_mode=round_mode)


@CastLike.body(since=15)
def cast_like_body(*, node: BodyNode) -> str:
    defaults = {"saturate": "int = 1", "round_mode": 'string = "up"'}
    taken = {name: text for name, text in defaults.items() if name in node.schema.attributes}
    header = ", ".join(f"{name}: {text}" for name, text in taken.items())
    handed = "".join(f", {name}: {text.split()[0]} = @{name}" for name, text in taken.items())
    return f"""<domain: "", opset_import: ["": {node.version}]>
        CastLike {f"<{header}>" if header else ""} (input, target_type) => (output)
        {{
            output = Cast <to = {node.dtype(1).code}{handed}> (input)
        }}
    """


BITS = (TENSOR - STRINGS) | F8 | I4 | I2 | BF16 | E8M0 | F4

BitCast = op("BitCast <to: int> (input: T1) => (output: T2)", since=26, T1=BITS, T2=BITS)


@BitCast.infer
def infer_bit_cast(input: Fact, *, to: int) -> Fact:
    target = DType.of(to)
    if input.dtype is not None:
        _check_width(input.dtype, target)
    return tensor(target, input.shape) if input.has_rank else unranked(target)


@BitCast.kernel
def bit_cast(input: Array, *, to: int) -> Array:
    """The bits of each element of ``input`` read as the element type ``to``, of the same width.

    Raises DTypeError if the widths differ. Source: ONNX BitCast-26.
    """
    source, target = DType.of(input.dtype), DType.of(to)
    _check_width(source, target)
    return target.unpack(source.pack(input), input.size).reshape(input.shape)


@BitCast.lower
def lower_bit_cast(input: Tensor, *, to: int) -> Tensor:
    target = DType.of(to)
    _check_width(input.dtype, target)
    return compute(input.shape, lambda *i: bitcast(input[i], target))


def _check_width(source: DType, target: DType) -> None:
    require(
        source.bits == target.bits,
        f"both types must have one width, found {source} with {source.bits} bits and {target} "
        f"with {target.bits}",
        DTypeError,
    )
