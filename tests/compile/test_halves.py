from __future__ import annotations

import dataclasses
import logging
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fornix import InferenceSession, SessionOptions
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, FLOAT64, INT64
from fornix.errors import DTypeError, InvalidUse
from fornix.ir.loops import apply, compute, tensor
from tests.compile.levels import target
from tests.compile.native import Runner

rng = np.random.default_rng(8)
has_halves = pytest.mark.skipif(
    not Target.host().has("avx512bf16"), reason="the processor does not multiply bfloat16s"
)


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def session(
    nodes: list[Any],
    feeds: dict[str, Any],
    data: dict[str, Any],
    rank: int,
    threads: int = 1,
    **entries: str,
) -> InferenceSession:
    """Of ``nodes`` from ``feeds`` and stored ``data`` to y; ``entries`` are those of fornix."""
    inputs = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, ["N", *x.shape[1:]] if name == "x" else x.shape
        )
        for name, x in feeds.items()
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    tensors = [numpy_helper.from_array(x, name) for name, x in data.items()]
    graph = helper.make_graph(nodes, "g", inputs, [y], tensors)
    imports = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = SessionOptions(intra_op_num_threads=threads)
    for key, value in entries.items():
        options.add_session_config_entry(f"fornix.{key}", value)
    return InferenceSession(model.SerializeToString(), options)


def assert_bounded(found: Any, exact: Any, magnitude: Any) -> None:
    """Within the stated bound, and rounded at all."""
    error = np.abs(found - exact)
    assert (error <= magnitude / 127 + 1e-5).all()
    assert error.max() > 1e-4


@has_halves
@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize(("k", "n"), [(64, 100), (65, 33), (16, 48)])
@pytest.mark.parametrize("is_stored", [True, False])
def test_products_round_their_factors(rows: int, k: int, n: int, is_stored: bool) -> None:
    x, w = normal(rows, k), normal(k, n)
    if not is_stored and rows < 24:
        pytest.skip("rounding what is fed does not pay")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Neg", ["p"], ["y"])]
    feeds = {"x": x} if is_stored else {"x": x, "w": w}
    made = session(nodes, feeds, {"w": w} if is_stored else {}, 2, products="bfloat16")
    (y,) = made.run(None, feeds)
    assert_bounded(-y, x.astype(np.float64) @ w, np.abs(x) @ np.abs(w))


@has_halves
@pytest.mark.parametrize(
    ("channels", "filters", "tap", "stride"),
    [(32, 48, 1, 1), (33, 48, 1, 2), (32, 32, 5, 2), (64, 20, 3, 2), (3, 32, 7, 2), (5, 16, 3, 1)],
)
def test_convolutions_round_their_factors(
    channels: int, filters: int, tap: int, stride: int
) -> None:
    x, w = normal(2, channels, 14, 14), normal(filters, channels, tap, tap)
    window = {"strides": [stride] * 2, "pads": [tap // 2] * 4}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], **window)]
    (y,) = session(nodes, {"x": x}, {"w": w}, 4, products="bfloat16").run(None, {"x": x})
    exact, magnitude = (
        session(nodes, {"x": a}, {"w": b}, 4).run(None, {"x": a})[0]
        for a, b in ((x, w), (np.abs(x), np.abs(w)))
    )
    assert_bounded(y, exact, magnitude)


@has_halves
@pytest.mark.parametrize(("tap", "stride", "channels"), [(2, 2, 32), (3, 2, 33), (4, 3, 32)])
def test_phases_of_transposed_convolutions_round_their_factors(
    tap: int, stride: int, channels: int
) -> None:
    x, w = normal(2, channels, 14, 14), normal(channels, 48, tap, tap)
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[stride] * 2)]
    made = session(nodes, {"x": x}, {"w": w}, 4, products="bfloat16")
    exact, magnitude = (
        torch.nn.functional.conv_transpose2d(torch.tensor(a), torch.tensor(b), stride=stride)
        for a, b in ((x, w), (np.abs(x), np.abs(w)))
    )
    (y,) = made.run(None, {"x": x})
    assert_bounded(y, exact.numpy(), magnitude.numpy())
    copies = [e for e in made.profile({"x": x}, 1).entries if "int32" in str(e.written)]
    pairs = 2 * -(-channels // 2) * (14 + 2) ** 2  # with the padding, and no zeros between
    assert copies
    assert all(copy.bytes <= x.nbytes + 4 * pairs for copy in copies)


@has_halves
@pytest.mark.parametrize(("channels", "tap"), [(1, 7), (2, 2)])
def test_convolutions_of_one_channel_or_few_terms_stay_exact(channels: int, tap: int) -> None:
    x, w = normal(1, channels, 14, 14), normal(16, channels, tap, tap)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2])]
    (y,) = session(nodes, {"x": x}, {"w": w}, 4, products="bfloat16").run(None, {"x": x})
    exact = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), stride=2).numpy()
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)


