from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import DTypeError, Fail, ShapeError
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(31)
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_parts_are_gathered(dtype: Any) -> None:
    places = np.array([[[1, 0], [0, 2]], [[-1, -1], [1, 1]]], dtype)
    agree("GatherND", [normal(2, 3, 4), places], symbolic=False)


def test_parts_lie_in_the_data() -> None:
    with pytest.raises(Fail, match=r"indices\[0\] must be in \[-2, 1\]"):
        run_op("GatherND", [normal(2, 3), np.array([[2]])], **WHERE)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_images_are_sampled(mode: str, padding: str, align: int) -> None:
    grid = rng.uniform(-1.2, 1.2, (2, 3, 4, 2)).astype(np.float32)
    given = {"mode": mode, "padding_mode": padding, "align_corners": align}
    agree("GridSample", [normal(2, 3, 5, 6), grid], given, rtol=1e-4, atol=1e-5)


def test_only_floats_are_sampled() -> None:
    facts = [fact_of(np.ones((1, 1, 2, 2), np.int32)), fact_of(np.ones((1, 1, 1, 2), np.int32))]
    with pytest.raises(DTypeError, match="X must be of floats, as Y is, got int32"):
        infer_op("GridSample", facts, {}, **WHERE)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("is_row", [False, True])
def test_margins_are_added(mode: str, is_row: bool) -> None:
    pads = np.array([1, 0, 2, 0, -1, 1])
    inputs = [normal(3, 4, 5), pads[None] if is_row else pads]
    filler = np.array(2.5, np.float32)
    for more in ([], [filler]):
        agree("Pad", [*inputs, *more], {"mode": mode}, lowered=not is_row, symbolic=False)


def test_margins_are_numbers_in_one_row() -> None:
    facts = [fact_of(normal(3, 4)), fact_of(np.ones((2, 2), np.int64))]
    with pytest.raises(ShapeError, match=r"pads must be pads\[1, 4\], got pads\[2, 2\]"):
        infer_op("Pad", facts, {}, **WHERE)
    with pytest.raises(ShapeError, match=r"pads must be pads\[1, 4\], got pads\[4, 1\]"):
        run_op("Pad", [normal(3, 4), np.ones((4, 1), np.int64)], {}, **WHERE)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize(("size", "step"), [(1, 1), (2, 1), (3, 2), (2, 3)])
def test_slices_are_unfolded(dim: int, size: int, step: int) -> None:
    agree("UnfoldTensor", [normal(3, 5, 7)], {"dim": dim, "size": size, "step": step})


@pytest.mark.parametrize(
    ("size", "step", "message"),
    [
        (6, 1, "size must be at most the 5 elements of axis 1, got 6"),
        (2, 0, "size and step must be positive, got 2 and 0"),
    ],
)
def test_slices_fit_their_axis(size: int, step: int, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("UnfoldTensor", [normal(3, 5)], {"dim": 1, "size": size, "step": step}, **WHERE)


def test_an_axis_without_elements_has_no_slices() -> None:
    with pytest.raises(ShapeError, match="size must be at most the 0 elements of axis 1, got 1"):
        infer_op("UnfoldTensor", [fact_of(normal(3, 0))], {"dim": 1, "size": 1}, **WHERE)


def four_bits(k: int, n: int, block: int) -> list[Any]:
    packed = rng.integers(0, 256, -(-n * k // 2)).astype(np.uint8)
    return [normal(2, 3, k), packed, rng.random(-(-n * k // block)).astype(np.float32)]


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize(("k", "n", "block"), [(64, 5, 16), (40, 7, 64), (33, 3, 32), (96, 4, 32)])
def test_numbers_of_a_table_are_multiplied(kind: int, k: int, n: int, block: int) -> None:
    given = {"K": k, "N": n, "block_size": block, "quant_type": kind}
    agree("MatMulBnb4", four_bits(k, n, block), given, rtol=1e-4, atol=1e-4)


def test_numbers_of_a_table_may_lie_transposed() -> None:
    # onnxruntime's processor kernel reads past transB.
    _, packed, scales = four_bits(32, 6, 16)
    given = {"K": 32, "N": 6, "block_size": 16, "quant_type": 1}
    [turned] = run_op("MatMulBnb4", [np.eye(32, dtype=np.float32), packed, scales], given, **WHERE)
    inputs = [normal(4, 6), packed, scales]
    where = {"rtol": 1e-5, "atol": 1e-5} | WHERE
    check_node(
        "MatMulBnb4", inputs, given | {"transB": 0}, expected=[inputs[0] @ turned.T], **where
    )
    check_lowering("MatMulBnb4", inputs, given | {"transB": 0}, **WHERE)


@pytest.mark.parametrize(
    ("place", "given", "message"),
    [
        (0, {"quant_type": 2}, r"quant_type must be 0 \(FP4\) or 1 \(NF4\), got 2"),
        (0, {"block_size": 0}, "block_size must be positive, got 0"),
        (1, {}, r"B must have as many elements as B\[160\], got B\[100\]"),
        (2, {}, r"absmax must have as many elements as absmax\[20\], got absmax\[100\]"),
    ],
)
def test_tables_fit_their_product(place: int, given: dict[str, int], message: str) -> None:
    inputs = four_bits(64, 5, 16)
    if place:
        inputs[place] = np.ones(100, inputs[place].dtype)
    sizes = {"K": 64, "N": 5, "block_size": 16, "quant_type": 0} | given
    with pytest.raises(ShapeError, match=message):
        infer_op("MatMulBnb4", [fact_of(x) for x in inputs], sizes, **WHERE)
