"""Optionals: a value, or nothing.

At run time an optional is its value, or None. Before opset 18 the operators take optionals only;
since then also plain tensors and sequences, which count as values that are there.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from fornix.dtype import BOOL as BOOL_DTYPE
from fornix.errors import Fail, SchemaError, require
from fornix.ir.types import OptionalType, Type
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.op import op
from fornix.ops.types import BF16, BOOL, E8M0, F4, F6, F8, I2, I4, OPT, SEQ, TENSOR

Value = TypeVar("Value")

NARROW = F8 | F6 | I4 | I2 | BF16 | E8M0 | F4
"""What opset 28 adds to the element types."""

HELD = "whether an optional holds a value is no arithmetic on elements"
"""Why compiled code calls the kernels."""

Optional = (
    op("Optional <type: type_proto?> (input: V?) => (output: O)",
       since=15, V=TENSOR | SEQ(TENSOR), O=OPT(TENSOR | SEQ(TENSOR)))
    .since(28, V=+(NARROW | SEQ(NARROW)), O=+OPT(NARROW | SEQ(NARROW)))
    .opaque(HELD)
)  # fmt: skip


@Optional.infer
def infer_optional(input: Fact | None = None, *, type: Type | None = None) -> Fact:
    require(
        (input is None) != (type is None),
        "either an input or the attribute type must be given, found "
        + ("none" if input is None else "both"),
        SchemaError,
    )
    return Fact(OptionalType(type if input is None else input.type))


@Optional.kernel
def optional(input: Value | None = None, *, type: Type | None = None) -> Value | None:
    """An optional that holds ``input``, or without it an empty one for values of ``type``.

    Source: ONNX Optional-15.
    """
    return input


OptionalGetElement = (
    op("OptionalGetElement (input: O) => (output: V)",
       since=15, O=OPT(TENSOR | SEQ(TENSOR)), V=TENSOR | SEQ(TENSOR))
    .since(18, O=+(TENSOR | SEQ(TENSOR)))
    .since(28, O=+(NARROW | SEQ(NARROW) | OPT(NARROW | SEQ(NARROW))), V=+(NARROW | SEQ(NARROW)))
    .opaque(HELD)
)  # fmt: skip


@OptionalGetElement.infer
def infer_optional_get_element(input: Fact) -> Fact:
    return Fact(input.type.elem) if isinstance(input.type, OptionalType) else input


@OptionalGetElement.kernel
def optional_get_element(input: Value | None) -> Value:
    """The value that the optional ``input`` holds. Raises Fail if it is empty.

    Source: ONNX OptionalGetElement-18.
    """
    if input is None:
        raise Fail("the optional must hold a value, found none; ask OptionalHasElement first")
    return input


OptionalHasElement = (
    op("OptionalHasElement (input: O) => (output: B)",
       since=15, O=OPT(TENSOR | SEQ(TENSOR)), B=BOOL)
    .since(18, "OptionalHasElement (input: O?) => (output: B)", O=+(TENSOR | SEQ(TENSOR)))
    .since(28, O=+(NARROW | SEQ(NARROW) | OPT(NARROW | SEQ(NARROW))))
    .opaque(HELD)
)  # fmt: skip


@OptionalHasElement.infer
def infer_optional_has_element(input: Fact | None = None) -> Fact:
    is_optional = input is not None and (input.type is None or isinstance(input.type, OptionalType))
    return tensor(BOOL_DTYPE, (), None if is_optional else np.array(int(input is not None), object))


@OptionalHasElement.kernel
def optional_has_element(input: object = None) -> Array:
    """Whether ``input`` holds a value, a scalar; false if there is no input.

    Source: ONNX OptionalHasElement-18.
    """
    return np.array(input is not None)
