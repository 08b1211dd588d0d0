"""How the rules of an operator are called: arguments, checks, and what a rule sees of its node.

Inputs are positional, attributes go by keyword, and a rule that names a keyword parameter ``node``
receives the node's view. Here arity, attributes and type variables are checked against the schema,
so rules need not. `infer_node`, `run_node` and `lower_node` are the three entrances; what cannot be
lowered leaves the last one with `NotLowered`, and its kernel serves.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import numpy as np

from fornix.dtype import DType
from fornix.errors import DTypeError, InferenceError, NotSupported, SchemaError
from fornix.ir.attribute import Attribute, plain_attributes
from fornix.ir.dim import Dim, DimLike, unknown
from fornix.ir.types import SequenceType, TensorType, Type
from fornix.ops.fact import Array, Fact, UnknownRank
from fornix.ops.schema import Schema
from fornix.ops.signature import Formal
from fornix.ops.types import type_of

if TYPE_CHECKING:
    from fornix.ir.graph import Graph, Node
    from fornix.ir.loops import Tensor
    from fornix.ops.op import Operator, Rule

T = TypeVar("T")

IGNORED_ATTRIBUTES = frozenset({"consumed_inputs"})
"""Attributes without meaning: opset 1 used this one to plan memory in place."""

UNTIMED = frozenset({("", "RegexFullMatch")})
"""Operators whose time nothing tells ahead, not even their inputs' sizes: they run in runs only."""

REFUSALS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What Python and NumPy raise for what a rule let through, and for what memory cannot hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """What every rule may ask about its node."""

    operator: Operator
    schema: Schema
    opset: int
    """Version of the operator's domain that the model imports."""
    wanted: tuple[bool, ...]
    """Which outputs somebody uses, in order."""

    @property
    def version(self) -> int:
        """Schema version in force."""
        return self.schema.since_version

    @property
    def output_count(self) -> int:
        """Number of outputs that the node names."""
        return len(self.wanted)

    def wants(self, index: int) -> bool:
        """Whether the output at ``index`` is used."""
        return index < len(self.wanted) and self.wanted[index]


class InferBody(Protocol):
    """Facts of a subgraph's outputs, given facts of its inputs."""

    def __call__(
        self, graph: Graph, inputs: Sequence[Fact | None], changing: Collection[DimLike] = ()
    ) -> list[Fact]:
        """``changing`` extents of inputs are what they are, whatever the subgraph declares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferNode(NodeView):
    """The node as inference shows it."""

    infer_body: InferBody
    checks_types: bool = True
    """Whether inputs must have types that the schema allows."""

    def unknown(self, reason: str) -> Dim:
        """A fresh extent of which nothing is known but ``reason``."""
        return unknown(f"{self.operator.name}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNode(NodeView):
    """The node as evaluation shows it."""

    run_body: Callable[[Graph, Sequence[Any]], list[Any]]
    """Values of a subgraph's outputs, given values of its inputs."""
    random: np.random.Generator = field(
        default_factory=lambda: np.random.default_rng()  # noqa: PLW0108 - it takes 5 ms to import
    )
    made: list[Any] = field(default_factory=list, repr=False)
    """What `once` made; shared by all runs of the node."""
    types: tuple[Type | None, ...] = ()
    """Types of the inputs, as far as the model says them."""

    def once(self, make: Callable[[], T]) -> T:
        """``make()`` on the first run, and the same object later: tables made from attributes."""
        if not self.made:
            self.made.append(make())
        made: T = self.made[0]
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyNode(NodeView):
    """The node as a body that depends on it shows it."""

    attributes: Mapping[str, object]
    """Attributes, completed by the schema's defaults."""
    given: tuple[bool, ...]
    """Which inputs are there, in order."""
    types: tuple[Type | None, ...] = ()
    """Types of the inputs, as far as they are known."""

    @staticmethod
    def of(
        node: Node, operator: Operator, schema: Schema, opset: int, types: Iterable[Type | None]
    ) -> BodyNode:
        """``node``, whose attributes refer to no others, with inputs of ``types``.

        Raises one of `REFUSALS` if its attributes are not what ``schema`` asks for.
        """
        return BodyNode(
            operator=operator,
            schema=schema,
            opset=opset,
            wanted=tuple(node.wants(index) for index in range(len(node.outputs))),
            attributes=bind_attributes(schema, plain_attributes(node.attributes, {})),
            given=tuple(value is not None for value in node.inputs),
            types=tuple(types),
        )

    def has(self, index: int) -> bool:
        """Whether the input at ``index`` is given."""
        return index < len(self.given) and self.given[index]

    def type(self, index: int) -> Type | None:
        """The type of the input at ``index``, if it is known."""
        return self.types[index] if index < len(self.types) else None

    def rank(self, index: int) -> int | None:
        """The rank of the input at ``index``, if it is known."""
        shape = getattr(self.type(index), "shape", None)
        return None if shape is None else len(shape)

    def dtype(self, index: int) -> DType:
        """The element type of the input at ``index``; raises NotSupported if it is not known."""
        found = self.type(index)
        if isinstance(found, TensorType) and found.dtype is not None:
            return found.dtype
        name = self.schema.formal_input(index).name
        raise NotSupported(
            f"the body of {self.schema.name} depends on the element type of {name}, "
            "which is not known"
        )


