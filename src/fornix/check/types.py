"""Types and shapes: what inference finds contradictory, at the place where it does."""

from __future__ import annotations

from fornix.check.finding import Findings, place
from fornix.check.header import imports_of, owners
from fornix.errors import FormatError, FornixError, InferenceError, SchemaError, ValidationError
from fornix.format.limits import Limits
from fornix.infer import explained, infer_model
from fornix.ir import walk
from fornix.ir.calls import expanded_nodes
from fornix.ir.graph import Model
from fornix.ops.call import subject


def check_types(model: Model, findings: Findings, limits: Limits) -> None:
    """Note types, shapes and axes that contradict each other.

    What other parts have told of a node already is not told again.
    """
    try:
        limits.check("function_nodes", expanded_nodes(model), "model")
    except FornixError:
        return  # noted with the functions; inference would not end
    if imports_of(model) is not model.opset_imports:
        model = model.clone()
        model.opset_imports = dict(imports_of(model))
    places = subjects(model)
    inference = infer_model(model, limits=limits)
    for error in inference.errors:
        text = str(explained(inference, error))
        label = next((x for x in heads(text) if x in places), None)
        where = places[label] if label else "model"
        message = text[len(label) + 2 :] if label else text
        is_consequence = (
            isinstance(error, SchemaError | ValidationError) or type(error) is InferenceError
        )
        is_told = isinstance(error, FormatError)  # of the tensor, wherever it is read
        if not is_told and not (is_consequence and findings.has(where)):
            findings.error(where, message)


def subjects(model: Model) -> dict[str, str]:
    """How inference calls each node → the way to it."""
    found: dict[str, str] = {}
    for owner, graph in owners(model):
        imports = imports_of(owner) or imports_of(model)
        for node in walk.nodes(graph):
            opset = imports.get(node.domain, None if node.domain else imports.get("ai.onnx"))
            for version in (opset, None, 0):
                found.setdefault(subject(node, version), place(node, opset))
    return found


def heads(text: str) -> list[str]:
    """What ``text`` may begin with as its subject, the shortest first; names may hold colons."""
    ends = [index for index in range(len(text)) if text.startswith(": ", index)]
    return [text[:end] for end in ends]
