from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64
from fornix.errors import ShapeError
from fornix.ir.dim import DimLike, known, symbol
from fornix.ops.fact import Fact, as_value, tensor
from tests.ops.harness import check_node, infer_op, lower_op, peer, run_op

N, P = symbol("N"), symbol("P")
DATA = np.arange(12, dtype=np.float32).reshape(3, 4)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def listed(*values: DimLike) -> Fact:
    return tensor(INT64, (len(values),), as_value(list(values)))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 2, 2, 3), (0, -1, 1, 2), (-1, 1, -1, -2)])
def test_pad_agrees_with_the_peer(mode: str, pads: tuple[int, ...]) -> None:
    inputs = [DATA, ints(*pads)]
    check_node("Pad", inputs, {"mode": mode}, expected=peer("Pad", inputs, {"mode": mode}))


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_pad_goes_on_beyond_the_extent(mode: Any) -> None:
    expected = np.pad(DATA, [(5, 9), (0, 11)], mode)
    check_node("Pad", [DATA, ints(5, 0, 9, 11)], {"mode": mode}, expected=[expected])


def test_pad_reflects_a_single_element_as_itself() -> None:
    check_node("Pad", [DATA[:1], ints(2, 0, 1, 0)], {"mode": "reflect"},
               expected=[np.repeat(DATA[:1], 4, 0)])  # fmt: skip


def test_pad_cuts_more_than_there_is_if_the_other_side_grows() -> None:
    inputs = [np.arange(7, dtype=np.float32), ints(-8, 3)]
    check_node("Pad", inputs, expected=peer("Pad", inputs))


def test_pad_fills_with_the_constant_of_its_dtype() -> None:
    for data, filler in (
        (DATA, np.float32(7)),
        (DATA.astype(np.int8), np.int8(-1)),
        (DATA.astype(ml_dtypes.bfloat16), ml_dtypes.bfloat16(0.5)),
        (DATA > 3, np.bool_(True)),
        (DATA.astype(np.complex64), np.complex64(1j)),
    ):
        expected = np.pad(data, [(0, 0), (1, 2)], constant_values=filler)
        check_node("Pad", [data, ints(0, 1, 0, 2), np.array(filler)], expected=[expected])
        check_node("Pad", [data, ints(0, 1, 0, 2), np.array([filler])], expected=[expected])


def test_pad_fills_strings_with_empty_ones() -> None:
    words = np.array(["a", "b"], object)
    check_node("Pad", [words, ints(1, 0)], expected=[np.array(["", "a", "b"], object)])


def test_pad_18_names_the_axes() -> None:
    expected = [np.pad(DATA, [(0, 0), (1, 2)])]
    check_node("Pad", [DATA, ints(1, 2), None, ints(-1)], expected=expected)
    axes = np.array([1], np.int32)
    check_node("Pad", [DATA, ints(1, 2), None, axes], opset=18, expected=expected)


def test_pad_before_11_takes_attributes() -> None:
    expected = [np.pad(DATA, [(1, 0), (0, 2)], constant_values=1.5)]
    attributes = {"value": 1.5}
    check_node("Pad", [DATA], {"pads": [1, 0, 0, 2], **attributes}, opset=2, expected=expected)
    check_node("Pad", [DATA], {"paddings": [1, 0, 0, 2], **attributes}, opset=1, expected=expected)


def test_pad_adds_to_symbolic_extents() -> None:
    [fact] = infer_op("Pad", [tensor(FLOAT32, (N, 4)), listed(1, 0, P, -2)])
    assert fact.shape == (N + P + 1, 2)


def test_pad_with_unknown_pads_knows_the_other_extents() -> None:
    data = tensor(FLOAT32, (N, 4))
    assert infer_op("Pad", [data, tensor(INT64, (4,))])[0].rank == 2
    [fact] = infer_op("Pad", [data, tensor(INT64, (2,)), None, listed(1)])
    assert fact.shape[0] == N
    assert infer_op("Pad", [data, listed(1, 1), None, tensor(INT64, (1,))])[0].rank == 2


@pytest.mark.parametrize(
    ("pads", "mode", "message"),
    [
        ((1, 1), "constant", "pads must have 4 entries, two for each of 2 axes, got [1, 1]"),
        ((-2, 0, -2, 0), "constant", "pads -2 and -2 of axis 0 cut more than the 3 elements"),
        ((0, 0, 0, 0), "mirror", "mode must be one of constant, reflect, edge, wrap, got 'mirror'"),
        ((-3, 0, 1, 0), "edge", "mode edge needs an element to repeat, but axis 0 of data[3, 4]"),
    ],
)
def test_pad_says_what_does_not_fit(pads: tuple[int, ...], mode: str, message: str) -> None:
    with pytest.raises(ShapeError) as raised:
        run_op("Pad", [DATA, ints(*pads)], {"mode": mode})
    assert message in str(raised.value)


def test_pad_takes_one_constant() -> None:
    with pytest.raises(
        ShapeError, match=r"constant_value must have one element, found shape \[4\]"
    ):
        run_op("Pad", [DATA, ints(0, 0, 0, 0), DATA[0]])


@pytest.mark.parametrize("wanted", [(3, 4), (2, 7), (5, 1), (0, 4), (6, 5)])
def test_center_crop_pad_agrees_with_the_peer(wanted: tuple[int, ...]) -> None:
    inputs = [DATA, ints(*wanted)]
    check_node("CenterCropPad", inputs, expected=peer("CenterCropPad", inputs))


def test_center_crop_pad_of_named_axes() -> None:
    inputs = [DATA, ints(9)]
    for axes in ([1], [-2]):
        expected = peer("CenterCropPad", inputs, {"axes": axes})
        check_node("CenterCropPad", inputs, {"axes": axes}, expected=expected)


def test_center_crop_pad_infers_symbolic_extents() -> None:
    [fact] = infer_op("CenterCropPad", [tensor(FLOAT32, (3, 4)), listed(N, 5)])
    assert fact.shape == (N, 5)
    data = tensor(FLOAT32, (3, N))
    assert infer_op("CenterCropPad", [data, tensor(INT64, (1,))], {"axes": [0]})[0].shape[1] == N


def test_center_crop_pad_needs_an_extent_for_each_axis() -> None:
    with pytest.raises(ShapeError, match=r"shape must have 2 entries of 0 or more, .* got \[3\]"):
        run_op("CenterCropPad", [DATA, ints(3)])


def test_padding_without_a_zero_is_the_least_number() -> None:
    x = np.array([1, 2], ml_dtypes.float8_e8m0fnu)
    wanted = np.array([0, 127, 128, 0], np.uint8).view(ml_dtypes.float8_e8m0fnu)
    (padded,) = run_op("Pad", [x, ints(1, 1)])
    np.testing.assert_array_equal(padded.view(np.uint8), wanted.view(np.uint8))
    (lowered,) = lower_op("Pad", [x, ints(1, 1)], is_symbolic=False)
    np.testing.assert_array_equal(lowered.view(np.uint8), wanted.view(np.uint8))


def test_pads_of_the_only_axis_are_its_whoever_names_it() -> None:
    fed = tensor(INT64, (1,))
    [y] = infer_op("Pad", [tensor(FLOAT32, (5,)), listed(2, 0), None, fed])
    assert y.shape == (7,)
    [y] = infer_op("Pad", [tensor(FLOAT32, (5, 2)), listed(2, 0), None, fed])
    assert [known(extent) for extent in y.shape] == [None, None]
