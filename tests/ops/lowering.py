"""Checks that a lowering computes what its kernel computes, for static and for symbolic shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix import ops
from fornix.dtype import DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Tensor, tensor
from fornix.ops.call import LowerNode, bind_attributes, call_rule
from tests.compare import assert_same
from tests.ir.interpreter import interpret
from tests.ops.harness import LATEST, run_op


def lower_op(
    name: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int = LATEST,
    outputs: int = 1,
    domain: str = "",
    symbolic: Sequence[int] = (),
) -> list[Any]:
    """Outputs of the lowering, interpreted; the axes in ``symbolic`` of each input are symbols."""
    operator = ops.find(domain, name)
    assert operator is not None
    schema = operator.schema(opset)
    node = LowerNode(
        operator=operator,
        schema=schema,
        opset=opset,
        wanted=(True,) * outputs,
        output_types=(None,) * outputs,
    )
    rule = operator.rule("lower", node.version)
    assert rule is not None, f"{name}-{node.version} has no lowering"
    symbols: dict[str, int] = {}
    feeds = {f"x{i}": value for i, value in enumerate(inputs) if value is not None}
    arguments = [
        None if value is None else _argument(f"x{i}", value, symbolic, symbols)
        for i, value in enumerate(inputs)
    ]
    results = call_rule(rule, arguments, bind_attributes(schema, attributes or {}), node)
    assert len(results) == outputs
    return [interpret(result, feeds, symbols) for result in results]


def _argument(name: str, value: Any, symbolic: Sequence[int], symbols: dict[str, int]) -> Tensor:
    shape: list[DimLike] = list(value.shape)
    for axis in symbolic:
        if axis < len(shape):
            # Axes of one extent share a symbol: rules may rely on what shapes have in common.
            shape[axis] = symbol(f"n{value.shape[axis]}")
            symbols[f"n{value.shape[axis]}"] = value.shape[axis]
    return tensor(name, shape, DType.of(value.dtype))


def check_lowering(
    name: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int = LATEST,
    outputs: int = 1,
    rtol: float = 0.0,
    atol: float = 0.0,
    symbolic: Sequence[int] = (),
) -> None:
    """Check the lowering against the kernel, with static shapes and with ``symbolic`` axes."""
    expected = run_op(name, inputs, attributes, opset=opset, outputs=outputs)
    for axes in ((), symbolic) if symbolic else ((),):
        found = lower_op(name, inputs, attributes, opset=opset, outputs=outputs, symbolic=axes)
        for one, other in zip(found, expected, strict=True):
            assert_same(np.asarray(one), other, rtol=rtol, atol=atol)
