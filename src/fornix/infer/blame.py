"""Why a node is refused: which of the extents that it reads are wrong, and where those come from.

An extent or an element is to blame if the node could run with another one in its place. Nothing is
sought before somebody asks: `Inference.refusals` holds what the node knew when it was refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fornix.errors import FornixError, ShapeError
from fornix.format.limits import DEFAULT, Limits
from fornix.infer.model import Inference, Refusal, declared_of, infer_model
from fornix.infer.origin import Origin, Place, infers, origin_of, places_read, read_at, read_by
from fornix.ir.dim import known
from fornix.ir.graph import Model, Node, Value
from fornix.ir.types import TensorType
from fornix.ops.fact import Fact

EXPLAINED = 16
"""Contradictions of one model that are explained; the first ones cause the others."""
CULPRITS = 4
"""Places that a message names; a contradiction mostly has two ends."""
STEPS = 64
"""Nodes through which an unchanged extent is followed."""
EXTENTS = 64
"""Extents of a node's inputs up to which they are tried one by one, by its rule."""
SOURCES = 3
"""Sources of a computed extent whose values a message states."""


def infer_strictly(
    model: Model, *, checks_types: bool = True, limits: Limits = DEFAULT
) -> Inference:
    """`infer_model`, but the first contradiction is raised, with the origins of wrong extents.

    Raises InferenceError, SchemaError, ValidationError … as the node or the model has it.
    """
    found = infer_model(model, checks_types=checks_types, limits=limits)
    if found.errors:
        raise explained(found, found.errors[0])
    return found


def explained(inference: Inference, error: FornixError) -> FornixError:
    """``error`` with the origins of the extents that are to blame behind its message, once."""
    refusal = inference.refusals.pop(error, None)
    is_early = any(error is one for one in inference.errors[:EXPLAINED])
    if refusal is not None and is_early and isinstance(error, ShapeError):
        told = dict.fromkeys(causes(inference, refusal))
        error.args = ("; ".join([str(error), *told]), *error.args[1:])
    return error


def causes(inference: Inference, refusal: Refusal) -> Iterator[str]:
    """Where the extents that made ``refusal`` come from, one text each."""
    inference = replace(inference, facts={**inference.facts, **refusal.facts})
    places = culprits(inference, refusal)
    yield from (history(inference, place) for place in places[:CULPRITS])
    if not places and refusal.output is None:
        yield from (
            maker(inference, value) for value in wrong_values(inference, refusal)[:CULPRITS]
        )


def culprits(inference: Inference, refusal: Refusal) -> list[Place]:
    """The places without which the node would not have been refused.

    Those are extents of the output if it is declared otherwise than inferred, else extents and
    elements of inputs each of which could be another one.
    """
    if refusal.output is not None:
        return _differing(inference.fact(refusal.output), refusal.output)
    if not _is_quick(inference, refusal.node):
        return []
    candidates = (p for value in read_by(refusal.node) for p in places_read(inference, value))
    return [place for place in candidates if infers(inference, refusal.node, {place})]


def _differing(found: Fact, output: Value) -> list[Place]:
    declared = declared_of(output)
    if not (found.has_rank and declared.has_rank and found.rank == declared.rank):
        return []
    pairs = enumerate(zip(found.shape, declared.shape, strict=True))
    return [
        Place(output, axis)
        for axis, (one, other) in pairs
        if known(one) is not None and known(other) is not None and one != other
    ]


def wrong_values(inference: Inference, refusal: Refusal) -> list[Value]:
    """The inputs with which the node could run if their shapes were others: of another rank."""
    found = []
    for value in read_by(refusal.node) if _is_quick(inference, refusal.node) else ():
        fact = inference.fact(value)
        if fact.has_rank and isinstance(fact.type, TensorType):
            open_fact = Fact(TensorType(fact.type.dtype, None))
            freed = replace(inference, facts={**inference.facts, value: open_fact})
            if infers(freed, refusal.node, set()):
                found.append(value)
    return found


def maker(inference: Inference, value: Value) -> str:
    """Where ``value`` comes from as a whole."""
    origin = "declared of the input"
    if value.tensor is not None:
        origin = "stored with the model"
    elif value.producer is not None:
        origin = f"made by {value.producer.label}"
    return f"'{value.name}' is {inference.fact(value).type}: {origin}"


def history(inference: Inference, place: Place) -> str:
    """What ``place`` is and where that comes from, without the nodes that only hand it on."""
    first = last = _origin(inference, place)
    for _ in range(STEPS):
        handed = _handed_on(inference, last)
        if handed is None:
            break
        last = handed
    if last is first:
        return f"{first}{_values(inference, first)}"
    extent = str(first).partition(": ")[0]
    return f"{extent}, as {last.place}: {last.reason}{_values(inference, last)}"


def _handed_on(inference: Inference, found: Origin) -> Origin | None:
    """The origin of the first source of ``found`` that is equal to it, if there is one."""
    for source in found.sources:
        before = _origin(inference, source)
        if before.extent is not None and before.extent == found.extent:
            return before
    return None


def _values(inference: Inference, found: Origin) -> str:
    """What the sources of ``found`` are, where its formula names them."""
    if not 0 < len(found.sources) <= SOURCES:
        return ""
    told = [str(_origin(inference, source)).partition(": ")[0] for source in found.sources]
    return f", where {', '.join(told)}"


def _origin(inference: Inference, place: Place) -> Origin:
    """`origin_of`, but what takes long to find out is left with the node that makes it."""
    node = place.value.producer
    if node is None or _is_quick(inference, node):
        return origin_of(inference, place)
    return Origin(place, read_at(inference.fact(place.value), place), f"{node.label} makes it")


def _is_quick(inference: Inference, node: Node) -> bool:
    """Whether the rule of ``node`` can run many times: no bodies, and few extents."""
    if node.graphs or (node.domain, node.op_type, node.overload) in inference.functions:
        return False
    facts = [inference.fact(value) for value in node.inputs if value is not None]
    return sum(1 + (fact.rank if fact.has_rank else 0) for fact in facts) <= EXTENTS
