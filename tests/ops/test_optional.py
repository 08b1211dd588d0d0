from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT32
from fornix.errors import Fail, SchemaError
from fornix.ir.dim import symbol
from fornix.ir.types import OptionalType, SequenceType, TensorType
from fornix.ops.fact import Fact, tensor
from tests.compare import assert_same
from tests.ops.harness import infer_op, run_op

N = symbol("N")
X = np.ones((2, 3), np.float32)
TYPE = TensorType(FLOAT32, (N, 3))
MAYBE = Fact(OptionalType(TYPE))


@pytest.mark.parametrize("value", [X, [X, X]])
def test_optional_holds_its_input(value: Any) -> None:
    [held] = run_op("Optional", [value])
    assert_same(run_op("OptionalGetElement", [held])[0], value)
    assert run_op("OptionalHasElement", [held])[0].item() is True


@pytest.mark.parametrize("opset", [15, 18])
def test_an_empty_optional_holds_nothing(opset: int) -> None:
    [held] = run_op("Optional", [], {"type": TYPE}, opset=opset)
    assert held is None
    assert run_op("OptionalHasElement", [held], opset=opset)[0].item() is False
    with pytest.raises(Fail, match="must hold a value, found none; ask OptionalHasElement first"):
        run_op("OptionalGetElement", [held], opset=opset)


def test_no_input_is_no_element_since_opset_18() -> None:
    assert run_op("OptionalHasElement", [])[0].item() is False
    assert run_op("OptionalHasElement", [None])[0].item() is False


def test_optional_infers_the_type_of_what_it_holds() -> None:
    assert infer_op("Optional", [tensor(FLOAT32, (N, 3))])[0].type == OptionalType(TYPE)
    sequence = SequenceType(TYPE)
    assert infer_op("Optional", [], {"type": sequence})[0].type == OptionalType(sequence)
    assert infer_op("OptionalGetElement", [MAYBE])[0].type == TYPE
    assert infer_op("OptionalGetElement", [tensor(FLOAT32, (N, 3))])[0].type == TYPE


def test_whether_there_is_an_element_is_known_of_tensors_only() -> None:
    assert infer_op("OptionalHasElement", [MAYBE])[0].constant is None
    for inputs, expected in (([tensor(FLOAT32, (N,))], True), ([], False)):
        found = infer_op("OptionalHasElement", inputs)[0].constant
        assert found is not None
        assert found.item() is expected


@pytest.mark.parametrize(
    ("inputs", "attributes", "found"),
    [([], {}, "none"), ([tensor(FLOAT32, (N,))], {"type": TYPE}, "both")],
)
def test_optional_takes_an_input_or_a_type(
    inputs: list[Fact], attributes: dict[str, Any], found: str
) -> None:
    with pytest.raises(SchemaError, match=f"either an input or the attribute type .* {found}"):
        infer_op("Optional", inputs, attributes)
