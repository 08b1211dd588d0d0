"""One harness for the rules of every operator.

`check_node` runs the kernel against the expected values, inference against what the kernel
returned (with static shapes, with every extent symbolic, and without ranks), and the lowering, if
there is one, against the kernel; `check_lowering` insists that there is one. `run_op`, `infer_op`
and `lower_op` call one rule; `peer` runs the same node in onnxruntime.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from fornix import ops
from fornix.dtype import DType
from fornix.ir.dim import Dim, DimLike, known, symbol
from fornix.ir.loops import Tensor, constant, tensor
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import OptionalType, SequenceType, TensorType, Type
from fornix.ops.call import (
    LOWERED_KINDS,
    InferNode,
    LowerNode,
    NotLowered,
    RunNode,
    bind_attributes,
    infer_node,
    lower_node,
    run_node,
)
from fornix.ops.fact import Fact, join_types
from tests.compare import assert_same
from tests.ir.interpreter import interpret

LATEST = 28


def _no_body(*_: Any, **__: Any) -> list[Any]:
    raise AssertionError("this node has no subgraph")


def _view(domain: str, name: str, opset: int, outputs: int) -> dict[str, Any]:
    operator = ops.find(domain, name)
    assert operator is not None, f"{domain}::{name} is not declared"
    return {
        "operator": operator,
        "schema": operator.schema(opset),
        "opset": opset,
        "wanted": (True,) * outputs,
    }


def run_op(
    name: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int = LATEST,
    outputs: int = 1,
    domain: str = "",
) -> list[Any]:
    """Outputs of the kernel of ``name`` at ``opset``."""
    node = RunNode(**_view(domain, name, opset, outputs), run_body=_no_body)
    with np.errstate(all="ignore"):
        bound = bind_attributes(node.schema, attributes or {})
        return list(run_node(list(inputs), bound, node)[:outputs])


def infer_op(
    name: str,
    inputs: Sequence[Fact | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int = LATEST,
    outputs: int = 1,
    domain: str = "",
) -> list[Fact]:
    """Facts that inference gives for the outputs of ``name`` at ``opset``."""
    node = InferNode(**_view(domain, name, opset, outputs), infer_body=_no_body)
    return list(infer_node(list(inputs), attributes or {}, node))


def type_of(value: Any) -> Type:
    """The type of a run-time value; an optional without value has no type of its own."""
    if isinstance(value, list):
        kinds = [type_of(element) for element in value]
        return SequenceType(functools.reduce(_joined, kinds) if kinds else None)
    return TensorType(DType.of(value.dtype), value.shape)


def _joined(one: Type, other: Type) -> Type:
    joined = join_types(one, other, "elements differ")
    assert joined is not None
    return joined


def fact_of(value: Any, *, is_known: bool = True) -> Fact | None:
    """The fact of a run-time value, with its contents unless ``is_known`` is false."""
    if value is None:
        return None
    tensor = ArrayTensor(value) if isinstance(value, np.ndarray) and is_known else None
    return Fact(type_of(value), None, tensor)


def symbolic(value: Any, names: dict[str, int]) -> Fact | None:
    """The fact of ``value`` with every extent a symbol of its own, recorded in ``names``."""
    if value is None or not isinstance(value, np.ndarray):
        return fact_of(value, is_known=False)
    dims: list[Dim | int] = []
    for extent in value.shape:
        name = f"s{len(names)}"
        names[name] = extent
        dims.append(symbol(name))
    return Fact(TensorType(DType.of(value.dtype), tuple(dims)))


def check_node(
    name: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    expected: Sequence[Any],
    opset: int = LATEST,
    domain: str = "",
    rtol: float = 0.0,
    atol: float = 0.0,
) -> None:
    """Check kernel, inference and lowering of one node against ``expected`` outputs."""
    where: dict[str, Any] = {"opset": opset, "outputs": len(expected), "domain": domain}
    found = run_op(name, inputs, attributes, **where)
    for one, other in zip(found, expected, strict=True):
        if other is not None:
            assert_same(one, other, rtol=rtol, atol=atol)
    check_inference(name, inputs, attributes, found, **where)
    for is_symbolic in (False, True):
        try:
            lowered = lower_op(name, inputs, attributes, is_symbolic=is_symbolic, **where)
        except NotLowered:
            continue  # what has to be lowered is said by `check_lowering`
        _assert_lowered(lowered, found, None, None)


def check_lowering(
    name: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    symbolic: bool = True,
    **where: Any,
) -> None:
    """Check that the node is lowered, to what its kernel computes, extents being numbers or not.

    ``symbolic=False`` leaves symbols out, for rules that need to know an extent. Without tolerances
    floats may differ by sums in another order; everything else is the same arithmetic.
    """
    expected = run_op(name, inputs, attributes, **where)
    for is_symbolic in (False, True) if symbolic else (False,):
        found = lower_op(name, inputs, attributes, is_symbolic=is_symbolic, **where)
        _assert_lowered(found, expected, rtol, atol)


LOWERING_EPSILONS = 64
"""Rounding steps by which a lowering may differ from its kernel: sums in another order."""


def _assert_lowered(
    found: Sequence[Any], expected: Sequence[Any], rtol: float | None, atol: float | None
) -> None:
    for one, other in zip(found, expected, strict=True):
        if one is None or other is None:
            continue
        is_float = DType.of(other.dtype).is_float
        step = LOWERING_EPSILONS * float(ml_dtypes.finfo(other.dtype).eps) if is_float else 0.0
        assert_same(
            one, other, rtol=step if rtol is None else rtol, atol=step if atol is None else atol
        )


def lower_op(
    name: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int = LATEST,
    outputs: int = 1,
    domain: str = "",
    is_symbolic: bool = False,
) -> list[Any]:
    """Outputs of the lowering, interpreted; raises NotLowered where the rule declines.

    Contents of inputs are known to it only if it declines otherwise. With ``is_symbolic`` extents
    are symbols, which axes of one extent share: rules may rely on what shapes have in common.
    """
    view = _view(domain, name, opset, outputs)
    symbols: dict[str, int] = {}
    for first_known in (len(inputs), 1, 0):
        arguments = [
            None
            if x is None
            else _argument(i, x, symbols if is_symbolic else None, i >= first_known)
            for i, x in enumerate(inputs)
        ]
        facts = [None if argument is None else argument[0] for argument in arguments]
        tensors = [None if argument is None else argument[1] for argument in arguments]
        inferred = infer_op(name, facts, attributes, opset=opset, outputs=outputs, domain=domain)
        types = tuple(fact.type for fact in inferred)
        node = LowerNode(**view, output_types=types, facts=tuple(facts))
        try:
            results = lower_node(tensors, bind_attributes(node.schema, attributes or {}), node)
        except NotLowered:
            if first_known == 0:
                raise
            continue
        feeds = {f"x{i}": x for i, x in enumerate(inputs) if isinstance(x, np.ndarray)}
        return [None if y is None else np.asarray(interpret(y, feeds, symbols)) for y in results]
    raise AssertionError


def _argument(
    index: int, value: Any, symbols: dict[str, int] | None, is_known: bool
) -> tuple[Fact, Tensor | None]:
    """An input as a lowering sees it; lists that say where and how much, known on demand."""
    if not isinstance(value, np.ndarray) or DType.of(value.dtype).kind not in LOWERED_KINDS:
        return Fact(type_of(value)), None
    dtype = DType.of(value.dtype)
    if is_known and value.ndim <= 1:
        return Fact(type_of(value), None, ArrayTensor(value)), constant(value)
    dims: list[DimLike] = list(value.shape)
    if symbols is not None:
        symbols |= {f"n{extent}": extent for extent in value.shape if extent != 1}
        dims = [extent if extent == 1 else symbol(f"n{extent}") for extent in value.shape]
    return Fact(TensorType(dtype, tuple(dims))), tensor(f"x{index}", dims, dtype)


def check_inference(
    name: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None,
    found: Sequence[Any],
    **where: Any,
) -> None:
    """Check that inference never contradicts what the kernel ``found``."""
    static = infer_op(name, [fact_of(x) for x in inputs], attributes, **where)
    unvalued = infer_op(name, [fact_of(x, is_known=False) for x in inputs], attributes, **where)
    names: dict[str, int] = {}
    open_facts = infer_op(name, [symbolic(x, names) for x in inputs], attributes, **where)
    unranked = [
        None if x is None or not isinstance(x, np.ndarray) else Fact(TensorType(DType.of(x.dtype)))
        for x in inputs
    ]
    nothing = infer_op(
        name, [u or fact_of(x) for u, x in zip(unranked, inputs, strict=True)], attributes, **where
    )
    for facts in (static, unvalued, open_facts, nothing):
        for fact, value in zip(facts, found, strict=True):
            assert_agrees(fact, value, names)


def assert_agrees(fact: Fact, value: Any, names: Mapping[str, int]) -> None:
    """Raise AssertionError if ``fact`` claims what ``value`` is not, symbols being ``names``."""
    if value is None or fact.type is None or isinstance(fact.type, (OptionalType, SequenceType)):
        return
    if not isinstance(value, np.ndarray):
        return
    assert fact.dtype is DType.of(value.dtype), f"inferred {fact}, computed {value.dtype}"
    if not fact.has_rank:
        return
    bound = [dim if isinstance(dim, int) else dim.bind(dict(names)) for dim in fact.shape]
    assert len(bound) == value.ndim, f"inferred {fact}, computed shape {value.shape}"
    for dim, extent in zip(bound, value.shape, strict=True):
        claim = known(dim)
        assert claim is None or claim == extent, f"inferred {fact}, computed shape {value.shape}"
    contents = fact.known_value
    if contents is not None:
        for claimed, computed in zip(contents.reshape(-1), value.reshape(-1), strict=True):
            claim = known(claimed if isinstance(claimed, int) else claimed.bind(dict(names)))
            assert claim is None or claim == computed, f"inferred {contents}, computed {value}"


def peer(
    name: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int = 23,
    outputs: int = 1,
    domain: str = "",
) -> list[Any]:
    """Outputs that onnxruntime gives for the same node."""
    import onnxruntime

    names = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(name, names, results, domain=domain, **dict(attributes or {}))
    feeds = {n: value for n, value in zip(names, inputs, strict=True) if n}
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [
            onnx.helper.make_tensor_value_info(
                n, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for n, value in feeds.items()
        ],
        [onnx.helper.make_empty_tensor_value_info(result) for result in results],
    )
    imports = [onnx.helper.make_opsetid("", opset if not domain else 23)]
    if domain:
        imports.append(onnx.helper.make_opsetid(domain, opset))
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))
