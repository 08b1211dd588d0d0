from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from fornix.errors import FormatError
from fornix.format import damage, files, wire
from fornix.format.mapped import MappedBytes, MappedFile, Memory
from fornix.format.messages import GraphProto, ModelProto, TensorProto
from fornix.format.walk import descriptor_of, tensors
from tests.format.bytes import BYTES, field, small_models, varint, wire_cases

LEAST = 8


def payloads(data: bytes, least: int = LEAST) -> list[bytes]:
    """Every `raw_data` of at least ``least`` bytes, as protobuf reads it."""
    found = [tensor.raw_data for tensor in tensors(ModelProto.FromString(data))]
    return [raw for raw in found if len(raw) >= least]


def in_place(skeleton: wire.Skeleton[ModelProto]) -> list[bytes]:
    """The payloads of a skeleton, whatever the data location of their tensors."""
    found = [skeleton.marked(tensor.raw_data) for tensor in tensors(skeleton.message)]
    return [bytes(payload.view()) for payload in found if payload is not None]


def disagreement(data: bytes) -> str | None:
    """What the scanner makes of ``data`` other than protobuf, if anything."""
    try:
        expected = onnx.ModelProto.FromString(data).SerializeToString()
    except DecodeError:
        expected = None
    if (damage.find(Memory(data), descriptor_of(ModelProto)) is None) != (expected is not None):
        return "damage"
    try:
        skeleton = wire.scan(Memory(data), ModelProto, threshold=LEAST)
    except FormatError:
        return None if expected is None else "refused"
    if expected is None:
        return "accepted"
    if skeleton.whole().SerializeToString() != expected:
        return "message"
    return None if in_place(skeleton) == payloads(expected) else "payloads"


def check_agreement(count: int, seed: int) -> None:
    for data in wire_cases(count, seed):
        problem = disagreement(data)
        assert problem is None, f"{problem}: {data.hex()}"


def test_the_scanner_agrees_with_protobuf() -> None:
    check_agreement(1200, seed=1)


def test_the_scanner_agrees_with_protobuf_where_it_passes_over_runs_of_fields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "_RUN", 2)
    monkeypatch.setattr(wire, "_WINDOW", 40)
    check_agreement(600, seed=3)


RUNS = {
    "float": b"\x3d\x00\x00\x80\x3f",
    "negative": b"\x40" + varint(2**64 - 1),
    "text": field(9, BYTES, b"BRANCH_LEQ"),
    "long text": field(9, BYTES, b"t" * 200),
    "double": b"\x19" + b"\x82" * 8,
    "tensor": field(5, BYTES, field(9, BYTES, b"r" * 9)),
    "group": b"\x7b\x3d\x00\x00\x80\x3f\x7c",
    "number of 11 bytes": b"\x40" + b"\x80" * 10 + b"\x00",
    "open group": b"\x7b",
    "no wire type": b"\x3e",
}


@pytest.mark.parametrize("odd", RUNS)
def test_long_runs_of_fields_mean_what_they_mean_to_protobuf(
    odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_WINDOW", 512)
    run = b"".join(RUNS[kind] * 120 for kind in ("float", "negative", "text"))
    for cut in range(3):
        attribute = (run + RUNS[odd] + run)[: -cut or None]
        node = field(7, BYTES, field(1, BYTES, field(5, BYTES, attribute)))
        assert disagreement(node) is None


@pytest.mark.slow
def test_the_scanner_agrees_with_protobuf_on_100_000_inputs() -> None:
    check_agreement(100_000, seed=2)


@pytest.mark.parametrize("data", small_models())
@pytest.mark.parametrize("least", [1, 8, 32, 1024])
def test_payloads_at_any_depth_stay_in_place(data: bytes, least: int) -> None:
    skeleton = wire.scan(Memory(data), ModelProto, threshold=least)

    assert in_place(skeleton) == payloads(data, least)
    assert b"".join(bytes(part) for part in wire.contents(skeleton)) == data


def raw(content: bytes) -> bytes:
    return field(9, BYTES, content)


def nested(*numbers: int, content: bytes = b"") -> bytes:
    for number in reversed(numbers):
        content = field(number, BYTES, content)
    return content


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            nested(7, 5, content=raw(b"a" * 9) + raw(b"b" * 9)), [b"b" * 9], id="duplicate"
        ),
        pytest.param(nested(7, 5, content=raw(b"a" * 9) + raw(b"b")), [], id="small one wins"),
        pytest.param(
            nested(
                7, 1, 5, content=nested(5, content=raw(b"a" * 9)) + nested(5, content=b"\x08\x03")
            ),
            [b"a" * 9],
            id="merged tensor",
        ),
        pytest.param(
            nested(7, 5, content=raw(b"a" * 9)) + nested(7, 5, content=raw(b"b" * 9)),
            [b"a" * 9, b"b" * 9],
            id="merged graph",
        ),
        pytest.param(
            nested(
                7, content=nested(5, content=raw(b"i" * 9)) + nested(1, 5, 5, content=raw(b"n" * 9))
            ),
            [b"n" * 9, b"i" * 9],
            id="reordered",
        ),
        pytest.param(
            nested(7, 5, content=b"\xca\x80\x00\x89\x80\x00" + b"a" * 9),
            [b"a" * 9],
            id="long varints",
        ),
        pytest.param(
            b"\x7b" + nested(7, 5, content=raw(b"a" * 9)) + b"\x7c", [], id="unknown group"
        ),
        pytest.param(nested(30, 5, content=raw(b"a" * 9)), [], id="unknown field"),
        pytest.param(nested(7, 5, content=b"\x48\x09"), [], id="another wire type"),
    ],
)
def test_payloads_follow_the_rules_of_protobuf(data: bytes, expected: list[bytes]) -> None:
    skeleton = wire.scan(Memory(data), ModelProto, threshold=LEAST)

    assert disagreement(data) is None
    assert in_place(skeleton) == expected


