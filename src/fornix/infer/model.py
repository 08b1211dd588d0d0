"""Inference over a whole model: every graph, subgraph and function call, once, in order.

Rules of operators say what one node gives; here stands what is known ahead (declared types and
initializers), how a declaration and a finding are merged, and what happens when they contradict
each other. Contents of small tensors are computed with the kernels where no rule propagates them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from types import MappingProxyType

import numpy as np

from fornix import ops
from fornix.errors import (
    DTypeError,
    FornixError,
    InferenceError,
    SchemaError,
    ShapeError,
    ValidationError,
)
from fornix.format.limits import DEFAULT, Limits
from fornix.ir.attribute import Attribute, plain_attributes, resolved
from fornix.ir.dim import DimLike, atoms, known, unknown
from fornix.ir.dim.expression import Atom, Unknown
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.nesting import fed_inputs
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import OptionalType, SequenceType, SparseTensorType, TensorType, Type
from fornix.ir.walk import captured_values
from fornix.ops.call import (
    REFUSALS,
    UNTIMED,
    InferNode,
    RunNode,
    bind_attributes,
    check_kinds,
    infer_node,
    run_node,
    subject,
)
from fornix.ops.fact import Fact, static
from fornix.ops.op import Operator
from fornix.ops.schema import Schema

FunctionKey = tuple[str, str, str]

COMPUTED_ELEMENTS = 256
"""Elements up to which contents are computed: enough for shapes, axes and sizes."""


NOTHING: Mapping[Value, Fact] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that contradicts itself, and the facts with which it did."""

    node: Node
    facts: Mapping[Value, Fact]
    output: Value | None = None
    """The output that is declared otherwise than inferred, if that is what contradicts."""


@dataclass
class Inference:
    """What is known of each value of a model, and what contradicts itself."""

    imports: Mapping[str, int] = field(default_factory=dict)
    functions: Mapping[FunctionKey, Function] = field(default_factory=dict)
    facts: dict[Value, Fact] = field(default_factory=dict)
    errors: list[FornixError] = field(default_factory=list)
    broken: set[Node] = field(default_factory=set)
    """Nodes that cannot run: the operator, attributes or inputs are not what the standard asks."""
    refusals: dict[FornixError, Refusal] = field(default_factory=dict)
    """What the nodes knew that errors speak of; for `fornix.infer.blame`."""

    def fact(self, value: Value) -> Fact:
        """The fact of ``value``; nothing is known of one that inference never reached."""
        return self.facts.get(value, Fact())

    def update(self, nodes: Iterable[Node]) -> None:
        """Infer the results of nodes of the main graph that came after inference."""
        walk = _Walk(self, self.imports, self.functions, strict=False, limits=DEFAULT)
        for node in nodes:
            self.facts.update(zip(node.outputs, walk.node(node), strict=False))


def infer_model(model: Model, *, checks_types: bool = True, limits: Limits = DEFAULT) -> Inference:
    """Infer types, shapes and known contents of every value in ``model``.

    Contradictions go to `Inference.errors`, and the results of such nodes keep their declared
    types. Unless it ``checks_types``, nodes may read types that their schemas do not allow.
    """
    found = Inference(model.opset_imports, model.function_table)
    walk = _Walk(found, found.imports, found.functions, False, limits, checks_types)
    walk.graph(model.graph, [declared_of(value) for value in model.graph.inputs])
    return found


def infer_alone(node: Node, known: Inference) -> Sequence[Fact]:
    """Facts of the outputs of ``node``, whatever the model declares of them.

    ``known`` has the facts of what it reads. Raises what is wrong with the node.
    """
    walk = _Walk(known, known.imports, known.functions, strict=True, limits=DEFAULT)
    return walk.alone(node)


def infer_by_schema(
    node: Node, operator: Operator, schema: Schema, known: Inference
) -> Sequence[Fact]:
    """Facts of the outputs of one node, as ``schema`` has them, whatever the model imports.

    ``known`` has the facts of its inputs. Raises what is wrong with the node.
    """
    walk = _Walk(known, known.imports, known.functions, strict=True, limits=DEFAULT)
    opset = known.imports.get(node.domain, schema.since_version)
    return walk.by_schema(node, operator, schema, opset)


