from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import ops
from fornix.errors import Fail, FornixError, ShapeError
from fornix.ops.call import RunNode, bind_attributes
from fornix.ops.refusal import explained


def told(error: Exception, name: str, inputs: list[Any], **given: object) -> FornixError:
    schema = ops.schema_of("", name, 21)
    node = RunNode(
        operator=ops.operator_of(schema),
        schema=schema,
        opset=21,
        wanted=(True,),
        run_body=lambda *_: [],
    )
    return explained(error, inputs, bind_attributes(schema, given), node)


def test_what_contradicts_itself_is_said_in_the_words_of_inference() -> None:
    found = told(TypeError("unhashable"), "Add", [np.zeros(3), np.zeros(2)])
    assert isinstance(found, ShapeError)
    assert "broadcast" in str(found)


@pytest.mark.parametrize("error", [MemoryError("no"), ValueError("array is too big")])
def test_a_result_beyond_memory_is_said_with_its_type(error: Exception) -> None:
    found = told(error, "Tile", [np.zeros(2, np.float32), np.array([2**50])])
    assert isinstance(found, Fail)
    assert str(found) == (
        f"output must fit into memory, found float32[{2**51}] of {2**53:,} bytes; "
        "ask for fewer elements"
    )


def test_memory_that_is_missing_on_the_way_is_said_as_such() -> None:
    found = told(MemoryError("unable to allocate 9 GiB"), "Relu", [np.zeros(3)])
    assert isinstance(found, Fail)
    assert str(found) == (
        "memory for what it computes on the way is required, found too little: "
        "unable to allocate 9 GiB; ask for fewer elements"
    )


def test_what_nobody_can_explain_stays_what_it_is() -> None:
    found = told(KeyError("x"), "Relu", [np.zeros(3)])
    assert isinstance(found, Fail)
    assert str(found) == "KeyError: 'x'"
