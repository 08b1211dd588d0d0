from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

import fornix
from fornix import ops
from fornix.dtype import FLOAT32, INT64
from fornix.errors import DTypeError, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import as_value, tensor, unranked
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, peer, run_op

F32_SUM = 1e-5
"""At most 64 elements of size 1 are summed, weighted with places of float32."""

N, C, H, W = (symbol(name) for name in "NCHW")

TORCH_MODES = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def places(*shape: int, seed: int = 1, dtype: Any = np.float32) -> Any:
    """Places of which about a third lie outside, some of them far."""
    return np.random.default_rng(seed).uniform(-2.5, 2.5, shape).astype(dtype)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample_agrees_with_torch(mode: str, padding: str, align: int) -> None:
    shapes: list[Any] = [((2, 3, 5, 7), (2, 4, 6, 2)), ((1, 2, 1, 4), (1, 3, 3, 2))]
    if mode != "cubic":
        shapes.append(((2, 2, 3, 4, 5), (2, 2, 3, 4, 3)))
    for shape, out in shapes:
        x, grid = normal(*shape), places(*out)
        wanted = torch.nn.functional.grid_sample(
            torch.from_numpy(x), torch.from_numpy(grid), TORCH_MODES[mode], padding, bool(align)
        ).numpy()
        attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
        check_node(
            "GridSample", [x, grid], attributes, expected=[wanted], rtol=F32_SUM, atol=F32_SUM
        )


@pytest.mark.parametrize("opset", [16, 20])
def test_grid_sample_agrees_with_onnxruntime(opset: int) -> None:
    x, grid = normal(2, 3, 5, 7), places(2, 4, 6, 2)
    modes = ["nearest", *(["bilinear", "bicubic"] if opset == 16 else ["linear", "cubic"])]
    for mode, padding in itertools.product(modes, ("zeros", "border", "reflection")):
        attributes = {"mode": mode, "padding_mode": padding}
        expected = peer("GridSample", [x, grid], attributes, opset=opset)
        check_node(
            "GridSample", [x, grid], attributes, opset=opset, expected=expected, rtol=F32_SUM,
            atol=F32_SUM,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_grid_sample_of_half_precision_is_rounded_once(dtype: Any) -> None:
    x, grid = normal(1, 2, 4, 4, dtype=dtype), places(1, 3, 3, 2, dtype=dtype)
    wide = run_op("GridSample", [x.astype(np.float32), grid.astype(np.float32)])[0]
    check_node("GridSample", [x, grid], {}, expected=[wide.astype(dtype)])


def test_grid_sample_in_one_dimension_is_interpolation() -> None:
    x = np.array([[[0, 10, 20]]], np.float32)
    grid = np.array([[[-1], [-0.5], [0.25], [1]]], np.float32)
    wanted = np.array([[[0, 5, 12.5, 20]]], np.float32)
    check_node("GridSample", [x, grid], {"align_corners": 1}, expected=[wanted])


def test_grid_sample_truncates_integers() -> None:
    x = np.array([[[-3, 2]]], np.int8)
    grid = np.array([[[-0.6], [0.6]]], np.float32)
    check_node(
        "GridSample", [x, grid], {"align_corners": 1}, expected=[np.array([[[-2, 1]]], np.int8)]
    )


@pytest.mark.parametrize(
    ("x", "zero"), [(np.array([[["a", "b"]]], object), ""), (np.array([[[True, True]]]), False)]
)
def test_grid_sample_takes_every_dtype_by_nearest(x: Any, zero: Any) -> None:
    grid = np.array([[[-1], [3]]], np.float32)
    wanted = np.array([[[x[0, 0, 0], zero]]], x.dtype)
    check_node("GridSample", [x, grid], {"mode": "nearest"}, expected=[wanted])


def test_grid_sample_interpolates_complex_numbers() -> None:
    x = np.array([[[1 + 2j, 3 - 2j]]], np.complex64)
    wanted = np.array([[[2]]], np.complex64)
    check_node("GridSample", [x, np.zeros((1, 1, 1), np.float32)], {}, expected=[wanted])


def test_grid_sample_survives_places_that_are_no_numbers() -> None:
    x = normal(1, 1, 3, 3)
    grid = np.array([[[[np.nan, 0], [np.inf, -np.inf], [1e30, -1e30]]]], np.float32)
    [zeros] = run_op("GridSample", [x, grid], {"mode": "nearest"})
    assert zeros.ravel().tolist() == [0, 0, 0]
    for mode, padding in itertools.product(("nearest", "linear", "cubic"), ("border", "zeros")):
        [y] = run_op("GridSample", [x, grid], {"mode": mode, "padding_mode": padding})
        assert y.shape == (1, 1, 1, 3)


def test_an_infinite_element_without_weight_leaves_no_nan() -> None:
    x = np.array([[[1, np.inf]]], np.float32)
    grid = np.array([[[-1], [1]]], np.float32)
    check_node("GridSample", [x, grid], {"align_corners": 1}, expected=[x])


def test_grid_sample_infers_the_grids_extents() -> None:
    [fact] = infer_op("GridSample", [tensor(FLOAT32, (N, C, 5, 7)), tensor(FLOAT32, (N, H, W, 2))])
    assert fact.shape == (N, C, H, W)
    [fact] = infer_op("GridSample", [unranked(FLOAT32), tensor(FLOAT32, (N, H, W, 2))])
    assert (fact.shape[0], *fact.shape[2:]) == (N, H, W)


@pytest.mark.parametrize(
    ("x", "grid", "attributes", "message"),
    [
        ((1, 2), (1, 2), {}, r"X must have spatial axes, \[N, C, \*S\], found X\[1, 2\]"),
        ((1, 1, 2, 2), (1, 3, 3, 3), {}, r"grid must be \[N, \*O, 2\] for X\[1, 1, 2, 2\], found"),
        ((2, 1, 2, 2), (1, 3, 3, 2), {}, r"grid must be \[N, \*O, 2\]"),
        ((1, 1, 2, 2), (1, 3, 2), {}, r"grid must be \[N, \*O, 2\]"),
        ((1, 1, 2), (1, 3, 1), {"mode": "sinc"}, "mode must be among .*'sinc'"),
        ((1, 1, 2), (1, 3, 1), {"padding_mode": "wrap"}, "padding_mode must be among .*'wrap'"),
        ((1, 1, 0), (1, 3, 1), {}, r"X\[1, 1, 0\] has no elements to sample"),
    ],
)
def test_grid_sample_says_what_is_wrong(
    x: Any, grid: Any, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("GridSample", [np.zeros(x, np.float32), np.zeros(grid, np.float32)], attributes)


def test_strings_are_not_interpolated() -> None:
    x = np.array([[["a"]]], object)
    with pytest.raises(DTypeError, match="interpolation needs numbers, found X of string"):
        run_op("GridSample", [x, np.zeros((1, 1, 1), np.float32)])


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (1, 2, 3, 4, 5)])
def test_affine_grid_agrees_with_torch(size: tuple[int, ...], align: int) -> None:
    rank = len(size) - 2
    theta = normal(size[0], rank, rank + 1)
    wanted = torch.nn.functional.affine_grid(torch.from_numpy(theta), list(size), bool(align))
    check_node(
        "AffineGrid", [theta, np.array(size)], {"align_corners": align},
        expected=[wanted.numpy()], rtol=F32_SUM, atol=F32_SUM,
    )  # fmt: skip


