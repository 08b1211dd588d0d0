"""What commands do with a model that they have changed: write it, and tell what it is now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fornix.errors import InvalidArgument

if TYPE_CHECKING:
    from fornix.ir.graph import Model, Value


def write(model: Model, output: str, *, as_json: bool, **options: Any) -> None:
    """Save ``model``, by the ``options`` of `save`; tell its inputs, outputs, number of nodes."""
    from fornix.cli.console import Page, echo_json
    from fornix.ir.files import save

    save(model, output, **options)
    inputs, outputs = _told(model.graph.inputs), _told(model.graph.outputs)
    nodes = len(model.graph.nodes)
    if as_json:
        echo_json({"written": output, "inputs": inputs, "outputs": outputs, "nodes": nodes})
        return
    page = Page()
    for what, values in (("input", inputs), ("output", outputs)):
        for name, type_ in values.items():
            page.say(what, f"{name}: {type_}")
    page.say(output, f"has {nodes} node{'' if nodes == 1 else 's'}")


def _told(values: Iterable[Value]) -> dict[str, str]:
    return {value.name: "?" if value.type is None else str(value.type) for value in values}


def pairs(options: Iterable[str], form: str) -> list[tuple[str, str]]:
    """``left=right`` of each option; raises InvalidArgument for one that is not of that form."""
    found = []
    for option in options:
        left, sign, right = option.rpartition("=")
        if not (left and sign and right):
            raise InvalidArgument(f"{form} is required, found '{option}'")
        found.append((left, right))
    return found
