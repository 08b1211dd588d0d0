from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

from fornix import InferenceSession, SessionOptions
from fornix.compile import Target
from fornix.compile.schedule import direct
from fornix.compile.schedule.square_rows import square_box

pytestmark = pytest.mark.skipif(
    not Target.host().has("amx-int8"), reason="the processor has no tile registers for bytes"
)
CASES = [
    (64, (5, 7), 20, 3, 1), (64, (9, 18), 64, 3, 1), (128, (7, 9), 32, 3, 2),
    (192, (1, 3), 48, 1, 1), (64, (6, 35), 16, 5, 1), (256, (7, 7), 128, 1, 1),
    (64, (1, 1), 64, 1, 1), (64, (5, 1), 48, 3, 1), (3, (23, 19), 64, 7, 2), (4, (9, 6), 16, 5, 1),
    (1, (17, 33), 20, 16, 3), (3, (6, 5), 32, 16, 1), (32, (9, 7), 64, 3, 1),
    (96, (5, 9), 24, 1, 1),
    (18, (6, 6), 64, 3, 2), (24, (7, 8), 96, 1, 1), (72, (3, 5), 16, 3, 1), (3, (9, 9), 64, 3, 2),
]  # fmt: skip
"""Channels, height and width, filters, taps, stride."""
ZERO = 3
SMALLER = 1 << 8
"""By which sums are divided, so that many of them fit a byte."""


def integers(shape: tuple[int, ...], dtype: type, seed: int) -> Any:
    bounds = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def session(
    nodes: list[Any], x: Any, data: dict[str, Any], threads: int, sides: tuple[Any, ...] = ()
) -> InferenceSession:
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", kind, ["N", x.shape[1], *(sides or x.shape[2:])])],
        [helper.make_tensor_value_info("y", 6, None)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in data.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = SessionOptions(intra_op_num_threads=threads)
    return InferenceSession(model.SerializeToString(), options)


def convolved(x: Any, w: Any, zero: int, stride: int = 1, dilation: int = 1) -> Any:
    """The sums of ConvInteger, by torch in numbers that hold them exactly."""
    pads = [w.shape[-1] // 2 * dilation] * 4
    image = torch.nn.functional.pad(torch.from_numpy(x.astype(np.float64) - zero), pads)
    weights, steps = (
        torch.from_numpy(w.astype(np.float64)),
        {"stride": stride, "dilation": dilation},
    )
    return torch.nn.functional.conv2d(image, weights, **steps).numpy().astype(np.int32)


@pytest.mark.parametrize(("channels", "sides", "filters", "taps", "stride"), CASES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_convolutions_in_tile_registers_are_exact(
    channels: int, sides: tuple[int, int], filters: int, taps: int, stride: int, dtype: type
) -> None:
    x = integers((2, channels, *sides), dtype, 0)
    w = integers((filters, channels, taps, taps), np.int8, 1)
    attributes = {"pads": [taps // 2] * 4, "strides": [stride] * 2}
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], **attributes)
    for threads in (1, 2):
        run = session([node], x, {"w": w, "z": np.asarray(ZERO, dtype)}, threads)
        (found,) = run.run(None, {"x": x})
        np.testing.assert_array_equal(found, convolved(x, w, ZERO, stride))


def test_images_of_bytes_stay_as_they_are_read() -> None:
    x = integers((1, 64, 9, 11), np.uint8, 2)
    data = {
        "v": integers((128, 64, 3, 3), np.int8, 3),
        "w": integers((64, 128, 1, 1), np.int8, 4),
        "z": np.uint8(ZERO),
        "d": np.float32(1 / SMALLER),
        "low": np.float32(0),
        "high": np.float32(255),
    }
    nodes = [
        helper.make_node("ConvInteger", ["x", "v", "z"], ["a"], pads=[1] * 4),
        helper.make_node("Cast", ["a"], ["b"], to=1),
        helper.make_node("Mul", ["b", "d"], ["c"]),
        helper.make_node("Floor", ["c"], ["e"]),
        helper.make_node("Clip", ["e", "low", "high"], ["f"]),
        helper.make_node("Cast", ["f"], ["g"], to=2),
        helper.make_node("ConvInteger", ["g", "w", "z"], ["y"]),
    ]
    sums = convolved(x, data["v"], ZERO)
    middle = np.clip(sums // SMALLER, 0, 255).astype(np.uint8)
    for threads in (1, 2):
        (found,) = session(nodes, x, data, threads).run(None, {"x": x})
        np.testing.assert_array_equal(found, convolved(middle, data["w"], ZERO))


@pytest.mark.parametrize("sides", [(5, 5), (3, 20), (11, 6), (1, 50)])
@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (3, 1), (3, 2)])
def test_results_of_small_images_are_added_to_what_lies_at_their_place(
    sides: tuple[int, int], taps: int, dilation: int
) -> None:
    x = integers((2, 64, *sides), np.uint8, seed=1)
    w = integers((64, 64, taps, taps), np.int8, seed=2)
    pads = [taps // 2 * dilation] * 4
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "one"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "small"], ["b"]),
        helper.make_node("Conv", ["a", "b"], ["c"], pads=pads, dilations=[dilation] * 2),
        helper.make_node("Add", ["a", "c"], ["d"]),
        helper.make_node("QuantizeLinear", ["d", "one", "zero"], ["q"]),
        helper.make_node("Cast", ["q"], ["y"], to=6),
    ]
    small, zero = np.float32(1 / SMALLER), np.uint8(ZERO)
    data = {"w": w, "one": np.float32(1), "small": small, "zero": zero}
    image, weights = (torch.from_numpy(v.astype(np.float64)) for v in (x, w))
    sums = torch.nn.functional.conv2d(image, weights, padding=pads[0], dilation=dilation).numpy()
    expected = np.clip(np.rint(sums / SMALLER + x) + ZERO, 0, 255).astype(np.int32)
    found = [session(nodes, x, data, threads).run(None, {"x": x})[0] for threads in (1, 2)]
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], expected)