def test_affine_grid_puts_a_single_aligned_element_in_the_middle() -> None:
    theta = np.array([[[1, 0, 0], [0, 1, 0]]], np.float64)
    wanted = np.array([[[[-1, 0], [0, 0], [1, 0]]]], np.float64)
    check_node(
        "AffineGrid", [theta, np.array([1, 1, 1, 3])], {"align_corners": 1}, expected=[wanted]
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_affine_grid_of_half_precision_is_rounded_once(dtype: Any) -> None:
    theta, size = normal(1, 2, 3, dtype=dtype), np.array([1, 1, 5, 7])
    [wide] = run_op("AffineGrid", [theta.astype(np.float32), size])
    check_node("AffineGrid", [theta, size], {}, expected=[wide.astype(dtype)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (1, 2, 1, 19), (1, 2, 3, 1, 5), (2, 1, 0, 3)])
def test_affine_grid_is_lowered(size: tuple[int, ...], align: int, dtype: Any) -> None:
    theta = normal(size[0], len(size) - 2, len(size) - 1, dtype=dtype)
    check_lowering("AffineGrid", [theta, np.array(size)], {"align_corners": align}, symbolic=False)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("rank", [2, 3])
def test_affine_grid_of_an_open_image_runs_in_code(rank: int, align: int) -> None:
    dims = ", ".join(["N", "C", "D", "H", "W"][: 2 + rank])
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    f (float[N, {rank}, {rank + 1}] theta, float[{dims}] x) => (float[] grid) {{
        size = Shape (x)
        grid = AffineGrid <align_corners = {align}> (theta, size)
    }}"""
    session = fornix.InferenceSession(onnx.parser.parse_model(text))
    assert [entry.reason for entry in session.placement()] == [""]
    theta = normal(2, rank, rank + 1)
    for extents in ((4, 5), (2, 19), (33, 2)):
        x = np.zeros((2, 1, *[3] * (rank - 2), *extents), np.float32)
        grid = torch.nn.functional.affine_grid(torch.from_numpy(theta), x.shape, bool(align))
        [found] = session.run(None, {"theta": theta, "x": x})
        np.testing.assert_allclose(found, grid.numpy(), rtol=F32_SUM, atol=F32_SUM)
    point = np.zeros((2, 1, *[1] * rank), np.float32)
    [found] = session.run(None, {"theta": theta, "x": point})
    np.testing.assert_array_equal(found.reshape(2, rank), theta[:, :, rank])


@pytest.mark.parametrize("dims", ["N, 2, 3", "N, M, K"])
def test_affine_grid_of_a_stored_size_runs_in_code_where_theta_is_open(dims: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    f (float[{dims}] theta) => (float[] grid) <int64[4] size = {{2, 1, 4, 5}}> {{
        grid = AffineGrid (theta, size)
    }}"""
    session = fornix.InferenceSession(onnx.parser.parse_model(text))
    assert [entry.reason for entry in session.placement()] == [""]
    theta = normal(3, 2, 3)
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta[:2]), (2, 1, 4, 5), False)
    [found] = session.run(None, {"theta": theta[:2]})
    np.testing.assert_allclose(found, grid.numpy(), rtol=F32_SUM, atol=F32_SUM)
    with pytest.raises(ShapeError, match=r"theta must be \[2, 2, 3\] for size .* found \[3, 2, 3"):
        session.run(None, {"theta": theta})


