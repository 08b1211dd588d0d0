"""The space of test cases: every operator × schema version × dtype × random arguments.

`cases` draws from it. What the arguments of an operator look like is the recipes' matter: one short
function for each operator whose inputs must fit together, and tables of attribute values for those
that work element by element.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix import ops
from fornix.dtype import DType
from fornix.ir.types import TensorType
from fornix.ops.schema import Schema
from fornix.ops.types import type_of
from tests.ops.differential.draw import Arguments, Draw
from tests.ops.differential.recipes import CONTRIBUTED, DOMAIN, RECIPES


@dataclass(frozen=True)
class Case:
    """One node with its inputs."""

    domain: str
    name: str
    opset: int
    inputs: tuple[Any, ...]
    attributes: Mapping[str, Any]
    outputs: int

    @property
    def title(self) -> str:
        """The name, behind the domain if it may be a name of the standard's as well."""
        return f"{self.domain}.{self.name}" if self.domain == DOMAIN else self.name

    @property
    def where(self) -> dict[str, Any]:
        """What the harness needs besides name, inputs and attributes."""
        return {"opset": self.opset, "outputs": self.outputs, "domain": self.domain}

    def __str__(self) -> str:
        shown = ", ".join(map(_shown, self.inputs))
        given = ", ".join(f"{name}={_shown(value)}" for name, value in self.attributes.items())
        return f"{self.name}-{self.opset}({shown}) <{given}> → {self.outputs}"


def _shown(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    text = f"{value.dtype}{list(value.shape)}"
    return f"{text}{value.tolist()}" if value.size <= 6 else text


def recipes() -> dict[tuple[str, str], Any]:
    """The operators that are declared and have a recipe, by (domain, name)."""
    return {key: RECIPES[key[1]] for key in sorted(ops.operators()) if key[1] in RECIPES}


def contributed() -> list[tuple[str, str]]:
    """The operators of `DOMAIN` that have a recipe, by (domain, name)."""
    return [key for key in sorted(ops.contributed(DOMAIN)) if key[1] in CONTRIBUTED]


def cases(domain: str, name: str, *, rounds: int, seed: int = 0) -> Iterator[Case]:
    """``rounds`` passes over the schema versions of an operator, each with the next dtypes."""
    operator = ops.find(domain, name)
    assert operator is not None
    recipe = CONTRIBUTED[name] if (domain, name) in ops.contributed(DOMAIN) else RECIPES[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    turns = {schema.since_version: bindings(schema, rng) for schema in operator.schemas}
    for _ in range(rounds):
        for schema in operator.schemas:
            dtypes = next(turns[schema.since_version], None)
            if dtypes is not None and not schema.is_deprecated:
                draw = Draw(rng, schema, schema.since_version, dtypes)
                yield case_of(draw, recipe(draw))


def versions(domain: str, name: str) -> int:
    """Number of schema versions."""
    operator = ops.find(domain, name)
    assert operator is not None
    return len(operator.schemas)


def case_of(draw: Draw, arguments: Arguments) -> Case:
    """The case of ``arguments``, without what this schema version does not have."""
    schema = draw.schema
    inputs = list(arguments.inputs)[: schema.max_input]
    while inputs and inputs[-1] is None:
        inputs.pop()
    given = {
        name: value
        for name, value in arguments.attributes.items()
        if value is not None and name in schema.attributes
    }
    outputs = min(arguments.outputs, schema.max_output)
    return Case(schema.domain, schema.name, draw.opset, tuple(inputs), given, outputs)


def bindings(schema: Schema, rng: np.random.Generator) -> Iterator[dict[str, DType]]:
    """Without end: what each type variable of the tensors may stand for, each dtype in turn."""
    variables: dict[str, Sequence[DType]] = {}
    for formal in (*schema.inputs, *schema.outputs):
        spellings = sorted(schema.allowed(formal))
        found = [type_of(spelling) for spelling in spellings]
        dtypes = [t.dtype for t in found if isinstance(t, TensorType) and t.dtype is not None]
        variables[formal.type_text] = [dtypes[i] for i in rng.permutation(len(dtypes))]
    wheels = {name: itertools.cycle(dtypes) for name, dtypes in variables.items() if dtypes}
    while True:
        yield {name: next(wheel) for name, wheel in wheels.items()}
