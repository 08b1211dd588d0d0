from __future__ import annotations

import pytest

from fornix.compile.convolution import Convolution, convolution
from fornix.dtype import FLOAT16, FLOAT32, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Store, compute, reduce, stored, tensor
from fornix.ops.conv import lower_conv

N, H, W = symbol("N"), symbol("H"), symbol("W")
Shape = tuple[DimLike, ...]


def found(x: Shape, w: Shape, dtype: DType = FLOAT32, **attributes: object) -> Convolution | None:
    image, weights = tensor("x", x, dtype), tensor("w", w, dtype)
    y = stored(lower_conv(image, weights, **attributes))  # type: ignore[arg-type]
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    return convolution(y.buffer.source)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16])
@pytest.mark.parametrize(
    ("stride", "dilation", "extent"),
    [(1, 1, 56), (2, 1, 57), (1, 2, 21), (1, 6, 33), (3, 1, 17), (2, 3, 33), (4, 7, 50)],
)
def test_taps_move_over_axes_of_the_image(
    stride: int, dilation: int, extent: int, dtype: DType
) -> None:
    c = found(
        (N, 64, extent, extent), (32, 64, 3, 5), dtype,
        strides=[stride] * 2, dilations=[dilation] * 2, pads=[dilation, 2 * dilation] * 2,
    )  # fmt: skip
    assert c is not None
    assert [s.taps for s in c.spatial] == [3, 5]
    assert {(s.stride, s.dilation) for s in c.spatial} == {(stride, dilation)}
    assert [a.extent for a in c.channels] == [64]
    assert not c.has_groups
    assert not c.is_in_place
    assert c.image_at({s.place: s.read for s in c.spatial}) in c.sum.body.args


def test_extents_may_be_symbols() -> None:
    c = found((N, 64, H, W), (32, 64, 3, 3), pads=[1] * 4)
    assert c is not None
    assert [s.place.extent for s in c.spatial] == [H + 2, W + 2]


def test_without_padding_the_image_is_read_in_place() -> None:
    c = found((N, 64, 56, 56), (32, 64, 3, 3))
    assert c is not None
    assert c.is_in_place
    assert c.has_taps


@pytest.mark.parametrize("extent", [1, 56])
def test_windows_of_one_element_have_no_taps(extent: int) -> None:
    c = found((N, 64, extent, extent), (32, 64, 1, 1))
    assert c is not None
    assert not c.has_taps
    assert [a.extent for a in c.channels] == [64]


def test_windows_side_by_side_are_a_matrix_product() -> None:
    c = found((1, 3, 224, 224), (64, 3, 16, 16), strides=[16, 16])
    assert c is not None
    assert not c.has_taps
    assert [a.extent for a in c.channels] == [3, 16, 16]


def test_groups_and_depthwise_are_told_apart() -> None:
    grouped = found((1, 256, 14, 14), (256, 32, 3, 3), group=8, pads=[1] * 4)
    depthwise = found((1, 32, 14, 14), (32, 1, 3, 3), group=32, pads=[1] * 4)
    assert grouped is not None
    assert depthwise is not None
    assert (grouped.has_groups, grouped.is_depthwise) == (True, False)
    assert (depthwise.has_groups, depthwise.is_depthwise) == (True, True)


def test_what_is_no_sum_of_products_is_no_convolution() -> None:
    x = tensor("x", (4, 9), FLOAT32)
    top = stored(compute((4,), lambda i: reduce("max", 9, lambda k: x[i, k])))
    total = stored(compute((4,), lambda i: reduce("sum", 9, lambda k: x[i, k])))
    for y in (top, total):
        assert y.buffer is not None
        assert isinstance(y.buffer.source, Store)
        assert convolution(y.buffer.source) is None