class NotLowered(Exception):
    """A node stays with its kernel, for the reason that is its message; no error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerNode(NodeView):
    """The node as lowering shows it."""

    output_types: tuple[Type | None, ...]
    """Inferred types of the outputs."""
    facts: tuple[Fact | None, ...]
    """What inference knows of the inputs."""

    def decline(self, reason: str) -> NoReturn:
        """Leave the node to its kernel; ``reason`` is what users are told."""
        raise NotLowered(reason)

    def known(self, index: int) -> list[DimLike] | None:
        """The elements of an integer input in row-major order, symbolic ones included.

        None where the input is left out or an element is computed at run time.
        """
        fact = self.facts[index] if index < len(self.facts) else None
        value = None if fact is None else fact.value
        if value is None or any(map(_is_unknown, value.flat)):
            return None
        return list(value.reshape(-1))

    def required(self, index: int) -> list[DimLike]:
        """Like `known`; declines where that gives None."""
        found = self.known(index)
        if found is None:
            self.decline(
                f"its input {self.schema.formal_input(index).name} is computed at run time"
            )
        return found

    def numbers(self, index: int) -> list[int]:
        """Like `required`, plain integers only: axes and the like."""
        found = self.required(index)
        if any(not isinstance(entry, int) for entry in found):
            self.decline(f"its input {self._called(index)} depends on extents")
        return [entry for entry in found if isinstance(entry, int)]

    def _called(self, index: int) -> str:
        return self.schema.formal_input(index).name

    def constant(self, index: int) -> Array:
        """The elements of an input of any dtype; declines if they are no constants."""
        fact = self.facts[index] if index < len(self.facts) else None
        found = None if fact is None else fact.constant
        if found is None:
            self.decline(
                f"its input {self.schema.formal_input(index).name} is computed at run time"
            )
        return found

    def shape(self, index: int = 0) -> tuple[DimLike, ...]:
        """The extents of an output; declines where one is known at run time only."""
        shape = getattr(self.output_types[index], "shape", None)
        if shape is None or any(extent is None or _is_unknown(extent) for extent in shape):
            self.decline("the extents of its result are computed at run time")
        return tuple(extent for extent in shape if extent is not None)


def _is_unknown(entry: DimLike) -> bool:
    return isinstance(entry, Dim) and bool(entry.unknowns)


def subject(node: Node, opset: int | None) -> str:
    """How errors call ``node``: ``node 'stem/conv' (Conv, opset 22)``."""
    return node.label if opset is None else f"{node.label.removesuffix(')')}, opset {opset})"


@lru_cache(maxsize=4096)
def _takes_node(rule: Rule) -> bool:
    try:
        return "node" in inspect.signature(rule).parameters
    except (TypeError, ValueError):  # a function in C that does not tell
        return False


def call_rule(
    rule: Rule, inputs: Sequence[object], attributes: Mapping[str, object], node: NodeView
) -> tuple[Any, ...]:
    """The results of ``rule``, always as a tuple."""
    extra = {"node": node} if _takes_node(rule) else {}
    result = rule(*inputs, **attributes, **extra)
    return result if isinstance(result, tuple) else (result,)


def check_arity(schema: Schema, inputs: Sequence[object], output_count: int) -> None:
    """Raise SchemaError unless ``schema`` allows these numbers and omissions of inputs."""
    name = f"{schema.name}-{schema.since_version}"
    for what, count, least, most in (
        ("inputs", len(inputs), schema.min_input, schema.max_input),
        ("outputs", output_count, schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            wanted = f"{least} or more" if most > count and most != least else wanted
            raise SchemaError(f"{name} takes {wanted} {what}, found {count}")
    for index, value in enumerate(inputs):
        formal = schema.formal_input(index)
        if value is None and formal.occurrence.value != "optional":
            raise SchemaError(f"{name}: input {formal.name} is required, found none")


def bind_attributes(schema: Schema, given: Mapping[str, object]) -> dict[str, object]:
    """``given`` completed by the schema's defaults, ready for a rule.

    Raises SchemaError for an unknown attribute or a missing required one. Float defaults are
    rounded to float32, the precision in which models store them.
    """
    name = f"{schema.name}-{schema.since_version}"
    for attribute in given:
        if attribute not in schema.attributes:
            close = difflib.get_close_matches(attribute, schema.attributes, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            has = ", ".join(schema.attributes) or "none"
            raise SchemaError(f"{name} has the attributes {has}, found {attribute!r}{hint}")
    bound: dict[str, object] = {}
    for formal in schema.attributes.values():
        if formal.name in IGNORED_ATTRIBUTES:
            continue
        if formal.name in given:
            bound[formal.name] = given[formal.name]
        elif formal.default is not None:
            default = formal.default
            bound[formal.name] = (
                float(np.float32(default)) if isinstance(default, float) else default
            )
        elif formal.is_required:
            raise SchemaError(f"{name}: attribute {formal.name} is required, found none")
    return bound


def check_kinds(schema: Schema, given: Mapping[str, Attribute]) -> None:
    """Raise SchemaError if an attribute is not of the kind that the schema gives it."""
    for name, attribute in given.items():
        formal = schema.attributes.get(name)
        if formal is not None and attribute.kind.text != formal.kind:
            raise SchemaError(
                f"{schema.name}-{schema.since_version}: attribute {name} is {formal.kind}, "
                f"found {attribute.kind.text}"
            )


def bind_types(
    schema: Schema, types: Sequence[Type | None], *, checks: bool = True
) -> dict[str, Type]:
    """What each type variable stands for, given the types of the inputs.

    If it ``checks``, it raises DTypeError if the schema does not allow a type, or if two inputs of
    one variable differ; else the first of them stands for the others.
    """
    bound: dict[str, Type] = {}
    for index, found in enumerate(types):
        if found is None or getattr(found, "dtype", True) is None:
            continue
        formal = schema.formal_input(index)
        spelling = found.constraint
        if checks and spelling not in schema.allowed(formal) and "?" not in spelling:
            raise DTypeError(
                f"{formal.name} is {found}, but {schema.name}-{schema.since_version} allows "
                f"{', '.join(sorted(schema.allowed(formal)))}"
            )
        first = bound.setdefault(formal.type_text, found)
        if checks and formal.is_homogeneous and first.constraint != spelling:
            raise DTypeError(
                f"{formal.name} is {found}, but another input of the same type "
                f"{formal.type_text} is {first}; they must agree"
            )
    return bound


def check_values(schema: Schema, values: Sequence[object]) -> None:
    """Raise DTypeError if ``values``, inputs of a run, are not of types that the schema allows."""
    bind_types(
        schema,
        [
            None if _holds_optionals(schema, index) else held_type(value)
            for index, value in enumerate(values)
        ],
    )


def _holds_optionals(schema: Schema, index: int) -> bool:
    """Whether an input may be an optional, of which a run holds the value alone."""
    allowed = schema.allowed(schema.formal_input(index))
    return any(spelling.startswith("optional(") for spelling in allowed)


def held_type(value: object) -> Type | None:
    """The type of what a kernel is given, as far as it shows; None for what is not there."""
    if isinstance(value, np.ndarray):
        return TensorType(DType.of(value.dtype), value.shape)
    if isinstance(value, list):
        return SequenceType(held_type(value[0]) if value else None)
    return None


def declared_type(schema: Schema, formal: Formal, bound: Mapping[str, Type]) -> Type | None:
    """The type that the type variables alone give an output, without any shape."""
    found = bound.get(formal.type_text) if formal.is_homogeneous else None
    spellings = schema.allowed(formal) if found is None else frozenset((found.constraint,))
    spelling = next(iter(spellings)) if len(spellings) == 1 else "?"
    return None if "?" in spelling else type_of(spelling)  # "seq(?)": elements nobody declares


def infer_node(
    inputs: Sequence[Fact | None], attributes: Mapping[str, object], node: InferNode
) -> tuple[Fact, ...]:
    """Facts of the node's outputs, one per output that it names.

    Raises InferenceError also where the node has other inputs or attributes than its schema.
    """
    schema = node.schema
    try:
        check_arity(schema, inputs, node.output_count)
        bound_attributes = bind_attributes(schema, attributes)
    except SchemaError as error:
        raise InferenceError(str(error)) from error
    types = [None if fact is None else fact.type for fact in inputs]
    bound = bind_types(schema, types, checks=node.checks_types)
    rule = node.operator.rule("infer", schema.since_version)
    results: tuple[Fact | None, ...] = ()
    if rule is not None:
        try:
            results = call_rule(rule, inputs, bound_attributes, node)
        except UnknownRank:
            results = ()
    return tuple(
        _completed(results[index] if index < len(results) else None, schema, index, bound)
        for index in range(node.output_count)
    )


def _completed(fact: Fact | None, schema: Schema, index: int, bound: Mapping[str, Type]) -> Fact:
    """``fact`` with what it leaves open filled in from the type variables."""
    if fact is not None and fact.type is not None and getattr(fact.type, "dtype", True) is not None:
        return fact
    declared = declared_type(schema, schema.formal_output(index), bound)
    if fact is None or fact.type is None:
        return Fact(declared)
    if isinstance(fact.type, TensorType) and isinstance(declared, TensorType):
        return replace(fact, type=TensorType(declared.dtype, fact.type.shape))
    return fact


def run_node(
    inputs: Sequence[Any], attributes: Mapping[str, object], node: RunNode
) -> tuple[Any, ...]:
    """Values of the node's outputs; ``attributes`` must come from `bind_attributes`."""
    return prepared(attributes, node)(inputs)