@pytest.mark.parametrize(
    ("channels", "filters", "taps", "stride", "dilation"),
    [
        (64, 32, 3, 1, 1), (32, 48, 3, 1, 2), (64, 20, 5, 2, 1), (128, 64, 1, 1, 1),
        (64, 16, 1, 2, 1), (3, 32, 7, 2, 1), (24, 64, 3, 3, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("sides", [("h", "w"), ("h", 9), (7, "w")])
def test_open_images_reach_beyond_their_end_in_tile_registers(
    channels: int, filters: int, taps: int, stride: int, dilation: int, sides: tuple[Any, ...]
) -> None:
    w = integers((filters, channels, taps, taps), np.int8, 1)
    attributes = {
        "pads": [taps // 2 * dilation] * 4,
        "strides": [stride] * 2,
        "dilations": [dilation] * 2,
    }
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], **attributes)
    data, given = {"w": w, "z": np.uint8(ZERO)}, integers((1, channels, 1, 1), np.uint8, 0)
    runs = [session([node], given, data, threads, sides) for threads in (1, 2)]
    for n, high, wide in ((1, 1, 1), (3, 3, 2), (1, 5, 40), (2, 17, 16), (2, 8, 33)):
        shape = [
            fed if isinstance(s, str) else s for s, fed in zip(sides, (high, wide), strict=True)
        ]
        x = integers((n, channels, *shape), np.uint8, wide)
        for run in runs:
            (found,) = run.run(None, {"x": x})
            np.testing.assert_array_equal(found, convolved(x, w, ZERO, stride, dilation))


@pytest.mark.parametrize("wide", [1, 5])
def test_short_rows_of_open_images_have_boxes_of_their_length(
    wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes: list[Any] = []

    def box(*args: Any) -> Any:
        boxes.append(square_box(*args))
        return boxes[-1]

    monkeypatch.setattr(direct, "square_box", box)
    w = integers((32, 64, 3, 3), np.int8, 1)
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], pads=[1] * 4, strides=[2, 2])
    x = integers((1, 64, 1, wide), np.uint8, 0)
    data = {"w": w, "z": np.uint8(ZERO)}
    runs = [session([node], x, data, threads, ("h", wide)) for threads in (1, 2)]
    for high in (1, 2, 17):
        x = integers((2, 64, high, wide), np.uint8, high)
        for run in runs:
            (found,) = run.run(None, {"x": x})
            np.testing.assert_array_equal(found, convolved(x, w, ZERO, 2))
    assert {pixels for _, pixels, *_ in boxes} == {(wide + 1) // 2}
