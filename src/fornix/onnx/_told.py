"""How models, graphs and functions show themselves: in one line, as onnx's do.

`print` still gives the whole message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fornix.format.messages import FunctionProto, GraphProto, ModelProto


def show_in_one_line() -> None:
    """Let `repr` give one line."""
    for kind, tell in ((ModelProto, _model), (GraphProto, _graph), (FunctionProto, _function)):
        kind.__repr__ = tell  # type: ignore[method-assign,assignment] # messages take it


def _model(model: ModelProto) -> str:
    parts = [f"ir_version={model.ir_version}", *_imports(model.opset_import)]
    parts += _texts(model, ("domain", "producer_name", "producer_version"))
    parts += [f"graph={model.graph!r}", *_counts(model, ("functions",))]
    return f"ModelProto({', '.join(parts)})"


def _graph(graph: GraphProto) -> str:
    counted = _counts(graph, ("input", "output", "initializer", "node", "value_info"))
    told = ", ".join([f"'{graph.name}'", *counted])
    return f"GraphProto({told})"


def _function(function: FunctionProto) -> str:
    parts = [f"'{function.name}'", *_texts(function, ("domain", "overload"))]
    parts += [*_imports(function.opset_import), *_counts(function, ("input", "output"))]
    if function.attribute:
        parts.append(f"attribute={list(function.attribute)}")
    return f"FunctionProto({', '.join([*parts, *_counts(function, ('node',))])})"


def _imports(entries: Sequence[Any]) -> list[str]:
    imports = {entry.domain: entry.version for entry in entries}
    return [f"opset_import={imports}"] if imports else []


def _texts(message: Any, fields: Sequence[str]) -> Iterator[str]:
    for field in fields:
        text = getattr(message, field)
        if text:
            yield f"{field}='{text}'"


def _counts(message: Any, fields: Sequence[str]) -> Iterator[str]:
    for field in fields:
        count = len(getattr(message, field))
        if count:
            # the fields of models are counted as what they are, those of graphs by their name
            told = field if field == "value_info" or field.endswith("s") else f"{field}s"
            yield f"{field}=<{count} {told}>"