@dataclass(frozen=True)
class _Walk:
    found: Inference
    imports: Mapping[str, int]
    functions: Mapping[FunctionKey, Function]
    strict: bool
    limits: Limits
    checks_types: bool = True
    calls: dict[object, list[Fact]] = field(default_factory=dict)
    """Results of calls of functions, where another call like it would give the same."""
    given: Mapping[str, Attribute] = field(default_factory=dict)
    callers: tuple[FunctionKey, ...] = ()
    absent: frozenset[Value] = frozenset()
    """Inputs of a function that its call leaves out."""
    changing: frozenset[Atom] = frozenset()
    """Extents of loops around that differ between iterations, whatever their bodies declare."""

    def graph(self, graph: Graph, inputs: Sequence[Fact | None]) -> list[Fact]:
        """Facts of the outputs of ``graph``, given facts of its inputs."""
        facts = self.found.facts
        for value in graph.initializer_values:
            try:
                facts[value] = _stored(value)
            except FornixError as error:
                self._report_value(error, f"initializer '{value.name}'")
                facts[value] = declared_of(value)
        for value, fact in zip(graph.inputs, inputs, strict=False):
            if fact is not None and not value.is_initializer:
                facts[value] = fact
        for node in graph.nodes:
            for value, fact in zip(node.outputs, self.node(node), strict=False):
                facts[value] = fact
        return [self.found.fact(value) for value in graph.outputs]

    def node(self, node: Node) -> Sequence[Fact]:
        """Facts of the outputs of ``node``, merged with the types that the model declares."""
        opset = self._opset(node)
        try:
            facts = self.alone(node)
        except FornixError as error:
            return self._refused(node, opset, error)
        except REFUSALS as error:
            # rules rely on attributes of the right kind, which broken models need not have
            found = InferenceError(f"{type(error).__name__}: {error}")
            return self._refused(node, opset, found)
        return [
            self._merged(value, fact, node, opset)
            for value, fact in zip(node.outputs, facts, strict=False)
        ]

    def alone(self, node: Node) -> Sequence[Fact]:
        """Facts of the outputs of ``node``, whatever the model declares; raises what is wrong."""
        function = self.functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            return self._call(node, function)
        return self._operator(node, self._opset(node))

    def _opset(self, node: Node) -> int | None:
        default = None if node.domain else self.imports.get("ai.onnx")
        return self.imports.get(node.domain, default)

    def _refused(self, node: Node, opset: int | None, error: FornixError) -> list[Fact]:
        """What is known of the results of a node that cannot run: what the model declares."""
        self._report(error, node, opset)
        self.found.broken.add(node)
        return [declared_of(value) for value in node.outputs]

    def _merged(self, value: Value, fact: Fact, node: Node, opset: int | None) -> Fact:
        """``fact`` merged with the declaration; where they contradict, the finding holds."""
        try:
            return _kept(fact, merge(declared_of(value), fact, value), self.changing)
        except FornixError as error:
            self._report(error, node, opset, {value: fact})
            return fact

    def _report(
        self,
        error: FornixError,
        node: Node,
        opset: int | None,
        output: Mapping[Value, Fact] = NOTHING,
    ) -> None:
        """Raise ``error`` under strict rules, else note it; the innermost node is its subject.

        ``output`` is what was inferred of an output that is declared otherwise.
        """
        placed = error if str(error).startswith("node ") else error.at(subject(node, opset))
        if self.strict:
            raise placed from None
        self.found.errors.append(placed)
        read = [value for value in (*node.inputs, *captured_values(node)) if value is not None]
        facts = {value: self.found.fact(value) for value in read} | dict(output)
        self.found.refusals[placed] = Refusal(node, facts, next(iter(output), None))

    def _report_value(self, error: FornixError, place: str) -> None:
        """`_report` of what no node is to blame for."""
        placed = InferenceError(str(error)).at(place)
        if self.strict:
            raise placed from error
        self.found.errors.append(placed)

    def _operator(self, node: Node, opset: int | None) -> Sequence[Fact]:
        if not opset:
            raise ValidationError(
                f"an opset import for domain {node.domain or 'ai.onnx'!r} is required, found none"
            )
        schema = ops.schema_of(node.domain, node.op_type, opset)
        return self.by_schema(node, ops.operator_of(schema), schema, opset)

    def by_schema(
        self, node: Node, operator: Operator, schema: Schema, opset: int
    ) -> Sequence[Fact]:
        """Facts of the outputs of ``node``, by the rule for ``schema``."""
        view = InferNode(
            operator=operator,
            schema=schema,
            opset=opset,
            wanted=tuple(node.wants(index) for index in range(len(node.outputs))),
            infer_body=self._body,
            checks_types=self.checks_types,
        )
        inputs = self._given_to(node)
        attributes = plain_attributes(node.attributes, self.given)
        try:
            check_kinds(schema, resolved(node.attributes, self.given))
        except SchemaError as error:
            raise InferenceError(str(error)) from error
        facts = infer_node(inputs, attributes, view)
        if not node.graphs and any(map(_is_open, facts)):
            return _computed(facts, inputs, attributes, view)
        return facts

    def _body(
        self, graph: Graph, inputs: Sequence[Fact | None], changing: Collection[DimLike] = ()
    ) -> list[Fact]:
        formal = fed_inputs(graph)
        declared = [declared_of(value) for value in formal]
        if len(inputs) != len(declared):
            raise ValidationError(
                f"{graph.label} takes {len(declared)} inputs, the operator gives {len(inputs)}"
            )
        inside = replace(self, changing=self.changing.union(*map(atoms, changing)))
        merged = [
            d if fact is None else _kept(fact, merge(d, fact, value), inside.changing)
            for d, fact, value in zip(declared, inputs, formal, strict=True)
        ]
        return inside.graph(graph, merged)

    def _given_to(self, node: Node) -> list[Fact | None]:
        """Facts of what ``node`` reads; None for what is left out."""
        return [
            None if value is None or value in self.absent else self.found.fact(value)
            for value in node.inputs
        ]

    def _call(self, node: Node, function: Function) -> Sequence[Fact]:
        if function.key in self.callers:
            raise ValidationError(f"{function.label} must not call itself")
        self.limits.check("nesting", len(self.callers) + 1, f"call of {function.label}")
        given = function.defaults | resolved(node.attributes, self.given)
        inputs = self._given_to(node)
        key = _call_key(function, given, inputs)
        if key in self.calls:
            return self.calls[key]
        inside = replace(
            self,
            imports=function.opset_imports or self.imports,
            given=given,
            callers=(*self.callers, function.key),
            absent=frozenset(_absent(function.graph.inputs, inputs)),
        )
        results = inside.graph(function.graph, inputs)
        if key is not None and not any(map(_is_fresh, results)):
            self.calls[key] = results
        return results