@pytest.mark.parametrize(("images", "grids"), [("N", 2), (2, "N"), ("N", "M")])
def test_grid_sample_runs_in_code_where_one_batch_is_open(
    images: int | str, grids: int | str, rng: np.random.Generator
) -> None:
    graph = onnx.parser.parse_graph(
        f"g (float[{images}, 3, 4, 5] x, float[{grids}, 6, 7, 2] g) => (float[B, C, H, W] y)"
        " { y = GridSample (x, g) }"
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    session = fornix.InferenceSession(model)
    assert [bool(place.kernels) for place in session.placement()] == [True]
    x = rng.standard_normal((2, 3, 4, 5), np.float32)
    grid = rng.uniform(-1, 1, (3, 6, 7, 2)).astype(np.float32)
    [found] = session.run(None, {"x": x, "g": grid[:2]})
    [wanted] = run_op("GridSample", [x, grid[:2]], opset=20)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    if isinstance(grids, str):
        with pytest.raises(ShapeError, match="grid must be"):
            session.run(None, {"x": x, "g": grid})


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (1, 2, 1, 4), (1, 2, 3, 4, 5), (2, 1, 0, 3)])
def test_the_body_of_affine_grid_equals_its_kernel(size: tuple[int, ...], align: int) -> None:
    operator = ops.find("", "AffineGrid")
    assert operator is not None
    body = operator.rule("body", 20)
    assert body is not None
    function = ReferenceEvaluator(onnx.parser.parse_function(body()))
    rank = len(size) - 2
    inputs = [normal(size[0], rank, rank + 1), np.array(size)]
    attributes = {"align_corners": align}
    [found] = function.run(
        None, dict(zip(("theta", "size"), inputs, strict=True)), attributes=attributes
    )
    [wanted] = run_op("AffineGrid", inputs, attributes)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=F32_SUM, atol=F32_SUM)


def test_affine_grid_infers_what_size_and_theta_tell() -> None:
    theta = tensor(FLOAT32, (N, 2, 3))
    [fact] = infer_op("AffineGrid", [theta, tensor(INT64, (4,), as_value([N, 3, H, W]))])
    assert fact.shape == (N, H, W, 2)
    [fact] = infer_op("AffineGrid", [theta, tensor(INT64, (4,))])
    assert (fact.shape[0], fact.rank, fact.shape[3]) == (N, 4, 2)
    [fact] = infer_op("AffineGrid", [tensor(FLOAT32, (N, H, W)), tensor(INT64, (5,))])
    assert (fact.shape[0], fact.rank, fact.shape[4]) == (N, 5, 3)
    [fact] = infer_op("AffineGrid", [tensor(FLOAT32, (N, H, W)), unranked(INT64)])
    assert not fact.has_rank


def test_affine_grid_says_what_is_wrong() -> None:
    theta = np.zeros((1, 2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"size must be \[N, C, H, W\] or .* found 3 extents"):
        run_op("AffineGrid", [theta, np.array([1, 2, 3])])
    with pytest.raises(ShapeError, match=r"theta must be \[2, 2, 3\] for size .* found \[1, 2, 3"):
        run_op("AffineGrid", [theta, np.array([2, 1, 3, 3])])
    with pytest.raises(ShapeError, match="found 2 extents"):
        infer_op("AffineGrid", [fact_of(theta), fact_of(np.array([1, 2]))])
    with pytest.raises(ShapeError, match=r"theta must be \[N, r, r \+ 1\], found shape \[2, 3\]"):
        infer_op("AffineGrid", [fact_of(theta[0]), tensor(INT64, (4,))])


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample_is_lowered(mode: str, padding: str, align: int) -> None:
    stream = np.random.default_rng(0)
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
    for size, dtype in (((5, 6), np.float32), ((1, 4), np.float16), ((4, 3), np.int32)):
        x = np.asarray(stream.standard_normal((2, 3, *size)) * 9).astype(dtype)
        grid = (stream.standard_normal((2, 4, 3, 2)) * 1.5).astype(np.float32)
        check_lowering("GridSample", [x, grid], attributes)
    x, grid = np.ones((1, 1, 4), np.float32), np.full((1, 3, 1), np.nan, np.float32)
    check_lowering("GridSample", [x, grid], attributes)
