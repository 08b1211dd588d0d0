from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from fornix.dtype import FLOAT32, INT64
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor
from tests.ops.harness import check_node, infer_op, peer, run_op

N, H = symbol("N"), symbol("H")


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(7).integers(0, 99, shape).astype(np.float32)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_depth_to_space_in_mode_crd_is_a_pixel_shuffle(block: int) -> None:
    data = numbers(2, 5 * block**2, 3, 2)
    expected = torch.nn.functional.pixel_shuffle(torch.from_numpy(data), block).numpy()
    attributes = {"blocksize": block, "mode": "CRD"}
    check_node("DepthToSpace", [data], attributes, expected=[expected])


@pytest.mark.parametrize("opset", [1, 11, 13])
def test_depth_to_space_in_mode_dcr_agrees_with_the_peer(opset: int) -> None:
    data = numbers(1, 8, 2, 3)
    expected = peer("DepthToSpace", [data], {"blocksize": 2})
    check_node("DepthToSpace", [data], {"blocksize": 2}, opset=opset, expected=expected)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_space_to_depth_undoes_depth_to_space(mode: str) -> None:
    data = numbers(2, 8, 3, 5)
    attributes = {"blocksize": 2, "mode": mode}
    [wide] = run_op("DepthToSpace", [data], attributes)
    check_node("SpaceToDepth", [wide], attributes, expected=[data])


def test_blocks_scale_symbolic_extents() -> None:
    [fact] = infer_op("DepthToSpace", [tensor(FLOAT32, (N, 8, H, H + 1))], {"blocksize": 2})
    assert fact.shape == (N, 2, 2 * H, 2 * H + 2)
    [fact] = infer_op("SpaceToDepth", [tensor(FLOAT32, (N, 3, 2 * H, 4))], {"blocksize": 2})
    assert fact.shape == (N, 12, H, 2)


@pytest.mark.parametrize(
    ("name", "shape", "attributes", "message"),
    [
        ("DepthToSpace", (1, 6, 2, 2), {"blocksize": 2}, "axis 1 of input[1, 6, 2, 2] must be a"),
        ("SpaceToDepth", (1, 1, 2, 3), {"blocksize": 2}, "must be a multiple of 2, found 3"),
        (
            "SpaceToDepth",
            (1, 2, 2),
            {"blocksize": 2},
            "input must be [N, C, H, W], found [1, 2, 2]",
        ),
        ("DepthToSpace", (1, 4, 2, 2), {"blocksize": 0}, "blocksize must be 1 or more, got 0"),
        (
            "DepthToSpace",
            (1, 4, 2, 2),
            {"blocksize": 2, "mode": "RCD"},
            "mode must be DCR or CRD, got 'RCD'",
        ),
    ],
)
def test_blocks_say_what_does_not_fit(
    name: str, shape: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError) as raised:
        run_op(name, [np.zeros(shape, np.float32)], attributes)
    assert message in str(raised.value)


@pytest.mark.parametrize(("batch_axis", "time_axis"), [(0, 1), (1, 0)])
def test_reverse_sequence_turns_the_first_steps_of_each_entry(
    batch_axis: int, time_axis: int
) -> None:
    data = numbers(4, 4, 3)
    lengths = ints(0, 1, 3, 4)
    attributes = {"batch_axis": batch_axis, "time_axis": time_axis}
    expected = data.copy()
    lines, source = expected.swapaxes(0, batch_axis), data.swapaxes(0, batch_axis)
    for entry, length in enumerate(lengths):
        lines[entry, :length] = source[entry, :length][::-1]
    check_node("ReverseSequence", [data, lengths], attributes, expected=[expected])


@pytest.mark.parametrize(
    ("lengths", "attributes", "error", "message"),
    [
        ([5, 1], {}, Fail, r"entries of sequence_lens must be in \[0, 3\], got 5"),
        ([1, 1, 1], {}, ShapeError, r"sequence_lens must be \[2\], found \[3\]"),
        ([1, 1], {"time_axis": 1}, ShapeError, "must be 0 and 1 in either order, got 1 and 1"),
    ],
)
def test_reverse_sequence_says_what_does_not_fit(
    lengths: list[int], attributes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_op("ReverseSequence", [np.zeros((3, 2)), ints(*lengths)], attributes)


def test_reverse_sequence_needs_two_axes() -> None:
    with pytest.raises(ShapeError, match=r"input must have rank 2 or more, found \[3\]"):
        infer_op("ReverseSequence", [tensor(FLOAT32, (3,)), tensor(INT64, (3,))])


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, -9, -1, 0, 2, 9, 2**62, -(2**62)])
def test_trilu_keeps_one_triangle(upper: int, k: int | None) -> None:
    data = numbers(2, 3, 4)
    triangle = np.triu if upper else np.tril
    diagonal = 0 if k is None else max(min(k, 9), -9)
    inputs = [data] if k is None else [data, np.array(k, np.int64)]
    check_node("Trilu", inputs, {"upper": upper}, expected=[triangle(data, diagonal)])


def test_trilu_knows_the_zero_of_every_dtype() -> None:
    words = np.array([["a", "b"], ["c", "d"]], object)
    check_node("Trilu", [words], expected=[np.array([["a", "b"], ["", "d"]], object)])
    halves = np.ones((2, 2), ml_dtypes.bfloat16)
    check_node("Trilu", [halves], expected=[np.triu(halves)])


def test_trilu_needs_a_matrix() -> None:
    with pytest.raises(ShapeError, match=r"input must be \[\*B, N, M\], found \[3\]"):
        run_op("Trilu", [np.zeros(3)])
