"""Every operator, version and element type: the kernel takes what its schema allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import ops
from fornix.dtype import STRING, DType
from fornix.errors import DTypeError, FornixError, NotSupported
from fornix.ops.schema import Schema
from tests.ops.differential.draw import Draw
from tests.ops.differential.judge import answer
from tests.ops.differential.recipes import RECIPES
from tests.ops.differential.space import bindings, case_of

SCHEMAS = [
    schema
    for operator in ops.operators().values()
    if operator.name in RECIPES
    for schema in operator.schemas
    if not schema.is_deprecated
]


MEANINGLESS: dict[str, set[tuple[str, DType]]] = {"Col2Im": {("T", STRING)}}
"""What schemas allow although it has no meaning: overlapping blocks of strings have no sum."""


def dtypes_of(schema: Schema) -> set[tuple[str, DType]]:
    """Every type variable with every element type that it may stand for."""
    rng = np.random.default_rng(0)
    turns = bindings(schema, rng)
    return {item for _ in range(40) for item in next(turns).items()}


def refusal(schema: Schema, dtypes: dict[str, DType]) -> str | None:
    """Why the kernel does not take ``dtypes``; some draws may be wrong for other reasons."""
    rng = np.random.default_rng(3)
    said = None
    for _ in range(6):
        draw = Draw(rng, schema, schema.since_version, dtypes)
        try:
            answer(case_of(draw, RECIPES[schema.name](draw)))
        except (DTypeError, NotSupported) as error:
            said = str(error)
        except FornixError:
            continue
        else:
            return None
    return said


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: f"{s.name}-{s.since_version}")
def test_the_kernel_takes_every_element_type_of_the_schema(schema: Schema) -> None:
    rng = np.random.default_rng(1)
    turns = bindings(schema, rng)
    wanted, taken, said = dtypes_of(schema) - MEANINGLESS.get(schema.name, set()), set[Any](), []
    for _ in range(40):
        dtypes = next(turns)
        if dtypes.items() <= taken:
            continue
        reason = refusal(schema, dtypes)
        if reason is None:
            taken |= set(dtypes.items())
        else:
            said.append(reason)
    assert taken >= wanted, said
