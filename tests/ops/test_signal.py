from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import scipy.fft
import scipy.signal
import torch
from onnx.reference import ReferenceEvaluator

import fornix
from fornix import ops
from fornix.dtype import BFLOAT16, FLOAT32, INT8, INT64
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import as_value, tensor, unranked
from tests.ops.harness import (
    check_lowering,
    check_node,
    fact_of,
    infer_op,
    lower_op,
    peer,
    run_op,
)

F32_SUM = 1e-5
"""Sums of a few dozen elements of size 1."""

N, L, F = (symbol(name) for name in "NLF")


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def parts(z: Any, dtype: Any = np.float32) -> Any:
    return np.stack([z.real, z.imag], axis=-1).astype(dtype)


def as_complex(x: Any) -> Any:
    return x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dft_agrees_with_scipy(opset: int, dtype: Any) -> None:
    for last, axis, length, inverse in itertools.product((1, 2), (0, 1, -2), (None, 3, 9), (0, 1)):
        x = normal(2, 5, 6, last, dtype=dtype)
        transform = scipy.fft.ifft if inverse else scipy.fft.fft
        number = axis % x.ndim
        wanted = parts(transform(as_complex(x).astype(np.complex128), length, number), dtype)
        inputs = [x, None if length is None else np.array(length)]
        attributes = {"inverse": inverse}
        if opset == 17:
            attributes["axis"] = axis
        else:
            inputs.append(np.array(axis))
        check_node(
            "DFT", inputs, attributes, opset=opset, expected=[wanted], rtol=F32_SUM, atol=F32_SUM
        )


@pytest.mark.parametrize("length", [None, 4, 7, 12])
def test_the_one_sided_dft_and_its_inverse_agree_with_scipy(length: int | None) -> None:
    x = normal(2, 7, 1)
    given = None if length is None else np.array(length, np.int32)
    wanted = parts(scipy.fft.rfft(x[..., 0].astype(np.float64), length, 1))
    check_node("DFT", [x, given], {"onesided": 1}, expected=[wanted], rtol=F32_SUM, atol=F32_SUM)
    spectrum = normal(2, 5, 2)
    back = scipy.fft.irfft(as_complex(spectrum).astype(np.complex128), length, 1)
    check_node(
        "DFT", [spectrum, given], {"onesided": 1, "inverse": 1},
        expected=[back[..., None].astype(np.float32)], rtol=F32_SUM, atol=F32_SUM,
    )  # fmt: skip


