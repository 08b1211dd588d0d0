"""From a model to a program: optimized and divided between providers, who make its steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fornix.compile.agreement.rules import agreement
from fornix.errors import DTypeError, NotSupported, SchemaError, ValidationError
from fornix.infer import Inference, infer_model
from fornix.infer.model import infer_alone
from fornix.ir.dim import Dim, DimLike
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.nesting import fed_inputs
from fornix.ir.order import sorted_nodes
from fornix.ir.types import OptionalType, SparseTensorType, TensorType, Type
from fornix.ir.walk import graphs
from fornix.ops import schema_of
from fornix.ops.einsum import label_extents
from fornix.ops.fact import Fact, tensor
from fornix.ops.geometry import broadcast_shapes
from fornix.passes import Level, Native, optimize
from fornix.passes.count_words import count_words
from fornix.passes.index_texts import index_texts
from fornix.passes.outline_unranked import outline_unranked
from fornix.passes.sink_extents import sink_extents
from fornix.passes.split_counted import split_counted
from fornix.passes.split_draws import split_draws
from fornix.passes.split_resized import split_resized
from fornix.passes.split_slices import split_slices
from fornix.passes.split_texts import split_texts
from fornix.passes.stretch_counted import stretch_counted
from fornix.passes.turn_scans import turn_scans
from fornix.passes.unpack_sequences import unpack_sequences
from fornix.reference.plan import Plan, check_names
from fornix.reference.scope import Scope
from fornix.runtime.control.calls import without_calls
from fornix.runtime.options import SessionOptions
from fornix.runtime.program import Program
from fornix.runtime.providers import Part, Placement, Provider, Step
from fornix.runtime.sizing.claims import Claim, claims, unasked
from fornix.runtime.sizing.extents import (
    bound_symbols,
    name_extents,
    ranges,
    taken_for_equal,
    taken_to_fit,
)
from fornix.runtime.threads import Pool

if TYPE_CHECKING:
    from fornix.runtime.stored.shelf import Shelf

MOST_NAMINGS = 200
"""Times that extents are named anew until steps learn the rest; a layer takes one at most."""


class Shared(NamedTuple):
    """What all programs of a session have in common."""

    pool: Pool
    random: Callable[[], np.random.Generator]
    """What nodes draw from."""
    is_wary: bool = False
    """Whether extents that broadcast, and that data tell, are never taken for equal."""


def make_program(
    source: Model,
    providers: Sequence[Provider],
    options: SessionOptions,
    shared: Shared,
    numbers: Mapping[str, int],
    *,
    packs: bool = True,
    shelf: Shelf | None = None,
) -> Program:
    """The program of ``source`` in which the extents called so have these ``numbers``.

    Unless it ``packs``, stored data are packed when something runs.
    Programs of its bodies are kept within ``shelf``.
    """
    _require_whole(source)
    level = options.level
    if level is None:
        level = Level.ALL if providers[0].optimizes else Level.NONE
    native = native_of(options) if providers[0].optimizes else None
    fixed = _with_zeros(_fixed(source), numbers)
    inlined = fixed if native is None or level is Level.NONE else without_calls(fixed)
    asked: set[Claim] = set()
    model = optimize(inlined, level, native=native, look=lambda *told: asked.update(claims(*told)))
    name_extents(model, numbers)
    graph = model.graph
    symbols = bound_symbols(graph.inputs)
    inference = _taken_alike(model, asked, numbers)
    _require_sound(source, inference, graph)
    if providers[0].takes_parts:
        inference = _taken_apart(model, inference, level)
        if shared.is_wary and stretch_counted(model, inference):
            inference = infer_model(model)
    scope = Scope(model.opset_imports, model.function_table, random=shared.random)
    plan = cache(lambda: Plan(graph, scope))
    steps: list[Step] = []
    placements: list[Placement] = []
    for provider, nodes in _shared_out(list(graph.nodes), providers, inference):
        needed, names = _needed(nodes), frozenset(symbols)
        part = Part(
            tuple(nodes), needed, inference, plan, names, options, shared.pool, packs, shelf,
            shared.is_wary,
        )  # fmt: skip
        made = provider.compile(part)
        steps += made
        placements += [
            Placement(p.node, p.op_type, p.domain, p.kernels, p.reason, provider.name)
            for step in made
            for p in step.placements()
        ]
    _check_placements(placements, options)
    in_steps = all(step.owns_data for step in steps)
    constants = {
        value: value.tensor.numpy()
        for value in graph.initializer_values
        if value.tensor is not None and (value.is_output or not in_steps)
    }
    program = Program(graph.inputs, graph.outputs, symbols, steps, constants, placements)
    program.ranges = ranges(graph.inputs)
    return program


def _with_zeros(model: Model, numbers: Mapping[str, int]) -> Model:
    """``model`` with these ``numbers`` if some are 0, which Reshape takes for copies of extents."""
    if 0 not in numbers.values():
        return model
    named = model.clone()
    name_extents(named, numbers)
    return named


def _taken_alike(model: Model, asked: Collection[Claim], numbers: Mapping[str, int]) -> Inference:
    """What is known of ``model`` where extents have the names of those they are taken for.

    So they have where somebody ``asked`` for it who is not there any longer.
    """
    graph, inference = model.graph, infer_model(model)
    seen = [unasked(asked, graph, inference, numbers) if asked else {}]
    if seen[0]:
        name_extents(model, seen[0])
        inference = infer_model(model)
    while len(seen) < MOST_NAMINGS and (
        found := taken_for_equal(_by_rules(inference, graph), graph.inputs)
        or taken_to_fit(inference, graph.nodes)
    ):
        taken = {n: d.bind(found) if isinstance(d, Dim) else d for n, d in seen[-1].items()} | found
        if taken in seen:  # lists and what may be missing keep the names they have
            return inference
        seen.append(taken)
        name_extents(model, taken)
        inference = infer_model(model)
    return inference


def _by_rules(inference: Inference, graph: Graph) -> Iterator[Fact]:
    """What is known of values, and what rules alone say of those that the model declares.

    What extents meet in a branch of an If is asked by the branch: it may be there for others.
    """
    yield from (fact for value, fact in inference.facts.items() if not _is_branched(value))
    yield from _met(inference, graph)
    for node in graph.nodes:
        declared = any(_is_open(value.declared_type) for value in node.outputs)
        if declared and len(node.inputs) > 1 and node not in inference.broken:
            yield from () if node.graphs else infer_alone(node, inference)


def _met(inference: Inference, graph: Graph) -> Iterator[Fact]:
    """What extents meet in nodes whose results do not tell it."""
    for node in graph.nodes:
        if node.op_type not in _MEETING.get(node.domain, ()) or node in inference.broken:
            continue
        facts = [inference.fact(value) for value in node.inputs if value is not None]
        if not all(fact.has_rank for fact in facts):
            continue
        if node.op_type == "MaxUnpool":
            yield tensor(None, broadcast_shapes(facts[0].shape, facts[1].shape))
        elif node.op_type != "Einsum":
            yield from (tensor(None, broadcast_shapes(*pair)) for pair in _asked(node, inference))
        elif isinstance(equation := node.attributes["equation"].value, str):
            yield tensor(None, label_extents(equation, [fact.shape for fact in facts]))


_MEETING = {
    "": {
        "Attention", "Concat", "DequantizeLinear", "Einsum", "MatMulInteger", "MaxUnpool",
        "QLinearMatMul", "QuantizeLinear", "RotaryEmbedding",
    },
    "com.microsoft": {
        "Attention", "DequantizeLinear", "DynamicQuantizeMatMul", "GroupQueryAttention",
        "MatMulIntegerToFloat", "MultiHeadAttention", "QAttention", "QGemm", "QuantizeLinear",
        "RotaryEmbedding",
    },
}  # fmt: skip
"""By domain the operators that `_met` looks at; of most rules say what has to be equal."""


def _asked(node: Node, inference: Inference) -> Iterator[tuple[tuple[DimLike], tuple[DimLike]]]:
    """Extents of inputs of ``node`` that have to be equal, each as a shape."""
    schema = schema_of(node.domain, node.op_type, inference.imports.get(node.domain, 1))
    facts = [None if value is None else inference.fact(value) for value in node.inputs]
    found = agreement(node, schema, facts, [inference.fact(value) for value in node.outputs])
    for one, other in () if found is None else found.equal:
        if isinstance(one, Dim) and isinstance(other, Dim) and one.name and other.name:
            yield (one,), (other,)


def _is_branched(value: Value) -> bool:
    """Whether ``value`` is computed within a branch of an If, by a node that asks of extents.

    Expand reads a shape that rules follow, and asks nothing of the extents that are its elements.
    """
    producer = value.producer
    graph = producer.graph if producer and producer.op_type != "Expand" else None
    while graph is not None and isinstance(node := graph.owner, Node) and node.op_type != "If":
        graph = node.graph
    return graph is not None and isinstance(graph.owner, Node)


def _is_open(type_: Type | None) -> bool:
    """Whether some extent is no number."""
    return any(isinstance(extent, Dim) for extent in getattr(type_, "shape", None) or ())


def _unpack_sequences(model: Model, inference: Inference) -> bool:
    return bool(unpack_sequences(model.graph, inference, is_filled=True))


_APART: Sequence[tuple[Callable[[Model, Inference], bool], bool]] = (
    (_unpack_sequences, True),
    (count_words, True),
    (index_texts, True),
    (split_texts, True),
    (turn_scans, False),
    (split_slices, False),
    (split_counted, False),
    (split_resized, False),
    (split_draws, True),
    (outline_unranked, True),
    (sink_extents, True),
)
"""What takes models apart, and whether sessions that optimize nothing do without it."""


def _taken_apart(model: Model, inference: Inference, level: Level) -> Inference:
    """What is known once sequences, and nodes of texts and counts, are apart for compiled code."""
    for take, is_optional in _APART:
        if not (is_optional and level is Level.NONE) and take(model, inference):
            inference = infer_model(model)
    return inference


def native_of(options: SessionOptions) -> Native:
    """What compiled code has the optimizer do besides."""
    return Native(options.rounds_weights, options.rounds_rows)


def _require_whole(source: Model) -> None:
    """Raise what is wrong with a model that can never run: names, and values that nobody makes."""
    for graph in graphs(source.graph):
        check_names(graph)
        for node, value in [(n, value) for n in graph.nodes for value in n.inputs]:
            if value is not None and value.is_undefined:
                raise ValidationError(
                    f"{node.label}: input '{value.name}' must be computed before, found no value"
                )
        for value in graph.outputs:
            if value.is_undefined:
                raise ValidationError(
                    f"{graph.label}: output '{value.name}' must be computed, found no value"
                )
        sorted_nodes(graph)  # which raises for a cycle


def _require_sound(source: Model, inference: Inference, graph: Graph) -> None:
    """Raise what operators, types and shapes of a model contradict.

    ``inference`` is that of ``graph``, the optimized one.
    """
    if _is_broken(inference, graph) and _is_broken(infer_model(source), source.graph):
        found = inference.errors[0]  # others are wrong for extents of 1 and more alone
        if isinstance(found.__cause__, SchemaError):
            raise SchemaError(str(found)) from found  # as the evaluator has it
        raise found
    for value, made in zip(source.graph.outputs, graph.outputs, strict=True):
        _require_type(value, inference.fact(made).type)


def _require_type(output: Value, found: Type | None) -> None:
    """Raise DTypeError where an output is not of the type that the model declares."""
    declared = output.type
    kinds = {type(declared), type(found)}
    if declared is None or found is None or kinds & {OptionalType, SparseTensorType}:
        return
    texts = declared.constraint, found.constraint
    if texts[0] != texts[1] and "?" not in "".join(texts):
        raise DTypeError(
            f"output '{output.name}' is {found}, but the model declares it as {declared}"
        )


def _is_broken(inference: Inference, graph: Graph) -> bool:
    return any(node.graph is graph for node in inference.broken)


def _check_placements(placements: Sequence[Placement], options: SessionOptions) -> None:
    if options.config_entries.get("session.disable_cpu_ep_fallback") != "1":
        return
    for place in placements:
        if not place.kernels:
            raise NotSupported(
                f"node '{place.node}' ({place.op_type}): with session.disable_cpu_ep_fallback "
                f"every node must be compiled, but {place.reason}"
            )


def _fixed(source: Model) -> Model:
    """``source`` with all initializers constant, and no numbers declared of what bodies compute.

    Who feeds an initializer gets NumPy kernels. Exporters declare what held when they looked, which
    rules do not contradict where only data tell extents.
    """
    fed = any(value.is_initializer for graph in graphs(source.graph) for value in graph.inputs)
    if not fed and not any(_told_inside(source)):
        return source
    model = source.clone()
    for graph in graphs(model.graph):
        graph.inputs = fed_inputs(graph)
    for value, type_ in list(_told_inside(model)):
        value.type = type_
    return model


def _told_inside(model: Model) -> Iterator[tuple[Value, TensorType]]:
    """Values that bodies compute and declare with numbers as extents, and types without these."""
    bodies = (graph for graph in graphs(model.graph) if graph is not model.graph)
    for value in (value for body in bodies for node in body.nodes for value in node.outputs):
        type_ = value.declared_type
        if isinstance(type_, TensorType) and type_.shape and not value.is_output:
            told = tuple(None if isinstance(extent, int) else extent for extent in type_.shape)
            if told != type_.shape:
                yield value, TensorType(type_.dtype, told)


def _shared_out(
    nodes: Sequence[Node], providers: Sequence[Provider], inference: Any
) -> list[tuple[Provider, list[Node]]]:
    """The nodes in their order, those in a row that one provider takes together."""
    parts: list[tuple[Provider, list[Node]]] = []
    for node in nodes:
        taker = next((p for p in providers if p.takes(node, inference)), None)
        if taker is None:
            names = ", ".join(provider.name for provider in providers)
            raise NotSupported(f"{node.label}: a provider must take it, none of {names} does")
        if parts and parts[-1][0] is taker:
            parts[-1][1].append(node)
        else:
            parts.append((taker, [node]))
    return parts


def _needed(nodes: Sequence[Node]) -> frozenset[Value]:
    """The results of ``nodes`` that others read."""
    inside = set(nodes)
    needed: set[Value] = set()
    for node in nodes:
        for value in node.outputs:
            if value.is_output or any(user not in inside for user in value.users):
                needed.add(value)
    return frozenset(needed)
