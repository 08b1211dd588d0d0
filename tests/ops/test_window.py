from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest

from fornix.errors import ShapeError
from fornix.ir.dim import known, symbol
from fornix.ops.window import Window, fold, slide, unfold

N = symbol("N")

GEOMETRIES: list[tuple[int, int, dict[str, Any]]] = [
    (size, taps, {"strides": [stride], "dilations": [dilation], **padding})
    for size, taps, stride, dilation in itertools.product((1, 4, 7), (1, 3), (1, 2, 3), (1, 2))
    for padding in (
        {"pads": [0, 0]},
        {"pads": [2, 1]},
        {"auto_pad": "VALID"},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
    )
]


def standard_extent(size: int, taps: int, ceil_mode: int, attributes: dict[str, Any]) -> int:
    """What onnx.shape_inference gives for a MaxPool."""
    node = onnx.helper.make_node(
        "MaxPool", ["x"], ["y"], kernel_shape=[taps], ceil_mode=ceil_mode, **attributes
    )
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 1, size])],
        [onnx.helper.make_empty_tensor_value_info("y")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)])
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return int(inferred.graph.output[0].type.tensor_type.shape.dim[2].dim_value)


@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_extents_are_those_of_the_standard(ceil_mode: int) -> None:
    for size, taps, attributes in GEOMETRIES:
        reach = (taps - 1) * attributes["dilations"][0] + 1
        if not attributes.get("auto_pad", "").startswith("SAME"):
            room = size + sum(attributes.get("pads", [])) - reach
            if room < 0:  # C++ divides towards zero there, the standard's formula does not
                continue
        window = Window.of([size], [taps], ceil_mode=ceil_mode, **attributes)
        wanted = standard_extent(size, taps, ceil_mode, attributes)
        assert window.out == (wanted,), (size, taps, attributes)


@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_a_symbolic_window_becomes_the_static_one(ceil_mode: int) -> None:
    for size, taps, attributes in GEOMETRIES:
        try:
            static = Window.of([size], [taps], ceil_mode=ceil_mode, **attributes)
        except ShapeError:
            continue
        symbolic = Window.of([N], [taps], ceil_mode=ceil_mode, **attributes)
        for name in ("out", "before", "after"):
            (dim,) = getattr(symbolic, name)
            bound = dim if isinstance(dim, int) else known(dim.bind({"N": size}))
            assert bound == getattr(static, name)[0], (name, size, taps, attributes)


def test_same_padding_takes_the_dilation_into_account() -> None:
    window = Window.of([8], [3], dilations=[2], auto_pad="SAME_UPPER")
    assert (window.before, window.after, window.out) == ((2,), (2,), (8,))


def test_an_odd_padding_goes_where_its_name_says() -> None:
    upper = Window.of([5], [2], auto_pad="SAME_UPPER")
    lower = Window.of([5], [2], auto_pad="SAME_LOWER")
    assert (upper.before, upper.after) == ((0,), (1,))
    assert (lower.before, lower.after) == ((1,), (0,))


def test_same_padding_is_never_negative() -> None:
    window = Window.of([9], [1], strides=[3], auto_pad="SAME_LOWER")
    assert (window.before, window.after, window.out) == ((0,), (0,), (3,))


def test_an_empty_auto_pad_is_none_and_auto_pad_prevails_over_pads() -> None:
    assert Window.of([4], [3], pads=[1, 1], auto_pad="").out == (4,)
    assert Window.of([4], [3], pads=[1, 1], auto_pad="VALID").out == (2,)


def test_windows_that_start_behind_the_data_are_dropped() -> None:
    assert Window.of([4], [1], strides=[3], pads=[0, 0], ceil_mode=1).out == (2,)
    assert Window.of([2], [2], strides=[3], pads=[0, 1], ceil_mode=1).out == (1,)


def test_ceil_mode_keeps_a_window_larger_than_the_data() -> None:
    assert Window.of([5], [7], strides=[4], ceil_mode=1).out == (1,)


def brute_force(x: np.ndarray, window: Window) -> np.ndarray:
    """unfold, written from the definition of a tap's place."""
    result = np.zeros((*window.tap_shape, *window.shape), x.dtype)
    for tap in np.ndindex(*window.tap_shape):
        for out in np.ndindex(*window.shape):
            place = [
                o * s + k * d - int(str(b))
                for o, s, k, d, b in zip(
                    out, window.stride, tap, window.dilation, window.before, strict=True
                )
            ]
            if all(0 <= p < n for p, n in zip(place, x.shape, strict=True)):
                result[(*tap, *out)] = x[tuple(place)]
    return result


WINDOWS = [
    Window.of([5, 6], [3, 2], pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2]),
    Window.of([5, 6], [2, 2], strides=[2, 3]),
    Window.of([4, 4], [3, 3], auto_pad="SAME_LOWER", strides=[3, 2]),
    Window.of([7], [3], pads=[1, 1], strides=[2], ceil_mode=1),
    Window.of([2], [2], dilations=[4], pads=[3, 3]),
]


@pytest.mark.parametrize("window", WINDOWS)
def test_unfold_reads_every_tap_at_its_place(window: Window, rng: np.random.Generator) -> None:
    x = rng.standard_normal([int(str(n)) for n in window.size])
    np.testing.assert_array_equal(unfold(x, window), brute_force(x, window))


@pytest.mark.parametrize("window", WINDOWS)
def test_fold_is_unfold_transposed(window: Window, rng: np.random.Generator) -> None:
    x = rng.standard_normal([int(str(n)) for n in window.size])
    columns = rng.standard_normal((*window.tap_shape, *window.shape))
    np.testing.assert_allclose(
        np.sum(unfold(x, window) * columns), np.sum(x * fold(columns, window)), rtol=1e-12
    )


@pytest.mark.parametrize("window", WINDOWS)
def test_slide_combines_what_unfold_reads(window: Window, rng: np.random.Generator) -> None:
    x = rng.standard_normal([int(str(n)) for n in window.size])
    taps = tuple(range(len(window.size)))
    wanted = brute_force(x, window).sum(axis=taps)
    np.testing.assert_allclose(slide(np.add, x, window, 0), wanted, atol=1e-14)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"strides": [1]}, r"strides must have one entry per spatial axis \(2\), got \[1\]"),
        ({"strides": [1, 0]}, r"strides must be positive, got \[1, 0\]"),
        ({"dilations": [1, -1]}, r"dilations must be positive, got \[1, -1\]"),
        ({"pads": [1, 1]}, r"pads must have two entries per spatial axis \(4\), got \[1, 1\]"),
        ({"pads": [0, 0, 0, -1]}, r"pads must not be negative, got \[0, 0, 0, -1\]"),
        ({"auto_pad": "SAME"}, "auto_pad must be one of NOTSET, .*, got 'SAME'"),
        (
            {"dilations": [1, 3]},
            r"the padded data must hold a window of reach 7, got extent 6 with padding \[0, 0\]",
        ),
    ],
)
def test_attributes_that_do_not_fit_are_named(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Window.of([5, 6], [3, 3], **attributes)


def test_a_symbolic_window_has_no_plain_shape() -> None:
    with pytest.raises(TypeError, match="a plain extent is required, found the symbolic N"):
        _ = Window.of([N], [1]).shape
