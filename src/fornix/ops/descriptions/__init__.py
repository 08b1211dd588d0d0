"""What the parameters of operators are: a line for each input, output and attribute.

The tables beside this file say it. A heading names operators, and a line one of their parameters,
whatever the version; where several tables speak of it, the one that names fewest operators counts,
and ``*`` stands for all. They are read when somebody asks, never to run a model.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from fornix.ops.opsets import LATEST
from fornix.ops.schema import Schema

EVERY = "*"
"""The heading of what names mean where an operator's own tables do not say otherwise."""


def parameters_of(schema: Schema) -> dict[str, str]:
    """Name → description of the inputs, outputs and attributes of ``schema``, in this order.

    Operators that the standard does not have get none.
    """
    if schema.domain not in LATEST:
        return {}
    names = [formal.name for formal in (*schema.inputs, *schema.outputs)]
    told = {**tables().get(EVERY, {}), **tables().get(schema.name, {})}
    return {name: told[name] for name in (*names, *schema.attributes) if name in told}


@cache
def tables() -> dict[str, dict[str, str]]:
    """Operator → parameter → description."""
    headings: list[tuple[list[str], dict[str, str]]] = []
    for file in files(__name__).iterdir():
        if file.name.endswith(".toml"):
            read = tomllib.loads(file.read_text(encoding="utf-8"))
            headings += [(heading.split(), told) for heading, told in read.items()]
    merged: dict[str, dict[str, str]] = {}
    for names, told in sorted(headings, key=lambda entry: -len(entry[0])):
        for name in names:
            merged.setdefault(name, {}).update(told)
    return merged
