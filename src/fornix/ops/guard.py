"""What stands between the functions that users write for operators and whoever calls them.

Kernels cannot write to their inputs, and their results are held to the schema and to inference:
others are compiled for what inference said. Whatever goes wrong is an error of fornix that says
which rule it was, with the exception of the user's function as its cause.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import (
    DTypeError,
    Fail,
    FornixError,
    FornixWarning,
    InferenceError,
    ShapeError,
)
from fornix.ir.loops import Tensor
from fornix.ir.types import SequenceType, TensorType, Type
from fornix.ops.call import (
    InferNode,
    LowerNode,
    NodeView,
    NotLowered,
    RunNode,
    bind_types,
    call_rule,
    declared_type,
    infer_node,
)
from fornix.ops.fact import Fact, UnknownRank
from fornix.ops.op import Rule
from fornix.ops.refusal import held_facts, infer_view
from fornix.ops.signature import Formal


def kernel_of(function: Rule) -> Rule:
    """The ``kernel`` rule that calls ``function``."""

    def kernel(*inputs: Any, node: RunNode, **attributes: Any) -> tuple[Any, ...]:
        expected = infer_node(held_facts(inputs, node), attributes, infer_view(node))
        lent = [_lent(x) for x in inputs]
        own = {k: list(x) if isinstance(x, list) else x for k, x in attributes.items()}
        with _blamed("kernel", Fail):
            results = call_rule(function, lent, own, node)
        given = {id(view): x for view, x in zip(lent, inputs, strict=True)}
        return _checked([given.get(id(x), x) for x in results], expected, node)

    kernel.__doc__ = function.__doc__
    return kernel


def infer_of(function: Rule) -> Rule:
    """The ``infer`` rule that calls ``function``."""

    def infer(*inputs: Fact | None, node: InferNode, **attributes: object) -> tuple[Any, ...]:
        with _blamed("infer rule", InferenceError):
            results = call_rule(function, inputs, attributes, node)
        if len(results) > node.output_count and len(results) > len(node.schema.outputs):
            raise InferenceError(f"{_outputs(node)}, its infer rule gave {len(results)}")
        types = [None if fact is None else fact.type for fact in inputs]
        bound = bind_types(node.schema, types, checks=False)
        for index, fact in enumerate(results):
            if fact is not None:
                _check_fact(fact, node.schema.formal_output(index), node, bound)
        return results

    return infer


def _check_fact(fact: object, formal: Formal, node: InferNode, bound: Mapping[str, Type]) -> None:
    if not isinstance(fact, Fact):
        raise InferenceError(
            f"its infer rule must give facts, found {type(fact).__name__}; "
            f"try fornix.ops.fact.tensor({_first(node)}.dtype, {_first(node)}.shape)"
        )
    declared = getattr(declared_type(node.schema, formal, bound), "dtype", None)
    if None not in {fact.dtype, declared} and fact.dtype is not declared:
        raise DTypeError(
            f"its infer rule says that {formal.name} is {fact.dtype}, the signature has "
            f"{formal.type_text} = {declared}"
        )


def lower_of(function: Rule) -> Rule:
    """The ``lower`` rule that calls ``function``; where it fails, the kernel serves.

    That is said in a FornixWarning: a slow model would be the only sign of it.
    """

    def lower(
        *inputs: Tensor | None, node: LowerNode, **attributes: object
    ) -> tuple[Tensor | None, ...]:
        try:
            results = call_rule(function, inputs, attributes, node)
            _check_lowered(results, node)
        except NotLowered:
            raise
        except Exception as error:
            reason = f"its lower rule raised {type(error).__name__}: {error}"
            _warn(node, reason)
            raise NotLowered(reason) from error
        return results

    return lower


def _check_lowered(results: Sequence[object], node: LowerNode) -> None:
    for index, (result, type_) in enumerate(zip(results, node.output_types, strict=False)):
        if result is None or not isinstance(type_, TensorType):
            continue
        name = node.schema.formal_output(index).name
        if not isinstance(result, Tensor):
            raise TypeError(f"{name} must be a loop tensor, found {type(result).__name__}")
        found = TensorType(result.dtype, tuple(result.shape))
        if found != type_:
            raise TypeError(f"{name} must be {type_}, found {found}")


def _warn(node: NodeView, reason: str) -> None:
    domain = node.schema.domain or "ai.onnx"
    message = f"{domain}::{node.schema.name}-{node.version}: {reason}; its kernel serves instead"
    warnings.warn(message, FornixWarning, stacklevel=2)


def grad_of(function: Rule) -> Rule:
    """The ``grad`` rule that calls ``function``."""

    def grad(*inputs: object, node: NodeView, **attributes: object) -> tuple[Any, ...]:
        with _blamed("grad rule", Fail):
            return call_rule(function, inputs, attributes, node)

    return grad


@contextmanager
def _blamed(rule: str, error: type[FornixError]) -> Iterator[None]:
    """Turn what a user's function raises into ``error``; errors of fornix stay what they are."""
    try:
        yield
    except (FornixError, NotLowered, UnknownRank):
        raise
    except Exception as cause:
        hint = "; inputs stay as they are, work on a copy" if "read-only" in str(cause) else ""
        raise error(f"its {rule} raised {type(cause).__name__}: {cause}{hint}") from cause


