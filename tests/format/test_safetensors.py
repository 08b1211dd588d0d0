from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from safetensors.numpy import load_file, save_file

import fornix
from fornix.dtype import DType
from fornix.edit import load_weights, save_weights
from fornix.errors import FormatError, FornixError, InvalidArgument, NoSuchFile
from fornix.format.mapped import MappedBytes, Memory
from fornix.format.safetensors import NAMES, Entry, arranged, open_tensors, read_tensors
from fornix.ir.load import from_message

NUMPYS = ("bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64").split()
TEXT = """<ir_version: 10, opset_import: ["": 21]> g (float[N, 2] x) => (float[N, 2] y)
    <float[2] w = {1, 2}, int64[1] n = {3}, string[1] s = {"a"}, int4[2] q = {33}> {
    c = Constant <value = float[2] {3, 4}>() a = Mul(x, w) y = Add(a, c) }"""


def made(header: object, data: bytes = b"", length: int | None = None) -> Memory:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    return Memory(size.to_bytes(8, "little") + text + data, "file")


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def arrays(path: Path) -> dict[str, Any]:
    return {
        name: x.dtype.unpack(x.payload.view(), int(np.prod(x.shape))).reshape(x.shape)
        for name, x in open_tensors(path).items()
    }


def test_files_of_the_formats_own_package_are_read(tmp_path: Path) -> None:
    random_ = np.random.default_rng(0)
    given = {name: random_.integers(0, 2, (2, 3)).astype(name) for name in NUMPYS}
    given |= {"scalar": np.array(1.5, np.float32), "empty": np.zeros((0, 4), np.float16)}
    save_file(given, tmp_path / "x.safetensors", metadata={"format": "np"})
    found = arrays(tmp_path / "x.safetensors")
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_the_formats_own_package_reads_what_is_written(tmp_path: Path) -> None:
    given: dict[str, Any] = {name: np.arange(6).reshape(2, 3).astype(name) for name in NUMPYS}
    given["half"] = np.arange(3).astype(ml_dtypes.bfloat16)
    stored = {name: numpy_helper.from_array(x, name) for name, x in given.items()}
    graph = onnx.helper.make_graph([], "g", [], [], list(stored.values()))
    model = from_message(onnx.helper.make_model(graph))
    assert save_weights(model, tmp_path / "x.safetensors") == []
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(np.asarray(found[name], float), array.astype(float))


@pytest.mark.parametrize("name", NAMES)
def test_every_dtype_comes_back(name: str) -> None:
    dtype = DType.of(name)
    array = np.array([1, 2, 2, 1]).astype(dtype.numpy)
    payload = MappedBytes.of(dtype.pack(array))
    header, [only] = arranged([Entry("x", dtype, (2, 2), payload)])
    [(key, stored)] = read_tensors(Memory(header + bytes(only.payload.view()))).items()
    assert (key, stored.dtype, stored.shape) == ("x", dtype, (2, 2))
    np.testing.assert_array_equal(dtype.unpack(stored.payload.view(), 4), array.reshape(-1))


DATA = bytes(8)
DAMAGED: list[tuple[Memory, str]] = [
    (Memory(b"1234567", "file"), "file: header: 8 bytes of length required, found 7 bytes"),
    (made({}, length=3), "file: header: at most 2 bytes required, found a length of 3"),
    (made({}, length=2**63), f"at most 2 bytes required, found a length of {2**63}"),
    (made(b"[]"), r"file: header: a JSON object required, found b'\[\]'"),
    (made(b"{"), "file: header: JSON is required"),
    (made(b'{"a":' * 200_000), "it nests too deep|JSON is required"),
    (made(b'{"\xff": 1}'), "JSON is required"),
    (made(b'{"a": NaN}'), "NaN is no JSON"),
    (made(b'{"a": 1, "a": 2}'), "a name must occur once"),
    (made({"a": 1}), "tensor 'a': dtype, shape and data_offsets required, found 1"),
    (made({"a": {"dtype": "F32"}}), "dtype, shape and data_offsets required"),
    (made({"a": {**entry(), "more": 1}}, DATA), "dtype, shape and data_offsets required"),
    (made({"a": entry("F33")}, DATA), "a dtype among BOOL, .* required, found 'F33'"),
    (made({"a": {**entry(), "dtype": []}}, DATA), r"a dtype among .* required, found \[\]"),
    (made({"a": entry(shape=[-2])}, DATA), r"a shape of at most 64 extents required, found \[-2\]"),
    (made({"a": entry(shape=[2.0])}, DATA), "a shape of at most 64 extents required"),
    (made({"a": entry(shape=[True, 2])}, DATA), "a shape of at most 64 extents required"),
    (made({"a": entry(shape=[1] * 65)}, DATA), "a shape of at most 64 extents required"),
    (made({"a": entry(shape=[2**70])}, DATA), "a shape of at most 64 extents required"),
    (made({"a": entry(offsets=[8, 0])}, DATA), r"data_offsets \[begin, end\] required"),
    (made({"a": entry(offsets=[0, 8, 8])}, DATA), r"data_offsets \[begin, end\] required"),
    (made({"a": entry(offsets=[-8, 0])}, DATA), r"data_offsets \[begin, end\] required"),
    (made({"a": entry(shape=[3])}, DATA), r"float32\[3\] of 96 bits required, found 8 bytes"),
    (made({"a": entry(shape=[2**62, 2**62])}, DATA), "bits required, found 8 bytes"),
    (made({"a": entry()}, DATA[:7]), "bytes 0 to 8 of the data required, found 7 bytes"),
    (made({"a": entry()}, DATA + b"1"), "data: 8 bytes required, found 9"),
    (made({"a": entry(), "b": entry()}, DATA), "'b': data of its own required, found that of"),
    (made({"a": entry(), "b": entry(offsets=[4, 12])}, DATA * 2), "byte 8 .* found an overlap"),
    (made({"a": entry(), "b": entry(offsets=[12, 20])}, DATA * 3), "from byte 8 .* found a hole"),
    (made({"__metadata__": {"a": 1}}), "__metadata__: texts by name required"),
    (made({"__metadata__": []}), "__metadata__: texts by name required"),
]  # fmt: skip


