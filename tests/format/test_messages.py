from __future__ import annotations

import copy
import hashlib
import os
import pickle
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, json_format, text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from fornix.errors import FormatError
from fornix.format import messages
from fornix.format.messages import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OptionalProto,
    SequenceProto,
    TensorProto,
    TensorShapeProto,
    TypeProto,
    own,
)

ROOT = Path(__file__).parents[2]
IMPLEMENTATIONS = ["upb", "python"]


def every_descriptor() -> Iterator[Descriptor]:
    waiting = list(messages.DESCRIPTOR.message_types_by_name.values())
    while waiting:
        found = waiting.pop(0)
        waiting += found.nested_types
        yield found


def class_of(descriptor: Descriptor) -> type[Message]:
    found: object = messages
    for name in descriptor.full_name.removeprefix("onnx.").split("."):
        found = getattr(found, name)
    assert isinstance(found, type)
    assert issubclass(found, Message)
    return found


EVERY = [class_of(descriptor) for descriptor in every_descriptor()]


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=variables,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def model() -> ModelProto:
    made = ModelProto(ir_version=messages.IR_VERSION, producer_name="tests")
    made.opset_import.add(domain="", version=22)
    node = made.graph.node.add(op_type="Relu", input=["x"], output=["y"])
    node.attribute.add(name="alpha", type=AttributeProto.FLOAT, f=0.5)
    value = made.graph.input.add(name="x")
    value.type.tensor_type.elem_type = TensorProto.FLOAT
    value.type.tensor_type.shape.dim.add(dim_param="N")
    made.graph.initializer.add(name="w", dims=[2], data_type=1, float_data=[1, 2])
    return made


def described(module: object) -> dict[str, Message]:
    """The descriptions of the messages and enums of a generated module, by name."""
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)  # type: ignore[attr-defined]
    found: dict[str, Message] = {x.name: x for x in file.message_type}
    return found | {x.name: x for x in file.enum_type}


def test_every_message_is_described_as_in_the_onnx_package() -> None:
    from onnx import onnx_data_pb2, onnx_ml_pb2, onnx_operators_ml_pb2

    modules = (onnx_ml_pb2, onnx_data_pb2, onnx_operators_ml_pb2)
    expected = {name: x for module in modules for name, x in described(module).items()}
    found = described(messages)
    assert found.keys() == expected.keys()
    for name, description in found.items():
        # Bytes, because messages of two pools never compare equal.
        assert description.SerializeToString() == expected[name].SerializeToString(), name


def test_constants_have_the_numbers_of_the_onnx_package() -> None:
    import onnx
    from onnx import onnx_ml_pb2

    assert messages.IR_VERSION == onnx.IR_VERSION == 14
    assert messages.Version.items() == onnx_ml_pb2.Version.items()
    assert messages.OperatorStatus.items() == onnx_ml_pb2.OperatorStatus.items()
    assert messages.EXPERIMENTAL == 0
    assert messages.STABLE == 1
    assert messages.IR_VERSION_2017_10_10 == 1
    assert TensorProto.FLOAT == 1
    assert AttributeProto.FLOATS == 6
    assert TensorProto.DataType.Name(16) == "BFLOAT16"
    assert SequenceProto.MAP == OptionalProto.MAP == 4
    assert TensorProto.RAW_DATA_FIELD_NUMBER == 9


@pytest.mark.parametrize("made", EVERY, ids=lambda x: x.__qualname__)
def test_every_class_is_found_where_it_says(made: type[Message]) -> None:
    assert made.__module__ == "fornix.format.messages"
    assert made.DESCRIPTOR.full_name == f"onnx.{made.__qualname__}"
    message = made()
    assert pickle.loads(pickle.dumps(message)) == message
    assert copy.deepcopy(message) == message
    assert copy.copy(message) == message


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_messages_pickle(protocol: int) -> None:
    made = model()
    restored = pickle.loads(pickle.dumps(made, protocol))
    assert type(restored) is ModelProto
    assert restored == made
    assert type(restored.graph.input[0].type.tensor_type) is TypeProto.Tensor


def test_a_copy_is_independent() -> None:
    made = model()
    other = copy.deepcopy(made)
    other.graph.node[0].op_type = "Tanh"
    assert made.graph.node[0].op_type == "Relu"


def test_scalars_have_presence() -> None:
    node = NodeProto()
    assert not node.HasField("name")
    node.name = ""
    assert node.HasField("name")
    assert NodeProto.FromString(node.SerializeToString()).HasField("name")
    node.ClearField("name")
    assert not node.HasField("name")
    assert not TensorProto().HasField("raw_data")
    assert TensorProto(raw_data=b"").HasField("raw_data")


def test_a_oneof_holds_one() -> None:
    dim = TensorShapeProto.Dimension(dim_value=3)
    assert dim.WhichOneof("value") == "dim_value"
    dim.dim_param = "N"
    assert dim.WhichOneof("value") == "dim_param"
    assert not dim.HasField("dim_value")
    assert TypeProto().WhichOneof("value") is None


def test_messages_print() -> None:
    assert str(NodeProto(op_type="Relu", input=["x"])) == 'input: "x"\nop_type: "Relu"\n'
    assert "elem_type: 1" in str(model())


def test_text_and_json_read_back() -> None:
    made = model()
    assert text_format.Parse(text_format.MessageToString(made), ModelProto()) == made
    assert json_format.Parse(json_format.MessageToJson(made), ModelProto()) == made


def test_unknown_fields_survive() -> None:
    unknown = b"\xf8\x7f\x05" + b"\xfa\x7f\x03abc"  # field 2047: a varint, then bytes
    made = ModelProto.FromString(model().SerializeToString() + unknown)
    made.graph.MergeFromString(unknown)
    assert made.SerializeToString().count(unknown) == 2
    assert own(made) is made
    assert copy.deepcopy(made).SerializeToString() == made.SerializeToString()
    assert pickle.loads(pickle.dumps(made)).SerializeToString() == made.SerializeToString()


