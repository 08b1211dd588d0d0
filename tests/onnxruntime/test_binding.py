"""Results in memory of the caller."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as peer
import pytest
from onnx import parser

from fornix import onnxruntime as ort
from fornix.errors import InvalidArgument, InvalidUse
from fornix.runtime.targets import direct

TWO = """<ir_version: 8, opset_import: ["" : 18]>
    two (float[N, 4] x) => (float[N, 4] y, float[4, N] t) <float[4] b = {1, 2, 3, 4}> {
        y = Add (x, b)
        t = Transpose (y)
    }"""
MIXED = """<ir_version: 8, opset_import: ["" : 18]>
    mixed (float[N] x) => (float[N] y, int64[1, M] where) {
        y = Neg (x)
        where = NonZero (y)
    }"""
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def session(package: Any = ort, text: str = TWO) -> Any:
    data = parser.parse_model(text).SerializeToString()
    return package.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_results_go_where_outputs_are_bound() -> None:
    def run(package: Any) -> list[Any]:
        made = session(package)
        binding = made.io_binding()
        y, t = np.zeros((2, 4), np.float32), np.zeros((4, 2), np.float32)
        binding.bind_cpu_input("x", X)
        binding.bind_ortvalue_output("y", package.OrtValue.ortvalue_from_numpy(y))
        binding.bind_output("t", "cpu", 0, np.float32, t.shape, t.ctypes.data)
        binding.synchronize_inputs()
        made.run_with_iobinding(binding)
        binding.synchronize_outputs()
        addresses = [value.data_ptr() for value in binding.get_outputs()]
        assert addresses == [y.ctypes.data, t.ctypes.data]
        return [y, t, *binding.copy_outputs_to_cpu()]

    for a, b in zip(run(ort), run(peer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_compiled_code_writes_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = session()
    binding = made.io_binding()
    x = np.ones((5000, 4), np.float32)
    y = ort.OrtValue.ortvalue_from_shape_and_type([5000, 4], np.float32)
    binding.bind_cpu_input("x", x)
    binding.bind_ortvalue_output("y", y)
    monkeypatch.setattr(np, "copyto", lambda *_: pytest.fail("a result was copied"))
    for _ in range(3):
        made.run_with_iobinding(binding)
    monkeypatch.undo()
    np.testing.assert_array_equal(y.numpy(), x + np.arange(1, 5, dtype=np.float32))


def test_many_runs_write_what_the_feeds_say_whatever_way_they_take() -> None:
    made = session()
    for count in (2, 2000):  # results are copied, and written at once
        binding = made.io_binding()
        y = np.zeros((count, 4), np.float32)
        t = np.zeros((4, count), np.float32)
        x = np.zeros((count, 4), np.float32)
        binding.bind_cpu_input("x", x)
        binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_numpy(y))
        binding.bind_ortvalue_output("t", ort.OrtValue.ortvalue_from_numpy(t))
        for step in range(5):
            x[...] = step
            made.run_with_iobinding(binding)
            np.testing.assert_array_equal(y, x + np.arange(1, 5, dtype=np.float32))
            np.testing.assert_array_equal(t, y.T)
            assert binding.get_outputs()[0].data_ptr() == y.ctypes.data
        values = {"x": ort.OrtValue.ortvalue_from_numpy(x)}
        for _ in range(3):
            (found,) = made.run_with_ort_values(["y"], values)
            np.testing.assert_array_equal(found.numpy(), y)
            assert not np.shares_memory(found.numpy(), y)


def test_outputs_without_memory_get_their_own() -> None:
    def run(package: Any) -> list[Any]:
        made = session(package)
        binding = made.io_binding()
        binding.bind_input("x", "cpu", 0, np.float32, X.shape, X.ctypes.data)
        binding.bind_output("t")
        made.run_with_iobinding(binding)
        first = binding.copy_outputs_to_cpu()
        binding.clear_binding_outputs()
        assert not len(binding.get_outputs())
        binding.bind_output("y")
        binding.bind_output("t")
        made.run_with_iobinding(binding)
        return [*first, *binding.copy_outputs_to_cpu()]

    for a, b in zip(run(ort), run(peer), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shared", ["x and y", "y and t"])
def test_memory_that_overlaps_gets_the_right_results(shared: str) -> None:
    made = session()
    binding = made.io_binding()
    memory = np.zeros(16, np.float32)
    x, y, t = X.copy(), np.zeros((2, 4), np.float32), np.zeros((4, 2), np.float32)
    if shared == "x and y":
        x = memory[:8].reshape(2, 4)
        x[...] = X
        y = memory[4:12].reshape(2, 4)
    else:
        y, t = memory[:8].reshape(2, 4), memory[8:].reshape(4, 2)
    wanted = session().run(None, {"x": X})
    binding.bind_cpu_input("x", x)
    binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_numpy(y))
    binding.bind_ortvalue_output("t", ort.OrtValue.ortvalue_from_numpy(t))
    made.run_with_iobinding(binding)
    np.testing.assert_array_equal(y, wanted[0])
    np.testing.assert_array_equal(t, wanted[1])


def test_only_memory_that_is_apart_is_written_to_at_once() -> None:
    memory = np.zeros(12, np.float32)
    feed, apart = memory[:4], np.zeros(4, np.float32)
    closed = np.zeros(4, np.float32)
    closed.flags.writeable = False
    targets = {
        "of a feed": memory[2:6], "twice": memory[8:], "again": memory[10:], "apart": apart,
        "columns": np.zeros((4, 4), np.float32).T, "closed": closed,
    }  # fmt: skip
    assert set(direct(targets, [feed, "text"])) == {"apart"}


def test_results_of_numpy_kernels_are_copied_there() -> None:
    made = session(text=MIXED)
    binding = made.io_binding()
    y, where = np.zeros(3, np.float32), np.zeros((1, 2), np.int64)
    binding.bind_cpu_input("x", np.array([1, 0, 2], np.float32))
    binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_numpy(y))
    binding.bind_ortvalue_output("where", ort.OrtValue.ortvalue_from_numpy(where))
    made.run_with_iobinding(binding)
    assert (y.tolist(), where.tolist()) == ([-1, 0, -2], [[0, 2]])
    binding.bind_ortvalue_output("where", ort.OrtValue.ortvalue_from_numpy(where[:, :1]))
    message = r"output 'where' is int64\[1, 2\], but is bound to memory for int64\[1, 1\]"
    with pytest.raises(InvalidArgument, match=message):
        made.run_with_iobinding(binding)


def test_results_can_feed_the_next_run() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        step (float[N] x) => (float[N] y) <float[1] one = {1}> { y = Add (x, one) }"""
    made = session(text=text)
    binding = made.io_binding()
    state = ort.OrtValue.ortvalue_from_numpy(np.zeros(1000, np.float32))
    binding.bind_ortvalue_input("x", state)
    binding.bind_ortvalue_output("y", state)
    for _ in range(5):
        made.run_with_iobinding(binding)
    assert set(state.numpy().tolist()) == {5.0}