@has_halves
def test_results_do_not_depend_on_threads() -> None:
    x, w = normal(50, 96), normal(96, 200)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    found = [
        session(nodes, {"x": x}, {"w": w}, 2, threads, products="bfloat16").run(None, {"x": x})[0]
        for threads in (1, 2)
    ]
    np.testing.assert_array_equal(*found)


def test_other_processors_stay_exact_and_say_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = dataclasses.replace(Target.host(), features=Target.host().features - {"avx512bf16"})
    monkeypatch.setattr(Target, "host", staticmethod(lambda: plain))
    x, w = normal(9, 64), normal(64, 40)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    monkeypatch.setenv("FORNIX_CACHE", "0")
    with caplog.at_level(logging.WARNING):
        (y,) = session(nodes, {"x": x}, {"w": w}, 2, products="bfloat16").run(None, {"x": x})
    assert "fornix.products has no effect" in caplog.text
    np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-5)


def half_model(node: Any, feeds: dict[str, Any], data: dict[str, Any]) -> bytes:
    """A model whose tensors are all bfloat16."""
    code = TensorProto.BFLOAT16
    inputs = [helper.make_tensor_value_info(name, code, x.shape) for name, x in feeds.items()]
    y = helper.make_tensor_value_info("y", code, None)
    tensors = [numpy_helper.from_array(x, name) for name, x in data.items()]
    graph = helper.make_graph([node], "g", inputs, [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    text: bytes = model.SerializeToString()
    return text


def assert_rounded_once(found: Any, exact: Any) -> None:
    """The nearest bfloat16s, or their neighbours where float32 sums lie between two."""
    step = float(ml_dtypes.finfo(ml_dtypes.bfloat16).eps)
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=step, atol=1e-4)


@pytest.mark.parametrize("entries", [{}, {"strict_accuracy": "1"}])
@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize(("rows", "k", "n"), [(1, 64, 100), (7, 65, 33), (40, 16, 48), (40, 3, 5)])
def test_models_of_bfloat16_multiply_these_and_round_sums_once(
    rows: int, k: int, n: int, is_stored: bool, entries: dict[str, str]
) -> None:
    x, w = (normal(*shape).astype(ml_dtypes.bfloat16) for shape in ((rows, k), (k, n)))
    options = SessionOptions(intra_op_num_threads=1)
    for key, value in entries.items():
        options.add_session_config_entry(f"fornix.{key}", value)
    feeds = {"x": x} if is_stored else {"x": x, "w": w}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = half_model(node, feeds, {"w": w} if is_stored else {})
    (y,) = InferenceSession(model, options).run(None, feeds)
    assert y.dtype == ml_dtypes.bfloat16
    assert_rounded_once(y, x.astype(np.float64) @ w.astype(np.float64))


@has_halves
@pytest.mark.parametrize("rows", [10, 40])
def test_rows_of_bfloat16s_are_read_as_they_lie(rows: int) -> None:
    x, w = (normal(*shape).astype(ml_dtypes.bfloat16) for shape in ((rows, 64), (64, 40)))
    model = half_model(helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": x}, {"w": w})
    made = InferenceSession(model)
    assert [entry.kind for entry in made.profile({"x": x}, 1).entries] == ["contraction"]
    assert_rounded_once(made.run(None, {"x": x})[0], x.astype(np.float64) @ w.astype(np.float64))


@pytest.mark.parametrize("channels", [3, 35, 48])
@pytest.mark.parametrize(("taps", "stride"), [(1, 1), (3, 2), (3, 1)])
def test_images_of_bfloat16_are_convolved(channels: int, taps: int, stride: int) -> None:
    x = normal(2, channels, 9, 11).astype(ml_dtypes.bfloat16)
    w = normal(40, channels, taps, taps).astype(ml_dtypes.bfloat16)
    flags = {"strides": [stride] * 2, "pads": [taps // 2] * 4}
    model = half_model(helper.make_node("Conv", ["x", "w"], ["y"], **flags), {"x": x}, {"w": w})
    (y,) = InferenceSession(model).run(None, {"x": x})
    wide = [torch.tensor(e.astype(np.float64)) for e in (x, w)]
    exact = torch.nn.functional.conv2d(*wide, stride=stride, padding=taps // 2).numpy()
    step = float(ml_dtypes.finfo(ml_dtypes.bfloat16).eps)
    np.testing.assert_allclose(y.astype(np.float64), exact, rtol=step, atol=1e-3)


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(("filters", "stride"), [(64, 1), (96, 2)])
def test_sounds_of_bfloat16_are_convolved(filters: int, stride: int, is_whole: bool) -> None:
    x = normal(1, 80, 130).astype(ml_dtypes.bfloat16)
    w = normal(filters, 80, 3).astype(ml_dtypes.bfloat16)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[stride], pads=[1, 1])
    wide = [torch.tensor(e.astype(np.float64)) for e in (x, w)]
    exact = torch.nn.functional.conv1d(*wide, stride=stride, padding=1).numpy()
    if is_whole:
        (y,) = InferenceSession(half_model(node, {"x": x}, {"w": w})).run(None, {"x": x})
        step = float(ml_dtypes.finfo(ml_dtypes.bfloat16).eps)
        np.testing.assert_allclose(y.astype(np.float64), exact, rtol=step, atol=1e-3)
    else:
        a, b = x.astype(np.float32), w.astype(np.float32)
        (y,) = session([node], {"x": a}, {"w": b}, 3, products="bfloat16").run(None, {"x": a})
        np.testing.assert_allclose(y, exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 40])
def test_sums_of_bfloat16s_are_rounded_to_even(rows: int) -> None:
    first = [1.0, 1.0, 1.0078125, -3.0, 3.3e38, -3.3e38, np.inf, np.nan, 0.0, -0.0, 1e-30, 255.0]
    less = [2.0**-8, 2.0**-9, 2.0**-8, -(2.0**-7), 3.3e38, -3.3e38, 1.0, 1.0, 0.0, -0.0, 0.0, 0.5]
    x = np.zeros((rows, 64), ml_dtypes.bfloat16)
    x[:, 0], x[:, 1] = 1, 1
    w = np.zeros((64, 12), ml_dtypes.bfloat16)
    w[0], w[1] = first, less
    model = half_model(helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": x}, {"w": w})
    (y,) = InferenceSession(model).run(None, {"x": x})
    with np.errstate(over="ignore"):
        sums = w[0].astype(np.float32) + w[1].astype(np.float32)
    wanted = np.tile(sums.astype(ml_dtypes.bfloat16), (rows, 1))
    np.testing.assert_array_equal(y.astype(np.float32), wanted.astype(np.float32))


@has_halves
def test_products_of_bfloat16_take_numbers_below_the_normal_ones_for_zero() -> None:
    x = np.full((1, 64), 2.0**-130, ml_dtypes.bfloat16)
    w = np.full((64, 64), 2.0**127, ml_dtypes.bfloat16)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = half_model(node, {"x": x}, {"w": w})
    assert not InferenceSession(model).run(None, {"x": x})[0].any()
    strict = SessionOptions()
    strict.add_session_config_entry("fornix.strict_accuracy", "1")
    assert (InferenceSession(model, strict).run(None, {"x": x})[0] == 8).all()


def test_other_types_of_products_are_refused() -> None:
    x, w = normal(9, 64), normal(64, 40)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    with pytest.raises(InvalidUse, match="products must be float32 or bfloat16, found 'half'"):
        session(nodes, {"x": x}, {"w": w}, 2, products="half")
    with pytest.raises(InvalidUse, match=r"fornix\.strict_accuracy excludes fornix\.products"):
        session(nodes, {"x": x}, {"w": w}, 2, products="bfloat16", strict_accuracy="1")


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_strict_products_add_their_terms_one_by_one(rows: int) -> None:
    x, w = (np.round(normal(*shape) * 2**10) / 2**10 for shape in ((rows, 100), (100, 70)))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    x, w = x.astype(np.float32), w.astype(np.float32)
    (y,) = session(nodes, {"x": x}, {"w": w}, 2, strict_accuracy="1").run(None, {"x": x})
    total = np.zeros((rows, 70), np.float32)
    for k in range(100):  # a long double holds a product and a total exactly
        product = x[:, k, None].astype(np.longdouble) * w[k].astype(np.longdouble)
        fused = (product + total).astype(np.float32)
        apart = product.astype(np.float32) + total
        total = fused if Target.host().fuses else apart
    np.testing.assert_array_equal(y, total)


@pytest.mark.parametrize("level", ["host", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize("count", [1, 37])
def test_floats_are_rounded_to_halves_of_words(level: str, count: int) -> None:
    v, w = (normal(count) * 10.0 ** np.arange(count) for _ in range(2))
    v, w = v.astype(np.float32), w.astype(np.float32)
    v[0], w[-1] = np.nan, -np.inf
    x, y = (tensor(name, (count,), FLOAT32) for name in "xy")
    words = compute((count,), lambda i: apply("halves", x[i], y[i]))
    [found] = Runner([words], target(level)).run({"x": v, "y": w})
    for given, bits in ((v, found << 16), (w, found & -65536)):
        wanted = given.astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(bits.view(np.float32), wanted)


def test_only_int32_holds_two_bfloat16s() -> None:
    x = tensor("x", (3,), INT64)
    with pytest.raises(DTypeError, match="dot2 takes int32s of two bfloat16s each, found int64"):
        compute((3,), lambda i: apply("dot2", x[i], x[i]))
    y = tensor("y", (3,), FLOAT32)
    z = tensor("z", (3,), FLOAT64)
    with pytest.raises(DTypeError, match="halves takes two float32s, found float64"):
        compute((3,), lambda i: apply("halves", z[i], z[i]))
    with pytest.raises(DTypeError, match="dot2 is not defined for float32"):
        compute((3,), lambda i: apply("dot2", y[i], y[i]))