def test_dft_axes_default_as_their_version_says() -> None:
    x = normal(3, 4, 5, 1)
    for opset, axis in ((17, 1), (20, 2)):
        wanted = parts(scipy.fft.fft(x[..., 0].astype(np.float64), axis=axis))
        check_node("DFT", [x], {}, opset=opset, expected=[wanted], rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_transforms_of_half_precision_are_rounded_once(dtype: Any) -> None:
    x = normal(1, 12, 1, dtype=dtype)
    [wide] = run_op("DFT", [x.astype(np.float32)])
    check_node("DFT", [x], {}, expected=[wide.astype(dtype)])
    framing = [np.array(2), None, np.array(4)]
    [wide] = run_op("STFT", [x.astype(np.float32), *framing])
    check_node("STFT", [x, *framing], {}, expected=[wide.astype(dtype)])


def dft_shape(shape: Any, *inputs: Any, **attributes: Any) -> Any:
    [fact] = infer_op("DFT", [tensor(FLOAT32, shape), *inputs], attributes)
    return fact.shape


def test_dft_infers_symbolic_lengths() -> None:
    assert dft_shape((N, L, 1)) == (N, L, 2)
    assert dft_shape((N, L, 1), onesided=1) == (N, L // 2 + 1, 2)
    assert dft_shape((N, L, 2), onesided=1, inverse=1) == (N, 2 * L - 2, 1)
    length = tensor(INT64, (), as_value(F))
    assert dft_shape((N, L, 1), length, onesided=1) == (N, F // 2 + 1, 2)
    assert dft_shape((N, L, 1), length, fact_of(np.array(0))) == (F, L, 2)


def test_dft_keeps_extents_even_if_its_axis_is_computed() -> None:
    axis = tensor(INT64, ())
    assert dft_shape((N, L, 1), None, axis) == (N, L, 2)
    unknown = dft_shape((N, L, 1), fact_of(np.array(4)), axis)
    assert len(unknown) == 3
    assert "axis is computed" in str(unknown[0].unknowns)


@pytest.mark.parametrize(
    ("shape", "inputs", "attributes", "message"),
    [
        ((1, 4, 3), [], {}, r"input must end with an axis of 1 .* found input\[1, 4, 3\]"),
        ((4,), [], {}, "input must end with an axis of 1"),
        ((1, 4, 2), [], {"onesided": 1}, "onesided=1 with inverse=0 needs a real input"),
        (
            (1, 4, 1),
            [],
            {"onesided": 1, "inverse": 1},
            "onesided=1 with inverse=1 needs a complex input, with a last axis of 2",
        ),
        ((1, 4, 1), [np.array(0)], {}, "dft_length must be positive, got 0"),
        ((1, 1, 2), [], {"onesided": 1, "inverse": 1}, "dft_length must be positive, got 0"),
        ((1, 4, 1), [None, np.array(2)], {}, "axis must name a signal axis, got 2"),
        ((1, 4, 1), [None, np.array(-1)], {}, "axis must name a signal axis, got -1"),
        ((1, 4, 1), [None, np.array(5)], {}, r"axis must be in \[-3, 2\]"),
    ],
)
def test_dft_says_what_is_wrong(
    shape: Any, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("DFT", [np.zeros(shape, np.float32), *inputs], attributes)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("last", [1, 2])
def test_stft_agrees_with_torch(onesided: int, last: int) -> None:
    x, window = normal(2, 20, last), normal(6, seed=1)
    for step, is_windowed in itertools.product((1, 3, 6), (False, True)):
        signal = torch.from_numpy(as_complex(x))
        weights = torch.from_numpy(window) if is_windowed else torch.ones(6)
        wanted = torch.stft(
            signal, 6, step, window=weights, center=False, return_complex=True, onesided=False
        ).numpy()
        wanted = parts(wanted.swapaxes(1, 2))[:, :, : 4 if onesided else 6]
        inputs = [x, np.array(step)]
        inputs += [window] if is_windowed else [None, np.array(6)]
        check_node(
            "STFT", inputs, {"onesided": onesided}, expected=[wanted], rtol=F32_SUM, atol=F32_SUM
        )


def test_without_window_and_length_the_signal_is_one_frame() -> None:
    x = normal(2, 8, 1)
    wanted = parts(scipy.fft.rfft(x[:, None, :, 0].astype(np.float64)))
    check_node("STFT", [x, np.array(1)], {}, expected=[wanted], rtol=F32_SUM, atol=F32_SUM)


def test_a_real_signal_may_leave_out_the_axis_of_its_parts() -> None:
    x, framing = normal(2, 16), [np.array(4), None, np.array(8)]
    [wanted] = peer("STFT", [x, *framing], opset=17)
    check_node("STFT", [x, *framing], {}, expected=[wanted], rtol=F32_SUM, atol=F32_SUM)


def test_stft_infers_frames_and_frequencies() -> None:
    signal, step = tensor(FLOAT32, (N, L, 1)), fact_of(np.array(4))
    [fact] = infer_op("STFT", [signal, step, tensor(FLOAT32, (F,))])
    assert fact.shape == (N, (L - F) // 4 + 1, F // 2 + 1, 2)
    [fact] = infer_op("STFT", [signal, step, None, fact_of(np.array(16))], {"onesided": 0})
    assert fact.shape == (N, (L - 16) // 4 + 1, 16, 2)
    [fact] = infer_op("STFT", [signal, step])
    assert fact.shape == (N, 1, L // 2 + 1, 2)
    [fact] = infer_op("STFT", [signal, tensor(INT64, ()), None, tensor(INT64, ())])
    assert (fact.shape[0], fact.shape[3]) == (N, 2)


@pytest.mark.parametrize(
    ("shape", "inputs", "message"),
    [
        ((8,), [np.array(2)], r"signal must be \[N, length\] or .*, found signal\[8\]"),
        ((1, 8, 1), [np.array(0)], "frame_step must be positive, got 0"),
        ((1, 8, 1), [np.array(2), None, np.array(9)], r"frame_length must be in \[1, 8\], .* 9"),
        (
            (1, 8, 1),
            [np.array(2), np.ones(3, np.float32), np.array(4)],
            r"window must have frame_length=4 elements, found window\[3\]",
        ),
    ],
)
def test_stft_says_what_is_wrong(shape: Any, inputs: list[Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("STFT", [np.zeros(shape, np.float32), *inputs])


def test_inference_of_stft_looks_at_the_window() -> None:
    inputs = [np.zeros((1, 8, 1), np.float32), np.array(2), np.ones(3, np.float32), np.array(4)]
    with pytest.raises(ShapeError, match=r"window must have frame_length=4 elements"):
        infer_op("STFT", [fact_of(x) for x in inputs])


def test_the_window_of_frames_has_an_axis() -> None:
    facts = [tensor(FLOAT32, (1, 8, 1)), tensor(INT64, ()), tensor(FLOAT32, ())]
    with pytest.raises(ShapeError, match=r"window must have frame_length=1 elements, .*\[\]"):
        infer_op("STFT", facts)


# SciPy's Hamming window has the rounded coefficients.
SCIPY_WINDOWS = {
    "HannWindow": ("hann",),
    "HammingWindow": ("general_hamming", 25 / 46),
    "BlackmanWindow": ("blackman",),
}


@pytest.mark.parametrize("name", SCIPY_WINDOWS)
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows_agree_with_scipy(name: str, periodic: int) -> None:
    for size in (2, 5, 16):
        wanted = scipy.signal.get_window(SCIPY_WINDOWS[name], size, fftbins=bool(periodic))
        check_node(
            name, [np.array(size)], {"periodic": periodic, "output_datatype": 11},
            expected=[wanted], rtol=1e-14, atol=1e-15,
        )  # fmt: skip


@pytest.mark.parametrize("periodic", [0, 1])
def test_a_window_of_one_element_is_its_first_element(periodic: int) -> None:
    # The standard's function body divides by zero if it is symmetric, and so does onnxruntime.
    check_node(
        "HannWindow", [np.array(1)], {"periodic": periodic}, expected=[np.zeros(1, np.float32)]
    )
    check_node("HannWindow", [np.array(0)], {}, expected=[np.zeros(0, np.float32)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint64])
def test_windows_are_converted_once(dtype: Any) -> None:
    code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    wanted = (100 * scipy.signal.windows.hann(9, sym=False)).astype(np.float64) / 100
    check_node(
        "HannWindow", [np.array(9, np.int32)], {"output_datatype": code},
        expected=[wanted.astype(dtype)], rtol=0.01,
    )  # fmt: skip


@pytest.mark.parametrize("name", SCIPY_WINDOWS)
def test_function_bodies_of_windows_equal_their_kernels(name: str) -> None:
    operator = ops.find("", name)
    assert operator is not None
    body = operator.rule("body", 17)
    assert body is not None
    function = ReferenceEvaluator(onnx.parser.parse_function(body()))
    for size, periodic, code in itertools.product((1, 6, 7), (0, 1), (1, 6, 11)):
        attributes = {"periodic": periodic, "output_datatype": code}
        [found] = function.run(None, {"size": np.array(size)}, attributes=attributes)
        [wanted] = run_op(name, [np.array(size)], attributes)
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-15)


def test_windows_infer_their_length_and_dtype() -> None:
    for name in SCIPY_WINDOWS:
        size = tensor(INT64, (), as_value(N))
        [fact] = infer_op(name, [size], {"output_datatype": BFLOAT16.code})
        assert (fact.dtype, fact.shape) == (BFLOAT16, (N,))
        [fact] = infer_op(name, [unranked(INT64)])
        assert "size is computed" in str(fact.shape[0].unknowns)  # type: ignore[union-attr]


def test_a_window_has_no_negative_size() -> None:
    with pytest.raises(ShapeError, match="size must not be negative, got -2"):
        run_op("HannWindow", [np.array(-2)])


def mel(bands: int, length: int, rate: int, low: float, high: float) -> list[Any]:
    edges = [np.array(edge, np.float32) for edge in (low, high)]
    return [np.array(bands), np.array(length), np.array(rate), *edges]


@pytest.mark.parametrize(
    "inputs", [mel(8, 16, 8192, 0, 4096), mel(40, 512, 16000, 20, 8000), mel(20, 33, 8000, 0, 900)]
)
def test_mel_weights_agree_with_onnxruntime(inputs: Any) -> None:
    [expected] = peer("MelWeightMatrix", inputs, {}, opset=17)
    check_node("MelWeightMatrix", inputs, {}, expected=[expected], rtol=F32_SUM, atol=F32_SUM)


def test_mel_weights_come_in_the_dtype_that_is_asked() -> None:
    inputs = mel(4, 16, 8192, 0, 4096)
    [wide] = run_op("MelWeightMatrix", inputs, {"output_datatype": 11})
    wanted = np.trunc(wide).astype(np.int8)
    check_node("MelWeightMatrix", inputs, {"output_datatype": INT8.code}, expected=[wanted])


def test_mel_weights_infer_their_shape() -> None:
    bands, length = tensor(INT64, (), as_value(N)), tensor(INT64, (), as_value(L))
    rest = [unranked(INT64), unranked(FLOAT32), unranked(FLOAT32)]
    [fact] = infer_op("MelWeightMatrix", [bands, length, *rest])
    assert fact.shape == (L // 2 + 1, N)
    [fact] = infer_op("MelWeightMatrix", [unranked(INT64), unranked(INT64), *rest])
    assert fact.rank == 2


def test_mel_weights_say_what_is_wrong() -> None:
    with pytest.raises(ShapeError, match="num_mel_bins=-1 and dft_length=4 are counts"):
        run_op("MelWeightMatrix", mel(-1, 4, 8, 0, 4))
    with pytest.raises(Fail, match="sample_rate must be positive, got 0"):
        run_op("MelWeightMatrix", mel(1, 4, 0, 0, 4))
    with pytest.raises(ShapeError, match="dft_length must have one element, found shape"):
        run_op("MelWeightMatrix", [np.array(1), np.array([1, 2]), *mel(1, 4, 8, 0, 4)[2:]])


@pytest.mark.parametrize("length", [None, 4, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("inverse", "onesided"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_transforms_are_lowered(
    length: int | None, dtype: Any, inverse: int, onesided: int
) -> None:
    for count in (1, 2):
        if onesided and count != 1 + inverse:
            continue
        x = normal(2, 7, 3, count, dtype=dtype)
        wanted = None if length is None else np.array(length)
        attributes = {"inverse": inverse, "onesided": onesided}
        inputs = [x, wanted, np.array(1)]
        check_lowering("DFT", inputs, attributes, symbolic=False)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_transforms_of_frames_are_lowered(onesided: int, count: int) -> None:
    signal = normal(2, 20, count) if count else normal(2, 20)
    for more in ([None, np.array(6)], [normal(5)], [normal(6), np.array(6)]):
        inputs = [signal, np.array(3), *more]
        check_lowering("STFT", inputs, {"onesided": onesided}, symbolic=False)


@pytest.mark.parametrize("length", [64, 72, 99])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_lengths_with_factors_take_two_steps(length: int, dtype: Any) -> None:
    for inverse, onesided, count in ((0, 0, 1), (0, 1, 1), (0, 0, 2), (1, 0, 2), (1, 0, 1)):
        x = normal(2, 70, count, dtype=dtype)
        attributes = {"inverse": inverse, "onesided": onesided}
        check_lowering("DFT", [x, np.array(length)], attributes, symbolic=False)


@pytest.mark.parametrize("onesided", [0, 1])
def test_frames_with_factors_take_two_steps(onesided: int) -> None:
    for signal in (normal(2, 150), normal(2, 150, 1), normal(1, 150, 2)):
        inputs = [signal, np.array(20), normal(72)]
        check_lowering("STFT", inputs, {"onesided": onesided}, symbolic=False)


@pytest.mark.parametrize(("length", "parts"), [(400, 1), (512, 2), (480, 2), (2048, 1)])
def test_sessions_transform_in_two_steps_alike_on_all_threads(length: int, parts: int) -> None:
    text = f"""<ir_version: 9, opset_import: ["": 20]>
    main (float[3, {length}, {parts}] x) => (float[3, {length}, 2] y) {{ y = DFT(x) }}"""
    x = normal(3, length, parts, dtype=np.float32)
    found = []
    for threads in (1, 2):
        options = fornix.SessionOptions()
        options.intra_op_num_threads = threads
        session = fornix.InferenceSession(onnx.parser.parse_model(text), options)
        kinds = {entry.kind for entry in session.profile({"x": x}, 1).entries}
        assert "contraction" in kinds <= {"contraction", "map"}
        found.append(np.asarray(session.run(None, {"x": x})[0]))
    assert found[0].tobytes() == found[1].tobytes()
    wide = x.astype(np.float64)
    wanted = np.fft.fft(wide[..., 0] + 1j * wide[..., 1] if parts == 2 else wide[..., 0])
    np.testing.assert_allclose(found[0][..., 0] + 1j * found[0][..., 1], wanted, atol=2e-4)


@pytest.mark.parametrize("length", [521, 4096])
def test_long_transforms_stay_with_the_kernel(length: int) -> None:
    with pytest.raises(NotLowered, match=f"a transform of {length} elements is faster by halving"):
        lower_op("DFT", [normal(1, length, 1)], {})


def test_long_transforms_along_other_axes_stay_with_the_kernel() -> None:
    with pytest.raises(NotLowered, match="a transform of 1024 elements is faster by halving"):
        lower_op("DFT", [normal(1024, 2, 1), None, np.array(0)], {})