def prepared(attributes: Mapping[str, object], node: RunNode) -> Callable[..., tuple[Any, ...]]:
    """`run_node` for one node again and again: its kernel is looked for once.

    After the inputs it takes another view of the node, if its bodies are to run otherwise.
    """
    rule = node.operator.rule("kernel", node.version)
    if rule is None:
        return partial(_refuse, node)
    extra = {"node": node} if _takes_node(rule) else {}
    return PreparedKernel(partial(rule, **attributes, **extra), node.output_count, bool(extra))


@dataclass(frozen=True, slots=True)
class PreparedKernel:
    """A kernel for one node, and the number of its outputs."""

    kernel: Callable[..., Any]
    """From inputs, one by one, to a tuple or the only result."""
    count: int
    takes_node: bool

    def __call__(self, inputs: Sequence[Any], view: RunNode | None = None) -> tuple[Any, ...]:
        other = {"node": view} if view is not None and self.takes_node else {}
        found = self.kernel(*inputs, **other)
        results: tuple[Any, ...] = found if isinstance(found, tuple) else (found,)
        return results + (None,) * (self.count - len(results))


def _refuse(node: NodeView, *_: object) -> tuple[Any, ...]:
    raise NotSupported(_no_kernel(node))


def _no_kernel(node: NodeView) -> str:
    name = f"{node.operator.name}-{node.version}"
    if not node.operator.stamp:
        return f"{name} has no kernel"
    return (
        f"{name} is registered without kernel; give it one: "
        f"@fornix.op('{node.operator.domain}::{node.operator.name} …', since={node.version}, "
        "replace=True)"
    )