# ── kernels ────────────────────────────────────────────────────────────────────────────────────


def _lent(value: Any) -> Any:
    """``value`` for a function that must not write to it."""
    if isinstance(value, np.ndarray):
        view = value.view()
        view.flags.writeable = False
        return view
    return [_lent(x) for x in value] if isinstance(value, list) else value


def _checked(results: Sequence[Any], expected: Sequence[Fact], node: RunNode) -> tuple[Any, ...]:
    """``results`` as plans take them; raises what is wrong with them."""
    count = len(results)
    if any(node.wanted[count:]) or count > max(node.output_count, len(node.schema.outputs)):
        hint = "; several outputs are a tuple" if count == 1 else ""
        raise Fail(f"{_outputs(node)}, its kernel gave {count}{hint}")
    return tuple(
        _result(result, node.schema.formal_output(index), expected[index].type, node)
        if node.wants(index)
        else result
        for index, result in enumerate(results)
    )


def _result(result: Any, formal: Formal, type_: Type | None, node: RunNode) -> Any:
    if isinstance(type_, SequenceType):
        if not isinstance(result, list):
            raise DTypeError(_unlike(formal, type_, type(result).__name__, "; return a list"))
        return result
    if isinstance(result, np.generic | np.matrix):
        result = np.asarray(result)
    if not isinstance(result, np.ndarray):
        if type_ is None:
            return result
        raise DTypeError(_unlike(formal, type_, type(result).__name__, "; return a NumPy array"))
    if result.dtype.kind == "U":
        result = result.astype(object)
    try:
        found = TensorType(DType.of(result.dtype), result.shape)
    except DTypeError:
        raise DTypeError(_unlike(formal, type_, str(result.dtype))) from None
    _check_type(found, formal, type_, node)
    return result


def _check_type(found: TensorType, formal: Formal, type_: Type | None, node: RunNode) -> None:
    dtype = getattr(type_, "dtype", None)
    if dtype is None and found.constraint not in node.schema.allowed(formal):
        allowed = ", ".join(sorted(node.schema.allowed(formal)))
        raise DTypeError(_unlike(formal, f"one of {allowed}", str(found)))
    if dtype is not None and found.dtype is not dtype:
        hint = f"; try {formal.name}.astype(np.{dtype.numpy})"
        raise DTypeError(_unlike(formal, type_, str(found), hint))
    shape = getattr(type_, "shape", None)
    if shape is not None and (
        len(shape) != len(found.shape or ())
        or any(isinstance(a, int) and a != b for a, b in zip(shape, found.shape or (), strict=True))
    ):
        hint = "; either the kernel is wrong or what infers it"
        raise ShapeError(_unlike(formal, type_, str(found), hint))


def _unlike(formal: Formal, wanted: object, found: str, hint: str = "") -> str:
    return f"its output {formal.name} must be {wanted}, its kernel gave {found}{hint}"


def _outputs(node: NodeView) -> str:
    names = [formal.name for formal in node.schema.outputs]
    plural = "" if node.output_count == 1 else "s"
    return f"the node has {node.output_count} output{plural} ({', '.join(names)})"


def _first(node: NodeView) -> str:
    inputs = node.schema.inputs
    return inputs[0].name if inputs else "x"
