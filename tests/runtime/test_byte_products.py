"""Compiled products of quantised tensors equal the kernels, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession

DTYPES = [(np.uint8, np.int8), (np.int8, np.uint8), (np.uint8, np.uint8), (np.int8, np.int8)]


def drawn(rng: np.random.Generator, dtype: Any, *shape: int) -> Any:
    bounds = np.iinfo(dtype)
    return rng.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def model(
    op_type: str, feeds: dict[str, Any], stored: dict[str, Any], symbolic: bool, **attributes: Any
) -> ModelProto:
    inputs = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(x.dtype),
            [
                f"{name}{k}" if symbolic and name == "a" and k != 1 else n
                for k, n in enumerate(x.shape)
            ],
        )
        for name, x in feeds.items()
    ]
    node = helper.make_node(op_type, ["a", "b", "a_zero", "b_zero"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "products",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(x, name) for name, x in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def check(m: ModelProto, feeds: dict[str, Any]) -> None:
    (wanted,) = ReferenceEvaluator(m).run(None, feeds)
    session = InferenceSession(m)
    assert session.placement()[-1].kernels, session.placement()
    (found,) = session.run(None, feeds)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("seed", range(24))
def test_random_matrices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    of_a, of_b = DTYPES[seed % 4]
    m, k, n = (int(rng.choice([1, 2, 5, 16, 31, 70])) for _ in range(3))
    batch = (3,) * int(rng.integers(2))
    a, b = drawn(rng, of_a, *batch, m, k), drawn(rng, of_b, k, n)
    zeros = {
        "a_zero": drawn(rng, of_a, *([] if batch or rng.random() < 0.6 else [m])),
        "b_zero": drawn(rng, of_b, *rng.choice([0, 1]) * [n]) * of_b(rng.random() < 0.6),
    }
    is_fed = bool(rng.integers(2))
    feeds = {"a": a, "b": b} if is_fed else {"a": a}
    stored = zeros if is_fed else {"b": b, **zeros}
    is_open = bool(rng.integers(2)) and zeros["a_zero"].ndim == 0  # else rows decide what it means
    check(model("MatMulInteger", feeds, stored, is_open), feeds)


DEAR = {4, 5}
"""Seeds of convolutions that take more than a second to compile."""


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEAR)) for n in range(40)]
)
def test_random_convolutions(seed: int) -> None:
    """Channels that fill no quad, groups, zero points in the padding, one to three axes."""
    rng = np.random.default_rng(seed)
    of_x, of_w = DTYPES[seed % 4]
    rank, group = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
    taps = [int(rng.integers(1, 4)) for _ in range(rank)]
    per_group, filters = int(rng.choice([1, 2, 4, 5, 8])), group * int(rng.integers(1, 20))
    x = drawn(rng, of_x, int(rng.integers(1, 3)), group * per_group, *rng.integers(5, 12, rank))
    w = drawn(rng, of_w, filters, per_group, *taps)
    zeros = {
        "a_zero": drawn(rng, of_x) * of_x(rng.random() < 0.7),
        "b_zero": drawn(rng, of_w, *rng.choice([0, 1]) * [filters]) * of_w(rng.random() < 0.6),
    }
    attributes = {
        "group": group,
        "pads": rng.integers(0, 2, 2 * rank).tolist(),
        "strides": rng.integers(1, 3, rank).tolist(),
        "dilations": rng.integers(1, 3, rank).tolist(),
    }
    is_fed = rng.random() < 0.3
    feeds = {"a": x, "b": w} if is_fed else {"a": x}
    stored = zeros if is_fed else {"b": w, **zeros}
    check(model("ConvInteger", feeds, stored, rng.random() < 0.3, **attributes), feeds)