def model_of(*arrays: np.ndarray) -> bytes:
    named = [numpy_helper.from_array(array, f"w{index}") for index, array in enumerate(arrays)]
    return helper.make_model(helper.make_graph([], "g", [], [], named)).SerializeToString()


def test_a_tensor_that_looks_like_a_marker_stays_itself() -> None:
    data = model_of(np.arange(300, dtype=np.uint64), np.arange(24, dtype=np.uint8))
    first = wire.scan(Memory(data), ModelProto)
    forged = first.message.graph.initializer[0].raw_data
    hostile = data.replace(bytes(range(24)), forged)

    second = wire.scan(Memory(hostile), ModelProto)

    assert second.payload(second.message.graph.initializer[1]) is None
    assert second.whole().SerializeToString() == hostile


def test_other_messages_scan_too() -> None:
    tensor = numpy_helper.from_array(np.arange(1000))
    data = tensor.SerializeToString()
    assert wire.scan(Memory(data), TensorProto).whole().SerializeToString() == data
    graph = helper.make_graph([], "g", [], [], [tensor]).SerializeToString()
    assert wire.scan(Memory(graph), GraphProto).whole().SerializeToString() == graph


def test_attached_payloads_are_written_in_their_tensors() -> None:
    skeleton = wire.Skeleton(ModelProto.FromString(model_of(np.zeros(2, "f"), np.ones(2, "f"))))
    content = np.arange(100_000, dtype="f").tobytes()
    skeleton.attach(skeleton.message.graph.initializer[0], content)
    skeleton.attach(skeleton.message.graph.initializer[1], MappedBytes.of(content[:2000]))

    stream = io.BytesIO()
    files.write_model(skeleton, stream)

    first, second = onnx.ModelProto.FromString(stream.getvalue()).graph.initializer
    assert first.raw_data == content
    assert second.raw_data == content[:2000]


@pytest.mark.parametrize("behind", [1_000, 200_000, 260_000, 300_000, 600_000])
def test_what_stands_behind_the_last_payload_is_written_whole(behind: int) -> None:
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(np.zeros(2, "f"), "w")])
    message = ModelProto.FromString(
        helper.make_model(graph, doc_string="a" * 60_000).SerializeToString()
    )
    entry = message.metadata_props.add(key="k", value="b" * behind)
    skeleton = wire.Skeleton(message)
    content = np.arange(1_000, dtype="f").tobytes()
    skeleton.attach(skeleton.message.graph.initializer[0], content)

    stream = io.BytesIO()
    files.write_model(skeleton, stream)

    written = onnx.ModelProto.FromString(stream.getvalue())
    assert written.graph.initializer[0].raw_data == content
    assert written.metadata_props[0].value == entry.value


def test_a_copy_of_a_skeleton_changes_apart() -> None:
    skeleton = wire.scan(Memory(model_of(np.arange(1000))), ModelProto)
    twin = skeleton.copy()
    twin.attach(twin.message.graph.initializer[0], b"x" * 40)
    assert twin.whole().graph.initializer[0].raw_data == b"x" * 40
    assert skeleton.whole().graph.initializer[0].raw_data == np.arange(1000).tobytes()


