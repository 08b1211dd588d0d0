from __future__ import annotations

import pickle

import onnx.helper
import pytest

from fornix.dtype import BOOL, FLOAT32, INT64, STRING
from fornix.format.messages import TensorProto, TypeProto, own
from fornix.ir.dim import symbol, unknown
from fornix.ir.typemessages import read_type, set_type, write_type
from fornix.ir.types import (
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)

N = symbol("N")

CASES: list[tuple[Type, str, str]] = [
    (TensorType(FLOAT32, (N, 3)), "float32[N, 3]", "tensor(float)"),
    (TensorType(FLOAT32, (None,)), "float32[?]", "tensor(float)"),
    (TensorType(FLOAT32), "float32[...]", "tensor(float)"),
    (TensorType(BOOL, ()), "bool[]", "tensor(bool)"),
    (TensorType(None, (2,)), "?[2]", "tensor(?)"),
    (SparseTensorType(FLOAT32, (N,)), "sparse(float32[N])", "sparse_tensor(float)"),
    (SequenceType(TensorType(INT64, (N,))), "seq(int64[N])", "seq(tensor(int64))"),
    (SequenceType(None), "seq(?)", "seq(?)"),
    (OptionalType(TensorType(INT64)), "optional(int64[...])", "optional(tensor(int64))"),
    (MapType(INT64, TensorType(FLOAT32, ())), "map(int64, float32[])", "map(int64, float)"),
    (
        SequenceType(MapType(STRING, TensorType(INT64, ()))),
        "seq(map(string, int64[]))",
        "seq(map(string, int64))",
    ),
    (MapType(STRING, SequenceType(None)), "map(string, seq(?))", "map(string, seq(?))"),
    (OpaqueType("com.x", "Blob"), "opaque(com.x,Blob)", "opaque(com.x,Blob)"),
]


@pytest.mark.parametrize(("type_", "text", "constraint"), CASES)
def test_types_print_and_spell_constraints(type_: Type, text: str, constraint: str) -> None:
    assert str(type_) == text
    assert type_.constraint == constraint


@pytest.mark.parametrize("type_", [case[0] for case in CASES])
def test_types_compare_by_content_and_pickle(type_: Type) -> None:
    again = pickle.loads(pickle.dumps(type_))
    assert again == type_
    assert hash(again) == hash(type_)


@pytest.mark.parametrize("type_", [case[0] for case in CASES])
def test_a_written_type_reads_as_itself_and_plainly(type_: Type) -> None:
    message = TypeProto()
    write_type(message, type_)
    assert read_type(message) == (type_, True)


def test_rank_counts_axes() -> None:
    assert TensorType(FLOAT32, (2, N)).rank == 2
    assert TensorType(FLOAT32).rank is None
    assert SparseTensorType(FLOAT32, ()).rank == 0
    assert SparseTensorType(FLOAT32).rank is None


def test_messages_are_written_as_onnx_writes_them() -> None:
    expected = onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 3, None])
    message = TypeProto()
    write_type(message, TensorType(FLOAT32, (N, 3, None)))
    assert message == own(expected)


def test_a_dim_that_is_not_known_is_written_as_neither_value_nor_name() -> None:
    message = TypeProto()
    write_type(message, TensorType(FLOAT32, (unknown("NonZero"), N + 1)))
    first, second = message.tensor_type.shape.dim
    assert not first.ListFields()
    assert second.dim_param == "N + 1"


@pytest.mark.parametrize("text", ["N", "batch size", "past + 1", "floor(h/2)", "?", "3", "1 +"])
def test_names_of_dims_survive_whatever_they_are(text: str) -> None:
    message = TypeProto()
    message.tensor_type.shape.dim.add(dim_param=text)
    type_, plain = read_type(message)
    assert plain
    assert type_ is not None
    again = TypeProto()
    write_type(again, type_)
    assert again == message


@pytest.mark.parametrize(
    "text",
    [
        "tensor_type { elem_type: 99 }",
        "tensor_type { elem_type: 0 }",
        "tensor_type { elem_type: 1 shape { dim { dim_param: '' } } }",
        "tensor_type { elem_type: 1 shape { dim { dim_value: 2 denotation: 'DATA_BATCH' } } }",
        "tensor_type { elem_type: 1 } denotation: 'IMAGE'",
        "sequence_type { elem_type { } }",
        "opaque_type { name: 'x' }",
        "",
    ],
)
def test_types_that_say_more_are_not_plain(text: str) -> None:
    from google.protobuf import text_format

    message = text_format.Parse(text, TypeProto())
    type_, plain = read_type(message)
    assert not plain
    before = message.SerializeToString()
    set_type(message, type_)
    assert message.SerializeToString() == before


def test_denotations_stay_with_dims_of_the_same_rank() -> None:
    message = TypeProto(denotation="IMAGE")
    message.tensor_type.elem_type = TensorProto.FLOAT
    message.tensor_type.shape.dim.add(dim_param="N", denotation="DATA_BATCH")
    set_type(message, TensorType(INT64, (4,)))
    (dim,) = message.tensor_type.shape.dim
    assert (dim.dim_value, dim.denotation, message.denotation) == (4, "DATA_BATCH", "IMAGE")
    assert message.tensor_type.elem_type == TensorProto.INT64


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (TensorType(FLOAT32, (N,)), TensorType(FLOAT32, (N, 2))),
        (TensorType(FLOAT32, (N,)), TensorType(None)),
        (TensorType(FLOAT32), TensorType(FLOAT32, ())),
        (TensorType(FLOAT32), SequenceType(TensorType(FLOAT32))),
        (SparseTensorType(FLOAT32, (3,)), SparseTensorType(INT64, (None,))),
        (TensorType(FLOAT32), None),
    ],
)
def test_a_type_that_is_set_is_the_type_that_is_read(old: Type, new: Type | None) -> None:
    message = TypeProto()
    write_type(message, old)
    set_type(message, new)
    assert read_type(message)[0] == new


def test_types_nested_without_end_are_refused() -> None:
    from fornix.errors import LimitError

    message = TypeProto()
    for _ in range(48):
        outer = TypeProto()
        outer.sequence_type.elem_type.CopyFrom(message)
        message = outer
    assert str(read_type(message)[0]).count("seq") == 48
    from fornix.ir import typemessages

    with pytest.raises(LimitError, match="at most 64 types in one another are read, found more"):
        typemessages._read(message, 20)