@pytest.mark.parametrize(("region", "message"), DAMAGED, ids=[text for _, text in DAMAGED])
def test_what_breaks_the_format_is_refused(region: Memory, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_tensors(region)


def test_damaged_files_are_errors_or_tensors() -> None:
    seed = bytes(made({"a": entry(), "b": entry("I8", [2, 2], [8, 12])}, DATA + b"1234").view(0, 0))
    whole = made({"a": entry(), "b": entry("I8", [2, 2], [8, 12])}, DATA + b"1234")
    seed = whole.read(0, whole.size)
    choose = random.Random(0)
    for _ in range(2_000):
        data = bytearray(seed)
        for _ in range(choose.randrange(1, 4)):
            data[choose.randrange(len(data))] = choose.randrange(256)
        try:
            found = read_tensors(Memory(bytes(data[: choose.randrange(len(data) + 1)] or data)))
        except FornixError:
            continue
        assert all(x.payload.tobytes() is not None for x in found.values())


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFile):
        open_tensors(tmp_path / "none.safetensors")


def test_external_data_is_a_safetensors_file_at_the_same_time(tmp_path: Path) -> None:
    model = parser.parse_model(TEXT)
    ours = from_message(model)
    path, data = tmp_path / "m.onnx", tmp_path / "m.safetensors"
    fornix.save(ours, path, external_data=data.name, threshold=0)
    found = load_file(data)
    np.testing.assert_array_equal(found["w"], np.array([1, 2], "f"))
    np.testing.assert_array_equal(found["tensor"], np.array([3, 4], "f"))  # of the Constant
    assert sorted(found) == ["n", "tensor", "w"]  # strings and int4 are not of the format
    peer = onnx.load(path)
    onnx.checker.check_model(path)
    values = {x.name: numpy_helper.to_array(x) for x in peer.graph.initializer}
    np.testing.assert_array_equal(values["w"], [1, 2])
    back = fornix.load(path)
    x = np.ones((1, 2), "f")
    [y] = fornix.ReferenceEvaluator(back).run(None, {"x": x})
    np.testing.assert_array_equal(y, [[4, 6]])


def test_tensors_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g () => (float[1] y) {
        a = Constant <value = float[1] t {1}>() b = Constant <value = float[1] t {2}>()
        y = Add(a, b) }"""
    model = from_message(parser.parse_model(text))
    fornix.save(model, tmp_path / "m.onnx", external_data="m.safetensors", threshold=0)
    found = {name: array.tolist() for name, array in load_file(tmp_path / "m.safetensors").items()}
    assert found == {"t": [1], "t_1": [2]}


def test_weights_go_and_come_back(tmp_path: Path) -> None:
    model = from_message(parser.parse_model(TEXT))
    assert save_weights(model, tmp_path / "w.safetensors") == ["s", "q"]
    save_file({"w": np.array([5, 6], "f"), "n": np.array([7])}, tmp_path / "tuned.safetensors")
    tuned = load_weights(model, tmp_path / "tuned.safetensors")
    assert [tuned.graph.initializers[x].tensor.numpy().tolist() for x in "wn"] == [[5, 6], [7]]  # type: ignore[union-attr]
    assert model.graph.initializers["w"].tensor.numpy().tolist() == [1, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("ww", np.ones(2, "f"), "an initializer is required, found 'ww'; did you mean 'w'?"),
        ("w", np.ones(3, "f"), r"'w' has to be float32\[2\], found float32\[3\]"),
        ("w", np.ones(2), r"'w' has to be float32\[2\], found float64\[2\]"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, array: Any, message: str
) -> None:
    save_file({name: array}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidArgument, match=message):
        load_weights(from_message(parser.parse_model(TEXT)), tmp_path / "x.safetensors")