LOWERED_KINDS = frozenset({"float", "int", "uint", "bool"})
"""Kinds of element types that loops hold."""


def lower_node(
    inputs: Sequence[Tensor | None], attributes: Mapping[str, object], node: LowerNode
) -> tuple[Tensor | None, ...]:
    """Tensors of the node's outputs; ``attributes`` must come from `bind_attributes`.

    Raises NotLowered if the node has to run its kernel.
    """
    for type_ in (
        *(None if fact is None else fact.type for fact in node.facts),
        *node.output_types,
    ):
        dtype = getattr(type_, "dtype", None)
        if type_ is not None and (dtype is None or dtype.kind not in LOWERED_KINDS):
            raise NotLowered(f"loops hold tensors of numbers and bools, found {type_}")
    rule = node.operator.rule("lower", node.version)
    if rule is None:
        opaque = node.operator.rule("opaque", node.version)
        raise NotLowered("it has no lowering" if opaque is None else opaque())
    results = call_rule(rule, inputs, attributes, node)[: node.output_count]
    return results + (None,) * (node.output_count - len(results))


def output_dtype(schema: Schema, dtypes: Sequence[DType | None]) -> DType | None:
    """Element type of the first output, if an input or the schema alone decides it."""
    wanted = schema.outputs[0].type_text
    for index, dtype in enumerate(dtypes):
        if dtype is not None and schema.formal_input(index).type_text == wanted:
            return dtype
    declared = declared_type(schema, schema.outputs[0], {})
    return declared.dtype if isinstance(declared, TensorType) else None