def test_packed_fields_are_read_unpacked_too() -> None:
    assert list(TensorProto.FromString(b"\x28\x01\x28\x02").int32_data) == [1, 2]
    assert TensorProto(int32_data=[1, 2]).SerializeToString() == b"\x2a\x02\x01\x02"


def test_own_takes_messages_of_the_onnx_package() -> None:
    import onnx

    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="n")
    unknown = b"\xf8\x7f\x05"
    node.MergeFromString(unknown)
    found = own(node)
    assert type(found) is NodeProto
    assert found.SerializeToString() == node.SerializeToString()
    assert type(own(onnx.TypeProto.Tensor())) is TypeProto.Tensor
    assert own(node, NodeProto).op_type == "Relu"


def test_own_returns_its_own_messages_as_they_are() -> None:
    made = model()
    assert own(made) is made
    assert own(made, ModelProto) is made
    assert own(made.graph) is made.graph


@pytest.mark.parametrize(
    ("source", "expected", "error"),
    [
        (3, None, "an ONNX message is required, found int"),
        (None, ModelProto, "ModelProto is required, found NoneType"),
        (GraphProto(), ModelProto, "ModelProto is required, found onnx.GraphProto"),
        (TypeProto(), TypeProto.Tensor, "TypeProto.Tensor is required, found onnx.TypeProto"),
        (
            descriptor_pb2.FileDescriptorProto(),
            None,
            "an ONNX message is required, found google.protobuf.FileDescriptorProto",
        ),
    ],
)
def test_own_refuses_other_things(
    source: object, expected: type[Message] | None, error: str
) -> None:
    with pytest.raises(FormatError) as caught:
        own(source, expected)  # type: ignore[arg-type]
    assert str(caught.value) == error


def test_own_says_that_a_message_is_too_large() -> None:
    from google.protobuf.message import EncodeError

    class Foreign(Message):
        DESCRIPTOR = ModelProto.DESCRIPTOR

        def SerializePartialToString(self, **_: bool) -> bytes:
            raise EncodeError

    with pytest.raises(
        FormatError, match=r"onnx\.ModelProto: at most 2 GiB can be copied, found more"
    ):
        own(Foreign())


@pytest.mark.slow
def test_bytes_of_the_onnx_package_are_written_back_identically() -> None:
    import warnings

    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = [case.model for case in collect_testcases(None) if case.model]
    assert len(models) > 1000
    for source in models:
        data = source.SerializeToString()
        assert ModelProto.FromString(data).SerializeToString() == data


ORDERS = {
    "fornix alone": "import fornix.format.messages as m",
    "onnx first": "import onnx; import fornix.format.messages as m",
    "onnx last": "import fornix.format.messages as m; import onnx",
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_imports_changes_nothing(order: str, implementation: str) -> None:
    if "import onnx" in ORDERS[order]:
        pytest.importorskip("onnx")
    code = f"""
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    {ORDERS[order].replace("; ", chr(10) + "    ")}
from google.protobuf import descriptor_pb2, descriptor_pool
import hashlib, sys
file = descriptor_pb2.FileDescriptorProto()
m.DESCRIPTOR.CopyToProto(file)
assert m.DESCRIPTOR.pool is not descriptor_pool.Default()
try:
    theirs = descriptor_pool.Default().FindMessageTypeByName("onnx.ModelProto")
except KeyError:
    theirs = None
assert (theirs is None) == ("onnx" not in sys.modules)
assert theirs is not m.ModelProto.DESCRIPTOR
if theirs:
    assert onnx.ModelProto.DESCRIPTOR is theirs
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    assert m.own(node).SerializeToString() == node.SerializeToString()
    assert not isinstance(node, m.NodeProto)
print(hashlib.sha256(file.SerializeToString()).hexdigest())
"""
    expected = descriptor_pb2.FileDescriptorProto()
    messages.DESCRIPTOR.CopyToProto(expected)
    digest = hashlib.sha256(expected.SerializeToString()).hexdigest()
    found = python(code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation)
    assert found == digest


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_another_user_of_the_same_names_is_not_disturbed(implementation: str) -> None:
    code = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
import fornix.format.messages as m
file = descriptor_pb2.FileDescriptorProto(name="fornix/onnx.proto", package="onnx")
file.message_type.add(name="ModelProto").field.add(name="other", number=1, type=9, label=1)
descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
other = message_factory.GetMessageClass(
    descriptor_pool.Default().FindMessageTypeByName("onnx.ModelProto"))
assert other(other="x").SerializeToString() == b"\\n\\x01x"
assert m.ModelProto(ir_version=3).SerializeToString() == b"\\x08\\x03"
print("fine")
"""
    assert python(code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation) == "fine"


def test_messages_reach_other_processes() -> None:
    code = f"""
import pickle
print(pickle.loads({pickle.dumps(model())!r}).graph.node[0].op_type)
"""
    assert python(code) == "Relu"


@pytest.mark.slow
def test_importing_the_messages_takes_under_10_milliseconds() -> None:
    code = """
import time, google.protobuf.descriptor_pb2, google.protobuf.reflection, fornix.errors
begin = time.perf_counter()
import fornix.format.messages
print(time.perf_counter() - begin)
"""
    assert min(float(python(code)) for _ in range(5)) < 0.010


def test_the_stubs_are_those_of_the_table() -> None:
    pytest.importorskip("ruff")  # which lays them out
    stubs = runpy.run_path(str(ROOT / "tools/stubs.py"))
    assert stubs["render"]() == stubs["TARGET"].read_text(encoding="utf-8")