def sparse_file(path: Path, payload_bytes: int) -> None:
    """A model of one float tensor, whose payload is a hole in the file."""
    count = payload_bytes // 4
    tensor = b"\x08" + varint(count) + b"\x10\x01\x42\x01w\x4a" + varint(payload_bytes)
    inside = len(tensor) + payload_bytes
    graph = b"\x2a" + varint(inside)
    head = b"\x08\x0a\x3a" + varint(len(graph) + inside) + graph + tensor
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + payload_bytes)


def test_a_file_above_2_gib_loads(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    nbytes = 2**31 + 4096
    sparse_file(path, nbytes)

    skeleton = files.open_model(path)
    payload = skeleton.payload(skeleton.message.graph.initializer[0])

    assert payload is not None
    assert payload.nbytes == nbytes
    assert bytes(memoryview(payload.view())[-3:]) == b"\0\0\0"
    with pytest.raises(FormatError, match=r"at most 2 GiB is required, found 2147487"):
        skeleton.whole()


def test_more_than_2_gib_besides_raw_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "typed.onnx"
    size = 2**31
    head = b"\x3a" + varint(size + 12) + b"\x2a" + varint(size + 6) + b"\x22" + varint(size)
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + size)

    with pytest.raises(FormatError, match=r"typed.onnx: at most 2 GiB besides raw_data"):
        files.open_model(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08", "byte 1, in ir_version: a number is required, found the end of the message"),
        (b"\x08" + b"\x80" * 10, "byte 1, in ir_version: a number of at most 10 bytes"),
        (b"\x00\x01", "byte 0, in ModelProto: a field number from 1 is required, found 0"),
        (b"\x88\x80\x80\x80\x10\x01", r"a field number below 2\*\*29 is required, found 536870913"),
        (b"\x0f", "byte 0, in ModelProto: a wire type from 0 to 5 is required, found 7"),
        (b"\x7c", "byte 0, in ModelProto: a field is required, found the end of a group"),
        (b"\x7b\x74", "the end of another group is required, found 14"),
        (b"\x7b", "the end of a group is required, found the message's"),
        (b"\x7d\x00", "byte 1, in ModelProto: 4 bytes are required, found 1"),
        (b"\x3a\x05\x0a", "byte 1, in graph: 5 bytes are announced, but only 1 are left"),
        (
            b"\x3a\x06\x0a\x00\x0a\x02\x0a\x09",
            r"byte 7, in graph.node\[1\].input\[0\]: 9 bytes are announced, but only 0",
        ),
        (nested(7, 5, 4, content=b"abc"), r"graph.initializer\[0\].float_data\[0\]: numbers of 4"),
        (
            nested(7, 5, 1, content=b"\x80"),
            r"byte 6, in graph.initializer\[0\].dims\[0\]: a number",
        ),
        (b"\x7b" * 101 + b"\x7c" * 101, "groups may nest 100 deep"),
        (nested(7, *[1, 5, 6] * 34), "messages may nest 100 deep"),
    ],
)
def test_damage_is_told_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=rf"^model\.onnx: .*{message}"):
        wire.scan(Memory(data, "model.onnx"), ModelProto, threshold=LEAST)


@pytest.mark.parametrize("data", small_models())
def test_every_truncation_is_an_error_or_a_message(data: bytes) -> None:
    for end in range(0, len(data), 3):
        assert disagreement(data[:end]) is None


def test_a_file_cut_before_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(model_of(np.arange(100_000)))
    region = MappedFile.open(path)
    with path.open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(FormatError, match=r"cut.onnx: the 800\d+ bytes it had .* found 1000"):
        wire.scan(region, ModelProto)


def test_text_that_is_not_utf8_is_refused_where_asked() -> None:
    data = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="n")], "g", [], [])
    ).SerializeToString()
    hostile = data.replace(b"Relu", b"R\xffl\xed")

    assert wire.scan(Memory(hostile), ModelProto).whole().SerializeToString() == hostile
    message = r"^m.onnx: graph.node\[0\].op_type: text in UTF-8 is required, found b'R\\xffl\\xed'"
    with pytest.raises(FormatError, match=message):
        wire.scan(Memory(hostile, "m.onnx"), ModelProto, strict=True)
    for form in ("json", "onnxtxt"):
        with pytest.raises(
            FormatError, match=r"^ModelProto: graph.node\[0\].op_type: text in UTF-8"
        ):
            files.encode(ModelProto.FromString(hostile), form)


def test_strict_scans_refuse_nothing_but_bad_text() -> None:
    for data in wire_cases(600, seed=3):
        found = damage.find(Memory(data), descriptor_of(ModelProto), utf8=True)
        try:
            wire.scan(Memory(data), ModelProto, threshold=LEAST, strict=True)
        except FormatError:
            assert found is not None, data.hex()
        else:
            assert found is None, data.hex()
