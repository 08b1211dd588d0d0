from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import fornix
from fornix.errors import ShapeError
from tests.compare import assert_same
from tests.ops.harness import lower_op, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(15)
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("axis", [0, 2, -1, -3])
def test_an_axis_is_put_in(axis: int) -> None:
    agree("ExpandDims", [normal(2, 3), np.array([axis], np.int32)])


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_steps_are_1_if_none_are_said(dtype: Any) -> None:
    ends = [np.array(1, dtype), np.array(8, dtype)]
    agree("Range", ends)
    agree("Range", [*ends, np.array(2, dtype)])


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, -1, 2])
def test_triangles_are_those_of_the_standard(upper: int, k: int | None) -> None:
    inputs = [normal(2, 3, 4), *([] if k is None else [np.array(k, np.int64)])]
    agree("Trilu", inputs, {"upper": upper}, lowered=k is None)


def test_elements_that_differ_come_in_their_first_order() -> None:
    agree("Unique", [rng.integers(0, 5, 20).astype(np.float32)], outputs=3, lowered=False)
    y = run_op("Unique", [np.array(["b", "a", "b"], object)], outputs=3, domain=DOMAIN, opset=1)
    assert [x.tolist() for x in y] == [["b", "a"], [0, 1, 0], [2, 1]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matrices_are_inverted(dtype: Any) -> None:
    x = [normal(2, 4, 4, dtype=dtype)]
    agree("Inverse", x, rtol=1e-3, atol=1e-3, symbolic=False)


def test_only_singular_matrices_become_infinite() -> None:
    x = np.stack([np.ones((2, 2)), np.diag([2.0, 4.0])])
    [y] = run_op("Inverse", [x], domain=DOMAIN, opset=1)
    assert np.isinf(y[0]).all()
    assert y[1].tolist() == [[0.5, 0], [0, 0.25]]


@pytest.mark.parametrize("shape", [(2, 2), (3, 1, 5, 5), (40, 4, 4), (1, 32, 32)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sessions_invert_as_numpy_does(shape: tuple[int, ...], dtype: Any) -> None:
    x = rng.standard_normal(shape).astype(dtype)
    code = helper.np_dtype_to_tensor_dtype(x.dtype)
    given, made = (helper.make_tensor_value_info(name, code, shape) for name in "xy")
    node = helper.make_node("Inverse", ["x"], ["y"], domain=DOMAIN)
    model = helper.make_model(
        helper.make_graph([node], "g", [given], [made]),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)],
        ir_version=10,
    )
    session = fornix.InferenceSession(model.SerializeToString())
    assert all(place.kernels for place in session.placement())
    [y] = session.run(None, {"x": x})
    wanted = np.linalg.inv(x.astype(np.float64)).astype(dtype)
    rtol = {2: 2e-3, 4: 1e-6, 8: 1e-9}[x.itemsize]
    np.testing.assert_allclose(y, wanted, rtol=rtol, atol=rtol * float(abs(wanted).max()))


def test_pivots_change_places_and_what_has_none_is_infinite() -> None:
    turned = np.eye(4)[[2, 0, 3, 1]] * [1.0, 2.0, 4.0, 8.0]
    tiny = np.diag([1e-200, 1.0, 1.0, 1e200])[::-1]
    singular = np.arange(16.0).reshape(4, 4)
    singular[3] = singular[0] * 2
    x = np.stack([turned, singular, np.eye(4) / 4, tiny, np.zeros((4, 4)), np.full((4, 4), np.nan)])
    with np.errstate(all="ignore"):
        [y] = lower_op("Inverse", [x], {}, **WHERE)
    [wanted] = run_op("Inverse", [x], **WHERE)
    assert_same(y, wanted, rtol=1e-12, atol=0)
    assert y[0].tolist() == np.linalg.inv(turned).tolist()
    assert np.isinf(y[[1, 4]]).all()


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_rows_have_distances(metric: str) -> None:
    agree("CDist", [normal(3, 4), normal(5, 4)], {"metric": metric}, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("ExpandDims", [normal(2), np.zeros(2, np.int32)], {}, "axis must be one number"),
        ("Unique", [normal(2, 2)], {}, "x must be a vector"),
        ("Inverse", [normal(2, 3)], {}, "X must end in a square matrix"),
        ("CDist", [normal(2), normal(2)], {}, "A and B must be matrices"),
        ("CDist", [normal(2, 3), normal(2, 4)], {}, "rows must have one length"),
        ("CDist", [normal(2, 3)] * 2, {"metric": "cosine"}, "metric must be sqeuclidean or"),
    ],
)
def test_what_does_not_fit_is_named(
    name: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op(name, inputs, attributes, domain=DOMAIN, opset=1)