def _absent(values: Sequence[Value], inputs: Sequence[Fact | None]) -> Iterator[Value]:
    """Those of ``values`` that a call leaves out, at the end or in between."""
    for value, fact in zip_longest(values, inputs[: len(values)]):
        if fact is None:
            yield value


def _call_key(
    function: Function, given: Mapping[str, Attribute], inputs: Sequence[Fact | None]
) -> object:
    """What two calls share that give the same facts; None if contents are known, too."""
    if any(fact is not None and fact.tells for fact in inputs):
        return None
    types = tuple("absent" if fact is None else fact.type for fact in inputs)
    attributes = tuple(sorted((name, id(attribute)) for name, attribute in given.items()))
    return function.key, attributes, types


def _is_fresh(fact: Fact) -> bool:
    """Whether an extent of ``fact`` is unknown, and so may differ at every call."""
    return fact.has_rank and any(map(has_unknown, fact.shape))


def declared_of(value: Value) -> Fact:
    """What the model itself says of ``value``; names of dims are read as expressions."""
    return Fact(_resolved(value.type, value.name))


def _stored(value: Value) -> Fact:
    """An initializer is as it is stored, also where an input of its name says less.

    Nodes read a sparse one as the tensor that it stands for. Raises an error of fornix if it has no
    element type, or contradicts what the input declares.
    """
    type_, stored = value.type, value.tensor
    if isinstance(type_, SparseTensorType):
        return Fact(TensorType(type_.dtype, type_.shape))
    if stored is None or not isinstance(type_, TensorType | None):
        return Fact(type_, None, stored)
    found = Fact(TensorType(stored.dtype, stored.shape), None, stored)
    return found if value.declared_type is None else merge(declared_of(value), found, value)


def _resolved(type_: Type | None, name: str) -> Type | None:
    """``type_`` with every unnamed extent replaced by an unknown one that says where it stands."""
    if isinstance(type_, SequenceType | OptionalType):
        return type(type_)(_resolved(type_.elem, name))
    if not isinstance(type_, TensorType) or type_.shape is None:
        return type_
    return TensorType(
        type_.dtype,
        tuple(
            unknown(f"axis {axis} of '{name}' is declared without extent")
            if extent is None or (isinstance(extent, int) and extent < 0)
            else extent
            for axis, extent in enumerate(type_.shape)
        ),
    )