def test_runs_on_bindings_raise_runtime_errors_as_in_onnxruntime() -> None:
    for package in (ort, peer):
        made = session(package)
        binding = made.io_binding()
        binding.bind_output("y")
        with pytest.raises(RuntimeError):
            made.run_with_iobinding(binding)
        binding.bind_cpu_input("x", X)
        small = np.zeros(3, np.float32)
        binding.bind_output("y", "cpu", 0, np.float32, small.shape, small.ctypes.data)
        with pytest.raises(RuntimeError):
            made.run_with_iobinding(binding)


def test_wrong_bindings_are_refused() -> None:
    binding = session().io_binding()
    with pytest.raises(InvalidUse, match="one output at least must be bound, found none"):
        session().run_with_iobinding(binding)
    with pytest.raises(InvalidUse, match="one of the inputs x is required, found 'q'"):
        binding.bind_cpu_input("q", X)
    with pytest.raises(InvalidUse, match="one of the outputs y, t is required, found 'q'"):
        binding.bind_output("q")
    with pytest.raises(InvalidUse, match="'y' at an address must have an element type and a shape"):
        binding.bind_output("y", buffer_ptr=8)
    with pytest.raises(InvalidUse, match="an OrtValue is required, found ndarray"):
        binding.bind_ortvalue_input("x", X)
    with pytest.raises(InvalidUse, match="memory of 'cpu' is required, found 'cuda'"):
        binding.bind_output("y", "cuda")
    with pytest.raises(InvalidUse, match=r"found float32\[2\] at 0"):
        binding.bind_input("x", "cpu", 0, np.float32, [2], 0)
    with pytest.raises(InvalidUse, match="an element type of ONNX is required"):
        binding.bind_input("x", "cpu", 0, "colour", [2], 8)
    binding.clear_binding_inputs()
    binding.bind_output("y")
    with pytest.raises(InvalidArgument, match="every input must be fed"):
        session().run_with_iobinding(binding)


def test_read_only_memory_is_refused() -> None:
    made = session()
    binding = made.io_binding()
    y = np.zeros((2, 4), np.float32)
    y.flags.writeable = False
    binding.bind_cpu_input("x", X)
    binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_numpy(y))
    with pytest.raises(InvalidArgument, match="output 'y' is bound to read-only memory"):
        made.run_with_iobinding(binding)
