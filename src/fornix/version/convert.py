"""Whole models from one opset of ai.onnx to another.

How one node changes is declared with its operator (`ops`, the rule ``adapt``) and walked by
`ops.adapt`. Here stands which nodes change: all of them, in subgraphs and model functions too,
after inference has told the types that adapters ask for.
"""

from __future__ import annotations

from collections.abc import Iterator

from fornix.errors import ConvertError, FornixError, InvalidArgument
from fornix.infer import annotate, infer_model
from fornix.ir.graph import Function, Model
from fornix.ir.walk import graphs
from fornix.ops.adapt import adapt_node
from fornix.ops.call import REFUSALS
from fornix.ops.opsets import LATEST


def convert_version(model: Model, target: int) -> Model:
    """A copy of ``model`` that computes the same and imports version ``target`` of ai.onnx.

    Other domains keep their versions. Raises InvalidArgument for a version that does not exist, and
    ConvertError, with every node that stands in the way, if ``target`` cannot say what they do.
    """
    if not 1 <= target <= LATEST[""]:
        raise InvalidArgument(
            f"convert_version: an opset of ai.onnx from 1 to {LATEST['']} is required, "
            f"found {target}"
        )
    converted = model.clone()
    annotate(converted, infer_model(converted))
    owners: list[Model | Function] = [converted, *converted.functions]
    problems = [problem for owner in owners for problem in _convert(owner, target)]
    if problems:
        count = "1 node" if len(problems) == 1 else f"{len(problems)} nodes"
        raise ConvertError(
            "\n  ".join([f"opset {target} cannot say what {count} of the model do", *problems])
        )
    return converted


def convert_function(function: Function, target: int) -> Function:
    """A copy of ``function`` whose body is in opset ``target`` of ai.onnx.

    Nothing is known of the types inside. Raises ConvertError if ``target`` cannot say what it does.
    """
    converted = function.clone()
    problems = list(_convert(converted, target))
    if problems:
        told = f"opset {target} cannot say what {function.label} does"
        raise ConvertError("\n  ".join([told, *problems]))
    return converted


def _convert(owner: Model | Function, target: int) -> Iterator[str]:
    """Convert the nodes of ``owner``; yields what is in the way."""
    key = "ai.onnx" if "ai.onnx" in owner.opset_imports else ""
    source = owner.opset_imports.get(key)
    if source is None or source == target:
        return
    for graph in list(graphs(owner.graph)):
        for node in list(graph.nodes):
            if node.domain not in {"", "ai.onnx"} or node.graph is not graph:
                continue
            try:
                adapt_node(node, graph, source, target)
            except FornixError as error:
                yield str(error)
            except REFUSALS as error:  # rules rely on nodes that are as their schemas say
                yield f"{node.label}: {type(error).__name__}: {error}"
    owner.opset_imports = {**owner.opset_imports, key: target}