def merge(declared: Fact, found: Fact, value: Value) -> Fact:
    """``found`` where it says more than ``declared``, else the latter.

    Raises DTypeError or ShapeError if the two contradict each other.
    """
    if found.type is None or declared.type is None:
        return found if declared.type is None else replace(found, type=declared.type)
    if isinstance(found.type, TensorType) and isinstance(declared.type, TensorType):
        return replace(found, type=_merged_tensor(declared.type, found.type, value))
    if isinstance(found.type, OptionalType) and type(found.type.elem) is type(declared.type):
        return Fact(declared.type)  # that it is never empty is for the model to know
    if type(found.type) is not type(declared.type):
        raise DTypeError(f"'{value.name}' is declared {declared.type}, but inferred {found.type}")
    if isinstance(found.type, SequenceType | OptionalType) and type(declared.type) is type(
        found.type
    ):
        elements = merge(Fact(declared.type.elem), Fact(found.type.elem), value)
        return replace(found, type=type(found.type)(elements.type))
    return found


def _merged_tensor(declared: TensorType, found: TensorType, value: Value) -> TensorType:
    if None not in {declared.dtype, found.dtype} and declared.dtype is not found.dtype:
        raise DTypeError(f"'{value.name}' is declared {declared}, but inferred {found}")
    dtype = found.dtype or declared.dtype
    if found.shape is None or declared.shape is None:
        return TensorType(dtype, declared.shape if found.shape is None else found.shape)
    clash = len(found.shape) != len(declared.shape) or any(
        known(a) is not None and known(b) is not None and a != b
        for a, b in zip(declared.shape, found.shape, strict=True)
    )
    if clash:
        raise ShapeError(f"'{value.name}' is declared {declared}, but inferred {found}")
    extents = zip(declared.shape, found.shape, strict=True)
    return TensorType(dtype, tuple(_more_precise(a, b) for a, b in extents))


def _kept(found: Fact, merged: Fact, changing: Collection[Atom]) -> Fact:
    """``merged`` with those extents of ``found`` that depend on ``changing`` ones."""
    if not changing or not isinstance(found.type, TensorType) or not found.has_rank:
        return merged
    pairs = zip(found.shape, merged.shape, strict=True)
    shape = tuple(own if _depends(own, changing) else other for own, other in pairs)
    return replace(merged, type=TensorType(merged.dtype, shape))


def _depends(extent: DimLike, changing: Collection[Atom]) -> bool:
    """Whether ``extent`` is computed of one of ``changing``, or may be one of them."""
    return any(
        atom in changing
        or (isinstance(atom, Unknown) and any(_depends(d, changing) for d in atom.among))
        for atom in atoms(extent)
    )


def _more_precise(declared: DimLike | None, found: DimLike | None) -> DimLike | None:
    """Of two extents that are equal in every run, the one that says more."""
    if declared is None or found is None:
        return found if declared is None else declared
    if not has_unknown(found):
        return found  # what follows from the inputs is believed before what somebody wrote down
    return found if known(declared) is None and has_unknown(declared) else declared


def has_unknown(extent: DimLike) -> bool:
    """Whether ``extent`` depends on what only a run can tell."""
    return any(isinstance(atom, Unknown) for atom in atoms(extent))


def _is_open(fact: Fact) -> bool:
    """Whether ``fact`` is a small tensor of which only the contents are missing."""
    if fact.tensor is not None or fact.known_value is not None or not fact.has_rank:
        return False
    fixed = static(fact.shape)
    return fixed is not None and math.prod(fixed) <= COMPUTED_ELEMENTS


def _computed(
    facts: Sequence[Fact],
    inputs: Sequence[Fact | None],
    attributes: Mapping[str, object],
    view: InferNode,
) -> Sequence[Fact]:
    """``facts`` with contents from the kernel, if every input is known and the kernel succeeds."""
    constants = [None if fact is None else fact.constant for fact in inputs]
    missing = any(fact is not None and c is None for fact, c in zip(inputs, constants, strict=True))
    if missing or not view.operator.is_deterministic or not inputs:
        return facts
    if (view.operator.domain, view.operator.name) in UNTIMED:
        return facts
    node = RunNode(
        operator=view.operator,
        schema=view.schema,
        opset=view.opset,
        wanted=view.wanted,
        run_body=_no_body,
    )
    try:
        with np.errstate(all="ignore"):
            results = run_node(constants, bind_attributes(view.schema, attributes), node)
    except (FornixError, *REFUSALS):
        return facts  # the node will say so when it runs; here it is only not known
    return [
        replace(fact, tensor=ArrayTensor(result)) if isinstance(result, np.ndarray) else fact
        for fact, result in zip(facts, results, strict=False)
    ]


def _no_body(*_: object) -> list[object]:
    raise ValidationError("a node without subgraphs has none to run")
