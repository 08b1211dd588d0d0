"""Values by onnxruntime's names, beside onnxruntime's own."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as peer
import pytest
import torch
from onnx import parser

from fornix import onnxruntime as ort
from fornix.dtype import ALL, DType
from fornix.errors import InvalidUse

X = np.arange(6, dtype=np.float32).reshape(2, 3)
PLAIN = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
         "float16", "float32", "float64"]  # fmt: skip
TOLD = ["shape", "data_type", "element_type", "device_name", "is_tensor", "is_sparse_tensor",
        "is_tensor_sequence", "has_value", "tensor_size_in_bytes"]  # fmt: skip


def told(value: Any) -> dict[str, object]:
    """What a value says of itself; "refused" where that is a RuntimeError."""
    found: dict[str, object] = {}
    for name in TOLD:
        try:
            found[name] = getattr(value, name)()
        except RuntimeError:
            found[name] = "refused"
    return found


@pytest.mark.parametrize("dtype", PLAIN)
def test_tensors_tell_what_onnxruntimes_do(dtype: str) -> None:
    array = np.ones((2, 3), dtype)
    ours, theirs = (p.OrtValue.ortvalue_from_numpy(array) for p in (ort, peer))
    assert told(ours) == told(theirs)
    assert ours.numpy().dtype == theirs.numpy().dtype
    empty, wanted = (p.OrtValue.ortvalue_from_shape_and_type([4], array.dtype) for p in (ort, peer))
    assert told(empty) == told(wanted)


@pytest.mark.parametrize("dtype", [d for d in ALL if d.bits], ids=str)
def test_tensors_are_of_every_type(dtype: DType) -> None:
    array = np.ones((2, 3), dtype.numpy)
    value = ort.OrtValue.ortvalue_from_numpy(array)
    assert (value.data_type(), value.element_type()) == (f"tensor({dtype.text})", dtype.code)
    assert value.data_ptr() == array.ctypes.data
    assert value.numpy().dtype == dtype.numpy
    assert ort.OrtValue.ortvalue_from_shape_and_type([2], dtype.code).element_type() == dtype.code
    words = np.zeros(3, f"u{dtype.numpy.itemsize}" if dtype.numpy.itemsize < 16 else "c16")
    typed = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(words, dtype.code)
    assert (typed.element_type(), typed.data_ptr()) == (dtype.code, words.ctypes.data)


def test_texts_are_tensors_too() -> None:
    value = ort.OrtValue.ortvalue_from_numpy(np.array(["a", "ü"]))
    assert (value.data_type(), value.numpy().tolist()) == ("tensor(string)", ["a", "ü"])
    assert ort.OrtValue.ortvalue_from_shape_and_type([2], 8).numpy().tolist() == ["", ""]


def test_memory_is_that_of_the_array() -> None:
    value = ort.OrtValue.ortvalue_from_numpy(X)
    assert value.numpy().ctypes.data == value.data_ptr() == X.ctypes.data
    turned = ort.OrtValue.ortvalue_from_numpy(X.T)
    np.testing.assert_array_equal(turned.numpy(), X.T)
    scalar = ort.OrtValue.ortvalue_from_numpy(np.array(3.0, np.float32))
    assert scalar.shape() == []


def test_numpy_takes_values_for_arrays() -> None:
    value, wanted = (p.OrtValue.ortvalue_from_numpy(X) for p in (ort, peer))
    assert np.asarray(value).ctypes.data == X.ctypes.data
    for arguments in ({}, {"dtype": np.float64}, {"copy": True}):
        found, other = (np.array(v, **arguments) for v in (value, wanted))
        assert found.dtype == other.dtype
        np.testing.assert_array_equal(found, other)
        assert not np.shares_memory(found, X)
    with pytest.raises(ValueError, match="float32 cannot be float64 without a copy"):
        np.array(value, dtype=np.float64, copy=False)
    nothing = ort.OrtValue(None, "optional(tensor(float))")
    with pytest.raises(RuntimeError, match=r"__array__: a tensor is required, found optional"):
        np.asarray(nothing)


def test_tensors_are_updated_in_place() -> None:
    array = np.zeros((2, 3), np.float32)
    value = ort.OrtValue.ortvalue_from_numpy(array)
    value.update_inplace(X.reshape(3, 2))
    np.testing.assert_array_equal(array, X)
    value.update_inplace(ort.OrtValue.ortvalue_from_numpy(-X.T).numpy().T)
    np.testing.assert_array_equal(array, -X)
    other = ort.OrtValue.ortvalue_from_numpy(X)
    ort.copy_tensors([other], [value])
    np.testing.assert_array_equal(array, X)
    for wrong in (X[0], X.astype(np.float64)):
        with pytest.raises(RuntimeError, match="6 elements of float32 are required"):
            value.update_inplace(wrong)
    with pytest.raises(RuntimeError, match="as many sources as targets are required"):
        ort.copy_tensors([other], [])


WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "list": (lambda p: p.OrtValue.ortvalue_from_numpy([1]), "a NumPy array is required"),
    "device": (lambda p: p.OrtValue.ortvalue_from_numpy(X, "cuda", 0), "memory of 'cpu'"),
    "type": (lambda p: p.OrtValue.ortvalue_from_shape_and_type([2], 99), "an element type of ONNX"),
    "extent": (lambda p: p.OrtValue.ortvalue_from_shape_and_type([-2], 1), "extents of 0 or more"),
    "memory size": (
        lambda p: p.OrtValue.ortvalue_from_shape_and_type([2**40, 2**40], 1), "array is too big"
    ),
    "size": (lambda p: p.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ones(2, np.uint8), 1),
             "elements of 4 bytes are required for float32"),
    "dense": (lambda p: p.OrtValue.ortvalue_from_numpy(X).as_sparse_tensor(), "a sparse tensor is"),
    "columns": (lambda p: p.OrtValue.from_dlpack(torch.ones(2, 3).T), "in row-major order"),
    "indices": (lambda p: coo(p, np.array([1, 2, 3])), "2 values must have 2 or 4 indices"),
    "format": (lambda p: coo(p).as_csrc_view(), "format ORT_SPARSE_CSRC are required"),
    "blocks": (lambda p: coo(p).as_blocksparse_view(), "ORT_SPARSE_BLOCK_SPARSE are required"),
    "cuda": (lambda p: coo(p).to_cuda(p.OrtDevice.make("cuda", 0)), "there is none"),
    "arena": (lambda p: p.OrtArenaCfg({"colour": 1}), "found colour"),
    "memory": (lambda p: p.OrtMemoryInfo("Foo", p.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
               p.OrtMemType.DEFAULT), "found 'Foo'; try OrtMemoryInfo.create_v2"),
    "severity": (lambda p: p.set_default_logger_severity(7), "severity from 0 to 4 is required"),
}  # fmt: skip


def coo(package: Any, indices: Any = None) -> Any:
    given = np.array([1, 5]) if indices is None else indices
    device = package.OrtDevice.make("cpu", 0)
    values = np.array([1, 2], np.float32)
    return package.SparseTensor.sparse_coo_from_numpy([3, 3], values, given, device)


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_a_runtime_error_as_in_onnxruntime(what: str) -> None:
    call, words = WRONG[what]
    with pytest.raises(RuntimeError):
        call(peer)
    with pytest.raises(InvalidUse, match=words):
        call(ort)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8, torch.float16,
                                   torch.bfloat16, torch.bool, torch.complex64,
                                   torch.float8_e4m3fn, torch.float8_e5m2,
                                   torch.float8_e4m3fnuz, torch.float8_e5m2fnuz])  # fmt: skip
def test_dlpack_shares_memory_with_torch_both_ways(dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    value = ort.OrtValue.from_dlpack(tensor)
    assert value.shape() == [2, 3]
    assert value.data_ptr() == tensor.data_ptr()
    assert value.__dlpack_device__() == (1, 0)
    again = torch.from_dlpack(value)
    assert (again.data_ptr(), again.dtype) == (tensor.data_ptr(), dtype)
    assert torch.equal(again.view(torch.uint8), tensor.view(torch.uint8))


def test_what_is_no_sparse_tensor_is_refused() -> None:
    for package, error in ((ort, RuntimeError), (peer, AttributeError)):
        with pytest.raises(error):
            package.OrtValue.ort_value_from_sparse_tensor(1)
    with pytest.raises(InvalidUse, match="a SparseTensor is required, found int"):
        ort.OrtValue.ort_value_from_sparse_tensor(1)  # type: ignore[arg-type]


def test_values_in_a_row_do_what_onnxruntimes_do() -> None:
    arrays = [np.ones(2, bool), np.arange(3, dtype=np.float32)]
    found: dict[str, object] = {}
    for package in (ort, peer):
        row = package.capi.onnxruntime_pybind11_state.OrtValueVector()
        row.reserve(2)
        for array in arrays:
            row.push_back(package.OrtValue.ortvalue_from_numpy(array)._ortvalue)
        row.shrink_to_fit()
        tensors = row.to_dlpacks(torch.utils.dlpack.from_dlpack)
        assert len(row.to_dlpacks(None)) == 2
        assert tensors[1].tolist() == torch.utils.dlpack.from_dlpack(row.dlpack_at(1)).tolist()
        told = [row.bool_tensor_indices(), row.element_type_at(1), tensors[1].tolist()]
        assert found.setdefault("told", told) == told
    tensor = torch.ones(4)
    row = ort.capi.onnxruntime_pybind11_state.OrtValueVector()
    row.push_back_batch([tensor], [tensor.data_ptr()], [np.float32], [[4]], [None])
    assert row[0].data_ptr() == tensor.data_ptr()


def test_memory_from_dlpack_is_given_back_when_nobody_needs_it() -> None:
    tensor = torch.ones(1000)
    gone = weakref.ref(tensor)
    value = ort.OrtValue.from_dlpack(torch.utils.dlpack.to_dlpack(tensor))
    array = value.numpy()
    del tensor, value
    gc.collect()
    assert array.sum() == 1000
    del array
    gc.collect()
    assert gone() is None
    made = np.ones(10, ml_dtypes.bfloat16)
    kept = weakref.ref(made)
    lent = torch.from_dlpack(ort.OrtValue.ortvalue_from_numpy(made))
    del made
    gc.collect()
    assert lent.sum() == 10
    del lent
    gc.collect()
    assert kept() is None


def test_dlpack_takes_what_it_knows() -> None:
    with pytest.raises(InvalidUse, match="an unused DLPack capsule is required, found list"):
        ort.OrtValue.from_dlpack([1])
    capsule = torch.utils.dlpack.to_dlpack(torch.ones(2))
    ort.OrtValue.from_dlpack(capsule)
    with pytest.raises(InvalidUse, match="an unused DLPack capsule"):
        ort.OrtValue.from_dlpack(capsule)
    assert ort.OrtValue.from_dlpack(torch.ones(0, 3)).shape() == [0, 3]
    assert ort.OrtValue.from_dlpack(np.zeros((0, 3), np.int64)).shape() == [0, 3]
    with pytest.raises(InvalidUse, match="DLPack has no int4"):
        ort.OrtValue.ortvalue_from_numpy(np.ones(2, ml_dtypes.int4)).__dlpack__()
    np.testing.assert_array_equal(np.from_dlpack(ort.OrtValue.ortvalue_from_numpy(X)), X)


def test_sparse_tensors_tell_what_onnxruntimes_do() -> None:
    def of(package: Any) -> object:
        device = package.OrtDevice.make("cpu", 0)
        values = np.array([1, 2], np.float32)
        pairs = package.SparseTensor.sparse_coo_from_numpy(
            [3, 3], values, np.array([[0, 1], [1, 2]]), device
        )
        rows = package.SparseTensor.sparse_csr_from_numpy(
            [3, 3], values, np.array([1, 2]), np.array([0, 1, 2, 2]), device
        )
        texts = package.SparseTensor.sparse_coo_from_numpy(
            [3, 3], np.array(["a", "b"]), np.array([1, 5]), device
        )
        one = coo(package)
        value = package.OrtValue.ort_value_from_sparse_tensor(one)
        shown = [
            (int(s.format()), s.dense_shape(), s.data_type(), s.device_name(), s.values().tolist())
            for s in (one, pairs, rows, texts, value.as_sparse_tensor())
        ]
        indices = [
            one.as_coo_view().indices().tolist(),
            pairs.as_coo_view().indices().tolist(),
            rows.as_csrc_view().inner().tolist(),
            rows.as_csrc_view().outer().tolist(),
        ]
        is_open = one.values().flags.writeable or one.as_coo_view().indices().flags.writeable
        return shown, indices, is_open, told(value)

    assert of(ort) == of(peer)


def test_sparse_tensors_are_stored_as_the_standard_does() -> None:
    device = ort.OrtDevice.make("cpu", 0)
    dense = np.array([[0, 1, 0], [0, 0, 2], [0, 0, 0]], np.float32)
    values = np.array([1, 2], np.float32)
    rows = ort.SparseTensor.sparse_csr_from_numpy(
        [3, 3], values, np.array([1, 2]), np.array([0, 1, 2, 2]), device
    )
    pairs = ort.SparseTensor.sparse_coo_from_numpy(
        [3, 3], values, np.array([[0, 1], [1, 2]]), device
    )
    for tensor in (coo(ort), rows, pairs):
        np.testing.assert_array_equal(tensor.stored().numpy(), dense)


SEQUENCE = """<ir_version: 10, opset_import: ["" : 18]> f (float[N] x) => (seq(float[N]) y) {
    y = SequenceConstruct (x, x) }"""
MAPS = """<ir_version: 10, opset_import: ["" : 18, "ai.onnx.ml" : 3]>
    f (float[N, 2] x) => (seq(map(int64, float)) y) {
        y = ai.onnx.ml.ZipMap <classlabels_int64s = [4, 5]> (x) }"""


TEXTS = """<ir_version: 8, opset_import: ["" : 18]>
    f (string[N] x) => (string[N] y) { y = Identity (x) }"""


def test_values_of_other_types_tell_what_onnxruntimes_do() -> None:
    def of(package: Any) -> object:
        data = parser.parse_model(SEQUENCE).SerializeToString()
        made = package.InferenceSession(data, providers=["CPUExecutionProvider"])
        feeds = {"x": package.OrtValue.ortvalue_from_numpy(X[0])}
        (value,) = made.run_with_ort_values(None, feeds)
        return made.get_outputs()[0].type, told(value)

    assert of(ort) == of(peer)


def test_types_of_maps_are_spelled_as_in_onnxruntime() -> None:
    data = parser.parse_model(MAPS).SerializeToString()
    ours, theirs = (
        p.InferenceSession(data, providers=["CPUExecutionProvider"]) for p in (ort, peer)
    )
    assert ours.get_outputs()[0].type == theirs.get_outputs()[0].type
    x = np.array([[1, 2], [3, 4]], np.float32)
    (value,) = ours.run_with_ort_values(None, {"x": ort.OrtValue.ortvalue_from_numpy(x)})
    assert value.data_type() == theirs.get_outputs()[0].type
    assert value.value == theirs.run(None, {"x": x})[0]
    assert ort.OrtValue(value.value).data_type() == "seq(map(int64,tensor(float)))"


def test_nothing_is_a_value_too() -> None:
    value = ort.OrtValue(None, "optional(tensor(int64))")
    assert not value.has_value()
    assert (value.data_type(), value.element_type()) == ("optional(tensor(int64))", 7)


def test_void_and_bytes_are_texts_as_in_onnxruntime() -> None:
    data = parser.parse_model(TEXTS).SerializeToString()
    ours, theirs = (
        p.InferenceSession(data, providers=["CPUExecutionProvider"]) for p in (ort, peer)
    )
    void = np.array([b"ab", b"c\0"], np.void)
    objects = np.array(["a", np.nan, 3, None], object)
    for feed in (void, np.array(["ü", "b"]), objects):
        wanted = theirs.run(None, {"x": feed})[0].tolist()
        assert ours.run(None, {"x": feed})[0].tolist() == wanted
    # onnxruntime reads on into what follows the bytes
    assert ours.run(None, {"x": np.array([b"ab", b"c"])})[0].tolist() == ["ab", "c"]
    # and refuses texts of NumPy's own kind
    (found,) = ours.run(None, {"x": np.array(["a", "ü"], np.dtypes.StringDType())})
    assert (found.dtype, found.tolist()) == (np.dtype(object), ["a", "ü"])
    # and spells bytes among objects as Python prints them
    assert ours.run(None, {"x": np.array(["a", b"b"], object)})[0].tolist() == ["a", "b"]
    with pytest.raises(ValueError, match=r"bytes must be UTF-8 text, found b'\\xff'"):
        ours.run(None, {"x": np.array([b"\xff"])})


def test_devices_are_called_by_texts_as_in_onnxruntime() -> None:
    for package in (ort, peer):
        for wrong in (1, None):
            with pytest.raises(TypeError):
                package.OrtDevice.make(wrong, 0)
            with pytest.raises(TypeError):
                package.OrtValue.ortvalue_from_shape_and_type([2], np.float32, wrong)
        with pytest.raises(TypeError):
            package.set_seed("1")
        with pytest.raises(TypeError):
            package.set_default_logger_verbosity([])
    with pytest.raises(TypeError, match="a device is called by a text, found int"):
        ort.OrtDevice.make(1, 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="from_numpy: a device is called by a text, found int"):
        ort.OrtValue.ortvalue_from_numpy(X, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cpu", "cuda", "gpu", "webgpu", "fpga", "npu", "cann", "dml",
                                  "default_memory"])  # fmt: skip
def test_kinds_of_devices_have_the_numbers_of_onnxruntimes(name: str) -> None:
    native = peer.capi.onnxruntime_pybind11_state.OrtDevice
    ours = ort.capi.onnxruntime_pybind11_state.OrtDevice
    assert getattr(ours, name)() == getattr(native, name)()
    made = ours.make("cuda", 0)
    wanted = native(native.cuda(), native.default_memory(), made.vendor_id(), 0)
    assert (made.mem_type(), made.vendor_id()) == (wanted.mem_type(), wanted.vendor_id())


def test_devices_and_memory_tell_what_onnxruntimes_do() -> None:
    def of(package: Any) -> object:
        kinds = [("cpu", 0), ("cuda", 1), ("npu", 2)]
        devices = [package.OrtDevice.make(*kind) for kind in kinds]
        arena, default = package.OrtAllocatorType.ORT_ARENA_ALLOCATOR, package.OrtMemType.DEFAULT
        infos = [package.OrtMemoryInfo(name, arena, 0, default) for name in ("Cpu", "Cuda")]
        config = package.OrtArenaCfg({"max_mem": 3})
        package.create_and_register_allocator(infos[0], package.OrtArenaCfg(0, -1, -1, -1))
        return (
            [(d.device_type(), d.device_id(), int(d.device_vendor_id())) for d in devices],
            [(i.name, int(i.mem_type), i.device_id, i.device_vendor_id) for i in infos],
            (config.max_mem, config.arena_extend_strategy, config.initial_chunk_size_bytes),
        )

    assert of(ort) == of(peer)
    made = ort.OrtMemoryInfo.create_v2(
        "any", ort.OrtMemoryInfoDeviceType.CPU, 0, 0, ort.OrtDeviceMemoryType.DEFAULT, 0,
        ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
    )  # fmt: skip
    assert made.name == "any"
