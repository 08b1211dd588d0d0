"""Models that say less of their inputs, and what inference makes of them beside the onnx package's.

`loosened` takes extents, or whole shapes, away from the inputs of a model or gives them names;
`findings` tells where `infer_model` then claims what a run contradicts, or knows less than
`onnx.shape_inference` in strict mode with data propagation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from fornix.infer import Inference, infer_model
from fornix.ir.dim import Dim, DimLike, known
from fornix.ir.load import from_message
from fornix.ir.types import OptionalType, SequenceType, TensorType, Type
from fornix.ops.fact import Fact

MODES = ("contents", "names", "nothing", "mixed", "ranks")
"""What is left of the inputs: small ones become initializers; extents get names; extents are taken
away; each of these now and then; whole shapes are taken away."""

FEW = 32
"""Elements up to which an input may become an initializer."""

GUESSES = {
    "RMSNormalization": "the type of the scale is that of the result, not that of X",
    "Einsum": "a letter or an ellipsis may broadcast: of two names onnx takes the first",
    "DFT": "a length that is computed is not the input's",
    "Pad": "pads along axes that are computed are not those of all axes in order",
    "Slice": "steps that are computed need not be 1",
    "SplitToSequence": "without keepdims, lengths of unknown rank may be a single 1: the axis goes",
    "Loop": "elements of sequences are no scalars",
    "Scan": "extents that a body declares are not believed before those that follow; so Loop's",
}
"""Where onnx claims what it cannot know, by operator."""


@dataclass
class Loosened:
    """A model, and what the extents that got names are."""

    model: onnx.ModelProto
    names: dict[str, int] = field(default_factory=dict)


def loosened(
    model: onnx.ModelProto, feeds: Mapping[str, Any], mode: str, rng: np.random.Generator
) -> Loosened:
    """``model``, saying less of its inputs; nothing is declared of other values."""
    made = Loosened(onnx.ModelProto())
    made.model.CopyFrom(model)
    graph = made.model.graph
    for body in (graph, *made.model.functions):
        del body.value_info[:]
    stored = {initializer.name for initializer in graph.initializer}
    for value in list(graph.input):
        x = feeds.get(value.name)
        becomes = value.name not in stored and (mode == "contents" or rng.random() < 0.5)
        if becomes and isinstance(x, np.ndarray) and _is_small(x):
            graph.initializer.append(numpy_helper.from_array(x, value.name))
            graph.input.remove(value)
        elif mode != "contents" and value.type.HasField("tensor_type"):
            _loosen(value.type.tensor_type, mode, rng, made.names)
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return made


def _is_small(x: np.ndarray[Any, Any]) -> bool:
    return x.dtype.kind in "iubf" and x.ndim <= 1 and x.size <= FEW


def _loosen(type_: Any, mode: str, rng: np.random.Generator, names: dict[str, int]) -> None:
    if mode == "ranks" and rng.random() < 0.6:
        type_.ClearField("shape")
        return
    for dim in type_.shape.dim:
        extent, chance = dim.dim_value, rng.random()
        if dim.dim_param:
            continue
        if mode == "names" or (mode == "mixed" and chance < 0.35):
            name = f"same{extent}" if rng.random() < 0.5 else f"own{len(names)}"
            names[name] = extent
            dim.dim_param = name
        elif mode == "nothing" or (mode == "mixed" and chance < 0.6):
            dim.Clear()


def findings(made: Loosened, results: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong about the inference of ``made``, ``results`` being what a run computes."""
    try:
        peer = shape_inference.infer_shapes(made.model, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError:
        peer = None
    found = infer_model(from_message(made.model))
    if found.errors and peer is not None:
        yield f"refused: {found.errors[0]}"
        return
    facts = {value.name: fact for value, fact in found.facts.items()}
    for name, value in results.items():
        for claim in wrong(facts[name], value, made.names):
            yield f"{name}: {claim}"
    if peer is not None and not found.errors:
        yield from _worse(made, peer, found, results)


def wrong(fact: Fact, value: Any, names: Mapping[str, int]) -> Iterator[str]:
    """What ``fact`` claims that ``value`` is not, extents being what ``names`` says."""
    if not isinstance(value, np.ndarray) or not fact.has_rank:
        return
    extents = [_bound(extent, names) for extent in fact.shape]
    claims = zip(extents, value.shape, strict=False)
    if len(extents) != value.ndim or any(e not in {None, n} for e, n in claims):
        yield f"inferred {fact}, computed shape {value.shape} with {dict(names)}"
    elif fact.known_value is not None and value.dtype.kind in "iub":
        contents = [_bound(entry, names) for entry in fact.known_value.reshape(-1)]
        if any(c is not None and c != int(x) for c, x in zip(contents, value.flat, strict=True)):
            yield f"inferred {fact.known_value}, computed {value}"


def _bound(extent: DimLike, names: Mapping[str, int]) -> int | None:
    return known(extent if isinstance(extent, int) else extent.bind(dict(names)))


def _worse(
    made: Loosened, peer: onnx.ModelProto, found: Inference, results: Mapping[str, Any]
) -> Iterator[str]:
    facts = {value.name: fact for value, fact in found.facts.items()}
    guessed = _guessed(made.model.graph)
    for value in (*peer.graph.output, *peer.graph.value_info):
        if _is_refuted(value.type, results.get(value.name), made.names):
            continue
        for what in less(value.type, facts[value.name].type):
            if value.name not in guessed:
                yield f"{value.name}: {what}"


def _guessed(graph: onnx.GraphProto) -> set[str]:
    """What onnx may have guessed, and what follows from it."""
    found: set[str] = set()
    for node in graph.node:
        if node.op_type in GUESSES or not found.isdisjoint(node.input):
            found |= set(node.output)
    return found


def _is_refuted(claim: Any, value: Any, names: Mapping[str, int]) -> bool:
    """Whether the peer claims a shape that the run does not give."""
    if not isinstance(value, np.ndarray) or not claim.tensor_type.HasField("shape"):
        return False
    dims = claim.tensor_type.shape.dim
    claims = [d.dim_value if d.HasField("dim_value") else names.get(d.dim_param) for d in dims]
    pairs = zip(claims, value.shape, strict=False)
    return len(claims) != value.ndim or any(c not in {None, n} for c, n in pairs)


def less(claim: Any, type_: Type | None) -> Iterator[str]:
    """What ``claim``, a type as onnx writes it, says beyond ``type_``."""
    kind = claim.WhichOneof("value")
    if kind in {"sequence_type", "optional_type"}:
        if not isinstance(type_, SequenceType | OptionalType):
            yield f"onnx says {kind}, inferred {type_}"
        else:
            yield from less(getattr(claim, kind).elem_type, type_.elem)
    elif kind == "tensor_type":
        if not isinstance(type_, TensorType) or type_.dtype is None:
            yield f"onnx says a tensor of type {claim.tensor_type.elem_type}, inferred {type_}"
        elif claim.tensor_type.elem_type not in {0, type_.dtype.code}:
            yield f"onnx says element type {claim.tensor_type.elem_type}, inferred {type_}"
        elif claim.tensor_type.HasField("shape"):
            yield from _less_of_shape(list(claim.tensor_type.shape.dim), type_)


def _less_of_shape(dims: list[Any], type_: TensorType) -> Iterator[str]:
    claimed = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims]
    if type_.shape is None or len(type_.shape) != len(claimed):
        yield f"onnx says {claimed}, inferred {type_}"
        return
    for claim, extent in zip(claimed, type_.shape, strict=True):
        if known(extent) is not None or claim == "?" or str(claim).startswith("unk__"):
            continue
        is_told = isinstance(extent, Dim) and not extent.unknowns
        # of x[:1] onnx says 1, which holds unless x is empty; min(1, N) is all that there is to say
        is_exact = is_told and isinstance(extent, Dim) and extent.name is None
        if not is_exact and (isinstance(claim, int) or not is_told):
            yield f"onnx says {claimed}, inferred {type_}"
            return
