from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fornix.errors import DTypeError, TensorDataError
from fornix.format.containers import (
    from_dict,
    from_list,
    from_optional,
    to_dict,
    to_list,
    to_optional,
)
from fornix.format.messages import MapProto, OptionalProto, SequenceProto
from fornix.format.tensors import Sparse

A, B = np.array([1.0, 2.0], np.float32), np.array([[3]], np.float32)


def plain(value: object) -> Any:
    """``value`` with lists for arrays, so that it compares."""
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items()}
    return [plain(x) for x in value] if isinstance(value, (list, tuple)) else value


LISTS: list[list[Any]] = [[], [A, B], [[A], [B, A]], [{1: A}, {2: B}], [1.5, 2.5]]


@pytest.mark.parametrize("elements", LISTS, ids=str)
def test_lists_are_written_and_read_as_by_the_onnx_package(elements: list[Any]) -> None:
    expected = numpy_helper.from_list(elements, "s")
    assert from_list(elements, "s").SerializeToString() == expected.SerializeToString()
    assert plain(to_list(expected)) == plain(numpy_helper.to_list(expected))


def test_an_empty_list_may_say_what_it_would_hold() -> None:
    made = from_list([], dtype=SequenceProto.MAP)
    assert made.elem_type == SequenceProto.MAP
    assert to_list(made) == []
    assert to_list(SequenceProto()) == []


@pytest.mark.parametrize("key", [np.int64(3), np.int8(3), np.uint32(3), 3])
def test_integer_maps_are_written_and_read_as_by_the_onnx_package(key: Any) -> None:
    expected = numpy_helper.from_dict({key: A}, "m")
    assert from_dict({key: A}, "m").SerializeToString() == expected.SerializeToString()
    assert plain(to_dict(expected)) == plain(numpy_helper.to_dict(expected))


def test_string_maps_have_str_keys() -> None:
    made = from_dict({"a": A, "é": A})
    assert made.key_type == onnx.TensorProto.STRING
    assert list(made.string_keys) == [b"a", "é".encode()]
    assert plain(to_dict(made)) == plain({"a": A, "é": A})
    assert plain(to_dict(from_dict({b"\xff": A}))) == plain({"\udcff": A})


@pytest.mark.parametrize("value", [A, [A, B], {1: A}, None], ids=str)
def test_optionals_are_written_and_read_as_by_the_onnx_package(value: Any) -> None:
    expected = numpy_helper.from_optional(value, "o")
    assert from_optional(value, "o").SerializeToString() == expected.SerializeToString()
    assert plain(to_optional(expected)) == plain(value)


def test_an_empty_optional_may_say_what_it_would_hold() -> None:
    made = from_optional(None, dtype=OptionalProto.TENSOR)
    expected = numpy_helper.from_optional(None, dtype=onnx.OptionalProto.TENSOR)
    assert made.SerializeToString() == expected.SerializeToString()
    assert to_optional(made) is None


def test_everything_nests() -> None:
    sparse = Sparse(A, np.array([0, 2]), (4,))
    assert plain(to_list(from_list([sparse]))) == plain([sparse])
    assert plain(to_optional(from_optional(sparse))) == plain(sparse)
    outer = OptionalProto(elem_type=OptionalProto.OPTIONAL)
    outer.optional_value.CopyFrom(from_optional([{1: A}]))
    assert plain(to_optional(outer)) == plain([{1: A}])
    many = SequenceProto(elem_type=SequenceProto.OPTIONAL)
    many.optional_values.extend([from_optional(A), from_optional(None)])
    assert plain(to_list(many)) == plain([A, None])


def test_a_list_of_several_kinds_is_refused() -> None:
    with pytest.raises(DTypeError, match="one kind of element, found sequence and tensor"):
        from_list([A, [A]])
    with pytest.raises(DTypeError, match="a sequence of map is required, found tensor"):
        from_list([A], dtype=SequenceProto.MAP)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "a map has keys of one dtype, found no keys"),
        ({1: A, "a": A}, "a map has keys of one dtype, found int64 and string"),
        ({1.5: A}, "keys of a map are integers or strings, found float64"),
        ({True: A}, "keys of a map are integers or strings, found bool"),
    ],
    ids=str,
)
def test_keys_that_a_map_cannot_hold_are_refused(entries: dict[Any, Any], message: str) -> None:
    with pytest.raises(DTypeError, match=message):
        from_dict(entries)


def test_an_optional_of_another_kind_is_refused() -> None:
    with pytest.raises(DTypeError, match="an optional map is required, found tensor"):
        from_optional(A, dtype=OptionalProto.MAP)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TensorDataError, match="sequence 's': elem_type must be 0 to 5, found 6"):
        to_list(SequenceProto(name="s", elem_type=6))
    with pytest.raises(TensorDataError, match="optional 's': elem_type must be 0 to 5, found 6"):
        to_optional(OptionalProto(name="s", elem_type=6))
    with pytest.raises(DTypeError, match="dtype: elem_type must be 0 to 5, found 9"):
        from_list([], dtype=9)


def test_elements_of_another_kind_are_refused() -> None:
    sequence = from_list([A], "s")
    sequence.elem_type = SequenceProto.MAP
    with pytest.raises(TensorDataError, match="'s': elements must be map, found tensor_values"):
        to_list(sequence)
    optional = from_optional(A)
    optional.elem_type = OptionalProto.MAP
    with pytest.raises(
        TensorDataError, match="unnamed optional: the value must be map, found tensor_value"
    ):
        to_optional(optional)


def test_a_map_whose_parts_disagree_is_refused() -> None:
    made = from_dict({1: A}, "m")
    made.keys.append(2)
    with pytest.raises(TensorDataError, match="map 'm': 2 keys need as many values, found 1"):
        to_dict(made)
    made = from_dict({1: A}, "m")
    made.string_keys.append(b"a")
    with pytest.raises(TensorDataError, match="map 'm': integer keys are required, found strings"):
        to_dict(made)
    made = from_dict({"a": A})
    made.keys.append(2)
    with pytest.raises(
        TensorDataError, match="unnamed map: string keys are required, found integers"
    ):
        to_dict(made)
    assert to_dict(MapProto()) == {}
